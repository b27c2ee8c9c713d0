"""The seam behind which graphs run."""

from collections.abc import Mapping
from typing import Any, Protocol

from engine.device import Stream

Array = Any  # of NumPy, or of the device that the session runs on
Arrays = Mapping[str, Array]


class Session(Protocol):
    """One loaded graph. On a CPU what `run` returns belongs to the caller; on a GPU it is put in order behind what
    `stream` holds already, and lives until the session's next run."""

    runtime: str  # what executes it, for the record: "onnxruntime 1.32.0 CPU"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Arrays, stream: Stream | None = None) -> Arrays: ...

    def close(self) -> None: ...
