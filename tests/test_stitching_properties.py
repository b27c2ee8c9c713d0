"""Stitching of anything: scenes whose truth is known, and a slow search over all pieces ever seen."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.detection import Detection, Result
from engine.stitching import Stitcher, stitch

from .test_stitching import LENGTH, PIECE, lasting, result

EDGE = 1e-4  # of a capture's end that no frame's middle reaches, as with the default contract
STEP = 0.005  # of a drawn time; ten times what edges may be off by
BANDS = ((0.0, 1e6), (2e6, 3e6))


@given(st.floats(0, 0.7), st.floats(0.02, 0.9), st.sampled_from([0.8, 0.91, 1.0]))
def test_a_signal_comes_out_whole_wherever_the_captures_cut_it(start_s: float, lasts_s: float, total_s: float) -> None:
    stop_s = min(start_s + lasts_s, total_s)
    (found,) = stitch(seen([(start_s, stop_s, 0)], starts(total_s)))
    assert (found.start_s, found.stop_s) == pytest.approx((start_s, stop_s), abs=2 * EDGE)


def starts(total_s: float) -> list[float]:
    """Of captures that follow each other, the last reaching back."""
    firsts = [index * LENGTH for index in range(math.ceil(total_s / LENGTH - 1e-9))]
    return [*firsts[:-1], total_s - LENGTH]


def seen(bursts: list[tuple[float, float, int]], firsts: list[float], score: float = 0.9) -> list[Result]:
    """What captures from `firsts` on show of bursts (start, stop, number of the band), cut at their edges."""
    results = []
    for first in firsts:
        pieces = []
        for start_s, stop_s, band in bursts:
            low_hz, high_hz = BANDS[band]
            cut = max(start_s, first + EDGE), min(stop_s, first + LENGTH - EDGE)
            if cut[1] > cut[0]:
                pieces.append(lasting(*cut, low_hz=low_hz, high_hz=high_hz, score=score))
        results.append(result(first, *pieces))
    return results


@st.composite
def scenes(draw: st.DrawFn) -> list[tuple[float, float, int]]:
    """Bursts that in each band lie at least 5 ms apart, in steps that do not fall on the borders only."""
    bursts = []
    for band in range(len(BANDS)):
        at_s = draw(st.integers(0, 30)) * STEP
        for gap, steps in draw(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 80)), max_size=12)):
            stop_s = at_s + steps * STEP
            bursts.append((at_s + 0.0011, stop_s + 0.0011, band))
            at_s = stop_s + gap * STEP
    return bursts


@given(scenes(), st.lists(st.sampled_from([LENGTH, LENGTH - 0.03, LENGTH / 2, 0.06]), max_size=30))
def test_every_burst_of_a_scene_comes_out_once_and_whole(
    bursts: list[tuple[float, float, int]], moves_s: list[float]
) -> None:
    """Captures abut, or overlap by 30, 100 or 140 ms."""
    firsts = [0.0]
    for move_s in moves_s:
        firsts.append(firsts[-1] + move_s)
    end_s = firsts[-1] + LENGTH
    expected = [(start, min(stop, end_s), BANDS[band][0]) for start, stop, band in bursts if start < end_s - 2 * EDGE]
    found = stitch(seen(bursts, firsts))
    assert len(found) == len(expected)
    for d, (start_s, stop_s, low_hz) in zip(found, sorted(expected, key=lambda b: (b[0], b[2])), strict=True):
        assert (d.start_s, d.stop_s, d.low_hz) == pytest.approx((start_s, stop_s, low_hz), abs=2 * EDGE)


# anything at all, in captures that abut


@st.composite
def anything(draw: st.DrawFn) -> list[Result]:
    """Pieces of few places, bands and scores, so that ties and chains are common."""
    results = []
    for index in range(draw(st.integers(1, 6))):
        places = st.sampled_from([0.0, 0.0003, 0.003, 0.1, 0.19, 0.197, 0.1997, 0.2])
        piece = st.builds(
            lambda a, b, low, score, signal: Detection(signal, score, min(a, b), max(a, b) + 1e-5, low, low + 10, 1),
            places, places, st.sampled_from([0.0, 2.0, 3.0, 5.0]), st.sampled_from([0.5, 0.7, 0.9]),
            st.sampled_from(["lora", "radar"]),
        )  # fmt: skip
        pieces = draw(st.lists(piece, max_size=6, unique=True))
        at_s = index * LENGTH
        results.append(result(at_s, *(replace(d, start_s=d.start_s + at_s, stop_s=d.stop_s + at_s) for d in pieces)))
    return results


def oracle(results: list[Result]) -> list[Detection]:
    """Stitching by its rules alone: of each two captures, the best of all pairs is linked until none is left;
    what links connect is one detection."""
    after: dict[tuple[int, int], tuple[int, int]] = {}
    ordered = [sorted(r, key=place) for r in results]
    for k in range(1, len(results)):
        while True:
            pairs = [
                (iou(e, p), p.score, -i, -j)
                for i, e in enumerate(ordered[k - 1])
                for j, p in enumerate(ordered[k])
                if e.signal == p.signal and iou(e, p) >= 0.5 and p.start_s - e.stop_s <= most_s(e, p)
                and (k - 1, i) not in after and (k, j) not in after.values()
            ]  # fmt: skip
            if not pairs:
                break
            _, _, i, j = max(pairs)
            after[k - 1, -i] = (k, -j)
    heads = [(k, i) for k, pieces in enumerate(ordered) for i in range(len(pieces)) if (k, i) not in after.values()]
    found = []
    for at in heads:
        chain = [at]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        found.append(whole([ordered[k][i] for k, i in chain]))
    return found


def place(d: Detection) -> tuple[float | str, ...]:
    return d.start_s, d.low_hz, d.signal, d.stop_s, d.high_hz, -d.score


def iou(one: Detection, other: Detection) -> float:
    edges = sorted([one.low_hz, one.high_hz, other.low_hz, other.high_hz])
    shared = edges[2] - edges[1] if max(one.low_hz, other.low_hz) < min(one.high_hz, other.high_hz) else 0.0
    return shared / (edges[3] - edges[0])


def most_s(one: Detection, other: Detection) -> float:
    return max(2.5e-3 * LENGTH, 0.03 * min(one.stop_s - one.start_s, other.stop_s - other.start_s))


def whole(pieces: list[Detection]) -> Detection:
    return replace(
        max(pieces, key=lambda d: d.score),
        start_s=min(d.start_s for d in pieces), stop_s=max(d.stop_s for d in pieces),
        low_hz=min(d.low_hz for d in pieces), high_hz=max(d.high_hz for d in pieces),
    )  # fmt: skip


@given(anything())
def test_it_finds_what_a_search_over_all_pieces_finds(results: list[Result]) -> None:
    assert Counter(stitch(results)) == Counter(oracle(results))


@given(anything(), st.randoms(use_true_random=False))
def test_the_order_of_pieces_in_a_result_decides_nothing(results: list[Result], random: object) -> None:
    shuffled = []
    for r in results:
        pieces = list(r)
        random.shuffle(pieces)  # type: ignore[attr-defined]
        shuffled.append(replace(r, detections=tuple(pieces)))
    assert stitch(shuffled) == stitch(results)


@given(anything())
def test_no_piece_away_from_a_border_is_lost_or_changed(results: list[Result]) -> None:
    inside = [d for r in results for d in r if r.start_s + 0.05 < d.start_s and d.stop_s < r.stop_s - 0.007]
    assert not Counter(inside) - Counter(stitch(results))


@given(anything())
def test_what_is_given_out_on_the_way_is_what_comes_out_at_the_end(results: list[Result]) -> None:
    stitcher = Stitcher()
    on_the_way = [stitcher.add(r) for r in results]
    for finished, nxt in pairwise(on_the_way):
        assert not set(map(id, finished)) & set(map(id, nxt))
    rest = stitcher.close()
    assert Counter([d for some in [*on_the_way, rest] for d in some]) == Counter(stitch(results))
    assert all(some == sorted(some, key=place) for some in [*on_the_way, rest])


def test_the_oracle_knows_a_signal_in_two_pieces() -> None:
    assert oracle([result(0.0, lasting(0.1, 0.2)), result(0.2, lasting(0.2, 0.3))]) == [lasting(0.1, 0.3)]
    assert oracle([result(0.0, PIECE), result(0.2)]) == [PIECE]
