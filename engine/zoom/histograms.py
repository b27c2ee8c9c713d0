"""Histograms of instantaneous frequency and amplitude, moments, and their correlation over a few symbols."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.spectrogram import Array

from .batch import SMALL, Batch, histogram, mean, quantile

LEAST_SIZE: Final = 0.3  # of |x x*|, for its phase to count
SMOOTH: Final = 4  # samples
REACH: Final = 0.8  # bandwidths to each side
CELLS: Final = 24
DEVIATIONS_HZ: Final = (3e3, 10e6)
DEVIATION_CELLS: Final = 20
MOST_AMPLITUDE: Final = 3.0
AMPLITUDE_CELLS: Final = 16
STEPS: Final = (0.5, 1, 2, 4, 8, 16)  # in 1 / bandwidth


@dataclass(frozen=True)
class Frequency:
    """Instantaneous frequency in bandwidths, float32[B, L], from one sample to the next and over SMOOTH of them, and
    where it means anything, bool[B, L]."""

    raw: Array
    smooth: Array
    known: Array


def instantaneous(batch: Batch) -> Frequency:
    xp, x = batch.xp, batch.iq
    product = xp.zeros_like(x)
    product[:, :-1] = x[:, 1:] * x[:, :-1].conj()
    smooth = product.copy()
    for shift in range(1, SMOOTH):
        smooth[:, shift:] += product[:, :-shift]
    per_cycle = (batch.rate_hz / (2 * np.pi * batch.width_hz)).astype(xp.float32)
    known = (product.real**2 + product.imag**2 > LEAST_SIZE**2) & batch.real
    return Frequency(xp.angle(product) * per_cycle, xp.angle(smooth) * per_cycle, known)


def histograms(batch: Batch, frequency: Frequency) -> Array:
    """float32[B, 104]"""
    xp, x, known = batch.xp, batch.iq, frequency.known
    total = xp.maximum(known.sum(axis=1, keepdims=True), 1)
    middle = quantile(frequency.smooth, known, 0.5, xp)
    off = xp.where(known, frequency.smooth - middle, 0)
    power = x.real**2 + x.imag**2
    parts = [
        xp.sqrt(histogram(_cell(part, -REACH, REACH, CELLS, xp), CELLS, known, xp) / total)
        for part in (frequency.raw, frequency.smooth)
    ]
    low, high = (float(np.log(edge)) for edge in DEVIATIONS_HZ)
    deviation = xp.log(xp.maximum(xp.abs(off * batch.width_hz), 1.0))
    cell = _cell(deviation, low, high, DEVIATION_CELLS, xp)
    parts.append(xp.sqrt(histogram(cell, DEVIATION_CELLS, known, xp) / total))
    cell = _cell(xp.sqrt(power), 0.0, MOST_AMPLITUDE, AMPLITUDE_CELLS, xp)
    parts.append(xp.sqrt(histogram(cell, AMPLITUDE_CELLS, batch.real, xp) / batch.count))
    parts += [_moments(batch, power, off, known), _correlations(batch, off, power)]
    return xp.concatenate(parts, axis=1).astype(xp.float32)


def _cell(values: Array, low: float, high: float, cells: int, xp: object) -> Array:
    scaled = (values - low) * (cells / (high - low))
    return xp.floor(xp.clip(scaled, -1, cells)).astype(xp.int64)  # type: ignore[attr-defined]


def _moments(batch: Batch, power: Array, off: Array, known: Array) -> Array:
    """float32[B, 8]: of power and amplitude, parallel_map and peakedness of frequency, |E x^2| and |E x^2 |x|^2|."""
    xp, x, real = batch.xp, batch.iq, batch.real
    amplitude = xp.sqrt(power)
    level = mean(amplitude, real, xp)
    deviation = xp.sqrt(xp.maximum(mean(power, real, xp) - level**2, 0))
    off2 = off * off
    spread2 = mean(off2, known, xp)
    spread_hz = xp.sqrt(spread2) * batch.width_hz
    square = x * x
    tilted = [mean(part.real, real, xp) + 1j * mean(part.imag, real, xp) for part in (square, square * power)]
    return xp.concatenate(
        [
            mean(power * power, real, xp),
            xp.log(xp.maximum(mean(power * power * power, real, xp), SMALL)),
            deviation / xp.maximum(level, SMALL),
            xp.sqrt(spread2),
            xp.log10(spread_hz + 1),
            mean(off2 * off2, known, xp) / (spread2**2 + 1e-9),
            *(xp.abs(part) for part in tilted),
        ],
        axis=1,
    )


def _correlations(batch: Batch, off: Array, power: Array) -> Array:
    """float32[B, 12]: of frequency and of power with themselves, so many cycles of the bandwidth later."""
    xp = batch.xp
    variance = mean(off * off, batch.real, xp) + SMALL
    sums = xp.zeros((2, len(off), len(STEPS)), xp.float32)
    for row, count in enumerate(batch.counts):
        cycle = float(batch.rate_hz[row, 0] / batch.width_hz[row, 0])
        for column, step in enumerate(STEPS):
            shift = max(round(step * cycle), 1)
            if count > 2 * shift:
                early, late = slice(0, count - shift), slice(shift, count)
                sums[0, row, column] = xp.dot(off[row, early], off[row, late]) / (count - shift)
                sums[1, row, column] = xp.dot(power[row, early], power[row, late]) / (count - shift) - 1
    return xp.concatenate([sums[0] / variance, sums[1]], axis=1)
