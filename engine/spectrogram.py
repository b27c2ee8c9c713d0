"""The front end: one capture of IQ to one grey image, for training, export, engine and benchmarks alike.

Written on an array namespace `xp` (NumPy, or CuPy with the same lines). The steps are those of the
contract: Hann STFT, power in dB, the capture's own maximum on top, 80 dB of range, bilinear resize
with half-pixel centres, highest frequency in row 0.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from .contract import Contract
from .errors import InputError

Array = Any  # an array of whichever namespace is in use

FRAMES_PER_BLOCK = 128  # 4 MiB of complex64: the block stays in cache between window, FFT and power
LOUD = 1e12  # amplitudes above this would overflow |X|^2 in float32, so the capture is scaled down first


def spectrogram(iq: Array, contract: Contract, xp: Any = np) -> Array:
    """One capture as an image.

    iq: complex64[n], n >= contract.n_fft, finite. Returns float32[image_size, image_size] in 0..1,
    row 0 the highest frequency, column 0 the oldest frame. A capture without any power is all ones, as
    the contract has it (its maximum is its floor); `has_power` tells such a capture apart.
    """
    return to_image(power_spectrum(iq, contract, xp), contract, xp)


def power_spectrum(iq: Array, contract: Contract, xp: Any = np) -> Array:
    """|STFT|^2 of a capture: float32[frames, n_fft], bins in FFT order (DC first)."""
    n_fft, hop = contract.n_fft, contract.hop
    if len(iq) < n_fft:
        raise InputError(f"iq has {len(iq)} samples; the front end needs at least {n_fft}: hand over a longer capture")
    peak = float(xp.abs(iq.view(xp.float32)).max())
    if peak > LOUD:
        iq = iq / xp.float32(peak)
    frames = (len(iq) - n_fft) // hop + 1
    segments = iq[: (frames - 1) * hop + n_fft]
    window = xp.asarray(_hann(n_fft))
    power = xp.empty((frames, n_fft), dtype=xp.float32)
    for first in range(0, frames, FRAMES_PER_BLOCK):
        last = min(first + FRAMES_PER_BLOCK, frames)
        stretch = segments[first * hop : (last - 1) * hop + n_fft]
        block = xp.lib.stride_tricks.sliding_window_view(stretch, n_fft)[::hop]  # complex64[block, n_fft]
        spectrum = xp.fft.fft(block * window, axis=1)
        power[first:last] = spectrum.real**2 + spectrum.imag**2
    return power


def has_power(power: Array, contract: Contract) -> bool:
    """Whether anything in the capture stands above the floor that is added before the logarithm."""
    return bool(power.max() > contract.power_floor)


def to_image(power: Array, contract: Contract, xp: Any = np) -> Array:
    """float32[frames, n_fft] power to float32[image_size, image_size]; see `spectrogram`."""
    top_db = 10 * np.log10(float(power.max()) + contract.power_floor)
    low_row, high_row, row_weight = _rows(contract)
    low_frame, high_frame, frame_weight = _taps(power.shape[0], contract.image_size)

    def level(bins: Array) -> Array:  # int[image_size] bins -> float32[frames, image_size] in 0..1
        floor = xp.float32(contract.power_floor)
        decibel = 10 * xp.log10(power[:, xp.asarray(bins)] + floor)
        return xp.clip((decibel - xp.float32(top_db)) / xp.float32(contract.range_db) + 1, 0, 1)

    weight = xp.asarray(row_weight)
    columns = level(low_row) * (1 - weight) + level(high_row) * weight  # float32[frames, image_size]
    weight = xp.asarray(frame_weight)[:, None]
    image = columns[xp.asarray(low_frame)] * (1 - weight) + columns[xp.asarray(high_frame)] * weight
    return xp.ascontiguousarray(image.T)


@lru_cache(maxsize=4)
def _hann(n: int) -> np.ndarray:
    """Periodic Hann window, float32[n]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)


def _taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source indices and the second's weight for each output index of a bilinear resize with
    half-pixel centres and no antialiasing."""
    place = np.maximum((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0)
    low = np.minimum(place.astype(np.int64), size_in - 1)
    return low, np.minimum(low + 1, size_in - 1), (place - low).astype(np.float32)


@lru_cache(maxsize=4)
def _rows(contract: Contract) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_taps` for the frequency axis: image rows from the top, bins in FFT order."""
    low, high, weight = _taps(contract.n_fft, contract.image_size)
    half = contract.n_fft // 2
    return ((low + half) % contract.n_fft)[::-1], ((high + half) % contract.n_fft)[::-1], weight[::-1].copy()
