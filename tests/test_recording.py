"""Recordings: every format read as written, cut without seams, and refused with a remedy when broken."""

import io
import json
import math
import struct
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract import WIDEBAND, Contract
from engine.errors import InputError, RecordingError
from engine.formats import rate_and_center_in_name, read_rfcap_header
from engine.recording import Annotation, open_recording, resample, write_rfcap, write_sigmf
from engine.resampling import rate_ratio

SMALL = Contract(sample_rate_hz=20e3, capture_s=0.1)  # 2,000 samples a capture
REAL = Path(__file__).parents[2] / "shared" / "data"
# float32 sums over ~40 taps of unit-size numbers round to about 1e-6; ten times that is no transient
SAME = 1e-5
# the low pass is flat within 0.1 dB up to 87 % of the band, that is 1.2 % in amplitude
FLAT = 0.012


def noise(n: int, seed: int = 1) -> np.ndarray:
    """complex64[n] within -1..+1 on both axes."""
    parts = np.random.default_rng(seed).uniform(-1, 1, 2 * n).astype(np.float32)
    return parts.view(np.complex64)


def tone(n: int, freq_hz: float, rate_hz: float) -> np.ndarray:
    return (0.5 * np.exp(2j * np.pi * freq_hz / rate_hz * np.arange(n))).astype(np.complex64)


def sigmf(folder: Path, data: bytes = b"\1\2" * 100, **changes: Any) -> Path:
    """A ci8 pair at 1 kS/s with changes to the global object; a value of None takes the key out."""
    about: dict[str, Any] = {"core:datatype": "ci8", "core:sample_rate": 1000.0, "core:version": "1.2.0"}
    sections = {key: changes.pop(key) for key in ("captures", "annotations") if key in changes}
    about.update({f"core:{key}": value for key, value in changes.items()})
    about = {key: value for key, value in about.items() if value is not None}
    path = folder / "x.sigmf-meta"
    path.write_text(json.dumps({"global": about, "captures": [], "annotations": [], **sections}))
    path.with_suffix(".sigmf-data").write_bytes(data)
    return path


def tar(path: Path, members: dict[str, bytes], *, mode: str = "w:", link: str = "") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def packed(folder: Path) -> dict[str, bytes]:
    """The members of a good archive."""
    meta = sigmf(folder)
    return {"x/x.sigmf-meta": meta.read_bytes(), "x/x.sigmf-data": meta.with_suffix(".sigmf-data").read_bytes()}


def wav(
    path: Path, data: bytes, *, tag: int = 1, bits: int = 16, channels: int = 2, rate: int = 48_000,
    before: bytes = b"", form: str = "RIFF", claimed: int | None = None,
) -> Path:  # fmt: skip
    block = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * block, block, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVE" + before + fmt + struct.pack("<4sI", b"data", size) + data
    path.write_bytes(form.encode() + struct.pack("<I", len(body) & 0xFFFFFFFF) + body)
    return path


# formats


finite = st.floats(allow_nan=False, allow_infinity=False)
any_iq = st.lists(st.complex_numbers(width=64, allow_nan=False, allow_infinity=False), min_size=1, max_size=50)
any_name = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_iq, st.floats(1e-3, 9e11), finite, finite, finite, any_name, finite, finite)
def test_rfcap_returns_what_was_written(
    tmp_path: Path, values: list[complex], rate: float, centre: float, width: float, start: float, name: str,
    latitude: float, longitude: float,
) -> None:  # fmt: skip
    path, iq = tmp_path / "x.rfcap", np.array(values, np.complex64)
    write_rfcap(
        path, iq, sample_rate_hz=rate, center_freq_hz=centre, bandwidth_hz=width, start_time_unix_s=start,
        signal_name=name, latitude_deg=latitude, longitude_deg=longitude,
    )  # fmt: skip
    recording, header = open_recording(path), read_rfcap_header(path)
    assert np.array_equal(recording.read(0, len(recording)), iq)
    assert (recording.sample_rate_hz, recording.center_freq_hz, recording.notes) == (rate, centre, ())
    assert (header.bandwidth_hz, header.start_time_unix_s, header.signal_name) == (width, start, name)
    assert (header.n_samples, header.latitude_deg, header.longitude_deg) == (len(iq), latitude, longitude)


