"""Simple signals made with NumPy alone, the same every time: for the demonstration, `g20 bench` and tests.

Everything counts in samples and in shares of the sample rate, so that it fits any contract.
"""

import numpy as np

WIFI_BAND = 53 / 64  # of the sample rate, taken by `wifi`
FSK_BAND = 1.2 / 20  # likewise, by `fsk`


def wifi(n: int, rng: np.random.Generator) -> np.ndarray:
    """complex128[n] of OFDM symbols of 80 samples, 52 of 64 subcarriers in use, as in IEEE 802.11a; power 1."""
    symbols = n // 80 + 1
    used = np.r_[-26:0, 1:27]
    grid = np.zeros((symbols, 64), complex)
    grid[:, used] = rng.choice([1, -1], (symbols, 52)) + 1j * rng.choice([1, -1], (symbols, 52))
    body = np.fft.ifft(grid, axis=1)
    burst = np.concatenate([body[:, -16:], body], axis=1).reshape(-1)[:n]
    unit: np.ndarray = burst / np.sqrt(np.mean(np.abs(burst) ** 2))
    return unit


def fsk(n: int, rng: np.random.Generator) -> np.ndarray:
    """complex128[n] of FSK, a bit every 20 samples, deviation an 80th of the sample rate; power 1."""
    bits = np.repeat(rng.choice([-1.0, 1.0], n // 20 + 1), 20)[:n]
    smooth = np.convolve(bits, np.hanning(21) / np.hanning(21).sum(), "same")
    return np.exp(2j * np.pi * np.cumsum(smooth) / 80)


def place(iq: np.ndarray, burst: np.ndarray, first: int, offset: float, amplitude: float) -> None:
    """Adds a burst to `iq` in place, from sample `first` on, moved up by `offset` (in sample rates)."""
    turns = np.arange(len(burst)) * offset
    iq[first : first + len(burst)] += amplitude * burst * np.exp(2j * np.pi * turns)
