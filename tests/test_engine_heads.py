"""Whatever heads answer, and however many there are, a capture's detections are valid and the next one's the same.

Rows E07 to E10 of the list of faults. A graph of ours takes one image, so a batch of frames is a sequence of them.
"""

import math

import numpy as np
import pytest

from engine.contract import LEGACY_INPUT_SIZE
from engine.detection import Detection, Result
from engine.heads import MAX_DETECTIONS

from .scripted import EMPTY, NORMAL, RATE, SHORT, Answer, Bench, bench, burst, noise, same, tone

TWELVE = tuple(f"signal_{number:02}" for number in range(12))
BIN_HZ = RATE / SHORT.n_fft


def answered(b: Bench, answers: dict[int, Answer]) -> Result:
    """The result with these answers, between two normal captures that must not differ."""
    b.answers.clear()
    before = b.detect(NORMAL)
    assert len(before) == len(b.signals)
    b.answers.update(answers)
    result = b.detect(NORMAL, threshold=0)
    b.answers.clear()
    assert same(b.detect(NORMAL), before)
    for found in result:
        assert all(map(math.isfinite, (found.score, found.start_s, found.stop_s, found.low_hz, found.high_hz)))
        assert found.start_s < found.stop_s and found.low_hz < found.high_hz
    return result


@pytest.mark.parametrize("silent", [(0,), (5,), (11,), (0, 1, 2), tuple(range(12))], ids=str)
def test_e07_heads_that_find_nothing_leave_the_others_and_the_next_capture_alone(silent: tuple[int, ...]) -> None:
    result = answered(bench(TWELVE), dict.fromkeys(silent, EMPTY))
    assert [d.signal for d in result] == [name for k, name in enumerate(TWELVE) if k not in silent]
    assert len(result.versions) == 12  # of all that looked


def test_e08_a_dense_comb_fills_all_rows_of_a_head_and_no_other_s() -> None:
    columns = np.linspace(0, 1000, MAX_DETECTIONS)
    scores = np.linspace(0.99, 0.5, MAX_DETECTIONS)
    result = answered(bench(("comb", "radar")), {0: ([(x, 100, x + 8, 120) for x in columns], scores.tolist())})
    assert sum(d.signal == "comb" for d in result) == MAX_DETECTIONS
    assert sum(d.signal == "radar" for d in result) == 1
    assert [d.score for d in result] == sorted((d.score for d in result), reverse=True)


def test_e08_equal_scores_come_in_order_of_time_and_frequency_however_they_were_answered() -> None:
    boxes = [(x, y, x + 20, y + 30) for x in range(0, 1000, 250) for y in range(0, 1000, 250)]
    b, rng = bench(), np.random.default_rng(1)
    orders = []
    for _ in range(4):
        rng.shuffle(boxes)
        orders.append(answered(b, {0: (boxes, [0.75] * len(boxes))}).detections)
    assert len(set(orders)) == 1
    assert list(orders[0]) == sorted(orders[0], key=lambda d: (d.start_s, d.low_hz))


EDGES: dict[str, tuple[tuple[float, ...], bool]] = {  # pixel box, whether it is one
    "left edge": ((0, 100, 10, 200), True),
    "right edge": ((1000, 100, 1024, 200), True),
    "top edge": ((100, 0, 200, 10), True),
    "bottom edge": ((100, 1000, 200, 1024), True),
    "whole image": ((0, 0, 1024, 1024), True),
    "full band, one column": ((500, 0, 501, 1024), True),
    "one row, all time": ((0, 500, 1024, 501), True),
    "hundredth of a pixel": ((500, 500, 500.01, 500.01), True),
    "zero width": ((100, 100, 100, 200), False),
    "zero height": ((100, 100, 200, 100), False),
    "a point": ((100, 100, 100, 100), False),
    "inside out": ((200, 200, 100, 100), False),
    "nan": ((math.nan, 100, 200, 200), False),
    "infinite": ((100, 100, math.inf, 200), False),
    "wholly before the image": ((-50, 100, -20, 200), False),
    "wholly after the image": ((1100, 100, 1200, 200), False),
}