def test_rfcap_fields_lie_at_the_documented_offsets(tmp_path: Path) -> None:
    path = tmp_path / "x.rfcap"
    write_rfcap(
        path, noise(3), sample_rate_hz=1e6, center_freq_hz=2e6, bandwidth_hz=3e6, start_time_unix_s=4.0,
        signal_name="adsb", latitude_deg=5.0, longitude_deg=6.0,
    )  # fmt: skip
    raw = path.read_bytes()
    assert len(raw) == 512 + 3 * 8
    assert raw[:8] == b"G20\0\1\0\0\0"
    assert struct.unpack_from("<dddQd", raw, 8) == (1e6, 2e6, 3e6, 3, 4.0)
    assert raw[48:80] == b"adsb".ljust(32, b"\0")
    assert struct.unpack_from("<dd", raw, 80) == (5.0, 6.0)
    assert not any(raw[96:512])


def test_rfcap_is_known_by_its_first_bytes_whatever_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_rfcap(path, noise(9), sample_rate_hz=5e6, center_freq_hz=1e9)
    assert open_recording(path).sample_rate_hz == 5e6


@pytest.mark.parametrize(("claimed", "there"), [(50, 9), (2, 9), (9, 8.5)])
def test_an_rfcap_header_that_miscounts_is_noted_and_what_is_there_is_read(
    tmp_path: Path, claimed: int, there: float
) -> None:
    path = tmp_path / "x.rfcap"
    write_rfcap(path, noise(9), sample_rate_hz=5e6, center_freq_hz=1e9)
    raw = bytearray(path.read_bytes()[: 512 + int(there * 8)])
    raw[32:40] = struct.pack("<Q", claimed)
    path.write_bytes(raw)
    recording = open_recording(path)
    assert len(recording) == int(there)
    assert f"counts {claimed} samples" in recording.notes[0]


RAW = {
    ".cf32": ("<f4", [0.25, -0.5, 1.5, -2.0], [0.25 - 0.5j, 1.5 - 2j]),
    ".fc32": ("<f4", [0.25, -0.5, 1.5, -2.0], [0.25 - 0.5j, 1.5 - 2j]),
    ".iq": ("<f4", [0.25, -0.5, 1.5, -2.0], [0.25 - 0.5j, 1.5 - 2j]),
    ".cs16": ("<i2", [16384, -32768, 0, 8192], [0.5 - 1j, 0.25j]),
    ".cs8": ("i1", [64, -128, 0, 32], [0.5 - 1j, 0.25j]),
    ".CS8": ("i1", [64, -128, 0, 32], [0.5 - 1j, 0.25j]),
    ".cu8": ("u1", [255, 0, 0, 255], [1 - 1j, -1 + 1j]),
}


@pytest.mark.parametrize("ending", RAW)
def test_raw_iq_is_scaled_to_one(tmp_path: Path, ending: str) -> None:
    dtype, stored, expected = RAW[ending]
    path = tmp_path / f"x_868M_1024k{ending}"
    np.array(stored, dtype).tofile(path)
    recording = open_recording(path)
    iq = recording.read(0, 2)
    assert iq.dtype == np.complex64
    assert np.allclose(iq, expected, atol=1e-7)
    assert (recording.sample_rate_hz, recording.center_freq_hz) == (1.024e6, 868e6)


