"""The seam behind which graphs run."""

from collections.abc import Mapping
from typing import Any, Protocol

Array = Any  # of NumPy, or of the device that the session runs on
Arrays = Mapping[str, Array]


class Session(Protocol):
    """One loaded graph. What `run` returns belongs to the caller; on a GPU it is ready once the stream is, whose `work`
    was under way."""

    runtime: str  # what executes it, for the record: "onnxruntime 1.32.0 CPU"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Arrays) -> Arrays: ...

    def close(self) -> None: ...
