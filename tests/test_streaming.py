"""What streams read, and the detections of a whole stream."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from engine.contract import Contract
from engine.errors import InputError
from engine.recordings.recording import Capture
from engine.stitching import Stitcher
from engine.streaming import CaptureSource

from .scripted import RATE, SHORT, Source, bench, burst, same

LONG = burst(3e6, 0.004, 0.023, replace(SHORT, capture_s=0.03))
PIECES = np.split(LONG, 3)  # one signal in three captures


@dataclass
class Faulty:
    """A source whose first capture is another than `Source`'s."""

    change: dict[str, Any]

    def captures(self, contract: Contract) -> Iterator[Any]:
        for capture in Source(PIECES).captures(contract):
            yield replace(capture, **self.change) if self.change else "a capture"


def test_any_source_of_captures_is_streamed() -> None:
    b = bench()
    assert isinstance(Source(PIECES), CaptureSource)
    results = list(b.engine.stream(Source(PIECES), center_freq_hz=433e6))
    assert [result.start_s for result in results] == [0.0, 0.01, 0.02]
    assert same(results[0], b.detect(PIECES[0], center_freq_hz=433e6))


def test_a_stream_gives_a_result_before_its_source_has_the_capture_after_the_next() -> None:
    read = []

    class Live(Source):
        def captures(self, contract: Contract) -> Iterator[Capture]:
            for capture in super().captures(contract):
                read.append(capture)
                yield capture

    for number, _ in enumerate(bench().engine.stream(Live([*PIECES, *PIECES]))):
        assert len(read) <= number + 2


@pytest.mark.parametrize("given", ["x.sigmf-meta", PIECES[0], None, Source, [PIECES[0]], 7])
def test_what_gives_no_captures_is_refused_at_once(given: Any) -> None:
    for read in (bench().engine.stream, bench().engine.detections):
        with pytest.raises(InputError, match=r"takes a Recording or another source.*not a \w+; use open_recording"):
            read(given)


FAULTS = [
    ({}, "gave a str, not an engine.recordings.recording.Capture"),
    ({"iq": PIECES[0][:-1]}, r"gave complex64\[199999\]; a capture's iq is complex64\[200000\]"),
    ({"iq": PIECES[0].astype(np.complex128)}, r"gave complex128\[200000\]"),
    ({"iq": None}, "gave NoneType"),
    ({"sample_rate_hz": RATE / 2}, "samples at 1e\\+07 Hz.*2e\\+07 Hz; resample"),
]


@pytest.mark.parametrize(("change", "said"), FAULTS)
def test_captures_that_do_not_fit_the_contract_are_refused(change: dict[str, Any], said: str) -> None:
    b = bench()
    with pytest.raises(InputError, match=rf"Faulty.captures.*{said}"):
        next(b.engine.stream(Faulty(change)))
    assert b.engine._slots.free == b.engine._slots.limit


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "high"])
def test_a_threshold_that_is_none_is_refused_at_once(threshold: Any) -> None:
    with pytest.raises(InputError, match="threshold"):
        bench().engine.stream(Source(PIECES), threshold=threshold)


def test_detections_of_a_stream_are_those_of_its_results_stitched() -> None:
    engine, stitcher = bench(("radar", "lora")).engine, Stitcher()
    found = list(engine.detections(Source(PIECES), center_freq_hz=433e6))
    results = engine.stream(Source(PIECES), center_freq_hz=433e6)
    assert found == [*(d for result in results for d in stitcher.add(result)), *stitcher.close()]
    assert sorted(d.signal for d in found) == ["lora", "radar"]
    assert found[0].stop_s - found[0].start_s == pytest.approx(0.019, abs=1e-3)


def test_detections_below_the_threshold_of_the_call_are_left_out() -> None:
    engine = bench().engine
    assert not list(engine.detections(Source(PIECES), threshold=0.95))


def test_what_was_found_before_a_source_failed_comes_before_the_error() -> None:
    class Failing(Source):
        def captures(self, contract: Contract) -> Iterator[Capture]:
            yield from super().captures(contract)
            raise OSError("the receiver is gone")

    found = []
    with pytest.raises(OSError, match="receiver is gone"):
        for detection in bench().engine.detections(Failing(PIECES[:1])):
            found.append(detection)
    assert len(found) == 1


def test_detections_that_are_left_early_give_the_slots_back() -> None:
    engine = bench().engine
    found = engine.detections(Source([burst(seed=k) for k in range(6)]))
    next(found)
    found.close()
    assert engine._slots.free == engine._slots.limit


def test_a_caller_with_a_stitcher_of_its_own_keeps_what_was_open_when_it_stops() -> None:
    engine, stitcher, found = bench().engine, Stitcher(), []
    try:
        for result in engine.stream(Source(PIECES)):
            found += stitcher.add(result)
            if result.start_s > 0:
                break
    finally:
        found += stitcher.close()
    assert [round(d.stop_s, 3) for d in found] == [0.02]
