"""Arbitration: of two heads on one burst the better one stays; a head's own detections are its own affair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arbitration import arbitrate
from engine.boxes import corners, iou, physical
from engine.detection import Detection
from engine.errors import InputError


def seen(signal: str, score: float, start_ms: float, stop_ms: float, band_mhz: tuple[float, float] = (0, 1)):
    return Detection(signal, score, start_ms / 1e3, stop_ms / 1e3, band_mhz[0] * 1e6, band_mhz[1] * 1e6, 1)


signals = st.sampled_from(["alpha", "beta", "gamma"])
# few places and scores, so that boxes meet and scores tie
detections = st.builds(
    lambda signal, score, start, length: seen(signal, score / 4, start, start + length),
    signals,
    st.integers(1, 4),
    st.integers(0, 6),
    st.integers(1, 5),
)
crowds = st.lists(detections, max_size=12)


def test_the_better_of_two_heads_on_one_burst_stays() -> None:
    right, wrong = seen("alpha", 0.9, 0, 10), seen("beta", 0.8, 1, 10)
    assert arbitrate([wrong, right]) == [right]


def test_what_one_head_says_twice_is_left_alone() -> None:
    twice = [seen("alpha", 0.9, 0, 10), seen("alpha", 0.8, 0, 10)]
    assert arbitrate(twice) == twice


def test_bursts_that_overlap_little_both_stay() -> None:
    both = [seen("alpha", 0.9, 0, 10), seen("beta", 0.8, 6, 16)]  # IoU 4/16
    assert arbitrate(both) == both
    assert arbitrate(both, min_iou=0.25) == both[:1]


def test_bursts_at_one_time_in_other_bands_both_stay() -> None:
    both = [seen("alpha", 0.9, 0, 10), seen("beta", 0.8, 0, 10, (1, 2))]
    assert arbitrate(both, min_iou=0.01) == both


def test_a_detection_that_was_dropped_drops_no_other() -> None:
    first, second, third = seen("alpha", 0.9, 0, 10), seen("beta", 0.8, 3, 13), seen("gamma", 0.7, 6, 16)
    assert arbitrate([first, second, third]) == [first, third]


def test_equal_scores_are_settled_by_name_whatever_the_order() -> None:
    one, other = seen("alpha", 0.5, 0, 10), seen("beta", 0.5, 0, 10)
    assert arbitrate([one, other]) == arbitrate([other, one]) == [one]


def test_nothing_found_is_nothing_to_settle() -> None:
    assert arbitrate([]) == []


@pytest.mark.parametrize("min_iou", [0.0, -1.0, 1.1, float("nan")])
def test_an_overlap_that_is_none_is_refused(min_iou: float) -> None:
    with pytest.raises(InputError, match=f"min_iou is {min_iou}"):
        arbitrate([], min_iou)


@given(crowds, st.randoms(use_true_random=False))
def test_the_order_given_decides_nothing_but_the_order(found: list[Detection], random) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert sorted(map(repr, arbitrate(shuffled))) == sorted(map(repr, arbitrate(found)))
    kept = iter(found)
    assert all(detection in kept for detection in arbitrate(found))  # a subsequence


def parts(boxes: np.ndarray) -> np.ndarray:
    """bool[N, N]: pairs of which four fifths of the smaller lie in the other, of half the same duration or band."""
    found = np.zeros((len(boxes), len(boxes)), bool)
    for i, one in enumerate(boxes):
        for j, other in enumerate(boxes):
            both = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            either = np.maximum(one[2:], other[2:]) - np.minimum(one[:2], other[:2])
            smaller = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
            found[i, j] = both.min() > 0 and both.prod() >= 0.8 * smaller and (both >= 0.5 * either).any()
    return found


def test_a_part_of_a_burst_is_dropped_and_a_short_narrow_burst_within_it_is_not() -> None:
    whole = Detection("wide", 0.9, 0.0, 1.0, 0.0, 20.0, 1)
    part = Detection("other", 0.8, 0.0, 0.45, 0.0, 20.0, 1)
    inside = Detection("narrow", 0.8, 0.2, 0.3, 5.0, 6.0, 1)
    assert arbitrate([whole, part, inside]) == [whole, inside]


@given(crowds)
def test_no_two_heads_are_left_on_one_burst_and_each_dropped_one_had_a_better(found: list[Detection]) -> None:
    kept = arbitrate(found)
    assert arbitrate(kept) == kept
    boxes = corners(physical(found))
    overlap = (iou(boxes, boxes) >= 0.5) | parts(boxes)
    for i, one in enumerate(found):
        rivals = [found[j] for j in np.flatnonzero(overlap[i]) if found[j].signal != one.signal and found[j] in kept]
        if one in kept:
            assert not rivals
        else:
            assert any(rival.score >= one.score for rival in rivals)
