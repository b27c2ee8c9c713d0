"""Measures count as they say: by hand, the library against a formula of our own, and what must always hold."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.boxes import match
from engine.errors import UnavailableError
from training.evaluation.matching import ImageResult, average_precision, score

# the mean of a falling curve at 101 points and the area under it are at most a step apart
INTERPOLATION = 1 / 100

seeds = st.integers(0, 2**32 - 1)


def box(x: float) -> list[float]:
    return [x, 0.0, x + 10.0, 10.0]


def image_result(truth: list[list[float]], found: list[list[float]], scores: list[float], ignored=()) -> ImageResult:
    return ImageResult(*(np.array(boxes, float).reshape(-1, 4) for boxes in (truth, found)), np.array(scores),
                  np.array(ignored, float).reshape(-1, 4))  # fmt: skip


def random_results(seed: int, images: int = 3) -> list[ImageResult]:
    """Boxes near truths and boxes anywhere, scores without a tie, now and then a region without a verdict."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(images):
        low = rng.uniform(0, 80, (int(rng.integers(0, 6)), 2))
        truth = np.concatenate([low, low + rng.uniform(5, 20, low.shape)], axis=1)
        near = np.repeat(truth, 2, axis=0)
        near[:, :2] += rng.uniform(-4, 4, (len(near), 2))
        far = rng.uniform(0, 80, (int(rng.integers(0, 5)), 2))
        found = np.concatenate([near, np.concatenate([far, far + 8], axis=1)])
        where = rng.uniform(0, 60, (int(rng.integers(0, 2)), 2))
        made.append(ImageResult(truth, found, rng.permutation(len(found)) / max(1, len(found)),
                           np.concatenate([where, where + 40], axis=1)))  # fmt: skip
    return made


# the operating point


def test_each_truth_counts_once() -> None:
    result = score([image_result([box(0), box(50)], [box(0), box(1), box(100)], [0.9, 0.8, 0.7])])
    assert (result.truths, result.predictions, result.true_positives) == (2, 3, 1)
    assert result.precision == pytest.approx(1 / 3) and result.recall == 0.5
    assert result.f1 == pytest.approx(2 / 5)


def test_a_score_of_one_half_counts_and_less_does_not() -> None:
    result = score([image_result([box(0), box(50)], [box(0), box(50)], [0.5, 0.49])])
    assert (result.predictions, result.true_positives) == (1, 1)


def test_an_overlap_of_one_half_is_a_hit_and_less_is_not() -> None:
    half, less = [0.0, 0.0, 10.0, 5.0], [50.0, 0.0, 60.0, 4.9]
    result = score([image_result([box(0), box(50)], [half, less], [0.9, 0.9])])
    assert (result.predictions, result.true_positives) == (2, 1)


def test_nothing_to_find_has_no_recall() -> None:
    result = score([image_result([], [], [])])
    assert math.isnan(result.recall) and math.isnan(result.precision) and math.isnan(result.f1)
    assert score([]) == result


def test_a_detection_on_a_foreign_signal_is_neither_right_nor_wrong() -> None:
    inside, aside = [2.0, 0.0, 12.0, 10.0], [6.0, 0.0, 16.0, 10.0]  # 8 and 4 tenths of each in the region
    result = score([image_result([], [inside, aside], [0.9, 0.9], [box(0)])])
    assert (result.predictions, result.true_positives) == (1, 0)


def test_a_hit_counts_also_where_a_foreign_signal_lies_over_it() -> None:
    result = score([image_result([box(0)], [box(0)], [0.9], [[0.0, 0.0, 100.0, 10.0]])])
    assert (result.predictions, result.true_positives) == (1, 1)


# average precision


def test_average_precision_is_the_share_found_where_nothing_is_wrong() -> None:
    found = average_precision([image_result([box(0), box(50)], [box(0)], [0.3])])  # low scores count here
    assert found.ap50 == found.ap == pytest.approx(51 / 101)


def test_average_precision_falls_with_the_overlap_asked_for() -> None:
    found = average_precision([image_result([box(0)], [[0.0, 0.0, 10.0, 7.2]], [0.9])])  # right at 0.50 ... 0.70
    assert found == pytest.approx((1.0, 0.5))


def test_average_precision_of_none_is_none_and_of_nothing_found_is_0() -> None:
    assert all(math.isnan(value) for value in average_precision([image_result([], [box(0)], [0.9], [box(0)])]))
    assert average_precision([image_result([box(0)], [], [])]) == (0.0, 0.0)


def test_more_than_a_hundred_detections_all_count() -> None:
    wrong = [box(100.0 + 20 * n) for n in range(150)]
    found = average_precision([image_result([box(0)], [*wrong, box(0)], [0.9] * 150 + [0.1])])
    assert found.ap50 == pytest.approx(1 / 151)


@given(seeds)
def test_the_library_s_ap50_is_the_area_under_our_own_precision_and_recall(seed: int) -> None:
    images = [image._replace(ignored=np.zeros((0, 4))) for image in random_results(seed)]
    scores = np.concatenate([image.scores for image in images])
    right = np.concatenate([_right(image) for image in images])[np.argsort(-scores, kind="stable")]
    truths = sum(len(image.truth) for image in images)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    area = float((best_after * right).sum() / truths) if truths else math.nan
    assert average_precision(images).ap50 == pytest.approx(area, abs=INTERPOLATION, nan_ok=True)


@given(seeds)
def test_regions_without_a_verdict_take_the_same_detections_from_the_library_and_from_us(seed: int) -> None:
    images = random_results(seed)
    without = [_take_out(image) for image in images]
    assert score(images) == score(without)
    assert average_precision(images).ap50 == pytest.approx(average_precision(without).ap50, nan_ok=True)


def _right(image: ImageResult) -> np.ndarray:
    right = np.zeros(len(image.predictions), bool)
    right[[index for _, index in match(image.truth, image.predictions, image.scores)]] = True
    return right


def _take_out(image: ImageResult) -> ImageResult:
    """The image without its regions and without the detections of which half lies in one, true positives apart."""
    stays = _right(image)
    for index, (x_min, y_min, x_max, y_max) in enumerate(image.predictions):
        inside = [
            max(0.0, min(x_max, right) - max(x_min, left)) * max(0.0, min(y_max, top) - max(y_min, bottom))
            for left, bottom, right, top in image.ignored
        ]
        stays[index] |= max(inside, default=0.0) < 0.5 * (x_max - x_min) * (y_max - y_min)
    return ImageResult(image.truth, image.predictions[stays], image.scores[stays])


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UnavailableError, match=r"needs faster-coco-eval.*pip install 'hydra-rf\[train\]'"):
        average_precision([])


@given(seeds)
def test_one_more_false_alarm_never_raises_precision_or_average_precision(seed: int) -> None:
    images = random_results(seed)
    far = np.array([[500.0, 500.0, 510.0, 510.0]])
    worse = [images[0]._replace(predictions=np.concatenate([images[0].predictions, far]),
                                scores=np.append(images[0].scores, 0.99)), *images[1:]]  # fmt: skip
    before, after = score(images), score(worse)
    assert (after.truths, after.predictions, after.true_positives) == (
        before.truths,
        before.predictions + 1,
        before.true_positives,
    )
    if before.truths:
        assert average_precision(worse).ap50 <= average_precision(images).ap50
