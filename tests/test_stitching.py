"""Stitching, case by case: what is one signal, what is two, what comes out when, and of what the union is made."""

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest

from engine import stitching
from engine.contract import ISM, WIDEBAND
from engine.detection import Detection, Result
from engine.errors import ClosedError, InputError
from engine.stitching import Stitcher, stitch

LENGTH = 0.2  # seconds of a capture
PIECE = Detection("radar", 0.9, 0.0, 0.1, 1e6, 2e6, 3)


def result(start_s: float, *pieces: Detection, stop_s: float | None = None, **changes: Any) -> Result:
    return Result(pieces, start_s=start_s, stop_s=start_s + LENGTH if stop_s is None else stop_s, **changes)


def lasting(start_s: float, stop_s: float, **changes: Any) -> Detection:
    return replace(PIECE, start_s=start_s, stop_s=stop_s, **changes)


# what is joined


def test_a_signal_over_three_captures_becomes_one() -> None:
    found = stitch(
        [
            result(0.0, lasting(0.15, 0.1999, score=0.7, low_hz=1.1e6)),
            result(0.2, lasting(0.2001, 0.3999, score=0.95)),
            result(0.4, lasting(0.4001, 0.45, score=0.8, high_hz=2.1e6)),
        ]
    )
    assert found == [Detection("radar", 0.95, 0.15, 0.45, 1e6, 2.1e6, 3)]


def test_a_union_has_the_version_of_its_best_piece() -> None:
    old, new = lasting(0.1, 0.1999, score=0.6, version=1), lasting(0.2001, 0.3, score=0.8, version=2)
    (found,) = stitch([result(0.0, old), result(0.2, new)])
    assert (found.score, found.version) == (0.8, 2)
    (found,) = stitch([result(0.0, replace(old, score=0.9)), result(0.2, new)])
    assert (found.score, found.version) == (0.9, 1)


def test_several_signals_are_joined_each_with_its_own() -> None:
    low, high = {"low_hz": -5e6, "high_hz": -4e6}, {"low_hz": 5e6, "high_hz": 6e6}
    found = stitch(
        [
            result(0.0, lasting(0.1, 0.1999, **high), lasting(0.15, 0.1999, **low)),
            result(0.2, lasting(0.2001, 0.25, **low), lasting(0.2001, 0.3, **high)),
        ]
    )
    assert found == [lasting(0.1, 0.3, **high), lasting(0.15, 0.25, **low)]


def test_of_two_that_could_be_continued_the_one_of_the_same_band_is() -> None:
    near, same = lasting(0.1, 0.1999, low_hz=1.3e6, high_hz=2.3e6, score=0.99), lasting(0.1, 0.1999, score=0.5)
    found = stitch([result(0.0, near, same), result(0.2, lasting(0.2001, 0.3))])
    assert found == [lasting(0.1, 0.3, score=0.9), near]


def test_of_two_that_could_continue_one_of_equal_band_the_surer_does() -> None:
    weak, sure = lasting(0.2001, 0.21, score=0.5), lasting(0.2001, 0.3, score=0.95)
    found = stitch([result(0.0, lasting(0.1, 0.1999)), result(0.2, weak, sure)])
    assert found == [lasting(0.1, 0.3, score=0.95), weak]


def test_a_band_that_drifts_is_followed() -> None:
    """Each capture's band is compared with the one before, not with all that the signal ever used."""
    results = [
        result(k * LENGTH, lasting(k * LENGTH, (k + 1) * LENGTH, low_hz=k * 2e5, high_hz=1e6 + k * 2e5))
        for k in range(20)
    ]
    (found,) = stitch(results)
    assert (found.low_hz, found.high_hz) == (0, 1e6 + 19 * 2e5)


def test_an_edge_in_time_is_known_to_a_column_of_a_fine_image_and_to_a_frame_of_a_coarse_one() -> None:
    assert WIDEBAND.resolution_s == pytest.approx(0.2 / 1024, rel=1e-3)
    assert ISM.resolution_s == 2048 / 2e6