@pytest.mark.parametrize(
    ("name", "rate", "centre"),
    [
        ("g001_433.92M_250k", 250e3, 433.92e6),
        ("x_868M_1024k", 1.024e6, 868e6),
        ("x_250k_433.92M", 250e3, 433.92e6),
        ("x_2.4G_20M", 20e6, 2.4e9),
        ("x_2450MHz_20Msps", 20e6, 2.45e9),
        ("x_1000ksps", 1e6, None),
        ("SDRuno_20200907_174203Z_7100kHz", None, 7.1e6),
        ("SDRSharp_20150804_204432Z_433920000Hz_IQ", None, 433.92e6),
        ("street", None, None),
        ("4GLTE_mp3M", None, None),
    ],
)
def test_rate_and_centre_are_read_from_the_name(name: str, rate: float | None, centre: float | None) -> None:
    assert rate_and_center_in_name(name) == (pytest.approx(rate), pytest.approx(centre))


def test_what_the_caller_gives_outweighs_name_and_header(tmp_path: Path) -> None:
    raw = tmp_path / "x_868M_1024k.cu8"
    raw.write_bytes(bytes(200))
    recording = open_recording(raw, sample_rate_hz=2e6, center_freq_hz=1e9)
    assert (recording.sample_rate_hz, recording.center_freq_hz) == (2e6, 1e9)
    captures = [{"core:sample_start": 0, "core:frequency": 100e6}]
    boxes = [{"core:sample_start": 0, "core:sample_count": 50, "core:freq_lower_edge": 100e6 - 100}]
    recording = open_recording(
        sigmf(tmp_path, captures=captures, annotations=boxes), sample_rate_hz=500, center_freq_hz=7e6
    )
    assert (recording.sample_rate_hz, recording.center_freq_hz) == (500, 7e6)
    assert "500 Hz was given" in recording.notes[0]
    assert recording.annotations == (Annotation("", 0, 0.1, 7e6 - 100, 7e6 + 250),)  # moved with the centre


@pytest.mark.parametrize(("datatype", "step"), [("ci16_le", 2**-15), ("ci8", 2**-7), ("cf32_le", 0.0)])
def test_sigmf_returns_what_was_written(tmp_path: Path, datatype: str, step: float) -> None:
    iq = noise(1000)
    boxes = (Annotation("b", 0.2, 0.4, 99.8e6, 99.9e6, "late"), Annotation("a", 0.1, 0.9, 100e6, 100.0002e6))
    path = write_sigmf(
        tmp_path / "x.y.sigmf-data", iq, sample_rate_hz=1000.0, center_freq_hz=100e6, annotations=boxes,
        datatype=datatype, description="two boxes",
    )  # fmt: skip
    assert path == tmp_path / "x.y.sigmf-meta"
    for name in (path, path.with_suffix(".sigmf-data")):
        recording = open_recording(name)
        assert abs(recording.read(0, 1000).view(np.float32) - iq.view(np.float32)).max() <= step
        assert (recording.sample_rate_hz, recording.center_freq_hz) == (1000.0, 100e6)
        assert recording.description == "two boxes"
        assert recording.annotations[0].label == "a"
        assert "outside the band" in recording.notes[0]  # 99.9 MHz is not within 1 kHz of the centre


def test_sigmf_annotations_return_as_written(tmp_path: Path) -> None:
    boxes = tuple(Annotation(f"s{i}", 0.1 * i, 0.1 * i + 0.05, -100.0 * i - 1, 100.0, "note") for i in range(4))
    path = write_sigmf(tmp_path / "x", noise(1000), sample_rate_hz=1000.0, annotations=boxes)
    for written, read in zip(boxes, open_recording(path).annotations, strict=True):
        assert (read.label, read.low_hz, read.high_hz, read.comment) == (
            written.label, written.low_hz, written.high_hz, written.comment,
        )  # fmt: skip
        assert read.start_s == pytest.approx(written.start_s, abs=0.5e-3)  # half a sample
        assert read.stop_s == pytest.approx(written.stop_s, abs=0.5e-3)