@pytest.mark.parametrize(("nms_iou", "kept"), [(0.5, 2), (0.2, 1)])
def test_a_head_may_ask_for_less_overlap_than_its_graph_allows(nms_iou: float, kept: int) -> None:
    side_by_side = [(100, 100, 200, 200), (150, 100, 250, 200)]  # IoU 1/3
    assert len(answered(bench(nms_iou=nms_iou), {0: (side_by_side, [0.9, 0.8])})) == kept


@pytest.mark.parametrize("name", EDGES)
def test_e08_boxes_at_the_edges_are_valid_or_dropped(name: str) -> None:
    pixels, real = EDGES[name]
    result = answered(bench(), {0: ([pixels], [0.8])})
    assert len(result) == real
    for found in result:
        assert found.start_s >= 0 and found.stop_s <= SHORT.capture_s
        # bins are centred: the lowest reaches half a bin below -rate / 2
        assert found.low_hz >= -RATE / 2 - BIN_HZ and found.high_hz <= RATE / 2


@pytest.mark.parametrize("score", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_e08_a_score_that_is_none_is_not_told(score: float) -> None:
    assert len(answered(bench(), {0: ([(0, 0, 10, 10)], [score])})) == 0


def test_e08_a_tone_of_one_bin_is_boxed_at_its_frequency() -> None:
    b = bench()
    for index in (0, 1, 777, -1500):  # some of them bins that the resize skips, so that only their skirts are seen
        (found,) = b.detect(tone(SHORT.capture_samples, index * BIN_HZ))
        assert found.low_hz < index * BIN_HZ < found.high_hz
        assert found.high_hz - found.low_hz <= 2 * 4 * BIN_HZ  # at most two rows, of four bins each
        assert (found.start_s, found.stop_s) == pytest.approx((0, SHORT.capture_s), abs=2 * SHORT.hop / RATE)


def test_e09_the_same_capture_gives_the_same_boxes_whatever_came_before() -> None:
    b = bench(("radar", "lora"))
    alone = b.detect(NORMAL)
    others = [
        noise(SHORT.capture_samples, 5),
        noise(SHORT.capture_samples, 6, 1e30),
        np.zeros(SHORT.capture_samples, np.complex64),
        np.full(SHORT.capture_samples, np.nan, np.complex64),
        burst(-8e6, 0.0, 0.01, seed=3),
        burst(9e6, 0.009, 0.01, seed=4)[-5000:],
        NORMAL[::2],
    ]
    for place in range(len(others)):
        for iq in others[place:]:
            b.detect(iq, sample_rate_hz=RATE * len(iq) / SHORT.capture_samples if iq is others[-1] else RATE)
        assert same(b.detect(NORMAL), alone)


def test_e09_the_caller_s_samples_and_older_results_stay_as_they_were() -> None:
    b, iq = bench(), burst()
    first = b.detect(iq)
    kept = tuple(first.detections)
    b.detect(burst(-5e6))
    assert first.detections == kept
    assert np.array_equal(iq, NORMAL)


@pytest.mark.parametrize("count", [0, 1, 12, 13, 64, 200])
def test_e10_any_number_of_heads_look_once_each(count: int) -> None:
    b = bench(tuple(f"signal_{number}" for number in range(count)))
    for _ in range(2):
        b.heads.calls.clear()
        result = b.detect(NORMAL)
        assert len(b.heads.calls) == count
        assert [d.signal for d in result] == list(b.signals)
        assert result.versions == {name: number + 1 for number, name in enumerate(b.signals)}


def test_e10_the_same_head_twice_tells_everything_twice() -> None:
    first, second = bench(("radar", "radar"), {k: ([(10, 10, 20, 20)], [0.9]) for k in (0, 1)}).detect(NORMAL)
    assert isinstance(first, Detection)
    assert (first.signal, first.start_s, first.score) == (second.signal, second.start_s, second.score)


def test_boxes_are_on_the_image_s_grid_and_not_the_network_s() -> None:
    assert LEGACY_INPUT_SIZE == 800
    (found,) = bench(answers={0: ([(0, 512, 1024, 1024)], [0.9])}).detect(NORMAL)
    assert abs(found.high_hz) <= BIN_HZ  # the middle of the band is row 512
