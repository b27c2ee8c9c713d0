"""Evaluation captures: retuning moves signals and their boxes alike, and recall is compared on what moved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets import EvaluationCapture, of_noise, of_scenes, retuned
from benchmarks.quality import recall_change
from engine.contract import Contract
from engine.detection import Detection
from engine.recordings.annotation import Annotation
from engine.recordings.recording import Recording
from training.evaluation.metrics import Evaluated

SMALL = Contract(sample_rate_hz=1e6, capture_s=0.02)
TRUTH = Annotation("alpha", 0.0, 0.01, 100.1e6 - 10e3, 100.1e6 + 10e3)


def tone(rate_hz: float, *truths: Annotation) -> EvaluationCapture:
    """A tone 100 kHz above 100 MHz."""
    iq = np.exp(2j * np.pi * 100e3 / rate_hz * np.arange(round(0.01 * rate_hz))).astype(np.complex64)
    return EvaluationCapture(
        "tone", Recording(Path("tone"), rate_hz, 100e6, iq.view(np.float32).reshape(-1, 2)), truths
    )


def strongest_hz(recording: Recording) -> float:
    power = np.abs(np.fft.fft(recording.read(0, len(recording))))
    return float(np.fft.fftfreq(len(power), 1 / recording.sample_rate_hz)[power.argmax()]) + 100e6


@pytest.mark.parametrize("rate_hz", [0.5e6, 1e6, 2e6])
def test_a_retuned_capture_has_its_signal_where_its_box_says(rate_hz: float) -> None:
    places = []
    for seed in range(5):
        capture = retuned(tone(rate_hz, TRUTH), SMALL, seed)
        (truth,) = capture.truths
        assert strongest_hz(capture.recording) == pytest.approx((truth.low_hz + truth.high_hz) / 2, abs=200)
        assert 99.5e6 < truth.low_hz < truth.high_hz < 100.5e6
        assert capture.recording.duration_s == pytest.approx(0.01)
        places.append(truth.low_hz)
    assert np.ptp(places) > 100e3


def test_retuning_takes_signals_round_the_edge_whole() -> None:
    low, high = replace(TRUTH, low_hz=99.6e6, high_hz=99.7e6), replace(TRUTH, low_hz=100.3e6, high_hz=100.4e6)
    orders = set()
    for seed in range(20):
        moved = retuned(tone(1e6, low, TRUTH, high), SMALL, seed).truths
        assert all(truth.low_hz > 99.5e6 and truth.high_hz < 100.5e6 for truth in moved)
        assert [truth.high_hz - truth.low_hz for truth in moved] == pytest.approx([100e3, 20e3, 100e3])
        orders.add(tuple(np.argsort([truth.low_hz for truth in moved])))
    assert orders == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}


def test_what_fills_the_band_or_leaves_it_is_not_retuned() -> None:
    wide = replace(TRUTH, low_hz=100e6 - 485e3, high_hz=100e6 + 485e3)
    outside = replace(TRUTH, high_hz=100.6e6)
    assert retuned(tone(1e6, TRUTH, wide), SMALL, 0) is None
    assert retuned(tone(2e6, outside), SMALL, 0) is None


def test_noise_captures_hold_no_truth_and_scenes_without_bursts_are_none() -> None:
    (capture,) = of_noise(SMALL, [], 1)
    assert (capture.truths, len(capture.recording)) == ((), SMALL.capture_samples)
    assert list(of_scenes(SMALL, [], 3)) == []


def test_recall_is_compared_on_what_could_be_retuned() -> None:
    there, gone = ([Detection("alpha", 0.9, 0.0, 0.01, TRUTH.low_hz, TRUTH.high_hz, 1)], [])
    found, missed = (Evaluated("a", SMALL, [TRUTH], seen, (0, 0.02, 99.5e6, 100.5e6)) for seen in (there, gone))
    change = recall_change([(found, missed), (found, found), (missed, None)], ["alpha", "beta"])
    assert change["captures"] == 2
    assert change["recall"]["alpha"] == {"truths": 2, "as_is": 1.0, "retuned": 0.5, "change": -0.5}
    assert change["recall"]["beta"] == {"truths": 0, "as_is": None, "retuned": None, "change": None}
    assert change["recall"]["all"]["change"] == -0.5