@pytest.mark.parametrize(
    ("datatype", "stored", "scale"),
    [
        ("cf32_be", ">f4", 1),
        ("cf64_le", "<f8", 1),
        ("cf64_be", ">f8", 1),
        ("ci16_be", ">i2", 2**15),
        ("ci32_le", "<i4", 2**31),
        ("cu16_le", "<u2", 2**15 - 0.5),
        ("cu16_be", ">u2", 2**15 - 0.5),
        ("cu8", "u1", 127.5),
        ("ci16", "<i2", 2**15),
    ],
)
def test_every_complex_sigmf_datatype_is_read(tmp_path: Path, datatype: str, stored: str, scale: float) -> None:
    wanted = np.array([0.5, -0.25, -0.75, 0.0])
    middle = scale if "u" in stored else 0
    numbers = wanted * scale + middle
    raw = (numbers if "f" in stored else np.rint(numbers)).astype(stored)
    recording = open_recording(sigmf(tmp_path, raw.tobytes(), datatype=datatype))
    assert np.allclose(recording.read(0, 2).view(np.float32), wanted, atol=1 / scale if scale > 1 else 0)
    assert bool(recording.notes) == (datatype == "ci16")


def test_a_sigmf_archive_reads_like_the_pair_and_is_not_extracted(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    archive = tar(tmp_path / "x.sigmf", packed(inside))
    pair, packed_one = open_recording(inside / "x.sigmf-meta"), open_recording(archive)
    assert isinstance(packed_one.samples, np.memmap)
    assert np.array_equal(pair.read(0, 100), packed_one.read(0, 100))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.sigmf"]


def test_sigmf_header_and_trailing_bytes_are_left_out(tmp_path: Path) -> None:
    captures = [{"core:sample_start": 0, "core:header_bytes": 3}]
    path = sigmf(tmp_path, b"abc" + b"\x40\x20" * 5 + b"z", captures=captures, trailing_bytes=1)
    assert np.array_equal(open_recording(path).read(0, 5), np.full(5, 0.5 + 0.25j, np.complex64))


def test_a_sigmf_dataset_of_another_name_is_found(tmp_path: Path) -> None:
    path = sigmf(tmp_path, dataset="radio.dat")
    path.with_suffix(".sigmf-data").rename(tmp_path / "radio.dat")
    assert len(open_recording(path)) == 100


def test_sigmf_start_time_is_read_and_a_bad_one_noted(tmp_path: Path) -> None:
    captures = [{"core:sample_start": 0, "core:datetime": "2024-01-01T00:00:00.5Z"}]
    assert open_recording(sigmf(tmp_path, captures=captures)).start_time_unix_s == 1704067200.5
    captures[0]["core:datetime"] = "yesterday"
    recording = open_recording(sigmf(tmp_path, captures=captures))
    assert recording.start_time_unix_s is None
    assert "yesterday" in recording.notes[0]


def test_a_retuned_sigmf_recording_uses_the_first_frequency_and_says_so(tmp_path: Path) -> None:
    captures = [
        {"core:sample_start": 0, "core:frequency": 1e6},
        {"core:sample_start": 50, "core:frequency": 2e6},
        {"core:sample_start": 80},
    ]
    boxes = [
        {
            "core:sample_start": 60,
            "core:sample_count": 5,
            "core:freq_lower_edge": 2e6,
            "core:freq_upper_edge": 2.0001e6,
        }
    ]
    recording = open_recording(sigmf(tmp_path, captures=captures, annotations=boxes))
    assert recording.center_freq_hz == 1e6
    assert recording.notes == ("2 centre frequencies in 3 segments; 1e+06 Hz is used",)
    assert recording.annotations[0].low_hz == 1e6  # where the box lies in the samples, seen from that frequency


@pytest.mark.parametrize(
    ("box", "kept", "note"),
    [
        ({"core:sample_start": 10, "core:sample_count": 20}, (0.01, 0.03, -500.0, 500.0), None),
        ({"core:sample_start": 10}, (0.01, 0.1, -500.0, 500.0), None),
        ({"core:sample_start": 90, "core:sample_count": 20}, (0.09, 0.1, -500.0, 500.0), "cut to the recording"),
        ({"core:sample_start": 100, "core:sample_count": 20}, None, "outside the recording"),
        ({"core:sample_start": 10, "core:sample_count": 0}, None, "without extent"),
        ({"core:sample_count": 20}, None, "no usable core:sample_start"),
        ({"core:sample_start": 1, "core:sample_count": "many"}, None, "no usable"),
        ({"core:sample_start": True}, None, "no usable"),
        ({"core:sample_start": 0, "core:freq_lower_edge": 9, "core:freq_upper_edge": 3}, None, "without extent"),
        ({"core:sample_start": 0, "core:freq_lower_edge": 900, "core:freq_upper_edge": 999}, None, "the band"),
    ],
)
def test_sigmf_annotations_are_kept_where_they_can_be_and_counted_where_not(
    tmp_path: Path, box: dict[str, Any], kept: tuple[float, ...] | None, note: str | None
) -> None:
    recording = open_recording(sigmf(tmp_path, annotations=[box]))
    found = [(a.start_s, a.stop_s, a.low_hz, a.high_hz) for a in recording.annotations]
    assert found == ([] if kept is None else [pytest.approx(kept)])
    assert [note in text for text in recording.notes if note] == ([] if note is None else [True])


def test_sigmf_offset_moves_the_annotations(tmp_path: Path) -> None:
    box = {"core:sample_start": 1010, "core:sample_count": 20}
    assert open_recording(sigmf(tmp_path, offset=1000, annotations=[box])).annotations[0].start_s == 0.01


@pytest.mark.parametrize(
    ("tag", "bits", "dtype", "scale", "middle"),
    [(1, 8, "u1", 127.5, 127.5), (1, 16, "<i2", 2**15, 0), (1, 32, "<i4", 2**31, 0), (3, 32, "<f4", 1, 0)],
)
def test_two_channel_wav_is_read_as_iq(
    tmp_path: Path, tag: int, bits: int, dtype: str, scale: float, middle: float
) -> None:
    wanted = np.array([0.5, -0.25, -0.75, 0.0])
    numbers = wanted * scale + middle
    data = (numbers if tag == 3 else np.rint(numbers)).astype(dtype).tobytes()
    recording = open_recording(wav(tmp_path / "a_7100kHz_.wav", data, tag=tag, bits=bits))
    assert np.allclose(recording.read(0, 2).view(np.float32), wanted, atol=1 / scale if scale > 1 else 0)
    assert (recording.sample_rate_hz, recording.center_freq_hz, recording.notes) == (48e3, 7.1e6, ())


def test_a_wav_auxiliary_chunk_gives_the_centre(tmp_path: Path) -> None:
    auxiliary = struct.pack("<4sI32sI", b"auxi", 36, bytes(32), 14_200_000)
    assert open_recording(wav(tmp_path / "a.wav", bytes(40), before=auxiliary)).center_freq_hz == 14.2e6


def test_a_wav_header_that_miscounts_is_noted_and_rf64_sizes_are_read(tmp_path: Path) -> None:
    recording = open_recording(wav(tmp_path / "a.wav", bytes(42), claimed=4000))
    assert len(recording) == 10
    assert "counts 4000 bytes" in recording.notes[0]
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 0, 40, 10, 0)
    recording = open_recording(wav(tmp_path / "b.wav", bytes(40), before=sizes, form="RF64", claimed=0xFFFFFFFF))
    assert (len(recording), recording.notes) == (10, ())


