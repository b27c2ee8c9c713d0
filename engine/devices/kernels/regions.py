"""Region proposals on a GPU, equal box by box to those of `engine.regions`, by kernels (patches.cu, ranking.cu) and
sums.

Every array has a fixed size, so the host never waits and all of it can be captured in a CUDA graph; there is no sort in
it for the same reason. Candidates of equal contrast are ranked by place, so the order in which threads come does
not matter.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np

from engine import regions as plain
from engine.contract import IMAGE_SIZE, RANGE_DB
from engine.heads import PROPOSALS

THREADS: Final = 128
WORD: Final = 32  # bits
WORDS: Final = -(-plain.MOST_CANDIDATES // WORD)
TABLE_BITS: Final = 21  # of a number of places, more than there are nodes
RADIX_PASSES: Final = 7  # three digits of a code, four of a key
DIGITS: Final = 2048
EMPTY_KEY: Final = np.iinfo(np.int64).max

Launch = Callable[..., None]  # kernel's name, grid (x, y), threads of a block, arguments


def passes_of_an_image() -> np.ndarray:
    """int32[passes, 8] of threshold passes: where a picture begins, its columns, the gap, the level, the pass with the
    same level and no gap, image pixels of a column, whether its rows are the image's columns, and a filler."""
    found: list[list[int]] = []
    offset, level = 0, 0
    for levels_db, gaps_px, scale, is_turned in VIEWS:
        columns = IMAGE_SIZE // scale
        for _ in (*levels_db, *plain.DEEP_LEVELS_DB):
            first = len(found)
            for gap in gaps_px:
                found.append([offset, columns, gap // scale, level, first, scale, is_turned, 0])
            level += 1
        offset += IMAGE_SIZE * columns
    return np.array(found, np.int32)


VIEWS: Final = (  # as in `engine.regions.regions`
    (plain.FINE_LEVELS_DB, plain.FINE_GAPS_PX, 1, 0),
    (plain.LEVELS_DB, plain.TIME_GAPS_PX, plain.POOLED, 0),
    (plain.LEVELS_DB, plain.BAND_GAPS_PX, plain.POOLED, 1),
)
PIXELS: Final = [-(-(IMAGE_SIZE**2 // scale) // plain.SAMPLED) for *_, scale, _ in VIEWS]  # looked at for floors


@lru_cache(maxsize=4)
def _constants(xp: Any) -> tuple[Any, ...]:
    """Constants on the device: the passes; for each the one without gaps; the first pass of each view; the quantiles;
    for each level what it lies above its floor, and which of the floors that is."""
    passes = passes_of_an_image()
    firsts = [int(np.flatnonzero(passes[:, 0] == offset)[0]) for offset in np.unique(passes[:, 0])]
    above = [level for levels_db, *_ in VIEWS for level in (*levels_db, *plain.DEEP_LEVELS_DB)]
    deep = len(plain.DEEP_LEVELS_DB)
    floor = [2 * v + s for v, (levels_db, *_) in enumerate(VIEWS) for s in [0] * len(levels_db) + [1] * deep]
    parts = (
        passes, passes[:, 4].astype(np.int64), np.array(firsts, np.int32), np.array(plain.QUANTILES),
        np.array(above), np.array(floor),
    )  # fmt: skip
    return tuple(xp.asarray(part) for part in parts)


def regions(image: Any, xp: Any, launch: Launch) -> Any:
    """float32[PROPOSALS, 4], as `engine.regions.regions` gives it for the same float32[1024, 1024]."""
    passes, without_gap, *_ = _constants(xp)
    level_db = image * xp.float32(RANGE_DB)
    pictures = (level_db, plain.pooled(level_db, xp), plain.pooled(level_db.T, xp))
    flat = xp.concatenate([picture.ravel() for picture in pictures])
    levels = _levels(flat, xp, launch)

    count, capacity = len(passes), np.int32(plain.MOST_RUNS)
    rows, nodes_grid = (-(-IMAGE_SIZE // THREADS), count), (-(-plain.MOST_RUNS // THREADS), count)
    counts = xp.zeros((count, IMAGE_SIZE), xp.int32)
    launch("count_runs", rows, THREADS, flat, levels, passes, counts)
    ends = xp.cumsum(counts, axis=1, dtype=xp.int32)
    ends = ends * (ends[without_gap, -1:] <= plain.MOST_RUNS)  # levels inside the noise are left out
    nodes = xp.empty((count * plain.MOST_RUNS, 6), xp.int32)
    launch("write_runs", rows, THREADS, flat, levels, passes, ends, nodes, capacity)
    launch("join_runs", rows, THREADS, ends, nodes, capacity)
    launch("gather_boxes", nodes_grid, THREADS, ends, nodes, capacity)
    table = xp.full(1 << TABLE_BITS, EMPTY_KEY, xp.int64)
    least = (np.int32(plain.LEAST_PIXELS), np.int32(plain.LEAST_ROWS))
    launch("insert_boxes", nodes_grid, THREADS, passes, ends, nodes, table, capacity, *least, np.int32(TABLE_BITS))
    best = _best(table, level_db, xp, launch)

    bits = xp.empty((plain.MOST_CANDIDATES, WORDS), xp.uint32)
    most, words = np.int32(plain.MOST_CANDIDATES), np.int32(WORDS)
    same = np.float64(plain.SAME_IOU)
    launch("alike", (1, plain.MOST_CANDIDATES), THREADS, best, bits, most, words, same)
    boxes = xp.zeros((PROPOSALS, 4), xp.float32)
    launch("keep", (1, 1), THREADS, best, bits, boxes, most, words, np.int32(PROPOSALS))
    return boxes


def _levels(flat: Any, xp: Any, launch: Launch) -> Any:
    """float32[levels] in dB: thresholds of pixels; see `engine.regions.floors`."""
    passes, _, firsts, shares, above, floor = _constants(xp)
    found, shown = xp.empty((len(VIEWS), 2, 2), xp.float32), xp.empty(len(VIEWS), xp.int32)
    step, least = np.int32(plain.SAMPLED), np.float32(plain.SHOWS_DB)
    launch("quantiles", (4 * len(VIEWS), 1), 256, flat, passes, firsts, shares, found, shown, step, least)
    place = shares * xp.maximum(shown - 1, 0)[:, None]
    low, high = found[..., 0].astype(xp.float64), found[..., 1].astype(xp.float64)
    floors = low + (high - low) * (place - xp.floor(place))  # float64[views, 2]
    pixels = xp.asarray(PIXELS)
    floors = xp.where((shown > plain.LEAST_SHOWN * pixels)[:, None], floors, 0.0)
    return (floors.ravel()[floor] + above).astype(xp.float32)


def _best(table: Any, level_db: Any, xp: Any, launch: Launch) -> Any:
    """int64[MOST_CANDIDATES]: keys of the boxes of most contrast, best first; EMPTY_KEY where there are fewer."""
    sums = xp.zeros((IMAGE_SIZE + 1, IMAGE_SIZE + 1), xp.int32)
    tenths = (level_db * 10).astype(xp.int32)
    sums[1:, 1:] = xp.cumsum(xp.cumsum(tenths, axis=1, dtype=xp.int32), axis=0, dtype=xp.int32)
    slots, grid = np.int32(len(table)), (-(-len(table) // THREADS), 1)
    codes = xp.empty(len(table), xp.uint32)
    ring = (np.int32(plain.RING_PX), np.int32(plain.RING_SHARE), np.int32(plain.LARGE_PX))
    launch("standing_out", grid, THREADS, table, sums, codes, slots, *ring)
    bins = xp.zeros((RADIX_PASSES, DIGITS), xp.int32)
    last = xp.zeros(3, xp.int64)
    last[2] = plain.MOST_CANDIDATES - 1
    for number in range(RADIX_PASSES):
        launch("histogram", grid, THREADS, table, codes, last, bins, slots, np.int32(number))
        launch("choose", (1, 1), 256, bins, last, np.int32(number))
    most = plain.MOST_CANDIDATES
    keys, key_codes, count = xp.empty(most, xp.int64), xp.empty(most, xp.uint32), xp.zeros(1, xp.int32)
    launch("gather_best", grid, THREADS, table, codes, last, keys, key_codes, count, slots)
    best = xp.full(most, EMPTY_KEY, xp.int64)
    launch("order_best", (-(-most // THREADS), 1), THREADS, keys, key_codes, count, best)
    return best
