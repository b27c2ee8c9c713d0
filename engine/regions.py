"""Region proposals by multi-level thresholding: boxes of patches that contrast with their surroundings, for heads.

A signal in a spectrogram is a patch brighter than what lies around it, and its edges are in the picture, so they are
found there and not learnt: the image is thresholded at several levels above its noise floor, runs are joined over gaps
of several lengths, in one view pixel by pixel, in one with four columns averaged (for what is long in time and thin in
frequency) and in one with four rows (for what is short in time and wide in frequency). Candidates are ranked by their
contrast to a surrounding ring, as cells are in CFAR detection (Finn and Johnson 1968), and thinned out by greedy non-
maximum suppression. A patch is a candidate, not a detection: heads classify it. Nothing here depends on a signal type,
so types that no backbone has seen are found as well.

Patches are 4-connected components, labelled by runs of pixels, row by row.
"""

from typing import Any, Final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .contract import IMAGE_SIZE, RANGE_DB
from .heads import PROPOSALS
from .spectrogram import Array, ParallelMap, serial_map

LEVELS_DB: Final = (3.5, 6.0, 9.0, 13.0, 18.0, 24.0, 32.0)  # above the floor
FINE_LEVELS_DB: Final = (10.0, 15.0, 21.0, 28.0)  # for small patches, seen pixel by pixel
RING_PX: Final = 3  # around a patch, that it is compared with, at least
RING_SHARE: Final = 4  # and that part of its sides
LARGE_PX: Final = 2000  # pixels from which on size no longer counts
SIDE_BITS: Final = 11  # of a coordinate, 0 to 1024
QUANTILES: Final = (0.25, 0.02)  # of the pixels that show anything; the second for images that a signal nearly fills
MOST_DB: Final = 1e6  # more than any pixel shows
SHOWS_DB: Final = 0.5  # a pixel with more shows something
LEAST_SHOWN: Final = 0.02  # of the pixels, else there is no floor
DEEP_LEVELS_DB: Final = (8.0, 15.0)  # above the second
POOLED: Final = 4  # pixels averaged along a patch's longer side
TIME_GAPS_PX: Final = (0, 4, 16, 64)  # joined in the view for long thin patches
BAND_GAPS_PX: Final = (0, 8, 48)  # joined in the view for short wide ones
FINE_GAPS_PX: Final = (0, 3)  # joined in the pixel by pixel view
LEAST_PIXELS: Final = 3  # of a patch, pooled
LEAST_ROWS: Final = 2  # of a patch at the end of the band: of what shows one row only, nobody can say what it is
MOST_RUNS: Final = 20_000  # of a level; one with more is a level inside the noise
MOST_CANDIDATES: Final = 3000
SAMPLED: Final = 7  # every so many pixels are looked at for the floor
BLOCK: Final = 256  # candidates compared at once
SAME_IOU: Final = 0.75  # candidates that overlap by more are one


def regions(image: np.ndarray, parallel_map: ParallelMap = serial_map) -> np.ndarray:
    """float32[PROPOSALS, 4] pixel boxes of an image float32[1024, 1024] in 0..1, best contrast first.

    Where there are fewer, the rest are zeros. `parallel_map` may compute the views concurrently.
    """
    level_db = image * np.float32(RANGE_DB)
    views = (
        lambda: _patches(level_db, FINE_LEVELS_DB, FINE_GAPS_PX, 1),
        lambda: _patches(pooled(level_db), LEVELS_DB, TIME_GAPS_PX, POOLED),
        lambda: _patches(pooled(level_db.T), LEVELS_DB, BAND_GAPS_PX, POOLED)[:, [1, 0, 3, 2]],
    )
    candidates = _seen(_unique(np.concatenate(list(parallel_map(lambda number, _: views[number](), len(views), 1)))))
    order = np.argsort(-_ring_contrast(level_db, candidates), kind="stable")[:MOST_CANDIDATES]
    boxes = np.zeros((PROPOSALS, 4), np.float32)
    kept = _suppress(candidates[order])
    boxes[: len(kept)] = kept
    return boxes


def _unique(boxes: np.ndarray) -> np.ndarray:
    """Unique rows of boxes int64[N, 4]."""
    key = ((boxes[:, 0] << SIDE_BITS | boxes[:, 1]) << SIDE_BITS | boxes[:, 2]) << SIDE_BITS | boxes[:, 3]
    key = np.unique(key)
    return np.column_stack([key >> SIDE_BITS * place & (1 << SIDE_BITS) - 1 for place in (3, 2, 1, 0)])


def _seen(boxes: np.ndarray) -> np.ndarray:
    """Those of boxes int64[N, 4] that the end of the band does not cut to less than LEAST_ROWS."""
    cut = (boxes[:, 1] == 0) | (boxes[:, 3] == IMAGE_SIZE)
    kept: np.ndarray = boxes[~cut | (boxes[:, 3] - boxes[:, 1] >= LEAST_ROWS)]
    return kept