# captures


def test_a_recording_shorter_than_a_capture_is_padded_and_says_so(tmp_path: Path) -> None:
    iq = noise(500)
    path = write_sigmf(tmp_path / "x", iq, sample_rate_hz=20e3, center_freq_hz=1e6, datatype="cf32_le")
    (capture,) = open_recording(path).captures(SMALL)
    assert capture.iq.shape == (2000,)
    assert np.array_equal(capture.iq[:500], iq)
    assert not capture.iq[500:].any()
    assert (capture.valid_s, capture.start_s, capture.center_freq_hz) == (0.025, 0.0, 1e6)
    assert capture.notes == ("padded with silence: 0.025 s of 0.1 s is signal",)


def test_the_last_capture_of_a_longer_recording_is_full_and_reaches_back(tmp_path: Path) -> None:
    iq = noise(4500)
    path = write_sigmf(tmp_path / "x", iq, sample_rate_hz=20e3, datatype="cf32_le")
    captures = list(open_recording(path).captures(SMALL))
    assert [capture.start_s for capture in captures] == [0.0, 0.1, 0.125]
    for capture in captures:
        start = round(capture.start_s * 20e3)
        assert np.array_equal(capture.iq, iq[start : start + 2000])
        assert capture.valid_s == 0.1
    assert [capture.notes for capture in captures] == [(), (), ("reaches back 0.075 s",)]


