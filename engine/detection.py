"""Detections: what the engine hands out, and how it is written down."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from .boxes import physical


@dataclass(frozen=True)
class Detection:
    """One signal found: seconds from the recording's (or the capture's) first sample; hertz, absolute where a
    centre frequency is known, else from the middle of the band."""

    signal: str
    score: float
    start_s: float
    stop_s: float
    low_hz: float
    high_hz: float
    version: int  # of the head that found it


@dataclass(frozen=True)
class Result(Sequence[Detection]):
    """The detections of one capture, best score first, and how they came about. A sequence of Detection.

    Equal scores come by time, then frequency. `timings_ms`: milliseconds by stage, as the host saw them; steps that a
    GPU replays as CUDA graphs leave none of their own, and the wait for them is in "download".
    """

    detections: tuple[Detection, ...]
    start_s: float = 0.0  # of the capture, from the recording's first sample
    stop_s: float = 0.0
    data_quality: str = "ok"  # "silent": no power at all; "invalid": NaN or infinity in the samples
    notes: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    ran_on: Mapping[str, str] = field(default_factory=dict)  # device, runtime, precision
    revision: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)  # of every head that looked
    resolution_s: float = 0.0  # of edges in time: a frame or an image column, whichever is longer; 0: not known

    def __len__(self) -> int:
        return len(self.detections)

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Detection, ...]: ...

    def __getitem__(self, index: int | slice) -> Detection | tuple[Detection, ...]:
        return self.detections[index]

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    def boxes(self) -> npt.NDArray[np.float64]:
        """float64[n, 4] of start_s, stop_s, low_hz, high_hz, in the order of the detections; a new array."""
        return physical(self.detections)

    def scores(self) -> npt.NDArray[np.float32]:
        """float32[n] between 0 and 1, in the order of the detections; a new array."""
        return np.array([d.score for d in self.detections], np.float32)
