"""Where in an image something stands out: the boxes that heads then look at.

A signal in a spectrogram is a patch brighter than what lies around it, and its edges are in the picture, so they are
found there and not learnt: patches above several levels, joined over gaps of several lengths, seen once with four
columns averaged (for what is long in time and thin in frequency) and once with four rows (for what is short
in time and wide in frequency). A patch found is a candidate, not a detection: heads judge them. Nothing here knows a
signal type, so types that no backbone has seen are found as well.

Patches are joined runs of pixels (row by row, as in run-length labelling), all in NumPy.
"""

from typing import Final

import numpy as np

from .contract import RANGE_DB
from .heads import PROPOSALS

LEVELS_DB: Final = (3.5, 6.0, 9.0, 13.0, 18.0, 24.0, 32.0)  # above the floor
FINE_LEVELS_DB: Final = (10.0, 15.0, 21.0, 28.0)  # for small patches, seen pixel by pixel
WEIGHT: Final = 0.5  # how much a patch's size counts beside its level
FLOOR_QUANTILE: Final = 0.25  # of the pixels that show anything
DEEP_QUANTILE: Final = 0.02  # likewise, for images that a signal fills nearly whole
DEEP_LEVELS_DB: Final = (8.0, 15.0)  # above that
POOLED: Final = 4  # pixels averaged along a patch's longer side
TIME_GAPS_PX: Final = (0, 4, 16, 64)  # joined in the view for long thin patches
BAND_GAPS_PX: Final = (0, 8, 48)  # joined in the view for short wide ones
LEAST_PIXELS: Final = 3  # of a patch, pooled
MOST_RUNS: Final = 20_000  # of a level; one with more is a level inside the noise
MOST_CANDIDATES: Final = 3000
SAME_IOU: Final = 0.75  # candidates that overlap by more are one


def regions(image: np.ndarray) -> np.ndarray:
    """float32[PROPOSALS, 4] pixel boxes of an image float32[1024, 1024] in 0..1, those that stand out most first.

    Where there are fewer, the rest are zeros.
    """
    level_db = image * np.float32(RANGE_DB)
    found = [
        _patches(_pooled(level_db), LEVELS_DB, TIME_GAPS_PX, POOLED),
        _patches(_pooled(level_db.T), LEVELS_DB, BAND_GAPS_PX, POOLED)[:, [1, 0, 3, 2, 4]],
        _patches(level_db, FINE_LEVELS_DB, (0, 3), 1),
    ]
    candidates = np.concatenate(found)
    boxes = np.zeros((PROPOSALS, 4), np.float32)
    kept = _distinct(candidates[np.argsort(-candidates[:, 4], kind="stable")][:MOST_CANDIDATES, :4])
    boxes[: len(kept)] = kept
    return boxes


def _pooled(level_db: np.ndarray) -> np.ndarray:
    """float32[rows, columns / POOLED]."""
    rows, columns = level_db.shape
    pooled: np.ndarray = level_db.reshape(rows, columns // POOLED, POOLED).mean(axis=2)
    return pooled


def _patches(picture: np.ndarray, levels_db: tuple[float, ...], gaps_px: tuple[int, ...], scale: int) -> np.ndarray:
    """float64[N, 5]: x_min, y_min, x_max, y_max in pixels, and how much a patch stands out. A pixel of `picture` is
    `scale` columns wide."""
    shown = picture[picture > 0.5]
    if not shown.size:
        return np.zeros((0, 5))
    floor, deep = (
        np.quantile(shown, (FLOOR_QUANTILE, DEEP_QUANTILE)) if shown.size > 0.02 * picture.size else (0.0, 0.0)
    )
    found = []
    for above, base in (*((level, floor) for level in levels_db), *((level, deep) for level in DEEP_LEVELS_DB)):
        runs = _runs(picture > base + above)
        if not 0 < len(runs) <= MOST_RUNS:
            continue
        for gap in gaps_px:
            boxes, pixels = _boxes(_joined(runs, gap // scale))
            keep = pixels >= LEAST_PIXELS
            weight = above * (scale * pixels[keep]) ** WEIGHT
            found.append(np.column_stack([boxes[keep] * [scale, 1, scale, 1], weight]))
    return np.concatenate(found) if found else np.zeros((0, 5))


def _runs(lit: np.ndarray) -> np.ndarray:
    """int64[R, 3]: row, first column, column after the last of every run of lit pixels, in reading order."""
    edges = np.diff(np.pad(lit, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges == 1)
    return np.column_stack([row, first, np.nonzero(edges == -1)[1]])


def _joined(runs: np.ndarray, gap: int) -> np.ndarray:
    """Runs of one row that lie no more than `gap` apart, as one."""
    if gap <= 0:
        return runs
    apart = (runs[1:, 0] != runs[:-1, 0]) | (runs[1:, 1] - runs[:-1, 2] > gap)
    starts = np.concatenate([[True], apart])
    ends = np.concatenate([apart, [True]])
    return np.column_stack([runs[starts, :2], runs[ends, 2]])


def _boxes(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes int64[N, 4] around runs that touch from row to row, and how many pixels their runs have."""
    label = _labels(runs)
    count = int(label.max()) + 1
    boxes = np.empty((count, 4), np.int64)
    for column, values, reduce, start in (
        (0, runs[:, 1], np.minimum, 1 << 30),
        (1, runs[:, 0], np.minimum, 1 << 30),
        (2, runs[:, 2], np.maximum, 0),
        (3, runs[:, 0] + 1, np.maximum, 0),
    ):
        extreme = np.full(count, start, np.int64)
        reduce.at(extreme, label, values)
        boxes[:, column] = extreme
    return boxes, np.bincount(label, weights=runs[:, 2] - runs[:, 1], minlength=count)


def _labels(runs: np.ndarray) -> np.ndarray:
    """int64[R]: numbers 0, 1 ... of the patches that runs belong to."""
    above, below = _touching(runs)
    parent = np.arange(len(runs))
    while True:  # every run takes the least number among its neighbours, then its neighbours' neighbours
        least = parent.copy()
        np.minimum.at(least, below, parent[above])
        np.minimum.at(least, above, parent[below])
        np.minimum.at(least, parent, least)
        while True:
            shorter = least[least]
            if np.array_equal(shorter, least):
                break
            least = shorter
        if np.array_equal(least, parent):
            return np.unique(parent, return_inverse=True)[1]
        parent = least


def _touching(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs in neighbouring rows that share a column: indices above and below."""
    width = int(runs[:, 2].max()) + 1
    first = runs[:, 0] * width + runs[:, 1]
    last = runs[:, 0] * width + runs[:, 2]
    begin = np.searchsorted(last, first - width, side="right")  # the first run above that ends after this one begins
    end = np.searchsorted(first, last - width, side="left")  # and the first that begins after it ends
    count = np.maximum(end - begin, 0)
    below = np.repeat(np.arange(len(runs)), count)
    offset = np.arange(len(below)) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(begin, count) + offset, below


def _distinct(boxes: np.ndarray) -> np.ndarray:
    """Up to PROPOSALS of boxes float64[N, 4], in order, less those much like an earlier one."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = np.empty((PROPOSALS, 4))
    areas = np.empty(PROPOSALS)
    count = 0
    for box, size in zip(boxes, area, strict=True):
        sides = np.minimum(kept[:count, 2:], box[2:]) - np.maximum(kept[:count, :2], box[:2])
        both = np.prod(sides.clip(0), axis=1)
        if not (both > SAME_IOU * (areas[:count] + size - both)).any():
            kept[count], areas[count] = box, size
            count += 1
            if count == PROPOSALS:
                break
    return kept[:count]
