"""Recordings: every format reads as it was written."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.recordings.annotation import Annotation
from engine.recordings.formats import rate_and_center_in_name, read_rfcap_header
from engine.recordings.open import open_recording
from engine.recordings.writing import write_rfcap, write_sigmf

from .recordings import noise, packed, sigmf, tar, wav

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
