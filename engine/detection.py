"""Detections: what the engine hands out, and how it is written down."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

from . import VERSION
from .recording import Recording
from .writing import SIGMF_VERSION

FIELDS: Final = ("file", "signal", "score", "start_s", "stop_s", "low_hz", "high_hz", "version")


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
        edges = [(d.start_s, d.stop_s, d.low_hz, d.high_hz) for d in self.detections]
        return np.array(edges, np.float64).reshape(-1, 4)

    def scores(self) -> npt.NDArray[np.float32]:
        """float32[n] between 0 and 1, in the order of the detections; a new array."""
        return np.array([d.score for d in self.detections], np.float32)


def as_json_line(detection: Detection, file: str) -> str:
    """One detection as one line of JSON, with the keys of FIELDS."""
    return json.dumps({"file": file, **asdict(detection)}, allow_nan=False, ensure_ascii=False)


def as_csv(detections: Iterable[Detection], file: str) -> str:
    """A table with a heading, one row a detection."""
    return csv_row(FIELDS) + "".join(as_csv_row(detection, file) for detection in detections)


def as_csv_row(detection: Detection, file: str) -> str:
    """One detection as one row of CSV, line end included, with the columns of FIELDS."""
    return csv_row((file, *asdict(detection).values()))


def csv_row(values: Iterable[object]) -> str:
    """Values as one row of CSV (RFC 4180, but for its line end, which is a newline)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def as_sigmf(detections: Iterable[Detection], recording: Recording) -> dict[str, Any]:
    """SigMF metadata for `recording` whose annotations are the detections."""
    rate, centre = recording.sample_rate_hz, recording.center_freq_hz
    dataset, before, after = _dataset(recording)
    capture = {"core:sample_start": 0} | ({} if centre is None else {"core:frequency": centre})
    return {
        "global": {
            "core:version": SIGMF_VERSION,
            "core:datatype": _datatype(recording),
            "core:sample_rate": rate,
            "core:dataset": dataset,
            **({"core:trailing_bytes": after} if after else {}),
            "core:recorder": f"hydra {VERSION}",
            "core:extensions": [{"name": "hydra", "version": VERSION, "optional": True}],
        },
        "captures": [{**capture, "core:header_bytes": before} if before else capture],
        "annotations": [
            {
                **_samples(d, recording),
                "core:freq_lower_edge": d.low_hz,
                "core:freq_upper_edge": d.high_hz,
                "core:label": d.signal,
                "core:generator": f"hydra {VERSION} {d.signal} v{d.version}",
                "hydra:score": d.score,
            }
            for d in sorted(detections, key=lambda d: d.start_s)
        ],
    }


def _samples(detection: Detection, recording: Recording) -> dict[str, int]:
    """Where a detection lies in the recording: at least one sample, none outside."""
    first, last = (round(edge * recording.sample_rate_hz) for edge in (detection.start_s, detection.stop_s))
    first = min(max(0, first), len(recording) - 1)
    return {"core:sample_start": first, "core:sample_count": max(1, min(last, len(recording)) - first)}


def _dataset(recording: Recording) -> tuple[str, int, int]:
    """The name of the file that holds the samples, and how many bytes stand before and after them."""
    samples = recording.samples
    if not isinstance(samples, np.memmap) or samples.filename is None:
        return recording.path.name, 0, 0
    path = Path(samples.filename)
    return path.name, samples.offset, path.stat().st_size - samples.offset - samples.nbytes


def _datatype(recording: Recording) -> str:
    kind, size = recording.samples.dtype.kind, recording.samples.dtype.itemsize
    order = "" if size == 1 else ("_be" if recording.samples.dtype.byteorder == ">" else "_le")
    return f"c{kind}{8 * size}{order}"
