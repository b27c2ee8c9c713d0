"""Batches: cuts of about one length side by side, and sums, quantiles and pools over each one's own samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.fft

from engine.spectrogram import Array

from .cutting import Cut

SMALL: Final = 1e-12
SAMPLED: Final = 1024  # values of a row, at most, that a quantile is taken of


@dataclass(frozen=True)
class Batch:
    """Cuts padded with zeros to one length. Columns are float32[B, 1], so that they meet rows."""

    iq: Array  # complex64[B, L]
    count: Array  # int64[B, 1]: samples of each
    rate_hz: Array
    width_hz: Array
    counts: tuple[int, ...]  # of each, on the host
    xp: Any

    @classmethod
    def of(cls, cuts: Sequence[Cut], xp: Any = np) -> "Batch":
        length = 1 << (max(len(cut.iq) for cut in cuts) - 1).bit_length()
        iq = xp.zeros((len(cuts), length), xp.complex64)
        for row, cut in enumerate(cuts):
            iq[row, : len(cut.iq)] = cut.iq
        counts = tuple(len(cut.iq) for cut in cuts)
        rates_hz, widths_hz = [cut.rate_hz for cut in cuts], [min(cut.width_hz, cut.rate_hz) for cut in cuts]
        count, rate_hz, width_hz = (
            xp.asarray(values, kind)[:, None]
            for values, kind in ((counts, xp.int64), (rates_hz, xp.float32), (widths_hz, xp.float32))
        )
        return cls(iq, count, rate_hz, width_hz, counts, xp)

    @property
    def place(self) -> Array:
        """int64[1, L]"""
        return self.xp.arange(self.iq.shape[1])[None]

    @property
    def real(self) -> Array:
        """bool[B, L]: samples that are no padding."""
        return self.place < self.count


def fft(array: Array, size: int, xp: Any) -> Array:
    """Over the last axis, zero-padded or cut to `size`."""
    return scipy.fft.fft(array, size) if xp is np else xp.fft.fft(array, size)


def mean(values: Array, real: Array, xp: Any) -> Array:
    """float32[B, 1]: over those that are `real` bool[B, L]."""
    total = (values * real).sum(axis=1, keepdims=True)  # NumPy adds in pairs, so float32 is exact enough
    return (total / xp.maximum(real.sum(axis=1, keepdims=True), 1)).astype(xp.float32)


def quantile(values: Array, real: Array, share: float, xp: Any) -> Array:
    """float32[B, 1]: of those that are `real`, the lower neighbour; 0 where there are none. Long rows are sampled."""
    step = max(1, values.shape[1] // SAMPLED)
    values, real = values[:, ::step], real[:, ::step]
    ordered = xp.sort(xp.where(real, values, xp.float32(np.inf)), axis=1)
    count = real.sum(axis=1, keepdims=True)
    found = xp.take_along_axis(ordered, (share * xp.maximum(count - 1, 0)).astype(xp.int64), axis=1)
    return xp.where(count > 0, found, 0).astype(xp.float32)


def histogram(cell: Array, cells: int, weight: Array, xp: Any) -> Array:
    """float32[B, cells]: sums of weights float[B, L] by cell int64[B, L]; those outside 0..cells - 1 do not count."""
    inside = (cell >= 0) & (cell < cells)
    row = xp.arange(len(cell))[:, None] * (cells + 1)
    key = (row + xp.where(inside, cell, cells)).ravel()
    sums = xp.bincount(key, weights=xp.broadcast_to(weight, cell.shape).ravel(), minlength=len(cell) * (cells + 1))
    return sums.reshape(len(cell), cells + 1)[:, :cells].astype(xp.float32)


def pooled(values: Array, place: Array, edges: np.ndarray, xp: Any, real: Array | None = None) -> Array:
    """float32[B, len(edges) - 1]: the largest of values float32[B, K] whose place float32[B, K] lies between two edges;
    0 where none does."""
    cells = len(edges) - 1
    cell = xp.searchsorted(xp.asarray(edges, xp.float32), place.ravel(), side="right").reshape(place.shape) - 1
    inside = (cell >= 0) & (cell < cells)
    inside = inside if real is None else inside & real
    key = xp.arange(len(values))[:, None] * (cells + 1) + xp.where(inside, cell, cells)
    found = xp.full(len(values) * (cells + 1), -np.inf, xp.float32)
    xp.maximum.at(found, key.ravel(), values.ravel())
    found = found.reshape(-1, cells + 1)[:, :cells]
    return xp.where(xp.isfinite(found), found, 0)
