"""Cuts: a box's own IQ out of the STFT that the image is made of.

Hann frames that overlap by half add up to one, so the bins of a box, transformed back with a short inverse FFT and
overlap-added, are its IQ mixed to 0 Hz, filtered and decimated (J. B. Allen, 1977).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import scipy.fft

from engine.contract import Contract
from engine.errors import InputError
from engine.spectrogram import LOUD, Array, ParallelMap, _fft, analysis, serial_map

from .settings import ZoomSettings

FRAMES_PER_BLOCK: Final = 32
PROBES: Final = 64  # bins of a band that are enough to know its power
LEAST_SAMPLES: Final = 64  # of an active part; a shorter one is filled with zeros
LEAST_PEAK: Final = 1e-30  # of a cut; below it there is nothing to describe
LEAST_SMOOTH, MOST_SMOOTH = 16, 64  # samples that an envelope is averaged over


@dataclass(frozen=True)
class Cut:
    """The active part of one box: unit mean power, from the first to the last sample over a share of its strong part,
    zeros after it where it is shorter than LEAST_SAMPLES."""

    iq: Array  # complex64[n]
    rate_hz: float
    width_hz: float  # of the box
    duration_s: float  # of the box
    before: int  # samples of the whole cut before the active part
    whole: int  # samples of the whole cut
    level_db: float  # of the box over the band's floor


def stft(iq: Array, contract: Contract, xp: Any = np, parallel_map: ParallelMap = serial_map) -> Array:
    """complex64[frames, n_fft] of a capture complex64[n], as the front end computes it; bins in FFT order."""
    if len(iq) < contract.n_fft:
        raise InputError(
            f"iq has {len(iq)} samples; the zoom needs at least {contract.n_fft}: hand over a longer capture"
        )
    parts = iq.view(xp.float32)
    loudest = xp.maximum(parts.max(), -parts.min())
    segments = xp.lib.stride_tricks.sliding_window_view(iq, contract.n_fft)[:: contract.hop]
    window = analysis(contract, xp)[0] * (LOUD / xp.maximum(loudest, LOUD))
    spectrum = xp.empty(segments.shape, xp.complex64)

    def block(first: int, last: int) -> None:
        spectrum[first:last] = _fft(segments[first:last] * window, xp)

    for _ in parallel_map(block, len(segments), FRAMES_PER_BLOCK):
        pass
    return spectrum


def cut(spectrum: Array, box: np.ndarray, contract: Contract, settings: ZoomSettings, xp: Any = np) -> Cut:
    """One box float64[4] = start_s, stop_s, low_hz, high_hz of a capture's STFT complex64[frames, n_fft]."""
    n_fft, hop, rate_hz = contract.n_fft, contract.hop, contract.sample_rate_hz
    scale = settings.reference_rate_hz / rate_hz
    width = float(np.clip((box[3] - box[2]) * n_fft / rate_hz, settings.least_bins, n_fft))
    size, centre = _size(settings.oversampling * width, n_fft), round(float(box[2] + box[3]) / 2 * n_fft / rate_hz)
    edges = np.array([box[0] * rate_hz - hop, box[1] * rate_hz + hop])  # a hop of margin at both ends
    first, last = (int(edge) for edge in np.floor(edges / hop).clip(0, len(spectrum) - 1))
    first = max(first - 1, 0)
    half = size // 2
    bins = xp.asarray((centre + np.arange(-half, half)) % n_fft)
    most = (settings.most_wide_samples if size > settings.wide_bins else settings.most_samples) // half
    if last + 1 - first > most:
        first = _strongest(spectrum, first, last, most, centre, width, xp)
        last = first + most - 1
    part = spectrum[first : last + 1][:, bins] * xp.asarray(_gain(size, width, settings))
    peak = float(_largest(part, xp))
    part = xp.fft.ifftshift(part, axes=1) * xp.float32(1 / peak if peak > LEAST_PEAK else 0.0)
    short = scipy.fft.ifft(part, axis=1) if xp is np else xp.fft.ifft(part, axis=1)
    if centre % 2:  # frames are half a window apart: an odd bin turns by half a cycle from each to the next
        short[1 - first % 2 :: 2] *= -1
    samples = xp.zeros((len(part) + 1, half), xp.complex64)
    samples[:-1] += short[:, :half]
    samples[1:] += short[:, half:]
    begin, end = (round(float(edge) * size / n_fft) - first * half for edge in edges)
    inner = (half if first else 0, len(part) * half)  # where two frames overlap
    begin = min(max(begin, inner[0]), inner[1] - 1)
    samples = samples.reshape(-1)[begin : max(min(end, inner[1]), begin + 1)]
    begin, end = _active(samples, settings.active, xp)
    level_db = _level_db(spectrum, box, contract, xp)
    return Cut(
        _unit(samples[begin:end], xp),
        settings.reference_rate_hz * size / n_fft,
        width * settings.reference_rate_hz / n_fft,
        max(float(box[1] - box[0]), 1 / rate_hz) / scale,
        begin,
        len(samples),
        level_db,
    )


