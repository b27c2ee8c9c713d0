"""Generated bursts: what can be told without TorchSig."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from engine.contract import CONTRACTS
from engine.errors import UnavailableError
from training.scenes.bursts import load_burst
from training.scenes.generated import RECIPES, make_burst, occupied_band, trim, write_bursts

RATE_HZ = 2e6
NFM = next(recipe for recipe in RECIPES["ism"] if recipe.label == "nfm")  # needs no TorchSig
LORA = next(recipe for recipe in RECIPES["ism"] if recipe.label == "lora")


def noise(samples: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.standard_normal(samples) + 1j * rng.standard_normal(samples)).astype(np.complex64)


def test_the_band_of_a_tone_is_the_tone_within_two_bins() -> None:
    tone = np.exp(2j * np.pi * 0.1 * np.arange(1 << 18)).astype(np.complex64)
    bin_hz = RATE_HZ / 32768
    assert occupied_band(tone, RATE_HZ) == pytest.approx((0.1 * RATE_HZ, 0.1 * RATE_HZ), abs=2 * bin_hz)


def test_the_band_of_filtered_noise_holds_99_percent_of_it() -> None:
    taps = signal.firwin(2001, 100e3, fs=RATE_HZ)
    low_hz, high_hz = occupied_band(signal.fftconvolve(noise(1 << 18), taps), RATE_HZ)
    assert (low_hz, high_hz) == pytest.approx((-99e3, 99e3), abs=1e3)  # 1 % of 200 kHz lies outside


def test_the_band_of_a_short_burst_is_measured_too() -> None:
    low_hz, high_hz = occupied_band(noise(100), RATE_HZ)
    assert -RATE_HZ * 0.51 < low_hz < -0.4 * RATE_HZ
    assert 0.4 * RATE_HZ < high_hz < 0.51 * RATE_HZ


def test_trimming_leaves_the_active_part() -> None:
    iq = np.zeros(100, np.complex64)
    iq[20:60] = 1
    iq[10] = 0.01
    assert len(trim(iq)) == 40


def test_a_burst_has_the_length_and_band_asked_for() -> None:
    burst = make_burst("ism", NFM, seed=3)
    assert burst.label == "nfm"
    assert burst.sample_rate_hz == CONTRACTS["ism"].sample_rate_hz
    assert NFM.duration_s[0] <= len(burst.iq) / burst.sample_rate_hz <= NFM.duration_s[1]
    assert 3e3 < burst.high_hz - burst.low_hz < NFM.bandwidth_hz[1]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("b", 6)):
        write_bursts(tmp_path / folder, "ism", NFM, seed)
    first = (tmp_path / "a/ism/nfm/5.npz").read_bytes()
    assert first == (tmp_path / "b/ism/nfm/5.npz").read_bytes()
    assert first != (tmp_path / "b/ism/nfm/6.npz").read_bytes()


def test_a_written_burst_reads_back_within_half_a_step_of_16_bits(tmp_path: Path) -> None:
    assert write_bursts(tmp_path, "ism", NFM, 7)
    made, read = make_burst("ism", NFM, 7), load_burst(tmp_path / "ism/nfm/7.npz")
    assert np.abs(made.iq - read.iq).max() < 1 / 32767
    assert (made.low_hz, made.high_hz, made.label, made.source) == (
        read.low_hz,
        read.high_hz,
        read.label,
        read.source,
    )


def test_a_burst_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    there = tmp_path / "ism/nfm/7.npz"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"kept")
    assert not write_bursts(tmp_path, "ism", NFM, 7)
    assert there.read_bytes() == b"kept"


def test_without_torchsig_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchsig", None)
    for name in [name for name in sys.modules if name.startswith("torchsig.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UnavailableError, match="--no-deps torchsig"):
        make_burst("ism", LORA, 0)
