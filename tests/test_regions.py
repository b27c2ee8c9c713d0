"""Regions: what stands out in an image is boxed, whatever it is, and nothing crashes on what is not there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.boxes import iou
from engine.contract import RANGE_DB
from engine.heads import PROPOSALS
from engine.regions import SAME_IOU, regions

FLOOR = 0.3  # of the image's range


def noisy(seed: int = 0) -> np.ndarray:
    """float32[1024, 1024]: the spectrogram of noise, 5.6 dB of deviation."""
    noise = np.random.default_rng(seed).exponential(size=(1024, 1024))
    return (FLOOR + 10 * np.log10(noise + 1e-3) / RANGE_DB).clip(0, 1).astype(np.float32)


def with_boxes(boxes: list[tuple[int, int, int, int]], above_db: float = 20.0) -> np.ndarray:
    image = noisy()
    for x_min, y_min, x_max, y_max in boxes:
        image[y_min:y_max, x_min:x_max] += above_db / RANGE_DB
    return image.clip(0, 1)


def best_overlap(image: np.ndarray, box: tuple[int, int, int, int]) -> float:
    found = regions(image)
    return float(iou(np.array([box]), found[found[:, 2] > 0]).max())


@pytest.mark.parametrize("above_db", [10.0, 20.0, 40.0])
@pytest.mark.parametrize(
    "box",
    [(300, 100, 302, 900), (100, 500, 900, 503), (400, 400, 460, 470), (20, 40, 1000, 980), (700, 50, 710, 62)],
    ids=["short and wide", "long and narrow", "square", "most of the image", "small"],
)
def test_a_patch_of_any_shape_is_boxed(box: tuple[int, int, int, int], above_db: float) -> None:
    assert best_overlap(with_boxes([box], above_db), box) > 0.6


def test_patches_apart_are_boxed_apart_and_a_keyed_one_as_a_whole() -> None:
    keyed = [(100 + 20 * k, 300, 108 + 20 * k, 310) for k in range(20)]
    image = with_boxes([*keyed, (600, 600, 640, 700)])
    assert best_overlap(image, (100, 300, 488, 310)) > 0.8
    assert best_overlap(image, keyed[7]) > 0.4
    assert best_overlap(image, (600, 600, 640, 700)) > 0.8


def test_a_strong_one_beside_a_faint_one_hides_it_not() -> None:
    image = with_boxes([(100, 100, 110, 800)], 50.0)
    image[100:800, 114:124] += 12 / RANGE_DB
    assert best_overlap(image.clip(0, 1), (100, 100, 110, 800)) > 0.6
    assert best_overlap(image.clip(0, 1), (114, 100, 124, 800)) > 0.4


@pytest.mark.parametrize("image", [np.zeros((1024, 1024)), np.ones((1024, 1024))], ids=["black", "white"])
def test_an_image_without_anything_gives_no_more_than_itself(image: np.ndarray) -> None:
    found = regions(image.astype(np.float32))
    assert found.shape == (PROPOSALS, 4)
    assert ((found[:, 2] > 0).sum()) <= 1


def test_one_row_at_the_end_of_the_band_is_not_boxed_and_two_are() -> None:
    image = with_boxes([(200, 0, 600, 1), (100, 1022, 900, 1024), (300, 400, 700, 401)], 30.0)
    assert best_overlap(image, (200, 0, 600, 1)) < 0.6
    assert best_overlap(image, (100, 1022, 900, 1024)) > 0.9
    assert best_overlap(image, (300, 400, 700, 401)) > 0.9


def test_no_two_regions_are_much_alike() -> None:
    found = regions(with_boxes([(300, 100, 340, 900), (100, 500, 900, 520)]))
    real = found[found[:, 2] > 0]
    overlap = iou(real, real) - np.eye(len(real))
    assert overlap.max() <= SAME_IOU + 1e-6


def test_the_same_image_gives_the_same_regions() -> None:
    assert np.array_equal(regions(noisy(3)), regions(noisy(3)))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_regions_lie_in_the_image_and_have_an_area(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    image = noisy(seed) * np.float32(rng.uniform(0, 1.2))
    for _ in range(count):
        x, y = rng.integers(0, 1024, 2)
        w, h = np.exp(rng.uniform(0, 6, 2)).astype(int)
        image[y : y + h, x : x + w] += np.float32(rng.uniform(0, 1))
    found = regions(image.clip(0, 1).astype(np.float32))
    real = found[:, 2] > 0
    assert not found[~real].any()
    assert (found[real, :2] >= 0).all() and (found[real, 2:] <= 1024).all()
    assert (found[real, 2:] > found[real, :2]).all()
    assert np.array_equal(real, np.sort(real)[::-1])  # padding comes last
