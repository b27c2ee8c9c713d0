"""Recordings: what is broken is refused by name and with a remedy."""

import json
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import Contract
from engine.errors import InputError, RecordingError
from engine.recordings.annotation import Annotation
from engine.recordings.open import open_recording
from engine.recordings.writing import write_rfcap, write_sigmf

from .recordings import REAL, noise, packed, sigmf, tar, wav


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iq": np.zeros(0, np.complex64)}, "at least one"),
        ({"iq": np.zeros(4, np.float32)}, "complex"),
        ({"sample_rate_hz": 0.0}, "not above 0"),
        ({"sample_rate_hz": math.nan}, "not above 0"),
        ({"center_freq_hz": math.inf}, "finite"),
        ({"center_freq_hz": 1e15}, "SigMF refuses"),
        ({"datatype": "ci24"}, "choose one of"),
        ({"iq": np.full(4, 2 + 0j)}, "scale it, or write cf32_le"),
        ({"iq": np.full(4, np.nan + 0j)}, "scale it, or write cf32_le"),
        ({"annotations": [Annotation("a", 2.0, 1.0, 0.0, 1.0)]}, "start_s < stop_s"),
        ({"annotations": [Annotation("a", 0.0, 1.0, 0.0, math.nan)]}, "low_hz < high_hz"),
        ({"annotations": [Annotation("a", 99.0, 100.0, 0.0, 1.0)]}, "inside"),
    ],
)
def test_sigmf_that_would_be_wrong_is_not_written(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    settings_ = {"iq": noise(10), "sample_rate_hz": 10.0, "center_freq_hz": 0.0, **changes}
    with pytest.raises(InputError, match=said):
        write_sigmf(tmp_path / "x", **settings_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ü" * 17, "a\0b"])
def test_an_rfcap_name_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="32 bytes"):
        write_rfcap(tmp_path / "x", noise(1), sample_rate_hz=1e6, center_freq_hz=0.0, signal_name=name)


# files that are not what they claim


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def header(folder: Path, name: str = "x.rfcap", n: int = 4, **fields: Any) -> Path:
    """An RFCAP file with fields put in place as (format, offset, value)."""
    write_rfcap(folder / name, noise(n), sample_rate_hz=1e6, center_freq_hz=0.0)
    raw = bytearray((folder / name).read_bytes())
    for form, offset, value in fields.values():
        struct.pack_into(form, raw, offset, value)
    return put(folder, name, bytes(raw))


def lonely(path: Path, ending: str) -> Path:
    """A pair of which one half is gone; the other half's path."""
    path.with_suffix(ending).unlink()
    return next(path.parent.glob("x.sigmf-*"))


def rewritten(path: Path, old: str, new: str) -> Path:
    path.write_text(path.read_text().replace(old, new))
    return path


def too_large(path: Path) -> Path:
    with path.open("r+b") as file:
        file.truncate(64 * 2**20 + 1)
    return path


def folder_named(path: Path) -> Path:
    path.mkdir()
    return path


def cut(path: Path, n_bytes: int) -> Path:
    return put(path.parent, path.name, path.read_bytes()[:n_bytes])


segment = {"core:sample_start": 0}
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda d: d / "x.cu8", "check name"),
    "no pair": (lambda d: d / "x.sigmf-meta", "put it beside"),
    "no archive": (lambda d: d / "x.sigmf", "check name"),
    "folder": (lambda d: folder_named(d / "x.cu8"), "name the recording itself"),
    "unknown ending": (lambda d: put(d, "x.mp3", b"12345678"), "rename the file to one of"),
    "raw without rate": (lambda d: put(d, "x.cu8", bytes(8)), "--rate"),
    "raw empty": (lambda d: put(d, "x_1000k.cu8", b""), "record or copy it again"),
    "raw odd bytes": (lambda d: put(d, "x_1000k.cu8", bytes(7)), "drop the last 1 bytes"),
    "raw partial sample": (lambda d: put(d, "x_1000k.cf32", bytes(20)), "drop the last 4 bytes"),
    "raw rate 0": (lambda d: put(d, "x_0k.cu8", bytes(8)), "--rate"),
    "rfcap empty": (lambda d: put(d, "x.rfcap", b""), "rename it"),
    "rfcap wrong magic": (lambda d: put(d, "x.rfcap", b"G21\0" + bytes(600)), "rename it"),
    "rfcap cut in the header": (lambda d: cut(header(d), 300), "copy it again"),
    "rfcap header only": (lambda d: cut(header(d), 512), "copy it again"),
    "rfcap version": (lambda d: header(d, f=("<I", 4, 2)), "convert it"),
    "rfcap rate 0": (lambda d: header(d, f=("<d", 8, 0.0)), "--rate"),
    "rfcap rate negative": (lambda d: header(d, f=("<d", 8, -1e6)), "--rate"),
    "rfcap rate nan": (lambda d: header(d, f=("<d", 8, math.nan)), "--rate"),
    "rfcap rate 1e12": (lambda d: header(d, f=("<d", 8, 1e12)), "--rate"),
    "rfcap centre nan": (lambda d: header(d, f=("<d", 16, math.nan)), "--center"),
    "wav wrong magic": (lambda d: put(d, "x.wav", bytes(100)), "rename it"),
    "wav empty": (lambda d: put(d, "x.wav", b""), "rename it"),
    "wav cut": (lambda d: cut(wav(d / "x.wav", bytes(40)), 30), "copy it again"),
    "wav without samples": (lambda d: wav(d / "x.wav", b""), "copy it again"),
    "wav mono": (lambda d: wav(d / "x.wav", bytes(40), channels=1), "record it as stereo IQ"),
    "wav 24 bits": (lambda d: wav(d / "x.wav", bytes(48), bits=24), "convert it to 16-bit"),
    "wav rate 0": (lambda d: wav(d / "x.wav", bytes(40), rate=0), "--rate"),
    "sigmf without data": (lambda d: lonely(sigmf(d), ".sigmf-data"), "put them beside"),
    "sigmf without meta": (lambda d: lonely(sigmf(d), ".sigmf-meta"), "put it beside"),
    "sigmf empty data": (lambda d: sigmf(d, b""), "copy it again"),
    "sigmf odd data": (lambda d: sigmf(d, b"123"), "drop the last 1 bytes"),
    "sigmf header longer than data": (
        lambda d: sigmf(d, b"12", captures=[{**segment, "core:header_bytes": 9}]),
        "copy it again",
    ),
    "sigmf empty meta": (lambda d: put(d, sigmf(d).name, b""), "mend it"),
    "sigmf not json": (lambda d: put(d, sigmf(d).name, b"{'global'"), "mend it"),
    "sigmf not utf-8": (lambda d: put(d, sigmf(d).name, b"\xff\xfe{}"), "mend it"),
    "sigmf deep json": (lambda d: put(d, sigmf(d).name, b"[" * 200_000), "mend it"),
    "sigmf nan": (lambda d: rewritten(sigmf(d), "1000.0", "NaN"), "mend it"),
    "sigmf infinity": (lambda d: rewritten(sigmf(d), "1000.0", "-Infinity"), "mend it"),
    "sigmf overflow": (lambda d: rewritten(sigmf(d), "1000.0", "1e999"), "mend it"),
    "sigmf huge whole number": (lambda d: rewritten(sigmf(d), "1000.0", "9" * 400), "--rate"),
    "sigmf huge meta": (lambda d: too_large(sigmf(d)), "split the annotations"),
    "sigmf list": (lambda d: put(d, sigmf(d).name, b"[]"), "export the recording again"),
    "sigmf captures no list": (lambda d: sigmf(d, captures={}), "export the recording again"),
    "sigmf annotations no objects": (lambda d: sigmf(d, annotations=[1]), "export the recording again"),
    "sigmf no rate": (lambda d: sigmf(d, sample_rate=None), "--rate"),
    "sigmf rate text": (lambda d: sigmf(d, sample_rate="1000"), "--rate"),
    "sigmf rate true": (lambda d: sigmf(d, sample_rate=True), "--rate"),
    "sigmf rate 0": (lambda d: sigmf(d, sample_rate=0), "--rate"),
    "sigmf rate negative": (lambda d: sigmf(d, sample_rate=-5), "--rate"),
    "sigmf rate 1e12": (lambda d: sigmf(d, sample_rate=1e12), "--rate"),
    "sigmf no datatype": (lambda d: sigmf(d, datatype=None), "add it"),
    "sigmf datatype unknown": (lambda d: sigmf(d, datatype="cq8"), "correct it"),
    "sigmf datatype f8": (lambda d: sigmf(d, datatype="cf8"), "correct it"),
    "sigmf datatype number": (lambda d: sigmf(d, datatype=8), "correct it"),
    "sigmf real": (lambda d: sigmf(d, datatype="rf32_le"), "convert them to complex"),
    "sigmf channels": (lambda d: sigmf(d, num_channels=2), "write each channel"),
    "sigmf frequency text": (lambda d: sigmf(d, captures=[{**segment, "core:frequency": "1"}]), "--center"),
    "sigmf segments out of order": (lambda d: sigmf(d, captures=[{"core:sample_start": 5}, segment]), "sort them"),
    "sigmf later header": (
        lambda d: sigmf(d, captures=[segment, {"core:sample_start": 5, "core:header_bytes": 4}]),
        "without headers",
    ),
    "sigmf trailing bytes": (lambda d: sigmf(d, trailing_bytes=-1), "correct it"),
    "sigmf dataset elsewhere": (
        lambda d: lonely(sigmf(d, dataset="../secret.bin"), ".sigmf-data"),
        "put the file beside",
    ),
    "archive empty": (lambda d: put(d, "x.sigmf", b""), "unpack it"),
    "archive foreign": (lambda d: put(d, "x.sigmf", b"x" * 2000), "unpack it"),
    "archive compressed": (lambda d: tar(d / "x.sigmf", packed(d), mode="w:gz"), "unpack it"),
    "archive without data": (
        lambda d: tar(d / "x.sigmf", {"a.sigmf-meta": packed(d)["x/x.sigmf-meta"]}),
        "pack the recording again",
    ),
    "archive with two": (lambda d: tar(d / "x.sigmf", packed(d) | {"b.sigmf-meta": b""}), "open one of them"),
    "archive upward member": (lambda d: tar(d / "x.sigmf", {"../evil": b"", **packed(d)}), "do not trust"),
    "archive hidden upward member": (lambda d: tar(d / "x.sigmf", {"a/../../b": b"", **packed(d)}), "do not trust"),
    "archive absolute member": (lambda d: tar(d / "x.sigmf", {"/etc/evil": b"", **packed(d)}), "do not trust"),
    "archive drive member": (lambda d: tar(d / "x.sigmf", {"C:\\evil": b"", **packed(d)}), "do not trust"),
    "archive link": (lambda d: tar(d / "x.sigmf", packed(d), link="a.sigmf-data"), "repack it"),
    "archive cut": (lambda d: cut(tar(d / "x.sigmf", packed(d)), 512 * 3 + 50), "copy it again"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_recording_is_refused_by_name_and_with_a_remedy(tmp_path: Path, case: str) -> None:
    make, remedy = BROKEN[case]
    path = make(tmp_path)
    with pytest.raises(RecordingError) as refused:
        open_recording(path)
    assert path.stem in str(refused.value).splitlines()[0]
    assert str(tmp_path) in str(refused.value)
    assert remedy in str(refused.value)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf, 1e12])
