"""Envelopes: the power in a band over time, from STFTs that are finer in time than the image."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from engine.spectrogram import Array, ParallelMap, _fft

from .settings import BurstSettings

POINTS_PER_BLOCK = 131_072  # 1 MiB of complex64: a block stays in cache from window to power
LEAST_LOUD = 1e-30  # amplitude
FLOOR_FRAMES = 40  # looked at for a bin's floor
EXPONENTIAL_DECILE = 0.105  # 0.1 quantile of noise power over its mean
SAMPLED = 16  # every so many values are looked at for an envelope's floor


@dataclass(frozen=True)
class Envelope:
    """Power in one band over time. Value k covers first_s + k * step_s ... + step_s."""

    low_hz: float
    high_hz: float
    power: np.ndarray  # float32[steps]
    step_s: float
    first_s: float
    mean: int  # steps that one value is the mean of

    @property
    def width_hz(self) -> float:
        return max(self.high_hz - self.low_hz, 1.0)


class FinePower:
    """|X|^2 over time and frequency of one capture at several resolutions, each computed when it is first asked for."""

    def __init__(
        self, iq: Array, rate_hz: float, settings: BurstSettings, parallel_map: ParallelMap, xp: Any = np
    ) -> None:
        self.iq, self.rate_hz, self.settings, self.parallel_map, self.xp = iq, rate_hz, settings, parallel_map, xp
        parts = iq.view(xp.float32)
        self._loudest = xp.maximum(xp.abs(parts).max(initial=0), xp.float32(LEAST_LOUD))
        self._power: dict[int, Array] = {}
        self._floor: dict[int, np.ndarray] = {}

    @property
    def duration_s(self) -> float:
        return len(self.iq) / self.rate_hz

    def hop(self, size: int) -> int:
        """Samples from one frame to the next."""
        return size // self.settings.overlap

    def power(self, size: int) -> Array:
        """float32[frames, size], bins in order of frequency; frame k begins at sample k * hop(size)."""
        if size not in self._power:
            self._power[size] = self._transformed(size)
        return self._power[size]

    def _transformed(self, size: int) -> Array:
        xp, half = self.xp, size // 2
        iq = self.iq if len(self.iq) >= size else xp.pad(self.iq, (0, size - len(self.iq)))
        segments = xp.lib.stride_tricks.sliding_window_view(iq, size)[:: self.hop(size)]
        window = window_of(size, xp) / self._loudest  # so that no level overflows |X|^2 or falls below its range
        power = xp.empty(segments.shape, dtype=xp.float32)

        def block(first: int, last: int) -> None:
            parts = _fft(segments[first:last] * window, xp).view(xp.float32)
            parts *= parts
            xp.add(parts[:, :size:2], parts[:, 1:size:2], out=power[first:last, half:])
            xp.add(parts[:, size::2], parts[:, size + 1 :: 2], out=power[first:last, :half])

        for _ in self.parallel_map(block, len(segments), max(1, POINTS_PER_BLOCK // size)):
            pass
        return power

    def floor(self, size: int) -> np.ndarray:
        """float32[size]: the mean power of the noise in each bin, infinite where there are too few frames to know."""
        if size not in self._floor:
            some = self.power(size)
            some = host(some[:: max(1, len(some) // FLOOR_FRAMES)], self.xp)
            low = np.quantile(some, self.settings.floor_quantile, axis=0) / EXPONENTIAL_DECILE
            self._floor[size] = low.astype(np.float32) if len(some) > 4 else np.full(size, np.inf, np.float32)
        return self._floor[size]

    def bins(self, size: Any, low_hz: np.ndarray, high_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First bin and the one after the last whose middles lie in low..high, at least one."""
        per_hz = size / self.rate_hz
        first = np.ceil(low_hz * per_hz + size / 2 - 0.5).astype(np.int64).clip(0, size - 1)
        last = np.floor(high_hz * per_hz + size / 2 + 0.5).astype(np.int64).clip(1, size)
        middle = np.rint((low_hz + high_hz) / 2 * per_hz + size / 2).astype(np.int64).clip(0, size - 1)
        empty = last <= first
        return np.where(empty, middle, first), np.where(empty, middle + 1, last)


