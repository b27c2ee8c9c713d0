"""Bursts: boxes from the envelope of the IQ, for what is shorter than the image's columns or touches its neighbours.

The image's regions give bands. In each band's envelope, at a resolution of microseconds, bursts are found at several
levels and gap lengths, and the band of each is measured again. Bursts and regions together are the candidates. Nothing
here knows a signal type.
"""

from typing import Any

import numpy as np

from engine.boxes import to_physical, to_pixels
from engine.contract import Contract
from engine.spectrogram import Array, ParallelMap, serial_map

from .envelope import Envelope, FinePower, envelopes
from .occupancy import occupied
from .packets import Bursts, bursts
from .settings import BurstSettings, settings_for
from .thinning import thinned

__all__ = ["BurstSettings", "candidates", "fine_power", "mended", "merged_candidates", "settings_for"]


def candidates(
    iq: Array,
    regions: np.ndarray,
    contract: Contract,
    parallel_map: ParallelMap = serial_map,
    xp: Any = np,
    settings: BurstSettings | None = None,
) -> np.ndarray:
    """float32[N, 4] pixel boxes, N that of `regions`: bursts and regions, best first, then zeros.

    iq: complex64[n], finite; regions: float32[N, 4] pixel boxes of its image, best first, zeros where there is none.
    Boxes of bursts may be narrower than a pixel. Two bursts and one region in turn, none much like one before.
    """
    fine = fine_power(iq, contract.sample_rate_hz, settings or settings_for(contract), parallel_map, xp)
    return merged_candidates(fine, regions, contract)[0]


def merged_candidates(fine: FinePower, regions: np.ndarray, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of `candidates`, and bool[N]: those that are regions of the image."""
    settings = fine.settings
    real = to_physical(regions[regions[:, 2] > regions[:, 0]], contract)
    found = searched(fine, real)
    order = _in_turn(len(found), len(real), settings.per_region)
    merged = np.concatenate([found, real])[order]
    kept = thinned(merged, min(settings.limit, len(regions)), settings.same_iou)
    boxes, from_regions = np.zeros(regions.shape, np.float32), np.zeros(len(regions), bool)
    boxes[: len(kept)] = to_pixels(merged[kept], contract)
    from_regions[: len(kept)] = order[kept] >= len(found)
    return boxes, from_regions


def fine_power(
    iq: Array, rate_hz: float, settings: BurstSettings, parallel_map: ParallelMap = serial_map, xp: Any = np
) -> FinePower:
    """The fine spectrograms of a capture without the zeros that pad it."""
    return FinePower(_without_padding(iq, xp), rate_hz, settings, parallel_map, xp)


def mended(
    iq: Array,
    boxes: np.ndarray,
    rate_hz: float,
    settings: BurstSettings,
    parallel_map: ParallelMap = serial_map,
    xp: Any = np,
) -> np.ndarray:
    """float64[M, 4] start_s, stop_s, low_hz, high_hz of bursts, best first, at most `settings.limit`.

    boxes: float64[N, 4], regions to begin with, best first. Zeros at the end of `iq` are padding.
    """
    return searched(fine_power(iq, rate_hz, settings, parallel_map, xp), boxes)


def searched(fine: FinePower, boxes: np.ndarray) -> np.ndarray:
    """As `mended`, of a capture's fine spectrograms."""
    settings = fine.settings
    if not len(boxes) or len(fine.iq) < 2 * settings.sizes[0]:
        return np.zeros((0, 4))
    found, score = _own_bands(fine, boxes)
    seeds, searched = boxes, np.zeros((0, 2))
    for _ in range(settings.passes):
        new = _distinct_bands(seeds[:, 2:], searched, settings)
        if not len(new):
            break
        searched = np.concatenate([searched, new])
        more, their_score = _searched(fine, new)
        found, score = np.concatenate([found, more]), np.concatenate([score, their_score])
        order = np.argsort(-score, kind="stable")
        seeds = found[order]
    order = np.argsort(-score, kind="stable")
    found = found[order]
    kept = thinned(found, settings.limit, settings.same_iou, settings.same_span, settings.family)
    best: np.ndarray = found[kept]
    return best


def _without_padding(iq: Array, xp: Any) -> Array:
    if len(iq) == 0 or iq[-1] != 0:
        return iq
    used = xp.flatnonzero(iq)
    return iq[: int(used[-1]) + 1] if len(used) else iq[:0]


def _own_bands(fine: FinePower, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first regions with their bands measured; what lasts nearly all the capture lasts all of it."""
    settings, whole_s = fine.settings, fine.duration_s
    boxes = boxes[: settings.own].copy()
    steady = boxes[:, 1] - boxes[:, 0] > settings.steady * whole_s
    boxes[:, 0] = np.where(steady, 0.0, boxes[:, 0].clip(0, whole_s))
    boxes[:, 1] = np.where(steady, whole_s, boxes[:, 1].clip(0, whole_s))
    boxes, rank = boxes[boxes[:, 1] > boxes[:, 0]], np.flatnonzero(boxes[:, 1] > boxes[:, 0])
    turns = (np.arange(settings.spectra) + 0.5) / settings.spectra
    band, owner = occupied(fine, boxes, boxes[:, :1] + (boxes[:, 1:2] - boxes[:, :1]) * turns)
    return np.column_stack([boxes[owner, :2], band]), 200.0 - rank[owner]


def _distinct_bands(bands: np.ndarray, searched: np.ndarray, settings: BurstSettings) -> np.ndarray:
    """float64[K, 2]: the first `settings.bands` of bands float64[N, 2] that neither resemble each other nor those
    searched."""

    def alike(band: np.ndarray) -> np.ndarray:
        shared = np.minimum(bands[:, 1], band[1]) - np.maximum(bands[:, 0], band[0])
        either = np.maximum(bands[:, 1], band[1]) - np.minimum(bands[:, 0], band[0])
        return np.asarray(shared > settings.same_band * either)

    free = np.ones(len(bands), bool)
    for band in searched:
        free &= ~alike(band)
    kept: list[np.ndarray] = []
    while len(kept) < settings.bands and free.any():
        band = bands[int(free.argmax())]
        free &= ~alike(band)
        free[np.all(bands == band, axis=1)] = False
        kept.append(band)
    return np.array(kept).reshape(-1, 2)


def _searched(fine: FinePower, bands_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of the bursts in these bands, each with its own band, and their scores."""
    settings = fine.settings
    looked: list[Envelope] = [e for e in envelopes(fine, bands_hz) if len(e.power) >= 4]
    if not looked:
        return np.zeros((0, 4)), np.zeros(0)
    found: Bursts = bursts(looked, fine.duration_s, settings, fine.parallel_map)
    limits = np.array([(e.low_hz, e.high_hz) for e in looked])
    boxes = np.column_stack([found.span_s, limits[found.found.band]])
    kept = thinned(boxes, settings.refined, settings.same_iou, settings.same_span, settings.family)
    boxes, score = boxes[kept], found.found.score[kept]
    if not len(boxes):
        return np.zeros((0, 4)), np.zeros(0)
    band, owner = occupied(fine, boxes, found.strong_s(kept, settings.spectra))
    return np.column_stack([boxes[owner, :2], band]), score[owner]


def _in_turn(found: int, regions: int, per_region: float) -> np.ndarray:
    """int64[found + regions]: so many of the first to each of the second in turn, then what is left of either."""
    rank = np.concatenate([np.arange(found) / per_region, np.arange(regions) + 1 - 0.5 / per_region])
    return np.argsort(rank, kind="stable")
