"""Geometry: a box's width, duration and level, and the course of its power."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.spectrogram import Array

from .batch import Batch, histogram
from .cutting import Cut

CELLS: Final = 24  # of the active part's power over time
TURNS: Final = ((0.25, 0.5, 1.0), (0.125, 0.25, 0.5))  # per octave of width, of duration


def geometry(batch: Batch, cuts: Sequence[Cut]) -> Array:
    """float32[B, 42]: logarithms of the sizes, waves over them so that near sizes differ, and the envelope."""
    xp = batch.xp
    width_hz, duration_s, whole, level_db = (
        np.array([getattr(cut, name) for cut in cuts]) for name in ("width_hz", "duration_s", "whole", "level_db")
    )
    count, rate_hz = (np.array([part(cut) for cut in cuts]) for part in (lambda c: len(c.iq), lambda c: c.rate_hz))
    active_s = count / rate_hz
    logs = [np.log10(width_hz) - 6, np.log10(duration_s) + 3, np.log10(active_s) + 3]
    sizes = [*logs, count / np.maximum(whole, count), level_db / 20, np.log10(count) - 4]
    waves = [
        wave(2 * np.pi * turn * octave)
        for octave, turns in zip((np.log2(width_hz) - 20, np.log2(active_s) + 8), TURNS, strict=True)
        for turn in turns
        for wave in (np.sin, np.cos)
    ]
    x = batch.iq
    cell = batch.place * CELLS // batch.count
    power = histogram(cell, CELLS, xp.where(batch.real, x.real**2 + x.imag**2, 0), xp)
    power = power / xp.maximum(histogram(cell, CELLS, batch.real, xp), 1)
    envelope = xp.log10(power + 1e-3)
    return xp.concatenate([xp.asarray(np.stack([*sizes, *waves], axis=1)), envelope], axis=1).astype(xp.float32)
