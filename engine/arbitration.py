"""Arbitration between heads: of detections of different signals on one burst, only the best is kept.

Heads are trained one at a time and do not know of each other, so that two may claim one burst. Duplicates of
one head are left to its own non-maximum suppression.
"""

from collections.abc import Iterable

import numpy as np

from .boxes import corners, iou, physical
from .detection import Detection
from .errors import InputError

MIN_IOU = 0.5  # overlap from which two detections are of one burst
MIN_SHARE = 0.8  # of the smaller one inside the other, likewise: a piece of a burst, or a union of several


def arbitrate(detections: Iterable[Detection], min_iou: float = MIN_IOU) -> list[Detection]:
    """`detections`, in their order, less those that overlap a better one of another signal with IoU >= `min_iou`, or
    that are a part of a better one, or hold it as a part: see `_is_part`.

    Best score first; equal scores by name, place and version, so that the order given decides nothing. A
    detection that was dropped drops no other. Raises InputError on a `min_iou` outside 0 < min_iou <= 1.
    """
    if not 0 < min_iou <= 1:
        raise InputError(f"min_iou is {min_iou}; an overlap is above 0 and at most 1")
    found = list(detections)
    boxes = corners(physical(found))
    signals = np.array([d.signal for d in found])
    rivals = (iou(boxes, boxes) >= min_iou) | _is_part(boxes)  # bool[N, N]
    rivals &= signals[:, None] != signals
    kept = np.zeros(len(found), bool)
    for index in sorted(range(len(found)), key=lambda i: _rank(found[i])):
        kept[index] = not (rivals[index] & kept).any()
    return [detection for detection, stays in zip(found, kept, strict=True) if stays]


def _is_part(boxes: np.ndarray) -> np.ndarray:
    """bool[N, N]: pairs of corner boxes float64[N, 4] of which the smaller lies inside the other by MIN_SHARE and has
    much the same duration or band. A short narrow burst within a long wide one is a signal of its own."""
    low, high = boxes[:, :2], boxes[:, 2:]
    both = (np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])).clip(0)  # float64[N, N, 2]
    either = np.maximum(high[:, None], high[None]) - np.minimum(low[:, None], low[None])
    area = np.prod(high - low, axis=1)
    inside = np.prod(both, axis=2) >= MIN_SHARE * np.minimum(area[:, None], area[None])
    return np.asarray(inside & (both >= MIN_IOU * either).any(axis=2) & (both > 0).all(axis=2))


def _place(detection: Detection) -> tuple[float, float, float, float]:
    return detection.start_s, detection.stop_s, detection.low_hz, detection.high_hz


def _rank(detection: Detection) -> tuple[float | str, ...]:
    return -detection.score, detection.signal, *_place(detection), detection.version
