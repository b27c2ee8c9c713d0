"""Slots are taken and given back: every capture gets its own detections, nobody waits for ever, none gets lost."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from engine.contract import Contract
from engine.devices.cpu import Cpu
from engine.engine import Engine
from engine.errors import ClosedError
from engine.recordings.recording import Capture
from engine.slots import SLOTS, Slots

from .keeping import Keeping
from .scripted import PATIENCE_S, RATE, Source, bench, burst, when

CALLERS = 16
Found = list[tuple[float, float]]


def iqs(first_hz: float, count: int = 4) -> list[np.ndarray]:
    return [burst(first_hz + 1e6 * k, seed=k) for k in range(count)]


def alone(captures: list[np.ndarray]) -> list[Found]:
    """What the CPU finds in each, one after another: it keeps nothing."""
    b = bench()
    return [[(d.low_hz, d.score) for d in b.detect(iq)] for iq in captures]


def detected(engine: Engine, iq: np.ndarray) -> Found:
    return [(d.low_hz, d.score) for d in engine.detect(iq, sample_rate_hz=RATE)]


def streamed(engine: Engine, captures: list[np.ndarray]) -> Iterator[Found]:
    return ([(d.low_hz, d.score) for d in result] for result in engine.stream(Source(captures)))


# a device that keeps one set of arrays for each slot


def test_a_detect_inside_a_half_read_stream_leaves_the_stream_its_detections() -> None:
    device, captures, other = Keeping(), iqs(0.0, 6), burst(-5e6)
    engine, found = bench(device=device).engine, []
    for number, one in enumerate(streamed(engine, captures)):
        found.append(one)
        made = number + min(number + 2, 6)
        when(lambda made=made: device.images == made)  # type: ignore[misc]
        assert detected(engine, other) == alone([other])[0]
    assert found == alone(captures)


def test_two_streams_of_one_engine_in_turn_find_each_their_own() -> None:
    device, captures = Keeping(), (iqs(0.0, 5), iqs(-6e6, 5))
    engine = bench(device=device).engine
    streams = [streamed(engine, each) for each in captures]
    found: list[list[Found]] = [[], []]
    for _ in range(5):
        for mine, stream in zip(found, streams, strict=True):
            mine.append(next(stream))
            ahead = sum(min(len(results) + 1, 5) for results in found if results)
            when(lambda made=ahead: device.images == made)  # type: ignore[misc]
    assert found == [alone(each) for each in captures]


def test_sixteen_callers_at_once_streams_and_calls_find_each_their_own() -> None:
    engine = bench(device=Keeping()).engine
    captures = [iqs(-8e6 + 5e5 * k) for k in range(CALLERS)]

    def call(number: int) -> list[Found]:
        if number % 2:
            return list(streamed(engine, captures[number]))
        return [detected(engine, iq) for iq in captures[number]]

    with ThreadPoolExecutor(CALLERS) as pool:
        found = list(pool.map(call, range(CALLERS), timeout=PATIENCE_S))
    assert found == [alone(each) for each in captures]


def test_a_thread_with_more_half_read_streams_than_slots_can_still_detect_and_read_on() -> None:
    engine = bench(device=Keeping()).engine
    captures = [iqs(-8e6 + 1e6 * k, 3) for k in range(SLOTS + 2)]

    def use() -> list[list[Found]]:
        streams = [streamed(engine, each) for each in captures]
        found = [[next(stream)] for stream in streams]
        assert detected(engine, captures[0][0]) == alone(captures[0])[0]
        return [[*first, *rest] for first, rest in zip(found, streams, strict=True)]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result(PATIENCE_S) == [alone(each) for each in captures]


# given back


@contextmanager
def nothing_lost(engine: Engine) -> Iterator[None]:
    """All slots are free before and after, and no thread is left."""
    assert engine._slots.free == engine._slots.limit
    yield
    assert engine._slots.free == engine._slots.limit
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hydra-ahead")]


class Broken(Source):
    """Two captures, then the source fails."""

    def captures(self, contract: Contract) -> Iterator[Capture]:
        yield from super().captures(contract)
        raise OSError("the receiver is gone")


def test_a_stream_read_to_its_end_holds_no_slot() -> None:
    engine = bench().engine
    with nothing_lost(engine):
        assert len(list(engine.stream(Source(iqs(0.0))))) == 4


def test_a_stream_that_is_closed_gives_its_slots_back() -> None:
    engine = bench().engine
    with nothing_lost(engine):
        results = engine.stream(Source(iqs(0.0)))
        next(results)
        results.close()


def test_a_stream_that_is_dropped_gives_its_slots_back() -> None:
    engine = bench().engine
    with nothing_lost(engine):
        next(engine.stream(Source(iqs(0.0))))
        gc.collect()


def test_a_stream_whose_source_fails_gives_its_slots_back_after_the_results_before() -> None:
    engine, found = bench().engine, []
    with nothing_lost(engine), pytest.raises(OSError, match="receiver is gone"):
        for result in engine.stream(Broken(iqs(0.0, 2))):
            found.append(result)
    assert len(found) == 2


def test_a_consumer_that_fails_gives_the_streams_slots_back() -> None:
    engine = bench().engine
    with nothing_lost(engine):
        try:
            for _ in engine.stream(Source(iqs(0.0))):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            gc.collect()


def test_a_graph_that_fails_gives_the_slots_back() -> None:
    b = bench()
    b.heads._script = lambda feeds: 1 / 0  # type: ignore[assignment, return-value]
    with nothing_lost(b.engine):
        with pytest.raises(ZeroDivisionError):
            next(b.engine.stream(Source(iqs(0.0))))
        with pytest.raises(ZeroDivisionError):
            b.detect(burst())


def test_a_stream_of_a_closed_engine_gives_its_slots_back() -> None:
    engine = bench().engine
    results = engine.stream(Source(iqs(0.0)))
    with nothing_lost(engine):
        next(results)
        engine.close()
        with pytest.raises(ClosedError):
            next(results)


# the pool


def test_a_slot_is_given_back_once_however_often_that_is_asked_for() -> None:
    slots = Slots(Cpu(), 3)
    held = slots.take()
    held.give_back()
    with slots.take() as slot:
        held.give_back()
        assert slot.name == "0"
        assert slots.free == 2


def test_the_lowest_free_slot_comes_first_and_no_two_share_a_name() -> None:
    slots = Slots(Cpu(), 3)
    with slots.take() as first, slots.take() as second:
        assert (first.name, second.name) == ("0", "1")
        assert first.own("iq") != second.own("iq")
    with slots.take() as again:
        assert again is first


def test_one_slot_is_always_left_to_calls() -> None:
    slots = Slots(Cpu(), 3)
    kept = [slots.keep() for _ in range(4)]
    assert [held is not None for held in kept] == [True, True, False, False]
    with slots.take() as slot:
        assert slot.name == "2"


def test_a_kept_slot_that_a_call_uses_no_longer_counts_as_kept() -> None:
    slots = Slots(Cpu(), 3)
    first, second = slots.keep(), slots.keep()
    assert first is not None and second is not None and slots.keep() is None
    with first:
        assert slots.keep() is not None
    assert slots.free == 1


def test_callers_that_find_no_slot_get_one_in_the_order_they_came() -> None:
    slots, order = Slots(Cpu(), 2), []
    held = [slots.take(), slots.take()]

    def call(number: int) -> None:
        with slots.take():
            order.append(number)

    waiting = []
    for number in range(5):
        waiting.append(threading.Thread(target=call, args=[number], daemon=True))
        waiting[-1].start()
        when(lambda count=number + 1: len(slots._queue) == count)  # type: ignore[misc]
    assert slots.keep() is None  # they were first
    held[0].give_back()
    for thread in waiting:
        thread.join(PATIENCE_S)
    assert order == [0, 1, 2, 3, 4]
