"""Matching of predictions to ground truth by IoU, one signal at a time: true and false positives, average precision.

Each truth is matched at most once, best score first, at IoU 0.5. Precision, recall and F1 count predictions of score
0.5 and more; average precision uses all of them and is computed by faster-coco-eval, by the rules of COCO.

An unmatched prediction of which half or more lies in an ignored box is neither a true nor a false positive
(a crowd region in COCO).
"""

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np

from engine.boxes import match
from engine.errors import UnavailableError

from .report import Scores

MIN_IOU: Final = 0.5
MIN_SCORE: Final = 0.5  # for precision, recall and F1; average precision sees all scores
GRID: Final = 1024  # rows and columns of the plane, for the false positive area
NO_BOXES: Final = np.zeros((0, 4))


class ImageResult(NamedTuple):
    """Truths and predictions of one signal in one image (or recording): corner boxes in any one unit, and scores."""

    truth: np.ndarray  # float[T, 4]
    predictions: np.ndarray  # float[P, 4]
    scores: np.ndarray  # float[P]
    ignored: np.ndarray = NO_BOXES  # float[I, 4]: predictions there count as neither


class AveragePrecision(NamedTuple):
    """NaN where there is no truth."""

    ap50: float  # at IoU 0.5
    ap: float  # mean over IoU 0.50, 0.55 ... 0.95


def score(images: Iterable[ImageResult]) -> Scores:
    """Counts over all images at the operating point: score >= 0.5, IoU >= 0.5."""
    return Scores(*np.array([count(image) for image in images], np.int64).reshape(-1, 3).sum(axis=0).tolist())


def average_precision(images: Iterable[ImageResult]) -> AveragePrecision:
    """COCO's average precision over 101 points of recall. Raises UnavailableError without faster-coco-eval."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise UnavailableError(
            f"average precision needs faster-coco-eval ({error}): pip install 'hydra-rf[train]'"
        ) from error
    truths: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    images = list(images)
    for number, image in enumerate(images, start=1):
        truths += [_annotation(box, number) for box in image.truth]
        truths += [_annotation(box, number, iscrowd=1) for box in image.ignored]
        predictions += [
            _annotation(box, number, score=float(s)) for box, s in zip(image.predictions, image.scores, strict=True)
        ]
    if all(truth["iscrowd"] for truth in truths):
        return AveragePrecision(math.nan, math.nan)
    if not predictions:
        return AveragePrecision(0.0, 0.0)
    annotations = [{**truth, "id": number} for number, truth in enumerate(truths, start=1)]
    pictures = [{"id": number} for number in range(1, len(images) + 1)]
    coco = COCO({"images": pictures, "categories": [{"id": 1}], "annotations": annotations})
    judge = COCOeval_faster(coco, coco.loadRes(predictions), "bbox")
    judge.params.maxDets = [max(len(image.predictions) for image in images)]
    judge.params.areaRng, judge.params.areaRngLbl = [[0.0, math.inf]], ["all"]
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"]  # float64[IoU, recall, 1, 1, 1]
    return AveragePrecision(float(precision[0].mean()), float(precision.mean()))


def _confident(image: ImageResult) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Boxes float[K, 4] at the operating point, and matched pairs of truth and box."""
    confident = image.scores >= MIN_SCORE
    boxes = image.predictions[confident]
    return boxes, match(image.truth, boxes, image.scores[confident], MIN_IOU)


def count(image: ImageResult, asked: np.ndarray | None = None) -> tuple[int, int, int]:
    """Numbers of truths, predictions and true positives at the operating point.

    `asked` (bool[T], None: all) selects the truths to count; predictions on the others are ignored.
    """
    asked = np.ones(len(image.truth), bool) if asked is None else asked
    boxes, pairs = _confident(image)
    counts = _share_inside(boxes, image.ignored) < MIN_IOU
    for truth, box in pairs:
        counts[box] = asked[truth]
    return int(asked.sum()), int(counts.sum()), sum(bool(asked[truth]) for truth, _ in pairs)


def true_positives(image: ImageResult) -> np.ndarray:
    """bool[T]: truths detected at the operating point."""
    hit = np.zeros(len(image.truth), bool)
    hit[[index for index, _ in _confident(image)[1]]] = True
    return hit


def _share_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """float64[N]: largest share of each box's area inside any one region."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2).max(axis=1, initial=0.0)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    share: np.ndarray = np.divide(shared, area, out=np.zeros(len(boxes)), where=area > 0)
    return share


def false_positive_area(image: ImageResult) -> float:
    """Share of the plane under confident predictions and outside every truth and ignored region."""
    boxes = image.predictions[image.scores >= MIN_SCORE]
    if not len(boxes):
        return 0.0
    lit = np.zeros((GRID, GRID), bool)
    for right, group in ((True, boxes), (False, image.truth), (False, image.ignored)):
        for left, bottom, end, top in np.clip(np.rint(group), 0, GRID).astype(int):
            lit[bottom:top, left:end] = right
    return float(lit.mean())


def _annotation(box: np.ndarray, image: int, iscrowd: int = 0, **more: float) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = map(float, box)
    width, height = x_max - x_min, y_max - y_min
    place = {"bbox": [x_min, y_min, width, height], "area": width * height, "iscrowd": iscrowd}
    return {"image_id": image, "category_id": 1, **place, **more}
