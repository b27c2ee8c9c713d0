"""Detections: what the engine hands out, and how it is written down."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

from . import VERSION
from .recording import Recording
from .writing import SIGMF_VERSION

FIELDS: Final = ("file", "signal", "score", "start_s", "stop_s", "low_hz", "high_hz", "version")
STITCH_OVERLAP: Final = 0.5  # of the two bands' union, for pieces of one signal on both sides of a border


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


def stitch(results: Iterable[Result]) -> list[Detection]:
    """All detections of a recording's captures in order of time, with pieces of one signal that meet at the
    border of two captures joined, and what the last, backward reaching capture repeats told once."""
    found: list[Detection] = []
    covered_s = 0.0
    for result in results:
        slack_s = 0.02 * (result.stop_s - result.start_s)
        for piece in result:
            if piece.stop_s <= covered_s - slack_s:  # wholly inside what the capture before has seen
                if not any(_overlap(piece, other) for other in found):
                    found.append(piece)
                continue
            at = _partner(found, piece, covered_s, slack_s) if covered_s else None
            if at is None:
                found.append(piece)
            else:
                whole = found[at]
                found[at] = replace(
                    whole,
                    score=max(whole.score, piece.score),
                    stop_s=max(whole.stop_s, piece.stop_s),
                    low_hz=min(whole.low_hz, piece.low_hz),
                    high_hz=max(whole.high_hz, piece.high_hz),
                )
        covered_s = max(covered_s, result.stop_s)
    return sorted(found, key=lambda d: (d.start_s, d.low_hz, d.signal))


def _overlap(one: Detection, other: Detection) -> bool:
    return (
        one.signal == other.signal
        and min(one.stop_s, other.stop_s) > max(one.start_s, other.start_s)
        and min(one.high_hz, other.high_hz) > max(one.low_hz, other.low_hz)
    )


def _partner(found: Sequence[Detection], piece: Detection, border_s: float, slack_s: float) -> int | None:
    if piece.start_s > border_s + slack_s:
        return None
    for index, other in enumerate(found):
        if other.signal == piece.signal and other.stop_s >= min(border_s, piece.stop_s) - slack_s:
            shared = min(other.high_hz, piece.high_hz) - max(other.low_hz, piece.low_hz)
            union = max(other.high_hz, piece.high_hz) - min(other.low_hz, piece.low_hz)
            if shared >= STITCH_OVERLAP * union:
                return index
    return None


def as_json_line(detection: Detection, file: str) -> str:
    """One detection as one line of JSON, with the keys of FIELDS."""
    return json.dumps({"file": file, **asdict(detection)}, allow_nan=False, ensure_ascii=False)


def as_csv(detections: Iterable[Detection], file: str) -> str:
    """A table with a heading, one row a detection."""
    text = io.StringIO()
    table = csv.DictWriter(text, FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows({"file": file, **asdict(detection)} for detection in detections)
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
