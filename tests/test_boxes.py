"""Boxes: pixels and seconds and hertz are the same boxes; overlap as torchvision has it; each truth matched once."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from engine.boxes import corners, iou, match, nms, to_physical, to_pixels
from engine.contract import ISM, WIDEBAND, Contract

from .scripted import SHORT

# double precision on numbers up to 1024 there and back, and up to 1e7 Hz: a thousand roundings of 2e-16
SAME = 1e-9
# torchvision computes in float32
FLOAT32 = 1e-5

contracts = st.sampled_from([WIDEBAND, ISM, SHORT, Contract(sample_rate_hz=250e3, capture_s=1.5, image_size=512)])
edge = st.floats(0, 1024)
pixel_boxes = st.lists(st.tuples(edge, edge, edge, edge), max_size=5)


def random_boxes(n: int, seed: int) -> np.ndarray:
    """float32[n, 4] corner boxes, many of which overlap."""
    rng = np.random.default_rng(seed)
    low, side = rng.uniform(0, 900, (n, 2)), rng.uniform(1, 400, (n, 2))
    return np.concatenate([low, low + side], axis=1).astype(np.float32)


# pixels and units


@given(contracts, pixel_boxes)
def test_pixels_come_back_from_seconds_and_hertz(contract: Contract, boxes: list[tuple[float, ...]]) -> None:
    pixels = np.array(boxes).reshape(-1, 4)
    again = to_pixels(to_physical(pixels, contract), contract)
    assert again == pytest.approx(pixels, abs=SAME * contract.image_size)


@given(contracts, st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)))
def test_seconds_and_hertz_come_back_from_pixels(contract: Contract, shares: tuple[float, ...]) -> None:
    scale = np.array([contract.capture_s, contract.capture_s, contract.sample_rate_hz, contract.sample_rate_hz])
    box = np.array([shares]) * scale
    again = to_physical(to_pixels(box, contract), contract)
    assert again / scale == pytest.approx(box / scale, abs=SAME)


@pytest.mark.parametrize("contract", [WIDEBAND, ISM, SHORT])
def test_the_whole_image_is_all_frames_and_all_bins(contract: Contract) -> None:
    start_s, stop_s, low_hz, high_hz = to_physical(np.array([[0, 0, 1024, 1024]]), contract)[0]
    hop_s, bin_hz = contract.hop / contract.sample_rate_hz, contract.sample_rate_hz / contract.n_fft
    assert start_s == pytest.approx(hop_s / 2)  # frame 0's middle is a hop from the start, its pixel half a hop wide
    assert stop_s == pytest.approx(hop_s / 2 + contract.frames * hop_s)
    assert stop_s <= contract.capture_s
    # bins are centred on -rate/2 .. rate/2 - one bin, and half a bin wide to both sides
    assert (low_hz, high_hz) == pytest.approx((-2048.5 * bin_hz, 2047.5 * bin_hz))


def test_right_is_later_and_up_is_higher() -> None:
    left, right = to_physical(np.array([[0, 100, 10, 200], [10, 100, 20, 200]]), WIDEBAND)
    assert left[1] == right[0]
    upper, lower = to_physical(np.array([[0, 0, 9, 512], [0, 512, 9, 1024]]), WIDEBAND)
    assert upper[2] == lower[3]
    assert abs(lower[3]) < WIDEBAND.sample_rate_hz / WIDEBAND.n_fft


def test_no_boxes_are_no_boxes() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert to_physical(empty, WIDEBAND).shape == to_pixels(empty, WIDEBAND).shape == corners(empty).shape == (0, 4)
    assert iou(empty, random_boxes(3, 1)).shape == (0, 3)
    assert iou(random_boxes(3, 1), empty).shape == (3, 0)


# overlap


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_torchvision_s(seed: int) -> None:
    first, second = random_boxes(40, seed), random_boxes(30, seed + 100)
    theirs = torchvision.ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    assert abs(iou(first, second) - theirs).max() < FLOAT32
    assert (theirs > 0.3).any() and (theirs == 0).any()


def test_overlap_of_known_boxes() -> None:
    unit = [0, 0, 1, 1]
    others = [unit, [0, 0, 1, 2], [1, 0, 2, 1], [0.5, 0.5, 1.5, 1.5], [0, 0, 0, 1], [1, 1, 0, 0]]
    assert iou(np.array([unit]), np.array(others))[0] == pytest.approx([1, 1 / 2, 0, 1 / 7, 0, 0])
    nothing = np.zeros((1, 4))
    assert iou(nothing, nothing) == 0  # two boxes without area share nothing


def test_overlap_in_hertz_does_not_depend_on_units() -> None:
    pixels = random_boxes(20, 3)
    physical = corners(to_physical(pixels, WIDEBAND))
    assert iou(physical, physical) == pytest.approx(iou(pixels, pixels), abs=1e-6)


def test_overlap_with_what_is_not_a_number_is_none() -> None:
    good = np.array([[0, 0, 1, 1]])
    for index in range(4):
        bad = good.astype(float)
        bad[0, index] = np.nan
        assert iou(good, bad) == iou(bad, good) == iou(bad, bad) == 0
    assert iou(good, np.array([[0, 0, np.inf, np.inf]])) == 0


# matching


scored_boxes = st.integers(0, 2**31).flatmap(
    lambda seed: st.tuples(st.just(seed), st.integers(0, 12), st.integers(0, 12), st.floats(0.05, 0.95))
)


@given(scored_boxes)
def test_no_truth_and_no_find_is_matched_twice_and_best_goes_first(case: tuple[int, int, int, float]) -> None:
    seed, n_truth, n_found, min_iou = case
    truth, found = random_boxes(n_truth, seed), random_boxes(n_found, seed + 1)
    scores = np.random.default_rng(seed).choice([0.5, 0.7, 0.9], n_found)
    pairs = match(truth, found, scores, min_iou)
    overlap = iou(truth, found)
    assert len({t for t, _ in pairs}) == len({f for _, f in pairs}) == len(pairs)
    assert all(overlap[t, f] >= min_iou for t, f in pairs)
    order = [(-scores[f], f) for _, f in pairs]
    assert order == sorted(order)
    for t, f in pairs:  # nobody was denied a truth by someone less sure
        taken = {other for other, by in pairs if (-scores[by], by) < (-scores[f], f)}
        assert overlap[t, f] == max(overlap[free, f] for free in range(n_truth) if free not in taken)
    left_over = set(range(n_found)) - {f for _, f in pairs}
    free = set(range(n_truth)) - {t for t, _ in pairs}
    assert not any(overlap[t, f] >= min_iou for t in free for f in left_over)


def test_the_better_score_takes_the_truth_even_where_it_overlaps_less() -> None:
    truth = np.array([[0, 0, 10, 10]])
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 8]])
    assert match(truth, found, np.array([0.6, 0.9])) == [(0, 1)]
    assert match(truth, found, np.array([0.9, 0.9])) == [(0, 0)]  # equal scores: the first


def test_a_find_whose_best_truth_is_taken_gets_the_next_best() -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 7]])
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 9]])
    assert match(truth, found, np.array([0.9, 0.8])) == [(0, 0), (1, 1)]


def test_overlap_of_exactly_the_minimum_counts() -> None:
    assert match(np.array([[0, 0, 1, 2]]), np.array([[0, 0, 1, 1]]), np.array([1.0]), 0.5) == [(0, 0)]


def test_empty_sides_match_nothing() -> None:
    empty, boxes = np.zeros((0, 4)), random_boxes(3, 1)
    assert match(empty, empty, np.zeros(0)) == []
    assert match(boxes, empty, np.zeros(0)) == []
    assert match(empty, boxes, np.ones(3)) == []


def test_what_is_not_a_number_matches_nothing_and_harms_nothing() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    broken = np.vstack([np.full((1, 4), np.nan), boxes])
    assert match(boxes, broken, np.array([0.99, 0.8, 0.9])) == [(1, 2), (0, 1)]
    assert match(broken, boxes, np.array([0.8, 0.9])) == [(2, 1), (1, 0)]
    assert match(boxes, boxes, np.array([np.nan, 0.9])) == [(1, 1), (0, 0)]  # an unknown score comes last


@pytest.mark.parametrize("max_iou", [0.1, 0.3, 0.5])
def test_nms_keeps_what_torchvision_keeps(max_iou: float) -> None:
    rng = np.random.default_rng(8)
    corner = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 40, (80, 2))], axis=1)
    scores = rng.permutation(80) / 80
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), max_iou)
    assert nms(boxes, scores, max_iou).tolist() == expected.tolist()


def test_nms_of_nothing_is_nothing() -> None:
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []
