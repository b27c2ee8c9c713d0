"""Autocorrelation of the IQ: cyclic prefixes, symbol lengths, repeated preambles."""

from typing import Final

import numpy as np
import scipy.fft

from engine.spectrogram import Array

from .batch import SMALL, Batch, fft, pooled, quantile
from .settings import ZoomSettings

DELAYS_S: Final = np.geomspace(0.1e-6, 600e-6, 41)
CYCLES: Final = np.geomspace(0.75, 3000, 31)  # delays in 1 / bandwidth
FROM_CYCLES: Final = 4.0  # where the strongest delay is searched
LEAST_LAGS: Final = 4096
NEAR: Final = 64  # delays around the strongest, that it is compared with


def autocorrelation(batch: Batch, settings: ZoomSettings) -> Array:
    """float32[B, 135]: sizes at the delays of known cyclic prefixes and over delays in seconds and in cycles, as they
    are and over those of noise, and the strongest delay."""
    xp, count = batch.xp, batch.count
    lags = min(settings.lags, int(0.75 * int(count.max())))
    most = xp.clip((settings.lag_us * 1e-6 * batch.rate_hz).astype(xp.int64) + 2, LEAST_LAGS, settings.lags)
    most = xp.minimum(most, (0.75 * count).astype(xp.int64))
    spectrum = fft(batch.iq, scipy.fft.next_fast_len(batch.iq.shape[1] + lags), xp)
    power = spectrum.real**2 + spectrum.imag**2
    inverse = scipy.fft.ifft(power) if xp is np else xp.fft.ifft(power)
    lag = xp.arange(lags)[None]
    real = lag < most
    size = xp.abs(inverse[:, :lags]).astype(xp.float32)
    size = size / xp.maximum(size[:, :1], SMALL) * (count / xp.maximum(count - lag, 1))
    size = xp.where(real, size, 0).astype(xp.float32)
    freedom = xp.maximum(count * xp.minimum(batch.width_hz / batch.rate_hz * settings.pass_width, 1), 4)
    over = xp.log1p(size * xp.sqrt(freedom)).astype(xp.float32)  # in units of noise
    delay_s = (lag / batch.rate_hz).astype(xp.float32)
    cycles = delay_s * batch.width_hz
    parts = [
        *_prefixes(batch, size, over, most, settings),
        pooled(size, delay_s, DELAYS_S, xp, real),
        pooled(over, delay_s, DELAYS_S, xp, real),
        pooled(size, cycles, CYCLES, xp, real),
        _strongest(batch, size, over, cycles, most),
    ]
    return xp.concatenate(parts, axis=1).astype(xp.float32)


def _prefixes(batch: Batch, size: Array, over: Array, most: Array, settings: ZoomSettings) -> list[Array]:
    """float32[B, prefixes] twice: at the two lags next to each useful symbol length."""
    xp = batch.xp
    lag = xp.asarray(settings.prefixes_us, xp.float32)[None] * 1e-6 * batch.rate_hz
    low, high = xp.floor(lag).astype(xp.int64), xp.ceil(lag).astype(xp.int64)
    known = (low >= 2) & (high < most - 1)
    low, high = (xp.clip(part, 0, size.shape[1] - 1) for part in (low, high))

    def at(values: Array) -> Array:
        found = xp.maximum(xp.take_along_axis(values, low, axis=1), xp.take_along_axis(values, high, axis=1))
        return xp.where(known, found, 0)

    return [at(size), at(over)]


def _strongest(batch: Batch, size: Array, over: Array, cycles: Array, most: Array) -> Array:
    """float32[B, 5]: the strongest delay from FROM_CYCLES on: size, over noise, log10 of delay in us and in cycles, and
    how far it stands out of its surroundings; zeros where the cut is too short."""
    xp = batch.xp
    lag = xp.arange(size.shape[1])[None]
    searched = (cycles >= FROM_CYCLES) & (lag < most)
    place = xp.where(searched, over, -1).argmax(axis=1)[:, None]
    first = xp.where(searched, lag, size.shape[1]).min(axis=1)[:, None]
    begin, end = xp.maximum(first, (place * 0.8).astype(xp.int64)), (place * 1.25).astype(xp.int64) + 1
    turn = xp.linspace(0, 1, NEAR, dtype=xp.float32)[None]
    near = xp.clip((begin + (end - begin) * turn).astype(xp.int64), 0, size.shape[1] - 1)
    around = quantile(xp.take_along_axis(size, near, axis=1), near < most, 0.5, xp)
    top, loud = (xp.take_along_axis(part, place, axis=1) for part in (size, over))
    delay_us = place / batch.rate_hz * 1e6
    far = xp.log10(xp.maximum(delay_us * batch.width_hz * 1e-6, 1e-3))
    out = xp.log(xp.maximum(top, 1e-6) / (around + 1e-6))
    found = xp.concatenate([top, loud, xp.log10(xp.maximum(delay_us, 1e-3)), far, out], axis=1)
    return xp.where(first + 8 < most, found, 0)
