"""Many callers at once, swaps, forks, ends, and machines with fewer cores than shown (faults E11, G10, G11)."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.devices import machine
from engine.devices.cpu import Cpu
from engine.devices.machine import cores
from engine.engine import Engine
from engine.errors import ClosedError
from engine.store.registry import Store

from .scripted import burst, same
from .toy_store import add_head, image, toy_store

ROOT = Path(__file__).parents[1]
CALLERS = 16
SHOWN = image([(1, 2), (5, 9)])


@pytest.fixture
def toys(tmp_path: Path) -> Store:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    return store


def test_e11_sixteen_threads_each_get_the_result_of_their_own_capture(toys: Store) -> None:
    iqs = [burst(-8e6 + 1e6 * k, seed=k) for k in range(CALLERS)]
    with Engine.open(toys.path) as engine:
        iqs = [iq[: engine.contract.capture_samples] for iq in iqs]
        alone = [engine.detect(iq, sample_rate_hz=engine.contract.sample_rate_hz) for iq in iqs]
        with ThreadPoolExecutor(CALLERS) as pool:
            rate_hz = engine.contract.sample_rate_hz
            together = list(pool.map(lambda iq: engine.detect(iq, sample_rate_hz=rate_hz), iqs * 3))
    assert all(same(a, b) for a, b in zip(alone * 3, together, strict=True))


def test_e11_frames_during_swaps_are_of_one_revision_each_and_none_fails(toys: Store) -> None:
    add_head(toys, "bright", 195)
    seen, stop = set(), threading.Event()
    with Engine.open(toys.path) as engine:

        def look() -> None:
            while not stop.is_set():
                found = engine.detect_image(SHOWN)
                assert len({d.version for d in found}) == 1 and len(found) == 2
                seen.add(found[0].version)

        with ThreadPoolExecutor(4) as pool:
            looking = [pool.submit(look) for _ in range(4)]
            for turn in range(10):
                toys.promote("bright", 2 - turn % 2, "to and fro")
                engine.refresh()
                engine.detect_image(SHOWN)
            stop.set()
            for one in looking:
                one.result()
    assert seen == {1, 2}


def test_e11_closing_waits_for_the_frame_under_way_and_then_refuses(toys: Store) -> None:
    engine = Engine.open(toys.path)
    with ThreadPoolExecutor(4) as pool:
        under_way = [pool.submit(engine.detect_image, SHOWN) for _ in range(4)]
        engine.close()
        for one in under_way:
            try:
                assert len(one.result()) == 2
            except ClosedError:
                continue  # came after
    with pytest.raises(ClosedError, match="open another"):
        engine.detect_image(SHOWN)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_e11_a_forked_child_is_told_to_open_its_own_and_can(toys: Store) -> None:
    code = f"""
import os, sys, warnings
import numpy as np
from engine.engine import Engine
from engine.errors import ClosedError
image = np.load({str(toys.path.parent / "shown.npy")!r})
engine = Engine.open({str(toys.path)!r})
count = len(engine.detect_image(image))
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    try:
        engine.detect_image(image)
        os._exit(1)
    except ClosedError as error:
        assert "forked" in str(error)
    own = Engine.open({str(toys.path)!r})
    os._exit(0 if len(own.detect_image(image)) == count == 2 else 2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    np.save(toys.path.parent / "shown.npy", SHOWN)
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.4])
def test_e11_the_interpreter_ends_while_threads_detect(toys: Store, seconds: float) -> None:
    code = f"""
import threading, time
import numpy as np
from engine.engine import Engine
engine = Engine.open({str(toys.path)!r})
iq = np.random.default_rng(0).normal(size=2 * engine.contract.capture_samples).astype(np.float32).view(np.complex64)
def detect():
    while True:
        engine.detect(iq, sample_rate_hz=engine.contract.sample_rate_hz)
def load():
    while True:
        Engine.open({str(toys.path)!r}).close()
for look in (detect, detect, load):
    threading.Thread(target=look, daemon=True).start()
time.sleep({seconds})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_e11_the_end_waits_for_a_call_under_way_and_lets_no_other_in() -> None:
    code = """
import threading, time
from engine.shutdown import call_under_way
entered = threading.Event()
def first():
    with call_under_way():
        entered.set()
        time.sleep(0.5)
        print("out", flush=True)
    with call_under_way():
        print("in again", flush=True)
threading.Thread(target=first, daemon=True).start()
entered.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "out\n")


def test_e11_a_forked_child_ends_though_its_parent_was_detecting() -> None:
    code = """
import os, sys, threading
from engine.shutdown import call_under_way
entered = threading.Event()
def look():
    with call_under_way():
        entered.set()
        threading.Event().wait(2)
threading.Thread(target=look, daemon=True).start()
entered.wait()
child = os.fork()
if child == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=20).returncode == 0


def test_e11_an_event_loop_goes_on_while_detection_runs_beside_it(toys: Store) -> None:
    async def main(engine: Engine) -> tuple[int, int]:
        rate_hz, ticks = engine.contract.sample_rate_hz, 0
        iq = burst()[: engine.contract.capture_samples]
        frames = asyncio.gather(*(asyncio.to_thread(engine.detect, iq, sample_rate_hz=rate_hz) for _ in range(8)))
        while not frames.done():
            await asyncio.sleep(0)
            ticks += 1
        return ticks, len(await frames)

    with Engine.open(toys.path) as engine:
        ticks, frames = asyncio.run(main(engine))
    assert frames == 8
    assert ticks > 20  # one a frame at most, were the loop held up


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("200000 100000", 2), ("50000 100000", 1), ("", None)]
)
def test_g10_the_quota_of_a_control_group_is_read(tmp_path: Path, text: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert machine._quota(tmp_path) == expected


def test_g10_cores_are_those_that_may_be_used_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, expected in ((None, 64), (2, 2), (1, 1), (100, 64)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
        monkeypatch.setattr(machine, "_quota", lambda quota=quota: quota)
        assert cores() == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert cores() == 1


def test_g10_four_engines_in_one_process_do_not_disturb_each_other(toys: Store) -> None:
    engines = [Engine.open(toys.path, threads=1) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: engines[k % 4].detect_image(SHOWN), range(24)))
    for engine in engines:
        engine.close()
    assert all(one == found[0] for one in found)


def test_the_cpu_s_blocks_are_worked_on_again_after_a_fork() -> None:
    cpu = Cpu()
    assert list(cpu.parallel_map(lambda first, last: (first, last), 5, 2)) == [(0, 2), (2, 4), (4, 5)]
    cpu._owner = -1  # as a forked child finds it
    assert list(cpu.parallel_map(lambda first, last: first, 3, 1)) == [0, 1, 2]


def test_g11_frames_loads_and_lengths_leave_nothing_behind(toys: Store) -> None:
    def cycle(number: int) -> None:
        with Engine.open(toys.path) as engine:
            iq = burst()[: engine.contract.capture_samples - 17 * (number % 50)]
            engine.detect(iq, sample_rate_hz=engine.contract.sample_rate_hz)
            engine.detect_image(SHOWN)

    for number in range(5):
        cycle(number)
    before = _held()
    for number in range(30):
        cycle(number)
    after = _held()
    assert after["files"] <= before["files"] + 2
    assert after["threads"] <= before["threads"] + 2
    assert after["memory_mb"] <= before["memory_mb"] + 60  # a leaked engine of this store would be 10 MB each


def _held() -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
    }
