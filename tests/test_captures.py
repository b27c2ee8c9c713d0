"""Recordings: cut into captures and resampled without seams."""

import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import WIDEBAND, Contract
from engine.errors import InputError
from engine.recordings.open import open_recording
from engine.recordings.resampling import rate_ratio, resample
from engine.recordings.writing import write_sigmf

from .recordings import FLAT, SAME, SMALL, noise, sigmf, tone


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
