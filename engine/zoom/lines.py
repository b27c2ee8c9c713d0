"""Spectral lines of even powers and of the instantaneous frequency: symbol rates, carriers, deviations."""

from typing import Final

import numpy as np

from engine.spectrogram import Array

from .batch import Batch, fft, mean, pooled
from .settings import ZoomSettings

SHARES: Final = np.geomspace(0.03, 1.2, 19)  # of the bandwidth
RATES_HZ: Final = np.geomspace(10e3, 10e6, 25)
FLOOR_BLOCKS: Final = 48  # of a spectrum, each with a floor of its own
LEAST_FLOOR: Final = 1e-4  # of a spectrum's mean
NEVER: Final = -9.0  # logarithm of what is no line
GUARD: Final = 4  # bins around the strongest line, that are not the second


def lines(batch: Batch, frequency: Array, settings: ZoomSettings) -> Array:
    """float32[B, 149]: lines of |x|^2, of the frequency float32[B, L] in bandwidths, of the size of its change, of x^2
    and of x^4."""
    xp, x = batch.xp, batch.iq
    power = x.real**2 + x.imag**2
    change = xp.abs(xp.diff(frequency, axis=1, append=frequency[:, -1:]))
    square = x * x
    one_sided = [_one_sided(values, batch, settings) for values in (power, frequency, change)]
    two_sided = [_two_sided(values, batch, settings) for values in (square, square * square / (1 + power * power))]
    return xp.concatenate([*one_sided, *two_sided], axis=1).astype(xp.float32)


def _spectrum(values: Array, batch: Batch, settings: ZoomSettings) -> Array:
    """float32[B, K]: power spectrum of values without their mean, Hann window over each row's own samples."""
    xp = batch.xp
    points = min(values.shape[1], settings.line_points)
    values, real = values[:, :points], batch.real[:, :points]
    count = xp.minimum(batch.count, points)
    turn = xp.arange(points, dtype=xp.float32)[None] * (2 * np.pi / xp.maximum(count - 1, 1)).astype(xp.float32)
    window = xp.where(real, 0.5 - 0.5 * xp.cos(turn), 0).astype(xp.float32)
    middle = mean(values, real, xp) if values.dtype.kind == "f" else _complex_mean(values, real, xp)
    spectrum = fft(((values - middle) * window).astype(xp.complex64), points, xp)
    return spectrum.real**2 + spectrum.imag**2


def _complex_mean(values: Array, real: Array, xp: object) -> Array:
    return mean(values.real, real, xp) + 1j * mean(values.imag, real, xp)


def _over_floor(power: Array, xp: object) -> Array:
    """float32[B, K]: natural logarithm of power over the median around it."""
    width = max(9, power.shape[1] // FLOOR_BLOCKS)
    whole = power.shape[1] // width * width
    floor = np.median if xp is np else xp.median  # type: ignore[attr-defined]
    blocks = floor(power[:, :whole].reshape(len(power), -1, width), axis=2)
    floors = xp.repeat(blocks, width, axis=1)  # type: ignore[attr-defined]
    floors = xp.pad(floors, ((0, 0), (0, power.shape[1] - whole)), mode="edge")  # type: ignore[attr-defined]
    floors = floors + power.mean(axis=1, keepdims=True) * LEAST_FLOOR + 1e-20
    return xp.log(power / floors + 1e-6).astype(xp.float32)  # type: ignore[attr-defined]


def _one_sided(values: Array, batch: Batch, settings: ZoomSettings) -> Array:
    """float32[B, 45]: the strongest lines by frequency, in bandwidths and in hertz, and the strongest of all."""
    xp = batch.xp
    power = _spectrum(values, batch, settings)
    points = power.shape[1]
    power = power[:, : points // 2 + 1]
    level = _over_floor(power, xp)
    level[:, : max(3, points // 200)] = 0  # of the mean and of slow drift
    freq_hz = (xp.arange(level.shape[1])[None] / points * batch.rate_hz).astype(xp.float32)
    best = level.argmax(axis=1)[:, None]
    found_hz = xp.take_along_axis(freq_hz, best, axis=1)
    top = [xp.take_along_axis(level, best, axis=1), found_hz / batch.width_hz, xp.log10(found_hz + 1)]
    shares = pooled(level, freq_hz / batch.width_hz, SHARES, xp)
    return xp.concatenate([shares, pooled(level, freq_hz, RATES_HZ, xp), *top], axis=1)


def _two_sided(values: Array, batch: Batch, settings: ZoomSettings) -> Array:
    """float32[B, 7]: the two strongest lines, where they are, how far apart, and the first one's share of the power."""
    xp = batch.xp
    power = xp.fft.fftshift(_spectrum(values, batch, settings), axes=1)
    points = power.shape[1]
    level = _over_floor(power, xp)
    freq = (xp.arange(points)[None] - points // 2) / points
    first = level.argmax(axis=1)[:, None]
    near = xp.abs(xp.arange(points)[None] - first) <= GUARD
    second = xp.where(near, xp.float32(NEVER), level).argmax(axis=1)[:, None]
    at = [xp.take_along_axis(xp.broadcast_to(freq, level.shape), place, axis=1) for place in (first, second)]
    at = [(part * batch.rate_hz).astype(xp.float32) for part in at]
    apart_hz = xp.abs(at[0] - at[1])
    tops = [xp.take_along_axis(level, place, axis=1) for place in (first, second)]
    share = xp.take_along_axis(power, first, axis=1) / xp.maximum(power.sum(axis=1, keepdims=True), 1e-20)
    places = [part / batch.width_hz for part in (*at, apart_hz)]
    return xp.concatenate([*tops, *places, xp.log10(apart_hz + 1), xp.log(share + 1e-6)], axis=1)