def _ring_contrast(level_db: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Contrast float32[N] of boxes int64[N, 4] against a surrounding ring (as in CFAR), weighted by the square root of
    the area. A fragment of a strong signal has strong neighbours, so it scores low."""
    size = level_db.shape[0]
    sums = np.zeros((size + 1, size + 1), np.int32)  # of tenths of a decibel above and left of every corner
    np.cumsum((level_db * 10).astype(np.int32), axis=1, out=sums[1:, 1:])
    for row in range(size):  # faster than a sum over the first axis, which leaps through memory
        sums[row + 1] += sums[row]

    def total(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x_min, y_min, x_max, y_max = boxes.T
        area = (x_max - x_min) * (y_max - y_min)
        return sums[y_max, x_max] - sums[y_min, x_max] - sums[y_max, x_min] + sums[y_min, x_min], area

    margin = np.maximum(RING_PX, (boxes[:, 2:] - boxes[:, :2]) // RING_SHARE)
    inside, area = total(boxes)
    around, wider = total(np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1).clip(0, size))
    contrast = inside / area - (around - inside) / np.maximum(wider - area, 1)
    weighed: np.ndarray = contrast.clip(0) * np.sqrt(np.minimum(area, LARGE_PX))
    return weighed.astype(np.float32)


def pooled(level_db: Array, xp: Any = np) -> Array:
    """float32[rows, columns / POOLED]."""
    total = sum((level_db[:, k::POOLED] for k in range(1, POOLED)), level_db[:, ::POOLED])
    return xp.ascontiguousarray(total) * xp.float32(1 / POOLED)


def _patches(picture: np.ndarray, levels_db: tuple[float, ...], gaps_px: tuple[int, ...], scale: int) -> np.ndarray:
    """int64[N, 4]: boxes of patches in pixels. A pixel of `picture` is `scale` columns wide."""
    floor, deep = floors(picture).tolist()
    passes = []  # the runs of each level and gap
    for above, base in (*((level, floor) for level in levels_db), *((level, deep) for level in DEEP_LEVELS_DB)):
        runs = _runs(picture > base + above)
        if 0 < len(runs) <= MOST_RUNS:
            passes += [_joined(runs, gap // scale) for gap in gaps_px]
    if not passes:
        return np.zeros((0, 4), np.int64)
    # one labelling for all: each pass is moved below the one before, a row apart
    apart = picture.shape[0] + 1
    runs = np.concatenate([part + np.array([number * apart, 0, 0], np.int32) for number, part in enumerate(passes)])
    boxes, pixels = _boxes(runs)
    boxes[:, 1::2] -= (boxes[:, 1] // apart * apart)[:, None]
    return boxes[pixels >= LEAST_PIXELS] * [scale, 1, scale, 1]


def floors(picture: Array, xp: Any = np) -> Array:
    """float64[2]: noise floors in dB by quantiles of the pixels, for usual images and for one that a signal nearly
    fills; zeros where hardly a pixel shows anything. Never waits for a device."""
    some = picture.ravel()[::SAMPLED]
    shown = some > SHOWS_DB
    count = shown.sum()
    ordered = xp.sort(xp.where(shown, some, xp.float32(MOST_DB))).astype(xp.float64)
    place = xp.asarray(QUANTILES) * xp.maximum(count - 1, 0)
    lower = place.astype(xp.int64)
    low, high = ordered[lower], ordered[xp.minimum(lower + 1, xp.maximum(count - 1, 0))]
    return xp.where(count > LEAST_SHOWN * some.size, low + (high - low) * (place - lower), 0.0)


def _runs(mask: np.ndarray) -> np.ndarray:
    """int32[R, 3]: row, first column, column after the last of every run of True pixels, in reading order."""
    rows, columns = mask.shape
    bordered = np.zeros((rows, columns + 1), bool)
    bordered[:, 1:] = mask  # so that no run reaches from one row into the next
    flat = np.append(bordered.ravel(), False)
    edges = np.flatnonzero(flat[1:] != flat[:-1]).astype(np.int32).reshape(-1, 2)  # where runs begin and end, in turn
    row = edges[:, 0] // (columns + 1)
    return np.column_stack([row, edges - (row * (columns + 1))[:, None]])


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
    order = np.argsort(label, kind="stable")
    row, first, last = runs[order].T
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    ends = np.append(starts[1:], len(runs)) - 1
    boxes = np.column_stack(
        [np.minimum.reduceat(first, starts), row[starts], np.maximum.reduceat(last, starts), row[ends] + 1]
    )
    return boxes, np.add.reduceat(last - first, starts)


def _labels(runs: np.ndarray) -> np.ndarray:
    """int32[R]: the patch that each run belongs to, 0, 1 ... ."""
    above, below = _touching(runs)
    pairs = coo_array((np.ones(len(above), bool), (above, below)), shape=(len(runs), len(runs)))
    labels: np.ndarray = connected_components(pairs, directed=False)[1]
    return labels


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


def _suppress(boxes: np.ndarray) -> np.ndarray:
    """Greedy non-maximum suppression: up to PROPOSALS of boxes int64[N, 4], in order, less those that overlap an
    earlier one by an IoU above SAME_IOU."""
    kept = np.zeros((0, 4), np.int64)
    for first in range(0, len(boxes), BLOCK):
        block = boxes[first : first + BLOCK]
        block = block[~_overlaps(block, kept).any(axis=1)]
        alike = _overlaps(block, block)
        chosen, free = [], np.ones(len(block), bool)
        for index in range(len(block)):
            if free[index]:
                chosen.append(index)
                free &= ~alike[index]
        kept = np.concatenate([kept, block[chosen]])
        if len(kept) >= PROPOSALS:
            break
    return kept[:PROPOSALS]


def _overlaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool[N, M]: pairs of boxes int64[N, 4], int64[M, 4] with an IoU above SAME_IOU."""
    width, height = (
        np.minimum(some[:, None, k + 2], others[None, :, k + 2]) - np.maximum(some[:, None, k], others[None, :, k])
        for k in (0, 1)
    )
    both = width.clip(0) * height.clip(0)
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (some, others)]
    alike: np.ndarray = both > SAME_IOU * (areas[0][:, None] + areas[1][None] - both)
    return alike
