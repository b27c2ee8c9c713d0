"""The order of a frame's work, proven on the tracing device: no array is read before it is written, none is written
over before its last reader is done, with one slot and with two, and with compact and full heads side by side."""

from collections.abc import Callable, Generator, Iterator

import numpy as np
import pytest

from engine.detection import Result
from engine.devices.tracing import Step, TracingDevice
from engine.engine import Engine
from engine.pipeline import Frame, front_end
from engine.recordings.open import open_recording
from engine.recordings.writing import write_sigmf
from engine.slots import SLOTS, Slots
from engine.spectrogram import as_grey

from .schedule import Following, Of, races, strangers
from .scripted import NORMAL, RATE, SHORT, Source, bench, burst, when
from .toy_store import add_head, image, toy_store

CAPTURES = 4
SHOWN = as_grey(image([(3, 4)]))


def device_of(engine: Engine) -> TracingDevice:
    device = engine._device
    assert isinstance(device, TracingDevice)
    return device


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Step]]:
    """What several ways of using an engine were written down as."""
    folder = tmp_path_factory.mktemp("schedule")
    store = toy_store(folder / "models")
    for number, signal in enumerate(("bright", "dark")):
        add_head(store, signal, 200 - 50 * number)
    found: dict[str, list[Step]] = {}
    with Engine.open(store.path, device="tracing") as engine:
        capture = burst(contract=engine.contract)
        rate_hz = engine.contract.sample_rate_hz
        engine.detect(capture, sample_rate_hz=rate_hz)
        engine.detect_image(SHOWN)
        engine.detect(capture, sample_rate_hz=rate_hz)
        found["one slot"] = list(device_of(engine).log)
    with Engine.open(store.path, device="tracing") as engine:
        iq = np.tile(capture, CAPTURES) / 8
        recording = open_recording(write_sigmf(folder / "long", iq, sample_rate_hz=rate_hz, datatype="ci16_le"))
        assert len(list(engine.stream(recording))) == CAPTURES
        found["two slots"] = list(device_of(engine).log)
    full = bench(("radar", "lora", "fsk"), device="tracing")
    for _ in range(2):
        full.detect(NORMAL)
    found["full heads"] = list(device_of(full.engine).log)
    return found


WAYS = ("one slot", "two slots", "full heads")


@pytest.mark.parametrize("way", WAYS)
def test_every_read_is_behind_its_write_and_no_array_is_reused_before_its_last_reader(
    logs: dict[str, list[Step]], way: str
) -> None:
    assert len(logs[way]) > 20
    assert races(logs[way]) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_waits_once_for_the_device(logs: dict[str, list[Step]], way: str) -> None:
    frames = {"one slot": 3, "two slots": CAPTURES, "full heads": 2}[way]
    assert sum(step.what == "synchronise" for step in logs[way]) == frames
    assert logs[way][-1].what == "synchronise"  # nothing is read on the host before this


@pytest.mark.parametrize("way", WAYS)
def test_without_any_one_wait_the_order_would_not_be_proven(logs: dict[str, list[Step]], way: str) -> None:
    for log, dropped in without_one(logs[way], "wait"):
        assert races(log), f"{dropped} orders nothing"


@pytest.mark.parametrize("way", WAYS)
def test_without_any_one_mark_the_order_would_not_be_proven(logs: dict[str, list[Step]], way: str) -> None:
    for log, dropped in without_one(logs[way], "record"):
        assert races(log), f"{dropped} orders nothing"


def without_one(log: list[Step], what: str) -> Iterator[tuple[list[Step], Step]]:
    """The log less one step of a kind, for each mark its first one: later ones are the same line of code."""
    seen = set()
    for number, step in enumerate(log):
        if step.what == what and step.mark not in seen:
            seen.add(step.mark)
            yield [*log[:number], *log[number + 1 :]], step


def followed(use: Callable[[Engine], object]) -> list[Step]:
    """What using an engine leaves in the log of a device that follows captures."""
    device = Following()
    with device.followed() as log:
        use(bench(("radar", "lora"), device=device).engine)
    return list(log)


