"""Chirp tones: a sweep times itself a moment earlier is a tone whose frequency is slope times delay."""

from typing import Final

import numpy as np

from engine.spectrogram import Array

from .batch import SMALL, Batch, fft, mean, quantile
from .settings import ZoomSettings

SEGMENTS: Final = 24  # of a cut, at most
STRONG: Final = 0.5  # of the strongest segment, for its slope to count


def chirps(batch: Batch, settings: ZoomSettings) -> Array:
    """float32[B, 6 * delays * points]: how much of segments of x(t) x*(t - d) is one tone (mean, upper decile, median),
    the mean over that of noise, slope, and how much the tone moves."""
    xp = batch.xp
    parts = []
    for cycles in settings.chirp_delays:
        delay = xp.maximum(xp.rint(cycles * batch.rate_hz / batch.width_hz).astype(xp.int64), 1)
        product = xp.zeros_like(batch.iq)
        for row, (count, shift) in enumerate(zip(batch.counts, delay[:, 0].tolist(), strict=True)):
            if count > shift:
                product[row, : count - shift] = batch.iq[row, shift:count] * batch.iq[row, : count - shift].conj()
        product *= 1 / xp.sqrt(product.real**2 + product.imag**2 + xp.float32(SMALL))
        long_enough = batch.count >= 4 * delay + 64
        for points in settings.chirp_points:
            found = _tones(product, batch.count - delay, points, delay, batch)
            parts.append(xp.where(long_enough, found, 0))
    return xp.concatenate(parts, axis=1).astype(xp.float32)


def _tones(product: Array, count: Array, points: int, delay: Array, batch: Batch) -> Array:
    """float32[B, 6]: of segments of so many points each; a row shorter than one segment is one."""
    xp, rows = batch.xp, len(product)
    segments = min(SEGMENTS, max(1, product.shape[1] // points))
    part = xp.pad(product, ((0, 0), (0, max(0, points - product.shape[1]))))[:, : segments * points]
    spectrum = fft(part.reshape(rows, segments, points), points, xp)
    power = spectrum.real**2 + spectrum.imag**2
    filled = xp.clip(count - xp.arange(segments)[None] * points, 1, points)
    real = xp.arange(segments)[None] < xp.maximum(count // points, 1)
    top = (power.max(axis=2) / filled.astype(xp.float32) ** 2).astype(xp.float32)
    place = power.argmax(axis=2)
    cycles = ((place + points // 2) % points - points // 2) / np.float32(points)  # a sample
    strongest = xp.where(real, top, 0).max(axis=1, keepdims=True)
    good = real & (top > STRONG * strongest)
    middle = mean(cycles, good, xp)
    slope = xp.abs(quantile(cycles, good, 0.5, xp)) * batch.rate_hz * batch.rate_hz / delay / batch.width_hz**2
    level = mean(top, real, xp)
    return xp.concatenate(
        [
            4 * level,
            4 * quantile(top, real, 0.9, xp),
            4 * quantile(top, real, 0.5, xp),
            xp.log1p(level * mean(filled, real, xp)),
            xp.log10(slope + 1e-4),
            4 * xp.sqrt(xp.maximum(mean((cycles - middle) ** 2, good, xp), 0)),
        ],
        axis=1,
    )