@pytest.mark.parametrize("n", [2000, 4000])
def test_whole_captures_are_neither_padded_nor_overlapped(tmp_path: Path, n: int) -> None:
    path = write_sigmf(tmp_path / "x", noise(n), sample_rate_hz=20e3 * (1 + 5e-7))
    captures = list(open_recording(path).captures(SMALL))
    assert len(captures) == n // 2000
    assert all(not capture.notes for capture in captures)


# up, down, many captures, coprime factors, a rate that is no whole number
@pytest.mark.parametrize("rate", [2400.0, 19.2e3, 46.08e3, 100e3, 12_000.9, 7001.0])
def test_captures_of_a_resampled_recording_tile_it_without_transients(tmp_path: Path, rate: float) -> None:
    iq = noise(int(0.47 * rate))
    path = write_sigmf(tmp_path / "x", iq, sample_rate_hz=rate, datatype="cf32_le")
    whole = resample(iq, rate, 20e3)
    captures = list(open_recording(path).captures(SMALL))
    assert len(captures) == 5
    for capture in captures:
        start = round(capture.start_s * 20e3)
        assert abs(capture.iq - whole[start : start + 2000]).max() < SAME
        assert capture.notes[0].startswith(f"resampled {rate / 1e6:g} MS/s -> 0.02 MS/s (x")


