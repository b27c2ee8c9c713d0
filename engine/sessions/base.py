"""The seam behind which graphs run."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Session(Protocol):
    """One loaded graph. Arrays returned by `run` belong to the caller."""

    runtime: str  # what executes it, for the record: "onnxruntime 1.32.0 CPU"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...