@lru_cache(maxsize=8)
def window_of(size: int, xp: Any) -> Array:
    """Periodic Hann window float32[size] of unit gain for noise."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return xp.asarray((hann / (np.sqrt(0.375) * size)).astype(np.float32))


def host(array: Array, xp: Any) -> np.ndarray:
    return np.asarray(array if xp is np else xp.asnumpy(array))


def envelopes(fine: FinePower, bands_hz: np.ndarray) -> list[Envelope]:
    """Of bands float64[N, 2], low and high, over the whole capture, in the same order.

    A band is resolved in as few bins as separate it from others; what is finer in time than a value worth comparing
    with a threshold is averaged.
    """
    sizes = _sizes(fine, bands_hz)
    found: dict[int, Envelope] = {}
    for size in np.unique(sizes).tolist():
        chosen = np.flatnonzero(sizes == size)
        first, last = fine.bins(size, bands_hz[chosen, 0], bands_hz[chosen, 1])
        place = np.arange(size)
        within = (place >= first[:, None]) & (place < last[:, None])
        sums = host(fine.xp.asarray(within.astype(np.float32)) @ fine.power(size).T, fine.xp)
        hop_s = fine.hop(size) / fine.rate_hz
        first_s = size / 2 / fine.rate_hz - hop_s / 2
        steps = partial(_averaged, hop_s=hop_s, first_s=first_s, settings=fine.settings)

        def one(at: int, _: int, of: Any = (chosen, sums, steps)) -> tuple[int, Envelope]:
            places, power, average = of
            return int(places[at]), average(power[at], bands_hz[places[at]])

        found.update(fine.parallel_map(one, len(chosen), 1))
    return [found[place] for place in sorted(found)]


def _sizes(fine: FinePower, bands_hz: np.ndarray) -> np.ndarray:
    """int64[N]: the STFT of each band."""
    sizes = np.array(fine.settings.sizes)
    sizes = sizes[: max(1, int((sizes <= len(fine.iq) / 16).sum()))]
    wanted = fine.settings.cells * fine.rate_hz / np.maximum(bands_hz[:, 1] - bands_hz[:, 0], 1.0)
    return np.asarray(sizes[np.maximum(np.searchsorted(sizes, wanted, side="right") - 1, 0)])


def _averaged(
    power: np.ndarray, band_hz: np.ndarray, hop_s: float, first_s: float, settings: BurstSettings
) -> Envelope:
    low_hz, high_hz = band_hz.tolist()
    mean = int(np.ceil(settings.least_cells / (max(high_hz - low_hz, 1.0) * hop_s)))
    mean = mean if len(power) > 2 * mean else 1
    joined = max(1, mean // settings.per_mean)
    whole = len(power) // joined * joined
    coarse = power[:whole].reshape(-1, joined).mean(axis=1) if joined > 1 else power
    mean = -(-mean // joined)
    if mean > 1:
        padded = np.pad(coarse, (mean // 2, mean - 1 - mean // 2), mode="edge")
        coarse = sum(padded[k : k + len(coarse)] for k in range(1, mean)) + padded[: len(coarse)]
        coarse *= np.float32(1 / mean)
    return Envelope(low_hz, high_hz, coarse, joined * hop_s, first_s, mean)


def levels(power: np.ndarray, settings: BurstSettings) -> tuple[np.ndarray, float]:
    """Powers at which an envelope is cut, ascending float32[L], and its floor: what it is when the band is free."""
    top = float(10 * np.log10(power.max() + 1e-30))
    some = power[::SAMPLED] if len(power) > 64 * SAMPLED else power
    places = [int(share * (len(some) - 1)) for share in (settings.floor_quantile, settings.deep_quantile)]
    low, deep = (10 * np.log10(np.partition(some, places)[places].astype(np.float64) + 1e-30)).tolist()
    low, deep = max(low, top - settings.range_db), max(deep, top - settings.range_db)
    below = top - np.array(settings.below_top_db)
    wanted = np.concatenate([low + np.array(settings.above_floor_db), below[below > deep + settings.deep_margin_db]])
    kept: list[float] = []
    for level in np.sort(wanted[wanted < top - 1])[::-1].tolist():
        if not kept or kept[-1] - level > settings.level_step_db:
            kept.append(level)
    return (10 ** (np.array(kept[::-1]) / 10)).astype(np.float32), float(10 ** (deep / 10))
