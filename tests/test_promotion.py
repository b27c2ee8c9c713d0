"""R10: whether a new version replaces the active one, and what is said about it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from training.evaluation.promotion import Measured, Policy, decide, f1_interval

SAMPLES = tuple(f"s{number}" for number in range(20))


def measured(f1: float, per_image: np.ndarray | None = None, ids: tuple[str, ...] = SAMPLES) -> Measured:
    """`f1` is what the rules see; what the interval sees is `per_image`, or one truth found on every image."""
    counts = np.ones((len(ids), 3), np.int64) if per_image is None else per_image
    return Measured(f1, f1, f1, counts, ids)


def counted(rows: list[tuple[int, int, int]]) -> Measured:
    """All figures from counts: truths, found, hits by image."""
    counts = np.array(rows, np.int64).reshape(-1, 3)
    truths, found, hits = counts.sum(axis=0).tolist()
    total = truths + found
    f1 = 2 * hits / total if total else math.nan
    return Measured(f1, 0.0, 0.0, counts, tuple(f"s{n}" for n in range(len(counts))))


# the rules


def test_the_first_version_is_promoted() -> None:
    decision = decide(None, measured(0.3))
    assert decision.promote
    assert decision.reason == "first version, F1 0.3000 on 20 samples, 20 objects"


@pytest.mark.parametrize(
    ("before", "after", "promote"),
    [
        (0.80, 0.82, True),  # 0.82 - 0.80 < 0.02 in binary
        (0.70, 0.72, True),
        (0.40, 0.42, True),
        (0.80, 0.81999, False),  # 1.999 % is not 2
        (0.80, 0.8199999, False),
        (0.80, 0.80, False),
        (0.80, 0.70, False),
        (0.0, 0.0, False),
        (0.0, 0.02, True),
        (0.94, 0.9499, False),  # below 0.95, and no rise of 0.02
        (0.93, 0.9499, False),
        (0.94, 0.95, True),  # 0.95 is reached
        (0.95, 0.95, True),
        (0.95, 0.9499, False),
        (0.96, 0.955, False),
        (0.96, 0.96, True),
        (1.0, 1.0, True),
        (0.1 + 0.85, 0.95, True),
        (0.95, 1 - 0.05, True),
    ],
)
def test_r10_what_f1_promotes(before: float, after: float, promote: bool) -> None:
    decision = decide(measured(before), measured(after))
    assert decision.promote is promote
    verdict = "promoted" if promote else "kept as a candidate"
    assert decision.reason.startswith(f"{verdict}: F1 {after:.4f} after {before:.4f}, {after - before:+.4f}")


def test_a_policy_may_ask_for_more() -> None:
    assert not decide(measured(0.80), measured(0.82), Policy(least_rise=0.05)).promote
    assert decide(measured(0.80), measured(0.80), Policy(good_f1=0.8)).promote


WORDS = {"nan": "not a number", "inf": "infinite", "-0.1": "-0.1, not 0 to 1", "1.1": "1.1, not 0 to 1"}


@pytest.mark.parametrize("f1", [math.nan, math.inf, -0.1, 1.1])
@pytest.mark.parametrize("which", ["new", "active"])
def test_r10_an_f1_that_is_none_promotes_nothing(f1: float, which: str) -> None:
    versions = {"new": measured(0.9), "active": measured(0.5), which: measured(f1)}
    decision = decide(versions["active"], versions["new"])
    assert not decision.promote
    assert f"the {which} version's F1 is {WORDS[str(f1)]}; look at its outputs" in decision.reason
    assert not decide(None, measured(f1)).promote


def test_r10_without_a_truth_nothing_is_promoted_not_even_a_first_version() -> None:
    empty, firing = counted([(0, 0, 0)] * 4), counted([(0, 1, 0)] * 4)
    for before, after in ((empty, empty), (empty, firing), (firing, empty), (None, empty), (None, firing)):
        decision = decide(before, after)
        assert not decision.promote
        assert "the validation samples hold none of this signal; label some" in decision.reason


@pytest.mark.parametrize(
    ("f1", "promote"),
    [(0.0, False), (0.2999, False), (0.3, True), (0.1 + 0.2, True), (0.1 * 3 - 1e-12, True), (1.0, True)],
)
def test_a_first_version_below_the_least_f1_is_kept_as_a_candidate(f1: float, promote: bool) -> None:
    decision = decide(None, measured(f1))
    assert decision.promote is promote
    assert ("a first version needs 0.30" in decision.reason) is not promote
    assert ("it finds nothing" in decision.reason) is (f1 == 0)
    assert not decide(None, measured(f1), Policy(least_first=1.1)).promote


def test_a_version_that_finds_exactly_what_the_active_one_finds_is_no_promotion() -> None:
    boxes = frozenset({("s1", 10, 20, 30, 40)})
    before, same, other = (replace(measured(0.97), detections=found) for found in (boxes, boxes, frozenset()))
    decision = decide(before, same)
    assert not decision.promote
    assert decision.reason.startswith("kept as a candidate: it finds exactly what the active version finds, F1 0.9700")
    assert decide(before, other).promote  # by the rule: not below 0.95, not below the active one
    assert decide(measured(0.97), measured(0.97)).promote  # what they found is not known


@pytest.mark.parametrize("rows", [[(1, 1, 1)], [(1, 0, 0)], [(1, 2, 1)], [(1, 0, 0), (0, 0, 0)]])
def test_no_reason_shows_nan(rows: list[tuple[int, int, int]]) -> None:
    for before in (None, counted([(truths, truths, truths) for truths, _, _ in rows])):
        assert "nan" not in decide(before, counted(rows)).reason


def test_r10_a_version_that_finds_nothing_is_not_promoted_over_one_that_does() -> None:
    silent, good = counted([(1, 0, 0)] * 10), counted([(1, 1, 1)] * 10)
    assert not decide(good, silent).promote
    assert not decide(silent, silent).promote
    assert decide(silent, good).promote


def test_r10_a_validation_set_that_changed_in_between_is_refused() -> None:
    decision = decide(measured(0.5), measured(0.9, ids=(*SAMPLES[:-1], "new")))
    assert not decision.promote
    assert "different validation samples; measure both" in decision.reason


def test_r10_labels_that_changed_in_between_are_refused() -> None:
    decision = decide(counted([(1, 1, 1), (1, 0, 0)]), counted([(1, 1, 1), (2, 2, 2)]))
    assert not decision.promote
    assert "labels changed between the two measurements" in decision.reason


@pytest.mark.parametrize("active", [None, measured(0.5)])
def test_r10_a_recording_on_both_sides_is_refused_even_for_a_first_version(active: Measured | None) -> None:
    decision = decide(active, measured(0.99), train_sources={"b", "a", "c"}, val_sources={"c", "d"})
    assert not decision.promote
    assert "c stands in training and in validation" in decision.reason
    assert decide(active, measured(0.99), train_sources={"a"}, val_sources={"d"}).promote


def test_counts_that_are_not_those_of_the_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"per_image is \(3, 3\) for 20 samples, not n x 3"):
        measured(0.5, np.ones((3, 3), np.int64))


# how sure


def found_by_chance(rate: float, images: int, seed: int) -> Measured:
    """One truth an image, found with probability `rate`, and never anything wrong."""
    hits = (np.random.default_rng(seed).random(images) < rate).astype(int)
    return counted([(1, int(hit), int(hit)) for hit in hits])


def test_r10_five_objects_cannot_tell_two_versions_apart_and_the_reason_says_so() -> None:
    before, after = counted([(1, 1, 1)] * 4 + [(1, 0, 0)]), counted([(1, 1, 1)] * 5)
    decision = decide(before, after)
    assert decision.promote  # by the rule
    assert "over 5 samples, 5 objects, too small to tell the two apart" in decision.reason


def test_many_objects_tell_a_real_difference() -> None:
    decision = decide(found_by_chance(0.6, 400, 1), found_by_chance(0.8, 400, 2))
    assert decision.promote
    assert "400 objects);" in decision.reason and "too small" not in decision.reason


def test_two_equal_versions_differ_by_nothing_and_that_is_said() -> None:
    same = found_by_chance(0.7, 50, 3)
    assert f1_interval(same, same) == (0.0, 0.0)
    assert "too small to tell the two apart" in decide(same, same).reason


def test_a_single_image_says_nothing_about_chance() -> None:
    assert all(map(math.isnan, f1_interval(counted([(1, 0, 0)]), counted([(1, 1, 1)]))))
    reason = decide(counted([(1, 0, 0)]), counted([(1, 1, 1)])).reason
    assert "(no interval over 1 samples, 1 objects, too small to tell the two apart)" in reason


def test_the_interval_is_the_same_every_time_and_turns_round_with_the_versions() -> None:
    first, second = found_by_chance(0.6, 60, 4), found_by_chance(0.8, 60, 5)
    low, high = f1_interval(first, second)
    assert f1_interval(first, second) == (low, high)
    assert f1_interval(second, first) == pytest.approx((-high, -low))
    assert low < second.f1 - first.f1 < high


def test_pairing_leaves_out_what_makes_an_image_hard() -> None:
    """Half the images are hard for both: the difference is one hit in every easy image, and sure."""
    before = counted([(4, 3, 3), (4, 0, 0)] * 20)
    after = counted([(4, 4, 4), (4, 0, 0)] * 20)
    low, high = f1_interval(before, after)
    assert low > 0 and high - low < 0.1


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    """Of 100 pairs from the same source, 0 lies in the 95 % interval of 88 to 100 of them."""
    policy = Policy(resamples=300)
    pairs = ((found_by_chance(0.7, 60, 2 * n), found_by_chance(0.7, 60, 2 * n + 1)) for n in range(100))
    holding = sum(low <= 0 <= high for low, high in (f1_interval(a, b, policy) for a, b in pairs))
    assert 88 <= holding <= 100


def test_draws_without_truths_and_detections_are_left_out() -> None:
    quiet = [(0, 0, 0)] * 3
    low, high = f1_interval(counted([*quiet, (1, 0, 0)]), counted([*quiet, (1, 1, 1)]))
    assert (low, high) == (1.0, 1.0)