@lru_cache(maxsize=8)
def _sizes(n_fft: int) -> np.ndarray:
    """Even numbers of bins whose FFT is fast, ascending."""
    sizes = {2**a * 3**b * 5**c for a in range(2, 13) for b in range(3) for c in range(2)}
    return np.array(sorted(size for size in sizes if 16 <= size <= n_fft and size % 4 == 0))


def _size(wanted: float, n_fft: int) -> int:
    sizes = _sizes(n_fft)
    return int(sizes[min(int(np.searchsorted(sizes, wanted)), len(sizes) - 1)])


def _gain(size: int, width: float, settings: ZoomSettings) -> np.ndarray:
    """float32[size]: flat over the box and a tenth, raised cosine edges."""
    distance = np.abs(np.arange(-(size // 2), size // 2)) - settings.pass_width / 2 * width - 1.5
    turn = (distance / (settings.roll_off * width + 1)).clip(0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * turn)).astype(np.float32)


def _strongest(spectrum: Array, first: int, last: int, most: int, centre: int, width: float, xp: Any) -> int:
    """The frame from first to last from which on `most` frames hold most of the power in a band of `width` bins."""
    half = max(int(width / 2), 1)
    bins = centre + np.arange(-half, half + 1, max(1, half // (PROBES // 2)))
    part = spectrum[first : last + 1][:, xp.asarray(bins % spectrum.shape[1])]
    energy = np.concatenate([[0.0], np.cumsum(_power(part, xp).sum(axis=1), dtype=np.float64)])
    return first + int((energy[most:] - energy[:-most]).argmax())


def _power(array: Array, xp: Any) -> np.ndarray:
    """|x|^2 relative to the largest, on the host."""
    scale = 1 / xp.maximum(_largest(array, xp), xp.float32(LEAST_PEAK))
    real, imag = array.real * scale, array.imag * scale
    power = real * real + imag * imag
    return np.asarray(power if xp is np else xp.asnumpy(power))


def _largest(array: Array, xp: Any) -> Array:
    """float32[]: of all real and imaginary parts, by size."""
    return xp.maximum(xp.abs(array.real).max(), xp.abs(array.imag).max())


def _active(samples: Array, share: float, xp: Any) -> tuple[int, int]:
    power = _power(samples, xp)
    length = max(LEAST_SMOOTH, min(MOST_SMOOTH, len(power) // 16))
    total = np.concatenate([[0.0], np.cumsum(np.pad(power, (length // 2, length - 1 - length // 2), mode="edge"))])
    smooth = total[length:] - total[:-length]
    place = int(0.9 * (len(smooth) - 1))
    lit = np.flatnonzero(smooth > share * np.partition(smooth, place)[place])
    return (int(lit[0]), int(lit[-1]) + 1) if len(lit) > LEAST_SMOOTH else (0, len(power))


def _unit(samples: Array, xp: Any) -> Array:
    """Scaled to unit mean power, at least LEAST_SAMPLES long."""
    largest = xp.maximum(_largest(samples, xp), xp.float32(LEAST_PEAK))
    samples = samples / largest
    root = xp.sqrt((samples.real**2 + samples.imag**2).mean())
    samples = (samples / xp.maximum(root, xp.float32(1e-12))).astype(xp.complex64)
    return xp.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples))))


def _level_db(spectrum: Array, box: np.ndarray, contract: Contract, xp: Any) -> float:
    """Mean power of a box over that of its band in the quietest tenth of the capture, in dB, 0 to 60."""
    low, high = (box[2:] * contract.n_fft / contract.sample_rate_hz).tolist()
    bins = np.arange(round(low), max(round(high), round(low) + 1)) % contract.n_fft
    bins = bins[:: max(1, len(bins) // PROBES)]
    frame = np.floor(box[:2] * contract.sample_rate_hz / contract.hop - 0.5).clip(0, len(spectrum) - 1).astype(int)
    inside = np.linspace(frame[0], frame[1], 32).astype(int)
    everywhere = np.linspace(0, len(spectrum) - 1, 128).astype(int)
    frames = xp.asarray(np.concatenate([inside, everywhere]))
    power = _power(spectrum[frames[:, None], xp.asarray(bins)], xp).mean(axis=1)
    floor = np.partition(power[32:], 12)[12]
    return float(np.clip(10 * np.log10((power[:32].mean() + 1e-12) / (floor + 1e-12)), 0, 60))
