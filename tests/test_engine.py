"""The engine around a scripted network: what a result says, what order things happen in, what heads may answer."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.boxes import to_physical
from engine.contract import Contract
from engine.errors import ClosedError, InputError, UnavailableError
from engine.recordings.open import open_recording
from engine.recordings.recording import Capture, Recording
from engine.recordings.writing import write_sigmf
from engine.stitching import stitch

from .scripted import FULL_SCORE, NORMAL, RATE, SHORT, bench, burst, same

# a frame of time and two rows of frequency (a row is four bins): as sharp as the image is
FRAME_S, ROWS_HZ = SHORT.hop / RATE, 2 * RATE / 1024


def place(pixels: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(to_physical(np.array([pixels]), SHORT)[0].tolist())


# what a result says


def test_a_result_says_all_about_its_capture() -> None:
    b = bench(("radar", "lora"))
    result = b.detect(NORMAL, center_freq_hz=2.4e9)
    first, second = result
    assert (first.signal, first.version) == ("radar", 1)
    assert first.score == pytest.approx(FULL_SCORE)
    assert (first.start_s, first.stop_s) == pytest.approx((0.003, 0.006), abs=FRAME_S)
    assert (first.low_hz, first.high_hz) == pytest.approx((2.4029e9, 2.4031e9), abs=ROWS_HZ)
    assert second == replace(first, signal="lora", version=2, score=second.score)
    assert (result.start_s, result.stop_s, result.data_quality, result.notes) == (0.0, 0.01, "ok", ())
    assert result.ran_on == {"device": "cpu", "runtime": "scripted", "precision": "float32"}
    assert (result.revision, result.versions) == (7, {"radar": 1, "lora": 2})


def test_a_stream_draws_one_capture_ahead_and_gives_what_one_after_another_gives(tmp_path: Path) -> None:
    iq = np.concatenate([burst(1e6 * k, seed=k) for k in range(5)])
    recording = open_recording(write_sigmf(tmp_path / "five", iq / 8, sample_rate_hz=RATE, datatype="cf32_le"))
    b, drawn = bench(), list[int]()
    captures = list(recording.captures(b.engine.contract))
    alone = [b.detect(capture.iq) for capture in captures]

    class Watched(Recording):
        def captures(self, contract: Contract) -> Iterator[Capture]:
            for number, capture in enumerate(captures):
                drawn.append(number)
                yield capture

    watched = Watched(**vars(recording))
    for number, result in enumerate(b.engine.stream(watched)):
        assert len(drawn) <= number + 2  # never further ahead
        assert [(d.low_hz, d.score) for d in result] == [(d.low_hz, d.score) for d in alone[number]]
    assert drawn == [0, 1, 2, 3, 4]


def test_a_stream_left_early_leaves_no_thread(tmp_path: Path) -> None:
    iq = np.concatenate([burst(seed=k) for k in range(4)])
    recording = open_recording(write_sigmf(tmp_path / "four", iq / 8, sample_rate_hz=RATE, datatype="cf32_le"))
    results = bench().engine.stream(recording)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hydra-ahead")]


def test_every_stage_is_timed_in_order() -> None:
    timings = bench().detect(NORMAL).timings_ms
    assert list(timings) == ["upload", "front_end", "backbone", "heads", "download", "detections"]
    assert all(value >= 0 for value in timings.values())


def test_frequencies_are_absolute_where_a_centre_is_known() -> None:
    b = bench()
    (bare,), (tuned,) = b.detect(NORMAL), b.detect(NORMAL, center_freq_hz=433e6)
    assert tuned == replace(bare, low_hz=bare.low_hz + 433e6, high_hz=bare.high_hz + 433e6)


def test_of_heads_that_claim_one_burst_the_best_answers_unless_all_are_asked_for() -> None:
    signals = ("radar", "lora", "fsk")
    assert [d.signal for d in bench(signals, arbitrate=True).detect(NORMAL)] == ["radar"]
    every = bench(signals, arbitrate=False).detect(NORMAL)
    assert [d.signal for d in every] == ["radar", "lora", "fsk"]
    assert every.scores().tolist() == sorted(every.scores(), reverse=True)


def test_scores_below_the_threshold_are_not_told() -> None:
    boxes = [(100 * k, 100, 100 * k + 50, 200) for k in range(4)]
    b = bench(answers={0: (boxes, [0.3, 0.6, 0.5, 0.4999])}, threshold=0.5)
    assert [round(d.score, 4) for d in b.detect(NORMAL)] == [0.6, 0.5]
    assert [round(d.score, 4) for d in b.detect(NORMAL, threshold=0.35)] == [0.6, 0.5, 0.4999]
    assert len(b.detect(NORMAL, threshold=0)) == 4  # and not the 96 rows of padding
    assert len(b.detect(NORMAL, threshold=1)) == 0
    b.engine.threshold = 0.55
    assert len(b.detect(NORMAL)) == 1


def test_the_backbone_runs_once_and_every_head_once_with_its_own_weights() -> None:
    b = bench(("a", "b", "c"))
    b.detect(NORMAL)
    (fed,) = b.backbone.calls
    assert (fed["image"].shape, fed["image"].dtype) == ((1, 1, 1024, 1024), np.float32)
    assert [int(feeds["number"][0]) for feeds in b.heads.calls] == [0, 1, 2]
    assert all(feeds["p2"] is fed["image"] and feeds["cells"].shape == (5, 3, 4) for feeds in b.heads.calls)


def test_detections_are_cut_to_what_is_signal() -> None:
    inside, across, beyond = (100, 0, 200, 9), (400, 0, 1024, 9), (700, 0, 900, 9)
    b = bench(answers={0: ([inside, across, beyond], [0.9, 0.8, 0.7])})
    result = b.detect(NORMAL[: len(NORMAL) // 2])
    assert result.notes == ("padded with silence: 0.005 s of 0.01 s is signal",)
    assert result.stop_s == 0.005
    first, second = result
    assert (first.start_s, first.stop_s) == place(inside)[:2]
    assert (second.start_s, second.stop_s) == (place(across)[0], 0.005)


def test_other_rates_are_resampled_and_said_so() -> None:
    slow = replace(SHORT, sample_rate_hz=RATE / 2)
    result = bench().detect(burst(contract=slow), sample_rate_hz=RATE / 2)
    (found,) = result
    assert result.notes == ("resampled 10 MS/s -> 20 MS/s",)
    assert (found.start_s, found.stop_s) == pytest.approx((0.003, 0.006), abs=FRAME_S)
    assert (found.low_hz, found.high_hz) == pytest.approx((2.95e6, 3.05e6), abs=ROWS_HZ)


# life and order


def test_a_closed_engine_says_so_and_closes_twice() -> None:
    b = bench()
    with b.engine as engine:
        engine.detect(NORMAL, sample_rate_hz=RATE)
    assert b.backbone.closed and b.heads.closed
    b.backbone.closed = False
    engine.close()
    assert not b.backbone.closed  # a session is closed once: a runtime's may not bear it twice
    with pytest.raises(ClosedError, match="open another"):
        b.detect(NORMAL)
    with pytest.raises(ClosedError):
        engine.refresh()


def test_without_a_store_there_is_nothing_to_refresh() -> None:
    b = bench()
    before = b.engine.snapshot
    assert b.engine.refresh() is False
    assert b.engine.snapshot is before


def test_an_unknown_device_is_refused_by_name() -> None:
    with pytest.raises(UnavailableError, match="'abacus' is not available; choose one of auto, cpu"):
        bench(device="abacus")


def test_eight_threads_get_what_one_after_another_gets() -> None:
    b = bench()
    captures = [burst(1e6 * k, 0.001 + 5e-4 * k, 0.006, seed=k) for k in range(8)]
    expected = [b.detect(iq) for iq in captures]
    assert len({result.detections for result in expected}) == 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(b.detect, captures * 2))
    assert all(same(a, b) for a, b in zip(found, expected * 2, strict=True))


def test_closing_lets_the_frame_under_way_finish() -> None:
    b, started, go_on = bench(), threading.Event(), threading.Event()
    script = b.backbone._script

    def slow(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started.set()
        assert go_on.wait(10)
        assert not b.backbone.closed
        return script(feeds)

    b.backbone._script = slow
    with ThreadPoolExecutor(3) as pool:
        under_way = pool.submit(b.detect, NORMAL)
        assert started.wait(10)
        closing = pool.submit(b.engine.close)
        late = pool.submit(b.detect, NORMAL)
        go_on.set()
        assert len(under_way.result(10)) == 1
        closing.result(10)
        assert late.exception(10) is None or isinstance(late.exception(), ClosedError)  # either may come first
    assert b.backbone.closed


def test_nothing_is_read_on_the_host_before_it_is_there() -> None:
    b = bench(("radar", "lora"), device="tracing")
    result = b.detect(NORMAL)
    assert result.ran_on["device"] == "tracing"
    log = b.engine._device.log  # type: ignore[attr-defined]
    downloads = [step for step in log if step.what == "download"]
    assert [step.mark for step in downloads] == ["stats 0", *["found"] * 4]  # boxes and scores of two heads
    assert (log[-1].what, log[-1].stream) == ("synchronise", downloads[-1].stream)


@pytest.mark.parametrize("broken", ["backbone", "heads"])
def test_a_graph_that_fails_fails_its_own_capture_only(broken: str) -> None:
    b = bench()
    before, session = b.detect(NORMAL), getattr(b, broken)
    script = session._script
    session._script = lambda feeds: 1 / 0
    with pytest.raises(ZeroDivisionError):
        b.detect(NORMAL)
    session._script = script
    assert same(b.detect(NORMAL), before)


# recordings


def recorded(folder: Path, iq: np.ndarray, centre_hz: float | None = 433e6) -> Path:
    return write_sigmf(folder / "x", iq, sample_rate_hz=RATE, center_freq_hz=centre_hz, datatype="cf32_le")


def long_burst() -> np.ndarray:
    """25 ms, two and a half captures, with a tone from 4 to 23 ms."""
    return burst(3e6, 0.004, 0.023, replace(SHORT, capture_s=0.025))


def test_a_recording_comes_as_one_result_per_capture_and_stitches_to_one_signal(tmp_path: Path) -> None:
    results = list(bench().engine.stream(open_recording(recorded(tmp_path, long_burst()))))
    assert [r.start_s for r in results] == pytest.approx([0.0, 0.01, 0.015])
    assert [r.stop_s for r in results] == pytest.approx([0.01, 0.02, 0.025])
    assert results[2].notes == ("reaches back 0.005 s",)
    (whole,) = stitch(results)
    assert (whole.start_s, whole.stop_s) == pytest.approx((0.004, 0.023), abs=FRAME_S)
    assert (whole.low_hz, whole.high_hz) == pytest.approx((435.9e6, 436.1e6), abs=ROWS_HZ)


def test_a_result_says_how_well_it_knows_edges_in_time(tmp_path: Path) -> None:
    (result,) = bench().engine.stream(open_recording(recorded(tmp_path, NORMAL)))
    assert result.resolution_s == SHORT.resolution_s == pytest.approx(FRAME_S)


def test_a_centre_given_outweighs_the_recording_s(tmp_path: Path) -> None:
    recording = open_recording(recorded(tmp_path, NORMAL))
    (result,) = bench().engine.stream(recording, center_freq_hz=1e9)
    assert result[0].low_hz == pytest.approx(1.0029e9, abs=ROWS_HZ)


def test_a_streamed_capture_is_found_as_if_handed_over(tmp_path: Path) -> None:
    b = bench()
    (streamed,) = b.engine.stream(open_recording(recorded(tmp_path, NORMAL)), threshold=0.2)
    assert same(streamed, b.detect(NORMAL, center_freq_hz=433e6, threshold=0.2))


def test_broken_samples_spoil_their_own_capture_of_a_recording_only(tmp_path: Path) -> None:
    """E05"""
    iq = long_burst()
    iq[250_000] = np.nan  # in the second of three captures
    results = list(bench().engine.stream(open_recording(recorded(tmp_path, iq))))
    assert [(r.data_quality, len(r)) for r in results] == [("ok", 1), ("invalid", 0), ("ok", 1)]


def test_a_stream_ends_in_an_error_when_the_engine_is_closed(tmp_path: Path) -> None:
    b = bench()
    results = b.engine.stream(open_recording(recorded(tmp_path, long_burst())))
    next(results)
    b.engine.close()
    with pytest.raises(ClosedError):
        next(results)


@pytest.mark.parametrize("given", ["x.sigmf-meta", NORMAL, None])
def test_only_recordings_are_streamed(given: object) -> None:
    with pytest.raises(InputError, match=r"takes a Recording.*open_recording"):
        next(bench().engine.stream(given))  # type: ignore[arg-type]


def test_a_contract_may_be_longer_than_the_default_of_these_tests() -> None:
    b = bench(contract=Contract(sample_rate_hz=1e6, capture_s=0.3))
    (found,) = b.detect(burst(2e5, 0.1, 0.2, b.engine.contract), sample_rate_hz=1e6)
    assert (found.start_s, found.stop_s) == pytest.approx((0.1, 0.2), abs=2048e-6)
