"""Boxes: pixels to seconds and hertz and back, and overlap.

Pixel boxes are float[N, 4] = x_min, y_min, x_max, y_max on the 1024 x 1024 image, edges not centres:
pixel j covers j..j+1. Physical boxes are float[N, 4] = start_s, stop_s, low_hz, high_hz, seconds from the
capture's first sample and hertz from its centre frequency.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from .contract import Contract


class Extent(Protocol):
    """Anything with edges in seconds and hertz: a Detection, an Annotation, a generated signal."""

    @property
    def start_s(self) -> float: ...

    @property
    def stop_s(self) -> float: ...

    @property
    def low_hz(self) -> float: ...

    @property
    def high_hz(self) -> float: ...


def physical(things: Iterable[Extent]) -> np.ndarray:
    """Physical boxes float64[n, 4] = start_s, stop_s, low_hz, high_hz of detections or annotations; a new array."""
    return np.array([(t.start_s, t.stop_s, t.low_hz, t.high_hz) for t in things], np.float64).reshape(-1, 4)


def to_physical(pixels: np.ndarray, contract: Contract) -> np.ndarray:
    """float[N, 4] pixel boxes to float64[N, 4] seconds and hertz."""
    x_min, y_min, x_max, y_max = np.asarray(pixels, dtype=np.float64).reshape(-1, 4).T
    return np.stack(
        [_time_s(x_min, contract), _time_s(x_max, contract), _freq_hz(y_max, contract), _freq_hz(y_min, contract)],
        axis=1,
    )


def to_pixels(physical: np.ndarray, contract: Contract) -> np.ndarray:
    """float[N, 4] seconds and hertz to float64[N, 4] pixel boxes, not clipped."""
    start_s, stop_s, low_hz, high_hz = np.asarray(physical, dtype=np.float64).reshape(-1, 4).T
    return np.stack(
        [_column(start_s, contract), _row(high_hz, contract), _column(stop_s, contract), _row(low_hz, contract)],
        axis=1,
    )


def _time_s(x: np.ndarray, contract: Contract) -> np.ndarray:
    # frame k spans samples k*hop .. k*hop + n_fft: its middle stands for the pixel's middle
    frame = x * (contract.frames / contract.image_size)
    return (frame * contract.hop + (contract.n_fft - contract.hop) / 2) / contract.sample_rate_hz


def _column(time_s: np.ndarray, contract: Contract) -> np.ndarray:
    frame = (time_s * contract.sample_rate_hz - (contract.n_fft - contract.hop) / 2) / contract.hop
    return np.asarray(frame * (contract.image_size / contract.frames))


def _freq_hz(y: np.ndarray, contract: Contract) -> np.ndarray:
    # bin b of the shifted STFT is centred on (b - n_fft/2) bins from DC; row 0 is the highest
    edge = contract.n_fft * (1 - y / contract.image_size) - 0.5 - contract.n_fft / 2
    return edge * (contract.sample_rate_hz / contract.n_fft)


def _row(freq_hz: np.ndarray, contract: Contract) -> np.ndarray:
    edge = freq_hz * (contract.n_fft / contract.sample_rate_hz)
    return (1 - (edge + 0.5 + contract.n_fft / 2) / contract.n_fft) * contract.image_size


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of corner boxes: float[N, 4] and float[M, 4] to float64[N, M]."""
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    overlap = sides[..., 0] * sides[..., 1]
    union = _area(a) + _area(b) - overlap
    share: np.ndarray = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return share


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = np.clip(boxes[..., 2] - boxes[..., 0], 0, None) * np.clip(boxes[..., 3] - boxes[..., 1], 0, None)
    return area


def corners(physical: np.ndarray) -> np.ndarray:
    """start, stop, low, high to the corner order that `iou` takes."""
    return np.asarray(physical, dtype=np.float64).reshape(-1, 4)[:, [0, 2, 1, 3]]


def match(truth: np.ndarray, found: np.ndarray, scores: np.ndarray, min_iou: float = 0.5) -> list[tuple[int, int]]:
    """Greedy matching, best score first, each truth once: pairs (truth index, found index).

    truth: corner boxes float[T, 4]; found: float[F, 4]; scores: float[F].
    """
    overlap = iou(truth, found)
    pairs: list[tuple[int, int]] = []
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        if len(truth) == 0:
            break
        best = int(np.argmax(overlap[:, index]))
        if overlap[best, index] >= min_iou:
            pairs.append((best, int(index)))
            overlap[best] = -1
    return pairs


def nms(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> np.ndarray:
    """Greedy non-maximum suppression, as in R-CNN (Girshick et al. 2014): int64[K] indices kept, best score first.

    boxes: corner boxes float[N, 4]; scores: float[N]. No two boxes kept overlap by more than `max_iou`.
    """
    overlap = iou(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        if not kept or overlap[index, kept].max() <= max_iou:
            kept.append(int(index))
    return np.array(kept, dtype=np.int64)
