"""Spectrogram front end: one capture of IQ to one grey image, for training, export, engine and benchmarks alike.

Written on an array namespace `xp` (NumPy, or CuPy with the same lines). The steps are those of the
contract: STFT with a periodic Hann window and 50 % overlap (the segments of Welch 1967, not averaged), power in dB, the
capture's own maximum on top, 80 dB of range, bilinear resize with half-pixel centres, highest frequency in row 0.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

from .contract import Contract
from .errors import InputError

Array = Any  # an array of whichever namespace is in use
# calls a function with the first and last of blocks of a range, (function, length, length of a block), perhaps of
# several at once
ParallelMap = Callable[[Callable[[int, int], Any], int, int], Iterable[Any]]

FRAMES_PER_BLOCK = 32  # 1 MiB of complex64: a block stays in cache from window to logarithm
COLUMNS_PER_BLOCK = 128  # of the image, likewise
LOUD = np.float32(1e12)  # amplitudes above this would overflow |X|^2 in float32, so the capture is scaled down first
DECIBEL = np.float32(10 / np.log(10))  # of a natural logarithm, which NumPy computes three times as fast as log10


def serial_map(function: Callable[[int, int], Any], length: int, block: int) -> Iterable[Any]:
    """One block after another."""
    return [function(first, min(first + block, length)) for first in range(0, length, block)]


@dataclass(frozen=True)
class Levels:
    """STFT levels of the bins that the resize reads, in dB, and the peaks of samples and bins."""

    decibel: Array  # float32[frames, 2 * image_size]: the lower neighbours of all rows, then the upper ones
    loudest: Array  # float32[]: the largest real or imaginary part of a sample; not finite where one is not
    peak: Array  # float32[], |X|^2

    def has_power(self, contract: Contract) -> bool:
        """True if the peak exceeds the power floor that is added before the logarithm."""
        return bool(self.peak > contract.power_floor)


def spectrogram(iq: Array, contract: Contract, xp: Any = np) -> Array:
    """One capture as an image.

    iq: complex64[n], n >= contract.n_fft, finite. Returns float32[image_size, image_size] in 0..1,
    row 0 the highest frequency, column 0 the oldest frame. A capture without any power is all ones, as
    the contract has it (its maximum is its floor); `Levels.has_power` tells such a capture apart.
    """
    return to_image(levels(iq, contract, xp), contract, xp)


def render(iq: Array, contract: Contract, xp: Any = np, parallel_map: ParallelMap = serial_map) -> tuple[Array, Array]:
    """Render complex64[n] to its image (see `spectrogram`) and statistics float32[2]: the largest real or imaginary
    part of a sample, and 1 where the capture contains any power."""
    found = levels(iq, contract, xp, parallel_map)
    has_power = (found.peak > contract.power_floor).astype(xp.float32)
    return to_image(found, contract, xp, parallel_map), xp.stack([found.loudest, has_power])


def as_grey(pixels: np.ndarray) -> np.ndarray:
    """Grey levels float32 in 0..1 of pixels uint8, of any shape."""
    return pixels.astype(np.float32) / np.float32(255)


def levels(iq: Array, contract: Contract, xp: Any = np, parallel_map: ParallelMap = serial_map) -> Levels:
    """STFT of a capture, as far as the image needs it. Never waits for a device."""
    n_fft, hop = contract.n_fft, contract.hop
    if len(iq) < n_fft:
        raise InputError(f"iq has {len(iq)} samples; the front end needs at least {n_fft}: hand over a longer capture")
    parts = iq.view(xp.float32)
    loudest = xp.maximum(parts.max(), -parts.min())
    segments = xp.lib.stride_tricks.sliding_window_view(iq, n_fft)[::hop]  # complex64[frames, n_fft]
    window, bins = analysis(contract, xp)
    window = window * (LOUD / xp.maximum(loudest, LOUD))
    decibel = xp.empty((len(segments), len(bins)), dtype=xp.float32)

    def block(first: int, last: int) -> Array:
        spectrum = _fft(segments[first:last] * window, xp)
        power = spectrum.real**2 + spectrum.imag**2
        decibel[first:last] = xp.log(power.take(bins, axis=1) + xp.float32(contract.power_floor)) * DECIBEL
        return power.max()

    return Levels(decibel, loudest, max(parallel_map(block, len(segments), FRAMES_PER_BLOCK)))


def to_image(found: Levels, contract: Contract, xp: Any = np, parallel_map: ParallelMap = serial_map) -> Array:
    """float32[image_size, image_size]; see `spectrogram`."""
    size = contract.image_size
    top_db = (10 * xp.log10(found.peak.astype(xp.float64) + contract.power_floor)).astype(xp.float32)
    row_weight, low, high, frame_weight = resize_taps(contract, found.decibel.shape[0], xp)
    begins, ends = _taps(found.decibel.shape[0], size)[:2]
    image = xp.empty((size, size), dtype=xp.float32)

    def block(first: int, last: int) -> None:
        begin, end = int(begins[first]), int(ends[last - 1]) + 1
        grey = (found.decibel[begin:end] - top_db) * xp.float32(1 / contract.range_db) + 1
        grey = xp.clip(grey, 0, 1)
        rows = grey[:, :size] + (grey[:, size:] - grey[:, :size]) * row_weight  # float32[frames, image_size]
        lower, upper = rows[low[first:last] - begin], rows[high[first:last] - begin]
        image[:, first:last] = (lower + (upper - lower) * frame_weight[first:last, None]).T

    for _ in parallel_map(block, size, COLUMNS_PER_BLOCK):
        pass
    return image


def _fft(block: Array, xp: Any) -> Array:
    """Over the last axis. SciPy transforms several rows at once where NumPy takes one after another."""
    return scipy.fft.fft(block, overwrite_x=True) if xp is np else xp.fft.fft(block)


@lru_cache(maxsize=8)
def analysis(contract: Contract, xp: Any) -> tuple[Array, Array]:
    """The periodic Hann window float32[n_fft], and the bins that the image reads, lower neighbours first."""
    turns = np.arange(contract.n_fft) / contract.n_fft
    window = (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)
    return xp.asarray(window), xp.asarray(np.concatenate(_rows(contract)[:2]).astype(np.int32))


@lru_cache(maxsize=8)
def resize_taps(contract: Contract, frames: int, xp: Any) -> tuple[Array, Array, Array, Array]:
    """Weights of the upper bin of each row; lower and upper frame and the weight of the upper one, of each column."""
    return tuple(xp.asarray(part) for part in (_rows(contract)[2], *_taps(frames, contract.image_size)))


def _taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source indices and the second's weight for each output index of a bilinear resize with
    half-pixel centres and no antialiasing."""
    place = np.maximum((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0)
    low = np.minimum(place.astype(np.int64), size_in - 1)
    high = np.minimum(low + 1, size_in - 1)
    return low.astype(np.int32), high.astype(np.int32), (place - low).astype(np.float32)


def _rows(contract: Contract) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_taps` for the frequency axis: image rows from the top, bins in FFT order."""
    low, high, weight = _taps(contract.n_fft, contract.image_size)
    half = contract.n_fft // 2
    return ((low + half) % contract.n_fft)[::-1], ((high + half) % contract.n_fft)[::-1], weight[::-1].copy()
