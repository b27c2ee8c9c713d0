"""Seeded captures without a signal: white and coloured noise, spurs, gain steps, coarse quantisation."""

from typing import Final

import numpy as np

from engine.contract import ISM, WIDEBAND, Contract
from engine.recordings.resampling import resample

RATES_HZ: Final = (0.25e6, 0.5e6, 1e6, 2e6, 1.024e6, 10e6, 15.36e6, 20e6)  # of the receiver, before resampling
KINDS: Final = ("white", "coloured", "spurs", "steps", "quantised")
NO_BOXES: Final = np.zeros((0, 4))


def noise(seed: int) -> tuple[np.ndarray, Contract, float, np.ndarray, list[str]]:
    """IQ complex64[capture_samples], contract, its seconds, and no boxes and labels. Rates and kinds take turns."""
    rng = np.random.default_rng([7, seed])
    rate_hz, kind = RATES_HZ[seed % len(RATES_HZ)], KINDS[seed // len(RATES_HZ) % len(KINDS)]
    contract = ISM if rate_hz < WIDEBAND.sample_rate_hz / 3 else WIDEBAND
    count = round(rate_hz * contract.capture_s)
    iq = (rng.standard_normal((count, 2)) * np.sqrt(0.5)).astype(np.float32).view(np.complex64)[:, 0]
    if kind in ("coloured", "spurs"):
        iq = _coloured(iq, rng)
    if kind == "spurs":
        turns = np.arange(count)
        for _ in range(int(rng.integers(1, 6))):
            level = 10 ** rng.uniform(-2.5, -0.5)
            iq = iq + level * np.exp(2j * np.pi * ((rng.uniform(-0.5, 0.5) * turns + rng.uniform()) % 1.0))
        iq = iq + 10 ** rng.uniform(-2, 0)
    if kind == "steps":
        for _ in range(int(rng.integers(1, 5))):
            iq[int(rng.integers(count)) :] *= np.float32(10 ** rng.uniform(-0.4, 0.4))
    if kind == "quantised":
        iq = iq * 10 ** rng.uniform(-0.2, 0.8)
        iq = np.round(iq.real) + 1j * np.round(iq.imag) + rng.uniform(-0.5, 0.5)
    iq = resample(iq.astype(np.complex64), rate_hz, contract.sample_rate_hz)[: contract.capture_samples]
    iq = np.pad(iq, (0, contract.capture_samples - len(iq))).astype(np.complex64)
    return iq, contract, contract.capture_s, NO_BOXES, []


def _coloured(iq: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A low-pass of random steepness and a ripple over the band."""
    frequency = np.fft.fftfreq(len(iq))
    gain = 1 / np.sqrt(1 + (np.abs(frequency) / rng.uniform(0.23, 0.45)) ** float(rng.choice([4, 8, 16])))
    gain = gain * 10 ** (rng.normal(0, 0.1) * np.cos(2 * np.pi * frequency * rng.uniform(1, 6)))
    return np.asarray(np.fft.ifft(np.fft.fft(iq) * gain), np.complex64)
