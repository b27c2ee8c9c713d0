"""How good detections are: precision, recall, F1 and AP at IoU 0.5, each truth matched once, best score first."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.boxes import match

MIN_IOU = 0.5
MIN_SCORE = 0.5  # for precision, recall and F1; AP sees all scores


class Judged(NamedTuple):
    """One image (or recording) of one signal: corner boxes in any one unit, and scores."""

    truth: np.ndarray  # float[T, 4]
    found: np.ndarray  # float[F, 4]
    scores: np.ndarray  # float[F]


@dataclass(frozen=True)
class Scores:
    """Counts and shares over many images. Shares of nothing are NaN: no truth, no recall."""

    truths: int
    found: int
    hits: int
    average_precision: float

    @property
    def precision(self) -> float:
        return self.hits / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        return self.hits / self.truths if self.truths else float("nan")

    @property
    def f1(self) -> float:
        total = self.truths + self.found
        return 2 * self.hits / total if total else float("nan")


def score(images: Iterable[Judged]) -> Scores:
    truths = found = hits = 0
    all_scores: list[float] = []
    all_hits: list[bool] = []
    for truth, boxes, scores in images:
        truths += len(truth)
        confident = scores >= MIN_SCORE
        found += int(confident.sum())
        hits += len(match(truth, boxes[confident], scores[confident], MIN_IOU))
        matched = {index for _, index in match(truth, boxes, scores, MIN_IOU)}
        all_scores += scores.tolist()
        all_hits += [index in matched for index in range(len(scores))]
    return Scores(truths, found, hits, _average_precision(np.array(all_scores), np.array(all_hits, bool), truths))


def _average_precision(scores: np.ndarray, hits: np.ndarray, truths: int) -> float:
    """Area under precision over recall, precision made monotonic as in PASCAL VOC 2010 and COCO."""
    if not truths:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    precision = right / np.arange(1, len(order) + 1)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_after * hits[order]).sum() / truths)
