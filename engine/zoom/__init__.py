"""Zoom: the second look, at the IQ of candidate boxes, for what their image cannot show.

Each box is cut out of the capture's STFT and described by VALUES numbers that do not depend on level: its modulation,
as autocorrelation, spectral lines, histograms and chirp tones show it, and its geometry.
"""

from typing import Any, Final

import numpy as np

from engine.contract import Contract
from engine.spectrogram import Array, ParallelMap, serial_map

from .autocorrelation import autocorrelation
from .batch import Batch
from .chirps import chirps
from .cutting import Cut, cut, stft
from .geometry import geometry
from .histograms import histograms, instantaneous
from .lines import lines
from .settings import ZoomSettings

__all__ = ["GROUPS", "VALUES", "ZoomSettings", "cut", "describe", "stft", "zoom"]

GROUPS: Final = {"autocorrelation": 135, "lines": 149, "histograms": 104, "chirps": 36, "geometry": 42}
VALUES: Final = sum(GROUPS.values())  # ZOOM_VALUES of `engine.heads`
PER_BATCH: Final = 4  # cuts side by side: they stay in cache
DEFAULT: Final = ZoomSettings()


def zoom(
    spectrum: Array,
    boxes: np.ndarray,
    contract: Contract,
    settings: ZoomSettings = DEFAULT,
    parallel_map: ParallelMap = serial_map,
    xp: Any = np,
) -> Array:
    """float32[N, VALUES] of boxes float64[N, 4] = start_s, stop_s, low_hz, high_hz; see GROUPS for their order.

    spectrum: complex64[frames, n_fft] of the capture, see `stft`. All values are finite.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not len(boxes):
        return xp.zeros((0, VALUES), xp.float32)
    cuts = list(parallel_map(lambda place, _: cut(spectrum, boxes[place], contract, settings, xp), len(boxes), 1))
    order = np.argsort([len(each.iq) for each in cuts], kind="stable")
    cuts = [cuts[place] for place in order]
    parts = parallel_map(lambda first, last: describe(cuts[first:last], settings, xp), len(cuts), PER_BATCH)
    return xp.concatenate(list(parts))[xp.asarray(np.argsort(order))]


def describe(cuts: list[Cut], settings: ZoomSettings = DEFAULT, xp: Any = np) -> Array:
    """float32[len(cuts), VALUES]"""
    batch = Batch.of(cuts, xp)
    frequency = instantaneous(batch)
    steady = xp.where(batch.real, xp.clip(frequency.smooth, -1, 1), 0).astype(xp.float32)
    parts = [
        autocorrelation(batch, settings),
        lines(batch, steady, settings),
        histograms(batch, frequency),
        chirps(batch, settings),
        geometry(batch, cuts),
    ]
    return xp.nan_to_num(xp.concatenate(parts, axis=1), nan=0.0, posinf=0.0, neginf=0.0)