def test_a_ten_gigabyte_file_gives_its_first_and_last_capture_without_being_loaded(tmp_path: Path) -> None:
    path, size = tmp_path / "big_100M_20Msps.cs16", 10 * 2**30
    with path.open("wb") as file:
        file.write(struct.pack("<hh", 16384, 0))
        file.truncate(size)
        file.seek(size - 4)
        file.write(struct.pack("<hh", 0, 16384))
    tracemalloc.start()
    try:
        recording = open_recording(path)
        first = next(iter(recording.captures(WIDEBAND)))
        last = recording.capture(WIDEBAND, recording.n_captures(WIDEBAND) - 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(recording) == size // 4
    assert (first.iq[0], last.iq[-1]) == (0.5, 0.5j)
    assert last.start_s == pytest.approx(recording.duration_s - 0.2)
    assert last.notes[0].startswith("reaches back")
    assert peak < 4 * WIDEBAND.capture_samples * 8  # a few captures, not the file


def test_reading_outside_the_recording_is_refused_with_its_length(tmp_path: Path) -> None:
    recording = open_recording(sigmf(tmp_path))
    for start, count in ((-1, 5), (98, 3), (0, -1)):
        with pytest.raises(InputError, match="it has 100"):
            recording.read(start, count)
    with pytest.raises(InputError, match="capture 1 of 1"):
        recording.capture(Contract(sample_rate_hz=1000.0), 1)


def test_numbers_that_are_not_finite_are_left_for_the_engine_to_judge(tmp_path: Path) -> None:
    raw = np.array([np.nan, 0, 1e300, 1], "<f8")
    iq = open_recording(sigmf(tmp_path, raw.tobytes(), datatype="cf64_le")).read(0, 2)
    assert np.isnan(iq[0].real)
    assert np.isinf(iq[1].real)


# resampling


@pytest.mark.parametrize(("from_hz", "to_hz"), [(2.4e6, 20e6), (19.2e6, 20e6), (50e6, 20e6), (20e6, 2e6)])
@pytest.mark.parametrize("share", [-0.4, 0.03, 0.43])  # of the slower rate; its band ends at 0.5
def test_the_resampler_keeps_a_tone_at_its_frequency_and_amplitude(from_hz: float, to_hz: float, share: float) -> None:
    freq_hz = share * min(from_hz, to_hz)
    out = resample(tone(int(from_hz * 1e-3), freq_hz, from_hz), from_hz, to_hz)
    settled = slice(len(out) // 4, 3 * len(out) // 4)
    ideal = tone(len(out), freq_hz, to_hz)
    assert len(out) == math.ceil(int(from_hz * 1e-3) * to_hz / from_hz)
    assert abs(out[settled] - ideal[settled]).max() < 0.5 * FLAT  # the tone's amplitude is 0.5


def test_images_of_a_resampled_tone_lie_80_db_below_it() -> None:
    out = resample(tone(24_000, 0.4e6, 2.4e6), 2.4e6, 20e6)
    n = len(out)
    spectrum = 20 * np.log10(abs(np.fft.fft(out * np.blackman(n))) + 1e-9)
    freq_hz = np.fft.fftfreq(n, 1 / 20e6)
    assert freq_hz[spectrum.argmax()] == pytest.approx(0.4e6, abs=20e6 / n)
    # 78: the filter's highest side lobe is 80 dB down only nominally, the window adds its own floor
    assert spectrum[abs(freq_hz - 0.4e6) > 0.1e6].max() < spectrum.max() - 78


def test_equal_rates_are_not_resampled() -> None:
    iq = noise(10)
    assert resample(iq, 20e6, 20e6 * (1 + 9e-7)) is iq


@given(st.floats(2e3, 1e9), st.floats(1e4, 4e7))
def test_the_ratio_is_within_its_tolerance_and_its_factors_bounded(from_hz: float, to_hz: float) -> None:
    try:
        ratio = rate_ratio(from_hz, to_hz)
    except InputError:
        assert not 1 / 256 <= to_hz / from_hz <= 20_000
        return
    assert abs(float(ratio) * from_hz / to_hz - 1) < 2e-5
    assert max(ratio.numerator, ratio.denominator) <= 60_000


@pytest.mark.parametrize(
    ("from_hz", "to_hz", "ratio"),
    [(2.4e6, 20e6, "25/3"), (19.2e6, 20e6, "25/24"), (12_800, 20e6, "3125/2"), (46.08e6, 2e6, "25/576")],
)
def test_common_rates_have_small_ratios(from_hz: float, to_hz: float, ratio: str) -> None:
    assert str(rate_ratio(from_hz, to_hz)) == ratio


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf, 1e12, 100.0, 9e9])
def test_absurd_rates_are_refused(rate: float) -> None:
    with pytest.raises(InputError, match=r"give it in Hz|check the rate"):
        resample(noise(10), rate, 20e6)


@pytest.mark.parametrize("iq", [np.zeros(4), np.zeros((2, 2), np.complex64), [1j, 2j]])
def test_only_one_dimensional_complex_arrays_are_resampled(iq: Any) -> None:
    with pytest.raises(InputError, match="needs a complex64"):
        resample(iq, 1e6, 2e6)


# writing refuses


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
    code = f"import sys, engine.recording, engine.formats; sys.exit(bool({heavy} & set(sys.modules)))"
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
