"""The order of a frame's work, proven on the recording device: no array is read before it is written, none is written
over before its last reader is done, with one slot and with two, and with compact and full heads side by side."""

from collections.abc import Iterator

import numpy as np
import pytest

from engine.device import Recording, Step
from engine.engine import Engine
from engine.recording import open_recording, write_sigmf

from .schedule import races
from .scripted import NORMAL, bench, burst
from .toy_store import add_head, image, toy_store

CAPTURES = 4
SHOWN = image([(3, 4)]).astype(np.float32) / np.float32(255)


def device_of(engine: Engine) -> Recording:
    device = engine._slot.device
    assert isinstance(device, Recording)
    return device


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Step]]:
    """What several ways of using an engine were written down as."""
    folder = tmp_path_factory.mktemp("schedule")
    store = toy_store(folder / "models")
    for number, signal in enumerate(("bright", "dark")):
        add_head(store, signal, 200 - 50 * number)
    found: dict[str, list[Step]] = {}
    with Engine.open(store.path, device="recording") as engine:
        capture = burst(contract=engine.contract)
        rate_hz = engine.contract.sample_rate_hz
        engine.detect(capture, sample_rate_hz=rate_hz)
        engine.detect_image(SHOWN)
        engine.detect(capture, sample_rate_hz=rate_hz)
        found["one slot"] = list(device_of(engine).log)
    with Engine.open(store.path, device="recording") as engine:
        iq = np.tile(capture, CAPTURES) / 8
        recording = open_recording(write_sigmf(folder / "long", iq, sample_rate_hz=rate_hz, datatype="ci16_le"))
        assert len(list(engine.stream(recording))) == CAPTURES
        found["two slots"] = list(device_of(engine).log)
    full = bench(("radar", "lora", "fsk"), device="recording")
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


def test_the_checker_sees_a_race_and_an_order() -> None:
    write = Step("a", "work", "draw", writes=("image",))
    read = Step("b", "work", "look", reads=("image",))
    mark, wait = Step("a", "record", "drawn"), Step("b", "wait", "drawn")
    assert races([write, mark, wait, read]) == []
    assert "both at image" in races([write, mark, read])[0]
    assert "nobody has set" in races([write, wait, read])[0]
    assert races([write, mark, wait, read, write])  # written over while it may still be read
    assert races([write, mark, wait, read, Step("b", "synchronise"), write]) == []
    assert races([write, Step("a", "synchronise"), read]) == []