@pytest.mark.parametrize("contract", [WIDEBAND, ISM])
def test_edges_are_as_unsure_as_the_contract_resolves_them(contract: Any) -> None:
    gap_s = 2.4 * contract.resolution_s
    first, second = lasting(0.196, 0.2 - gap_s / 2), lasting(0.2 + gap_s / 2, 0.204)
    late = replace(second, start_s=0.2 + 0.6 * gap_s)

    def count(piece: Detection) -> int:
        pieces = ((0.0, first), (0.2, piece))
        return len(stitch([result(at_s, d, resolution_s=contract.resolution_s) for at_s, d in pieces]))

    assert (count(second), count(late)) == (1, 2)


def test_long_pieces_are_joined_over_a_longer_gap() -> None:
    voice = lasting(0.005, 0.1992), lasting(0.2045, 0.399)
    assert len(stitch([result(0.0, voice[0]), result(0.2, voice[1])])) == 1
    assert len(stitch([result(0.0, voice[0]), result(0.2, replace(voice[1], stop_s=0.21))])) == 2


# what is not


@pytest.mark.parametrize(
    "other",
    [
        {"signal": "lora"},
        {"low_hz": 2e6, "high_hz": 3e6},  # beside it
        {"low_hz": 1.6e6, "high_hz": 2.6e6},  # shares less than half of both bands' union
        {"start_s": 0.21},  # begins 10 ms after the border
    ],
)
def test_two_signals_that_meet_at_a_border_stay_two(other: dict[str, Any]) -> None:
    first, second = lasting(0.1, 0.1999), replace(lasting(0.2001, 0.3), **other)
    assert stitch([result(0.0, first), result(0.2, second)]) == [first, second]


def test_what_ended_before_the_border_is_not_continued() -> None:
    first, second = lasting(0.1, 0.19), lasting(0.2001, 0.3)
    assert stitch([result(0.0, first), result(0.2, second)]) == [first, second]


def test_a_burst_just_after_a_border_stays_beside_a_better_one_later_in_its_capture() -> None:
    early, later = lasting(0.2026, 0.2433, score=0.7), lasting(0.2548, 0.2955, score=0.95)
    assert stitch([result(0.0), result(0.2, later, early)]) == [early, later]


def test_neighbours_on_both_sides_of_a_border_stay_two() -> None:
    first, second = lasting(0.197, 0.1985), lasting(0.201, 0.2025)
    assert stitch([result(0.0, first), result(0.2, second)]) == [first, second]


def test_only_one_piece_continues_a_signal() -> None:
    first, second, third = lasting(0.1, 0.1999), lasting(0.2001, 0.25), lasting(0.2002, 0.22, score=0.5)
    assert stitch([result(0.0, first), result(0.2, second, third)]) == [lasting(0.1, 0.25), third]


def test_one_piece_continues_only_one_signal() -> None:
    first, other = lasting(0.1, 0.1999), lasting(0.12, 0.1999, low_hz=1.1e6)
    assert stitch([result(0.0, first, other), result(0.2, lasting(0.2001, 0.3))]) == [lasting(0.1, 0.3), other]


def test_a_signal_does_not_continue_over_lost_samples() -> None:
    first, second = lasting(0.1, 0.2), lasting(0.25, 0.35)
    assert stitch([result(0.0, first), result(0.25, second)]) == [first, second]


# captures that overlap


def test_what_a_backward_reaching_capture_repeats_is_told_once() -> None:
    early, late = lasting(0.05, 0.06), lasting(0.15, 0.16)
    seen_again = replace(late, start_s=0.1501, score=0.8)
    new = lasting(0.25, 0.26)
    assert stitch([result(0.0, early, late), result(0.1, seen_again, new)]) == [early, late, new]


def test_what_only_the_backward_reaching_capture_finds_is_told() -> None:
    early, missed = lasting(0.05, 0.06), lasting(0.15, 0.16)
    assert stitch([result(0.0, early), result(0.1, missed)]) == [early, missed]