def stream_of(engine: Engine, count: int, first_hz: float = 0.0) -> Generator[Result, None, None]:
    return engine.stream(Source([burst(first_hz + 1e6 * k, seed=k) for k in range(count)]))


def detect_inside_a_half_read_stream(engine: Engine) -> None:
    results = stream_of(engine, 4)
    for _ in results:
        engine.detect(burst(-5e6), sample_rate_hz=RATE)
        engine.detect_image(SHOWN)


def two_streams_in_turn(engine: Engine) -> None:
    streams, read, log = (stream_of(engine, 4), stream_of(engine, 4, -6e6)), [0, 0], device_of(engine).log
    for turn in range(8):
        next(streams[turn % 2])
        read[turn % 2] += 1
        ahead = sum(min(count + 1, 4) for count in read if count)
        when(lambda made=ahead: sum(step.mark == "render" for step in log) == made)  # type: ignore[misc]


def more_streams_than_slots(engine: Engine) -> None:
    for _ in zip(*(stream_of(engine, 3, -8e6 + 1e6 * k) for k in range(SLOTS + 2)), strict=True):
        pass


def streams_given_up_half_way(engine: Engine) -> None:
    for _ in range(3):
        results = stream_of(engine, 3)
        next(results)
        results.close()
        engine.detect(burst(-5e6), sample_rate_hz=RATE)


MIXED = [
    detect_inside_a_half_read_stream, two_streams_in_turn, more_streams_than_slots, streams_given_up_half_way,
]  # fmt: skip


@pytest.mark.parametrize("use", MIXED, ids=lambda use: use.__name__)
def test_every_capture_finds_its_own_data_however_streams_and_calls_mix(use: Callable[[Engine], object]) -> None:
    log = followed(use)
    assert len({step.capture for step in log if isinstance(step, Of)}) >= 6
    assert strangers(log) == []
    assert races(log) == []


def test_a_capture_that_is_given_up_is_waited_for_before_its_slot_is_used_again() -> None:
    device = TracingDevice()
    slots = Slots(device)
    for _ in range(2):
        with slots.take() as slot:
            assert front_end(NORMAL, SHORT, slot, Frame()) is not None
    assert sum(step.what == "upload" for step in device.log) == 2
    assert races(device.log) == []


def test_a_capture_that_is_overwritten_before_it_is_looked_at_is_reported() -> None:
    """Each step is in order on its own stream, so that no race is there to be seen."""

    def render(capture: int) -> list[Step]:
        return [Of("compute", "work", "render", writes=("image 0",), capture=capture)]

    def infer(capture: int) -> list[Step]:
        return [Of("compute", "work", "infer", reads=("image 0",), writes=("found",), capture=capture)]

    overwritten = [*render(1), *render(2), *infer(2), *infer(1)]
    assert races(overwritten) == []
    assert strangers(overwritten) == ["work 'infer' on compute for capture 1 reads image 0, which holds capture 2"]
    assert strangers([*render(1), *infer(1), *render(2), *infer(2)]) == []
    assert strangers(infer(1)) == ["work 'infer' on compute reads image 0, which nobody has written"]


def test_the_log_of_one_slot_for_all_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The streams of an engine with one slot's names for every slot: what the proof is there to find."""
    monkeypatch.setattr("engine.pipeline.Slot.own", lambda self, name: f"{name} 0")
    log = followed(detect_inside_a_half_read_stream)
    assert any("reads image 0, which holds capture" in told for told in strangers(log))


def test_the_checker_sees_a_race_and_an_order() -> None:
    write = Step("a", "work", "render", writes=("image",))
    read = Step("b", "work", "infer", reads=("image",))
    mark, wait = Step("a", "record", "rendered"), Step("b", "wait", "rendered")
    assert races([write, mark, wait, read]) == []
    assert "both at image" in races([write, mark, read])[0]
    assert "nobody has set" in races([write, wait, read])[0]
    assert races([write, mark, wait, read, write])  # written over while it may still be read
    assert races([write, mark, wait, read, Step("b", "synchronise"), write]) == []
    assert races([write, Step("a", "synchronise"), read]) == []
