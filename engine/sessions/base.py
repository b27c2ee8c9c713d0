"""Session protocol: one interface for all runtimes that execute ONNX graphs."""

from collections.abc import Mapping
from typing import Any, Protocol

Array = Any  # of NumPy, or of the device that the session runs on
Arrays = Mapping[str, Array]


class Session(Protocol):
    """One loaded graph. Arrays that `run` returns belong to the caller.

    On a GPU `run` is ordered on the current stream, so callers run sessions within `Stream.work`: the session's kernels
    come after the work issued there before, and its outputs are ready for the work issued there later. Runtimes that
    bind a stream when they load a graph order it against the current one by events.
    """

    replayable: bool = False  # True where `run` may be captured in a CUDA graph; see `Device.replayed`
    runtime: str  # what executes it, for the record: "onnxruntime 1.32.0 CPU"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Arrays) -> Arrays: ...

    def close(self) -> None: ...