def test_a_given_rate_that_cannot_be_is_refused(tmp_path: Path, rate: float) -> None:
    path = put(tmp_path, "x.cu8", bytes(8))
    with pytest.raises(RecordingError, match=r"x\.cu8.*--rate"):
        open_recording(path, sample_rate_hz=rate)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.sampled_from(["x.rfcap", "x.wav", "x.sigmf", "x.sigmf-meta"]))
def test_a_damaged_file_is_read_or_refused_and_never_crashes(tmp_path: Path, seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    members = packed(tmp_path)
    header(tmp_path)
    wav(tmp_path / "x.wav", bytes(400))
    tar(tmp_path / "x.sigmf", members)
    raw = bytearray((tmp_path / name).read_bytes())
    for _ in range(rng.integers(1, 4)):
        raw[rng.integers(min(len(raw), 700))] = rng.integers(256)
    path = put(tmp_path, name, bytes(raw[: rng.integers(1, len(raw) + 1)] if rng.random() < 0.5 else raw))
    try:
        recording = open_recording(path)
    except RecordingError:
        return
    assert recording.read(0, len(recording)).shape == (len(recording),)


def test_importing_recordings_stays_light() -> None:
    heavy = "{'scipy', 'sigmf', 'torch'}"
    code = f"import sys, engine.recordings.open; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
def test_every_real_recording_is_read_and_cut() -> None:
    paths = sorted(REAL.rglob("*.sigmf-meta"))
    assert paths
    for path in paths:
        recording = open_recording(path)
        assert recording.notes == (), path
        assert len(recording.annotations) == len(json.loads(path.read_text())["annotations"])
        capture = recording.capture(Contract(sample_rate_hz=2e6), 0)
        assert np.isfinite(capture.iq).all() and capture.iq.any()
