"""Reports hold each signal to its own truths, tell where it is missed, and settle what two heads claim."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from engine.contract import ISM, WIDEBAND
from engine.detection import Detection
from engine.recordings.annotation import Annotation
from training.evaluation.metrics import Evaluated, arbitration_cost, evaluate, per_image

PLANE = (0.0, 1.0, 0.0, 100.0)  # one second, 100 Hz: 1 % of the band is 1 Hz

seeds = st.integers(0, 2**32 - 1)


def there(
    label: str, start_s: float, low_hz: float = 0.0, height_hz: float = 10.0, snr_db: float | None = None
) -> Annotation:
    return Annotation(label, start_s, start_s + 0.1, low_hz, low_hz + height_hz, snr_db=snr_db)


def seen(signal: str, start_s: float, score: float = 0.9, low_hz: float = 0, height_hz: float = 10) -> Detection:
    return Detection(signal, score, start_s, start_s + 0.1, low_hz, low_hz + height_hz, 1)


def capture(truths: list[Annotation], found: list[Detection], sample_id: str = "a") -> Evaluated:
    return Evaluated(sample_id, WIDEBAND, truths, found, PLANE)


def random_captures(seed: int) -> list[Evaluated]:
    """Few places and labels, so that heads meet on bursts; a third of the captures hold nothing."""
    rng = np.random.default_rng(seed)
    labels = ("alpha", "beta", "other", "noise")

    def place() -> tuple[float, float]:
        return float(rng.integers(0, 9)) / 10 + float(rng.uniform(0, 0.02)), float(rng.integers(0, 9)) * 10

    made = []
    for number in range(3):
        count = int(rng.integers(0, 6)) * (number > 0)
        truths = [there(labels[rng.integers(4)], *place(), snr_db=float(rng.uniform(-5, 30))) for _ in range(count)]
        places = [(truth.start_s, truth.low_hz) for truth in truths] + [place() for _ in range(4)]
        where = [places[index] for index in rng.integers(len(places), size=8)]
        found = [seen(labels[rng.integers(2)], start_s, float(rng.random()), low_hz) for start_s, low_hz in where]
        made.append(capture(truths, found, str(number)))
    return made


def test_a_report_holds_each_signal_to_its_own_truths() -> None:
    report = evaluate([
        capture([there("alpha", 0.0), there("beta", 0.5)], [seen("alpha", 0.0), seen("alpha", 0.5)]),
        capture([there("alpha", 0.2)], [seen("beta", 0.8)]),
    ])  # fmt: skip
    alpha, beta = report.signals["alpha"], report.signals["beta"]
    assert alpha.per_image.tolist() == [[1, 2, 1], [1, 0, 0]]
    assert beta.per_image.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert (alpha.scores.precision, alpha.scores.recall, alpha.scores.f1) == (0.5, 0.5, 0.5)
    assert report.confusion == {"alpha": {"alpha": 1, "beta": 0}, "beta": {"alpha": 1, "beta": 0}}


def test_recall_is_told_by_signal_to_noise_ratio() -> None:
    levels = [-3.0, 0.0, 10.0, 19.9, 20.0, None, math.nan]
    truths = [there("alpha", n / 10, snr_db=level) for n, level in enumerate(levels)]
    report = evaluate([capture(truths, [seen("alpha", 0.1), seen("alpha", 0.2)])])
    assert report.signals["alpha"].by_snr == {"<0 dB": (1, 0), "0-10 dB": (1, 1), "10-20 dB": (2, 1), ">=20 dB": (1, 0)}


def test_quality_from_10_db_asks_for_strong_truths_and_does_not_blame_what_lies_on_weak_ones() -> None:
    truths = [there("alpha", 0.0, snr_db=3.0), there("alpha", 0.2), there("alpha", 0.4, snr_db=10.0),
              there("alpha", 0.6, snr_db=30.0)]  # fmt: skip
    found = [seen("alpha", 0.0), seen("alpha", 0.2), seen("alpha", 0.4), seen("alpha", 0.8)]
    strong = evaluate([capture(truths, found)]).signals["alpha"].strong
    assert (strong.truths, strong.predictions, strong.true_positives) == (2, 2, 1)


def test_without_a_strong_truth_there_is_no_quality_from_10_db() -> None:
    figures = evaluate([capture([there("alpha", 0.0)], [seen("alpha", 0.5)])]).as_json()["signals"]["alpha"]
    assert (figures["truths_from_10_db"], figures["f1_from_10_db"], figures["f1"]) == (0, None, 0.0)


def test_recall_is_told_by_share_of_the_band() -> None:
    truths = [there("alpha", n / 10, height_hz=height) for n, height in enumerate([0.5, 2.0, 20.0, 25.5])]
    report = evaluate([capture(truths, [seen("alpha", 0.3, height_hz=25.5)])])
    assert report.signals["alpha"].by_bandwidth == {"<1 %": (1, 0), "1-5 %": (1, 0), "5-25 %": (1, 0), ">=25 %": (1, 1)}


def test_without_a_plane_the_band_is_the_contract_s() -> None:
    truths = [Annotation("alpha", 0.0, 0.1, -10e3, 10e3)]
    narrow = evaluate([Evaluated("a", WIDEBAND, truths, [])]).signals["alpha"].by_bandwidth  # of 20 MHz
    wide = evaluate([Evaluated("a", ISM, [replace(truths[0], high_hz=30e3)], [])]).signals["alpha"].by_bandwidth
    assert narrow["<1 %"] == wide["1-5 %"] == (1, 0)


def test_false_alarms_are_counted_on_captures_that_hold_nothing() -> None:
    report = evaluate([
        capture([], [seen("alpha", 0.0), seen("alpha", 0.5), seen("alpha", 0.8, 0.4)]),
        capture([there("noise", 0.0)], []),
        capture([there("beta", 0.0)], [seen("alpha", 0.0)]),
        capture([there("other", 0.0)], [seen("alpha", 0.5)]),
    ])  # fmt: skip
    assert report.noise_captures == 2
    assert report.signals["alpha"].false_alarms == 1.0
    assert math.isnan(evaluate([capture([there("alpha", 0.0)], [])]).signals["alpha"].false_alarms)


def test_the_plane_wrongly_lit_is_what_detections_cover_once_outside_truths() -> None:
    quarter = Detection("alpha", 0.9, 0.0, 0.5, 0.0, 50.0, 1)
    other_half = replace(quarter, start_s=0.25, stop_s=0.75)  # the second half of the first, and as much beyond it
    inside = Annotation("alpha", 0.0, 0.5, 0.0, 25.0)
    lit = [evaluate([capture(truths, found)], ["alpha"]).signals["alpha"].false_positive_area for truths, found in (
        ([], [quarter]), ([], [quarter, other_half]), ([inside], [quarter]), ([inside], []),
        ([replace(inside, label="other")], [quarter]), ([], [replace(quarter, score=0.4)]),
    )]  # fmt: skip
    assert lit == [0.25, 0.375, 0.125, 0.0, 0.125, 0.0]


def test_two_heads_on_one_burst_are_counted_and_cost_precision_until_arbitration() -> None:
    images = [capture([there("alpha", 0.0), there("beta", 0.5)],
                      [seen("alpha", 0.0, 0.9), seen("beta", 0.0, 0.8), seen("beta", 0.5, 0.9)])]  # fmt: skip
    report = evaluate(images)
    assert report.multi_claimed == 1
    assert report.confusion["alpha"] == {"alpha": 1, "beta": 1}
    cost = arbitration_cost(images)
    assert cost["two_heads_on_one_burst"] == {"without": 1, "with": 0}
    assert cost["signals"]["beta"]["precision"] == {"without": 0.5, "with": 1.0}
    assert cost["signals"]["beta"]["f1_change"] == pytest.approx(1 - 2 / 3)
    assert cost["signals"]["alpha"]["f1_change"] == 0.0
    assert cost["ms_per_capture"] > 0


def test_arbitration_that_trusts_the_wrong_head_costs_recall() -> None:
    cost = arbitration_cost([capture([there("alpha", 0.0)], [seen("alpha", 0.0, 0.6), seen("beta", 0.0, 0.9)])])
    assert cost["signals"]["alpha"]["f1_change"] == -1.0


def test_signals_asked_for_are_reported_though_nobody_saw_them() -> None:
    report = evaluate([capture([there("beta", 0.0)], [])], ["alpha"])
    assert list(report.signals) == ["alpha"]
    assert report.as_json()["signals"]["alpha"]["f1"] is None
    assert report.bursts == {"beta": 1} and report.confusion == {"beta": {"alpha": 0}}


def test_a_report_of_nothing_is_json_and_a_table() -> None:
    for report in (evaluate([]), evaluate([capture([], [])]), evaluate([], ["alpha"])):
        json.dumps(report.as_json(), allow_nan=False)
        Console(quiet=True).print(report.as_table())
    json.dumps(arbitration_cost([]), allow_nan=False)


def test_the_table_tells_scores_classes_and_heads() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    images = [capture([there("alpha", 0.0, snr_db=12.0)], [seen("alpha", 0.0), seen("beta", 0.0)]), capture([], [])]
    console.print(evaluate(images).as_table("here"))
    text = console.export_text()
    counts = ("2 captures, 1 of them without a signal", "1.00 (1)", "alpha 1, beta 1", "more than one head on 1")
    for part in ("here", "10-20 dB", "5-25 %", *counts):
        assert part in text


@given(seeds)
def test_a_report_holds_together(seed: int) -> None:
    images = random_captures(seed)
    report = evaluate(images, ["alpha", "beta"])
    written = json.loads(json.dumps(report.as_json(), allow_nan=False))
    for name, signal in report.signals.items():
        assert (per_image(images, name) == signal.per_image).all()
        assert signal.strong.predictions <= signal.scores.predictions
        strong = [signal.by_snr["10-20 dB"], signal.by_snr[">=20 dB"]]
        assert (signal.strong.truths, signal.strong.true_positives) == tuple(map(sum, zip(*strong, strict=True)))
        truths, found, hits = signal.per_image.T
        assert (hits <= np.minimum(truths, found)).all()
        f1 = written["signals"][name]["f1"]
        assert f1 is None if not (truths + found).any() else f1 == 2 * hits.sum() / (truths + found).sum()
        assert sum(truths for truths, _ in signal.by_bandwidth.values()) == truths.sum()
        assert sum(found for _, found in signal.by_bandwidth.values()) == hits.sum()
        assert all(found <= truths for truths, found in (*signal.by_snr.values(), *signal.by_bandwidth.values()))
        assert 0 <= signal.false_positive_area <= 1
        assert report.confusion.get(name, {name: 0})[name] >= hits.sum()


@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_captures_and_detections_decides_nothing(seed: int, random) -> None:
    images = random_captures(seed)
    shuffled = [replace(i, detections=random.sample(i.detections, 8)) for i in random.sample(images, len(images))]
    one, other = evaluate(images).as_json(), evaluate(shuffled).as_json()
    for name, signal in one["signals"].items():
        again = other["signals"][name]
        assert again.pop("wrongly_lit") == pytest.approx(signal.pop("wrongly_lit"))  # a mean, summed in another order
        assert again == signal
    assert other == one
