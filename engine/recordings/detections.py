"""Detections written as JSON lines, CSV rows and SigMF metadata."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.detection import Detection
from engine.version import VERSION

from .recording import Recording
from .writing import SIGMF_VERSION

FIELDS: Final = ("file", "signal", "score", "start_s", "stop_s", "low_hz", "high_hz", "version")


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
    """SigMF sample range of a detection: at least one sample, none outside the recording."""
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
