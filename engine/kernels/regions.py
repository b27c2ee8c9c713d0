"""Regions of an image on a GPU: what `engine.regions` finds, to the box, by kernels (`regions.cu`) and array functions.

Every array has a fixed size, so the host is asked nothing and all of it can stand in a CUDA graph. Candidates are
sorted by place before they are ranked, so that the order in which threads come does not matter.
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

Launch = Callable[..., None]  # kernel's name, grid (x, y), threads of a block, arguments


def looks_of_an_image() -> np.ndarray:
    """int32[looks, 8]: where a picture begins, its columns, the gap, the level, the look with the same level and no
    gap, image pixels of a column, whether its rows are the image's columns, and a filler."""
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


@lru_cache(maxsize=4)
def _constants(xp: Any) -> tuple[Any, Any, Any]:
    """The looks, for each the one without gaps, and for each view float64[levels], what these lie above a floor."""
    looks = looks_of_an_image()
    above = [np.array([*levels_db, *plain.DEEP_LEVELS_DB]) for levels_db, *_ in VIEWS]
    return xp.asarray(looks), xp.asarray(looks[:, 4].astype(np.int64)), tuple(xp.asarray(part) for part in above)


def regions(image: Any, xp: Any, launch: Launch) -> Any:
    """float32[PROPOSALS, 4], as `engine.regions.regions` gives it for the same float32[1024, 1024]."""
    looks, without_gap, above = _constants(xp)
    level_db = image * xp.float32(RANGE_DB)
    pictures = [level_db, plain.pooled(level_db, xp), plain.pooled(level_db.T, xp)]
    levels = xp.concatenate([_levels(p, a, xp) for p, a in zip(pictures, above, strict=True)])
    flat = xp.concatenate([picture.ravel() for picture in pictures])

    count, capacity = len(looks), plain.MOST_RUNS
    rows, nodes_grid = (-(-IMAGE_SIZE // THREADS), count), (-(-capacity // THREADS), count)
    counts = xp.zeros((count, IMAGE_SIZE), xp.int32)
    launch("count_runs", rows, THREADS, flat, levels, looks, counts)
    ends = xp.cumsum(counts, axis=1, dtype=xp.int32)
    ends = ends * (ends[without_gap, -1:] <= capacity)  # levels inside the noise are left out
    nodes = xp.empty((count * capacity, 6), xp.int32)
    launch("write_runs", rows, THREADS, flat, levels, looks, ends, nodes, np.int32(capacity))
    launch("join_runs", rows, THREADS, ends, nodes, np.int32(capacity))
    launch("gather_boxes", nodes_grid, THREADS, ends, nodes, np.int32(capacity))
    keys = xp.empty(count * capacity, xp.int64)
    least = np.int32(plain.LEAST_PIXELS)
    launch("box_keys", nodes_grid, THREADS, looks, ends, nodes, keys, np.int32(capacity), least)
    return _best(xp.sort(keys), level_db, xp, launch)


def _best(keys: Any, level_db: Any, xp: Any, launch: Launch) -> Any:
    """The regions of sorted keys of boxes."""
    sums = xp.zeros((IMAGE_SIZE + 1, IMAGE_SIZE + 1), xp.int32)
    tenths = (level_db * 10).astype(xp.int32)
    sums[1:, 1:] = xp.cumsum(xp.cumsum(tenths, axis=1, dtype=xp.int32), axis=0, dtype=xp.int32)
    rank = xp.empty(len(keys), xp.float64)
    ring = (np.int32(plain.RING_PX), np.int32(plain.RING_SHARE), np.int32(plain.LARGE_PX))
    launch("standing_out", (-(-len(keys) // THREADS), 1), THREADS, keys, sums, rank, np.int32(len(keys)), *ring)
    order = xp.argsort(rank, kind="stable")[: plain.MOST_CANDIDATES]
    best = xp.where(rank[order] <= 0, keys[order], xp.int64(np.iinfo(np.int64).max))
    bits = xp.empty((len(best), WORDS), xp.uint32)
    most = np.float64(plain.SAME_IOU)
    launch("alike", (1, len(best)), THREADS, best, bits, np.int32(len(best)), np.int32(WORDS), most)
    boxes = xp.zeros((PROPOSALS, 4), xp.float32)
    launch("keep", (1, 1), THREADS, best, bits, boxes, np.int32(len(best)), np.int32(WORDS), np.int32(PROPOSALS))
    return boxes


def _levels(picture: Any, above: Any, xp: Any) -> Any:
    """float32[levels]: what pixels are held against, the last few above the deeper floor."""
    floors = plain.floors(picture, xp)
    deep = len(plain.DEEP_LEVELS_DB)
    base = xp.concatenate([xp.broadcast_to(floors[0], (len(above) - deep,)), xp.broadcast_to(floors[1], (deep,))])
    return (base + above).astype(xp.float32)
