"""Detections: pieces joined across captures, and written down as JSON lines, CSV and SigMF."""

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
from hypothesis import given
from hypothesis import strategies as st

from engine.detection import FIELDS, Detection, Result, as_csv, as_json_line, as_sigmf, stitch
from engine.recording import Recording, open_recording, write_rfcap, write_sigmf

from .scripted import noise

LENGTH = 0.2  # seconds of a capture
EDGE = 1e-4  # of a capture's end that no frame's middle reaches, as with the default contract
PIECE = Detection("radar", 0.9, 0.0, 0.1, 1e6, 2e6, 3)


def result(start_s: float, *pieces: Detection, stop_s: float | None = None) -> Result:
    return Result(pieces, start_s=start_s, stop_s=start_s + LENGTH if stop_s is None else stop_s)


def lasting(start_s: float, stop_s: float, **changes: Any) -> Detection:
    return replace(PIECE, start_s=start_s, stop_s=stop_s, **changes)


# stitching


def test_a_signal_over_three_captures_becomes_one() -> None:
    found = stitch(
        [
            result(0.0, lasting(0.15, 0.1999, score=0.7, low_hz=1.1e6)),
            result(0.2, lasting(0.2001, 0.3999, score=0.95)),
            result(0.4, lasting(0.4001, 0.45, score=0.8, high_hz=2.1e6)),
        ]
    )
    assert found == [Detection("radar", 0.95, 0.15, 0.45, 1e6, 2.1e6, 3)]


@given(st.floats(0, 0.7), st.floats(0.02, 0.9), st.sampled_from([0.8, 0.91, 1.0]))
def test_a_signal_comes_out_whole_wherever_the_captures_cut_it(start_s: float, lasts_s: float, total_s: float) -> None:
    stop_s = min(start_s + lasts_s, total_s)
    starts = [index * LENGTH for index in range(math.ceil(total_s / LENGTH - 1e-9))]
    starts[-1] = total_s - LENGTH  # reaches back
    results = []
    for first in starts:
        seen = max(start_s, first + EDGE), min(stop_s, first + LENGTH - EDGE)
        pieces = [lasting(*seen)] if seen[1] > seen[0] else []
        results.append(result(first, *pieces))
    (found,) = stitch(results)
    assert (found.start_s, found.stop_s) == pytest.approx((start_s, stop_s), abs=2 * EDGE)


@pytest.mark.parametrize(
    "other",
    [
        {"signal": "lora"},
        {"low_hz": 2e6, "high_hz": 3e6},  # beside it
        {"low_hz": 1.6e6, "high_hz": 2.6e6},  # shares less than half of both bands' union
        {"start_s": 0.21},  # begins 10 ms after the border
    ],
)
def test_two_signals_that_meet_at_a_border_stay_two(other: dict[str, Any]) -> None:
    first, second = lasting(0.1, 0.1999), replace(lasting(0.2001, 0.3), **other)
    assert stitch([result(0.0, first), result(0.2, second)]) == [first, second]


def test_what_ended_before_the_border_is_not_continued() -> None:
    first, second = lasting(0.1, 0.19), lasting(0.2001, 0.3)
    assert stitch([result(0.0, first), result(0.2, second)]) == [first, second]


def test_several_signals_are_joined_each_with_its_own() -> None:
    low, high = {"low_hz": -5e6, "high_hz": -4e6}, {"low_hz": 5e6, "high_hz": 6e6}
    found = stitch(
        [
            result(0.0, lasting(0.1, 0.1999, **high), lasting(0.15, 0.1999, **low)),
            result(0.2, lasting(0.2001, 0.25, **low), lasting(0.2001, 0.3, **high)),
        ]
    )
    assert found == [lasting(0.1, 0.3, **high), lasting(0.15, 0.25, **low)]


def test_what_a_backward_reaching_capture_repeats_is_told_once() -> None:
    early, late = lasting(0.05, 0.06), lasting(0.15, 0.16)
    seen_again = replace(late, start_s=0.1501, score=0.8)
    new = lasting(0.25, 0.26)
    assert stitch([result(0.0, early, late), result(0.1, seen_again, new)]) == [early, late, new]


def test_what_only_the_backward_reaching_capture_finds_is_told() -> None:
    early, missed = lasting(0.05, 0.06), lasting(0.15, 0.16)
    assert stitch([result(0.0, early), result(0.1, missed)]) == [early, missed]


def test_a_repeat_never_counts_for_another_signal_of_its_kind() -> None:
    early, late = lasting(0.12, 0.13), lasting(0.15, 0.16)
    surer = replace(early, score=0.99)
    assert stitch([result(0.0, late, early), result(0.1, surer, late)]) == [early, late]


def test_a_repeat_that_ends_at_the_border_is_told_once() -> None:
    first = lasting(0.15, 0.198)  # within the slack of the border
    assert stitch([result(0.0, first), result(0.1, lasting(0.1501, 0.1981))]) == [lasting(0.15, 0.1981)]
    assert stitch([result(0.0, first), result(0.1, lasting(0.1501, 0.1979))]) == [first]


def test_detections_come_in_order_of_time() -> None:
    found = stitch([result(0.0, lasting(0.1, 0.11), lasting(0.01, 0.02), lasting(0.01, 0.02, low_hz=0.0))])
    assert [(d.start_s, d.low_hz) for d in found] == [(0.01, 0.0), (0.01, 1e6), (0.1, 1e6)]


def test_nothing_stitched_is_nothing() -> None:
    assert stitch([]) == stitch([result(0.0), result(0.2)]) == []


def test_a_result_is_a_sequence_of_detections() -> None:
    pieces = [lasting(0.1, 0.2), lasting(0.3, 0.4)]
    whole = result(0.0, *pieces)
    assert (len(whole), list(whole), whole[1], whole[-1]) == (2, pieces, pieces[1], pieces[1])
    assert pieces[0] in whole
    assert not result(0.0)


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