def test_a_repeat_never_counts_for_another_signal_of_its_kind() -> None:
    early, late = lasting(0.12, 0.13), lasting(0.15, 0.16)
    surer = replace(early, score=0.99)
    assert stitch([result(0.0, late, early), result(0.1, surer, late)]) == [early, late]


def test_a_repeat_that_ends_at_the_border_is_told_once() -> None:
    first = lasting(0.15, 0.1999)
    assert stitch([result(0.0, first), result(0.1, lasting(0.1501, 0.2003))]) == [lasting(0.15, 0.2003)]
    assert stitch([result(0.0, first), result(0.1, lasting(0.1501, 0.1998))]) == [first]


def test_a_signal_that_both_captures_cut_is_whole() -> None:
    assert stitch([result(0.0, lasting(0.02, 0.2)), result(0.1, lasting(0.1, 0.28))]) == [lasting(0.02, 0.28)]


def test_a_weak_false_detection_does_not_swallow_a_sure_one_that_it_touches() -> None:
    weak, sure = lasting(0.13, 0.151, score=0.5), lasting(0.15, 0.19, score=0.95)
    assert stitch([result(0.0, weak), result(0.1, sure)]) == [weak, sure]


# what comes out when


def test_a_detection_inside_a_capture_is_finished_at_once_and_one_at_the_border_is_not() -> None:
    inside, cut = lasting(0.05, 0.06), lasting(0.15, 0.1999)
    stitcher = Stitcher()
    assert stitcher.add(result(0.0, cut, inside)) == [inside]
    assert stitcher.add(result(0.2)) == [cut]
    assert stitcher.close() == []


def test_closing_gives_what_is_open_once() -> None:
    late, early = lasting(0.17, 0.1999), lasting(0.15, 0.1999)
    stitcher = Stitcher()
    assert stitcher.add(result(0.0, late, early)) == []
    assert stitcher.close() == [early, late]
    assert stitcher.close() == []
    with pytest.raises(ClosedError, match="make another"):
        stitcher.add(result(0.2))


def test_a_capture_from_before_the_last_one_is_refused() -> None:
    stitcher = Stitcher()
    stitcher.add(result(0.2))
    with pytest.raises(InputError, match=r"from 0 s came after one from 0\.2 s"):
        stitcher.add(result(0.0))


def test_detections_come_in_order_of_time() -> None:
    found = stitch([result(0.0, lasting(0.1, 0.11), lasting(0.01, 0.02), lasting(0.01, 0.02, low_hz=0.0))])
    assert [(d.start_s, d.low_hz) for d in found] == [(0.01, 0.0), (0.01, 1e6), (0.1, 1e6)]


def test_nothing_stitched_is_nothing() -> None:
    assert stitch([]) == stitch([result(0.0), result(0.2)]) == []


def test_an_hour_costs_no_more_a_capture_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A steady signal and 80 packets in each of 18,000 captures: comparisons and memory stay as they were."""
    counted, sizes = 0, []
    agreement = stitching._agreement

    def counting(*given: Any) -> float:
        nonlocal counted
        counted += 1
        return agreement(*given)

    monkeypatch.setattr(stitching, "_agreement", counting)
    stitcher, given_out = Stitcher(), 0
    for k in range(18_000):
        at_s = k * LENGTH
        packets = [lasting(at_s + n * 0.0025 + 0.0005, at_s + n * 0.0025 + 0.0015) for n in range(80)] if k < 50 else []
        steady = lasting(at_s, at_s + LENGTH, low_hz=-2e6, high_hz=-1e6)
        before = counted
        given_out += len(stitcher.add(result(at_s, steady, *packets, stop_s=at_s + LENGTH)))
        assert counted - before <= 4  # what is open, the steady signal, with its next piece and three packets
        if k % 1000 == 999:
            sizes.append(len(pickle.dumps(stitcher)))
    assert given_out == 50 * 80
    assert max(sizes) - min(sizes) <= 16  # bytes: numbers grow longer, lists do not
    (steady,) = stitcher.close()
    assert math.isclose(steady.stop_s, 18_000 * LENGTH)
