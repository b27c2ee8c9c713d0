"""Thinning: of boxes in order of merit those that say something new."""

from typing import Final

import numpy as np

BLOCK: Final = 128  # boxes compared at once


def thinned(boxes: np.ndarray, most: int, same: float, span: float = 1.0, family: int = 0) -> np.ndarray:
    """int64[K <= most]: places of boxes float64[N, 4] = start, stop, low, high, best first, that are kept.

    No two kept overlap by more than an IoU of `same`. Of those that overlap in frequency and by `span` in time (IoU),
    the first `family` come before all others; 0 is no limit.
    """
    boxes = boxes.astype(np.float32)
    kept, later = _pass(boxes, np.arange(len(boxes)), np.zeros(0, np.int64), most, same, span, family)
    if len(kept) < most and len(later):
        kept, _ = _pass(boxes, later, kept, most, same, span, 0)
    return kept


def _pass(
    boxes: np.ndarray, order: np.ndarray, kept: np.ndarray, most: int, same: float, span: float, family: int
) -> tuple[np.ndarray, np.ndarray]:
    later = [np.zeros(0, np.int64)]
    for begin in range(0, len(order), BLOCK):
        block = order[begin : begin + BLOCK]
        alike, siblings = _relations(boxes[block], boxes[kept], same, span)
        free = ~alike.any(axis=1)
        block, count = block[free], siblings[free].sum(axis=1)
        alike, siblings = _relations(boxes[block], boxes[block], same, span)
        chosen, waiting = _greedy(alike, siblings, count, family)
        kept = np.concatenate([kept, block[chosen]])
        later.append(block[waiting])
        if len(kept) >= most:
            break
    return kept[:most], np.concatenate(later)


def _greedy(alike: np.ndarray, siblings: np.ndarray, count: np.ndarray, family: int) -> tuple[list[int], list[int]]:
    """Places chosen one after another, and those that wait because their family is full."""
    chosen, waiting = [], []
    free = np.ones(len(alike), bool)
    for place in range(len(alike)):
        if not free[place]:
            continue
        if family and count[place] >= family:
            waiting.append(place)
            continue
        chosen.append(place)
        free &= ~alike[place]
        count = count + siblings[place]
    return chosen, waiting


def _relations(some: np.ndarray, others: np.ndarray, same: float, span: float) -> tuple[np.ndarray, np.ndarray]:
    """bool[N, M] twice: pairs that overlap by more than `same`, and that overlap in frequency and by `span` in time."""
    shared_s, shared_hz = (
        np.minimum(some[:, None, k + 1], others[None, :, k + 1]) - np.maximum(some[:, None, k], others[None, :, k])
        for k in (0, 2)
    )
    length, other = some[:, 1] - some[:, 0], others[:, 1] - others[:, 0]
    area, other_area = length * (some[:, 3] - some[:, 2]), other * (others[:, 3] - others[:, 2])
    both = shared_s.clip(0) * shared_hz.clip(0)
    alike = both * (1 + same) > same * (area[:, None] + other_area)
    siblings = (shared_hz > 0) & (shared_s * (1 + span) > span * (length[:, None] + other))
    return alike, siblings
