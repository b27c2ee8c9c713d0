"""Detections: written down as JSON lines, CSV and SigMF."""

import csv
import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigmf.validate

from engine.detection import Detection, Result
from engine.recordings.detections import FIELDS, as_csv, as_csv_row, as_json_line, as_sigmf
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from engine.recordings.writing import write_rfcap, write_sigmf

from .scripted import noise

PIECE = Detection("radar", 0.9, 0.0, 0.1, 1e6, 2e6, 3)


def lasting(start_s: float, stop_s: float, **changes: Any) -> Detection:
    return replace(PIECE, start_s=start_s, stop_s=stop_s, **changes)


def test_a_result_is_a_sequence_of_detections() -> None:
    pieces = [lasting(0.1, 0.2), lasting(0.3, 0.4)]
    whole = Result(tuple(pieces))
    assert (len(whole), list(whole), whole[1], whole[-1]) == (2, pieces, pieces[1], pieces[1])
    assert pieces[0] in whole
    assert not Result(())


# JSON and CSV


def test_a_result_as_arrays_is_in_the_order_of_its_detections() -> None:
    first, second = lasting(0.1, 0.2), lasting(0.0, 0.1, score=0.5)
    found = Result((first, second))
    assert found.boxes().dtype == np.float64 and found.scores().dtype == np.float32
    assert found.boxes().tolist() == [[d.start_s, d.stop_s, d.low_hz, d.high_hz] for d in (first, second)]
    assert found.scores() == pytest.approx([first.score, 0.5])
    assert (Result(()).boxes().shape, Result(()).scores().shape) == ((0, 4), (0,))


def test_a_json_line_has_the_documented_keys_in_order() -> None:
    line = as_json_line(PIECE, "street ü.cu8")
    assert "\n" not in line and "ü" in line
    values = json.loads(line)
    assert tuple(values) == FIELDS == ("file", "signal", "score", "start_s", "stop_s", "low_hz", "high_hz", "version")
    assert values.pop("file") == "street ü.cu8"
    assert Detection(**values) == PIECE


def test_json_never_holds_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json_line(replace(PIECE, score=math.nan), "x")


def test_csv_comes_back_as_written() -> None:
    names = 'a "quoted", name.cu8'
    rows = list(csv.DictReader(io.StringIO(as_csv([PIECE, replace(PIECE, low_hz=-0.1)], names))))
    assert [tuple(row) for row in rows] == [FIELDS, FIELDS]
    assert [row["file"] for row in rows] == [names, names]
    assert [float(row["low_hz"]) for row in rows] == [1e6, -0.1]


def test_rows_of_csv_written_one_by_one_are_the_table() -> None:
    found = [PIECE, replace(PIECE, signal="lora")]
    assert as_csv(found, "a,b") == as_csv([], "") + "".join(as_csv_row(d, "a,b") for d in found)


def test_csv_of_nothing_is_its_heading() -> None:
    assert as_csv([], "x") == ",".join(FIELDS) + "\n"


# SigMF


def pair(folder: Path, datatype: str = "ci16_le") -> Path:
    return write_sigmf(
        folder / "x", noise(1000, level=0.1), sample_rate_hz=1e4, center_freq_hz=433e6, datatype=datatype
    )


def rfcap(folder: Path) -> Path:
    write_rfcap(folder / "x.rfcap", noise(1000, level=0.1), sample_rate_hz=1e4, center_freq_hz=433e6)
    return folder / "x.rfcap"


def raw(name: str, form: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.arange(2000).astype(form).tofile(folder / name)
        return folder / name

    return write


def wav(folder: Path) -> Path:
    data = np.arange(2000, dtype="<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 10_000, 40_000, 4, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data + b"note" + struct.pack("<I", 4) + b"tail"
    (folder / "x.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return folder / "x.wav"


SOURCES: dict[str, Callable[[Path], Path]] = {
    "pair": pair,
    "pair of int8": lambda folder: pair(folder, "ci8"),
    "pair of float32": lambda folder: pair(folder, "cf32_le"),
    "pair by its samples": lambda folder: pair(folder).with_suffix(".sigmf-data"),
    "rfcap": rfcap,
    "raw bytes": raw("x_433M_10k.cu8", "u1"),
    "raw int16": raw("x_433M_10k.cs16", "<i2"),
    "raw float32": raw("x_433M_10k.cf32", "<f4"),
    "wav": wav,
}


@pytest.mark.parametrize("source", SOURCES)
def test_sigmf_metadata_are_valid_and_lead_back_to_the_samples(tmp_path: Path, source: str) -> None:
    recording = open_recording(SOURCES[source](tmp_path))
    metadata = as_sigmf([lasting(0.02, 0.05, low_hz=433e6, high_hz=433.001e6)], recording)
    sigmf.validate.validate(metadata)
    (tmp_path / "found.sigmf-meta").write_text(json.dumps(metadata, allow_nan=False))
    again = open_recording(tmp_path / "found.sigmf-meta")
    assert np.array_equal(again.read(0, len(again)), recording.read(0, len(recording)))
    assert (again.sample_rate_hz, again.center_freq_hz) == (recording.sample_rate_hz, recording.center_freq_hz)


def annotations(recording: Recording, *found: Detection) -> list[dict[str, Any]]:
    metadata = as_sigmf(found, recording)
    sigmf.validate.validate(metadata)
    entries: list[dict[str, Any]] = metadata["annotations"]
    return entries


def test_a_detection_becomes_an_annotation(tmp_path: Path) -> None:
    (entry,) = annotations(open_recording(pair(tmp_path)), lasting(0.02, 0.05, low_hz=432e6, high_hz=434e6))
    assert {key: entry[key] for key in entry if key != "core:generator"} == {
        "core:sample_start": 200,
        "core:sample_count": 300,
        "core:freq_lower_edge": 432e6,
        "core:freq_upper_edge": 434e6,
        "core:label": "radar",
        "hydra:score": 0.9,
    }
    assert entry["core:generator"].endswith("radar v3")


def test_annotations_lie_in_order_inside_the_recording(tmp_path: Path) -> None:
    recording = open_recording(pair(tmp_path))  # 1,000 samples, 0.1 s
    entries = annotations(
        recording, lasting(0.09996, 0.1), lasting(0.05, 0.3), lasting(-0.01, 0.01), lasting(0.02, 0.02001)
    )
    places = [(entry["core:sample_start"], entry["core:sample_count"]) for entry in entries]
    assert places == [(0, 100), (200, 1), (500, 500), (999, 1)]


def test_a_recording_without_a_centre_gives_none(tmp_path: Path) -> None:
    path = write_sigmf(tmp_path / "x", noise(1000, level=0.1), sample_rate_hz=1e4)
    metadata = as_sigmf([PIECE], open_recording(path))
    sigmf.validate.validate(metadata)
    assert metadata["captures"] == [{"core:sample_start": 0}]
