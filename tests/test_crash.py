"""R01: whatever the moment a writer is killed or the power fails, the store opens with one active version per signal,
no file missing that is referred to, and the operation can be done again."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.errors import StoreError
from engine.store import registry
from engine.store.history import RETENTION, is_kept
from engine.store.registry import Store

from .faults import NEVER, Disk, Faults, Killed
from .tiny_store import add_backbone, add_compact, copy_store, small_store

ROOT = Path(__file__).parents[1]
MOST_CALLS = 400  # of the system by one operation
OTHER_HASH = "cd" * 32


class Operation(NamedTuple):
    act: Callable[[Store], object]
    done: Callable[[Store], bool]  # whether its effect is there


def active(store: Store, signal: str = "alpha") -> int:
    return store.history(signal)["active_version"]  # type: ignore[no-any-return]


def versions(store: Store, signal: str = "alpha") -> int:
    return len(store.history(signal)["versions"]) if signal in store.signals() else 0


OPERATIONS = {
    "first head": Operation(lambda s: add_compact(s, "gamma"), lambda s: versions(s, "gamma") > 0),
    "candidate, oldest one out": Operation(lambda s: add_compact(s, "alpha"), lambda s: versions(s) == RETENTION + 3),
    "promote": Operation(lambda s: s.promote("alpha", RETENTION + 2, "better"), lambda s: active(s) == RETENTION + 2),
    "rollback": Operation(lambda s: s.rollback("alpha"), lambda s: active(s) == 1),
    "reset": Operation(lambda s: s.reset(), lambda s: active(s) == 1),
    "backbone": Operation(lambda s: add_backbone(s, OTHER_HASH), lambda s: s.release().version >= 2),
    "repair": Operation(lambda s: s.repair(), lambda s: not s.check()),
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which one more version of alpha makes the oldest candidate go: 2 is active, 1 was before."""
    store = small_store(tmp_path_factory.mktemp("full") / "models")
    store.promote("alpha", add_compact(store, "alpha"), "better")
    for _ in range(RETENTION):
        add_compact(store, "alpha")
    return store.path


@pytest.fixture(autouse=True)
def lock_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process would let go of its lock, the one that runs the tests lives on."""
    monkeypatch.setattr(registry, "writer_lock", lambda path: nullcontext())


def spoil(store: Store, name: str) -> None:
    """For `repair`, something to do."""
    if name == "repair":
        (store.path / "heads/alpha/.new-k1ll").mkdir()
        (store.path / "heads/alpha/.new-k1ll/weights.safetensors").write_bytes(b"half")
        (store.path / "registry.json").unlink()


def sound(path: Path) -> Store:
    """Opens a store afresh and holds it to the promise of R01."""
    store = Store(path)
    for signal in store.signals():
        history = store.history(signal)
        assert [v["version"] for v in history["versions"] if v["is_active"]] == [history["active_version"]]
        for entry in filter(is_kept, history["versions"]):
            assert (path / f"heads/{signal}/v{entry['version']}/weights.safetensors").is_file()
    if not store.incompatible():
        assert store.snapshot().versions == {signal: active(store, signal) for signal in store.signals()}
    store.repair()
    assert all("in no history" in p.what or store.incompatible() for p in store.check()), store.check()
    return store


def completed(store: Store, operation: Operation) -> None:
    """Done again where it was not done, with all it should have."""
    if not operation.done(store):
        operation.act(store)
    assert operation.done(store)
    assert {"alpha", "beta"} <= set(store.signals())


def each_step(full: Path, tmp_path: Path, name: str) -> list[tuple[int, Path]]:
    """Numbers of an operation's calls of the system, and a store for each."""
    counted = copy_store(full, tmp_path / "counted")
    spoil(counted, name)
    with Faults(NEVER, Killed, lasting=True) as faults:
        OPERATIONS[name].act(counted)
    assert OPERATIONS[name].done(counted)
    assert 5 < faults.calls < MOST_CALLS
    return [(at, tmp_path / f"killed at {at}") for at in range(1, faults.calls + 1)]


@pytest.mark.parametrize("name", OPERATIONS)
def test_r01_a_writer_killed_at_any_call_leaves_a_sound_store(full: Path, tmp_path: Path, name: str) -> None:
    for at, path in each_step(full, tmp_path, name):
        store = copy_store(full, path)
        spoil(store, name)
        with pytest.raises(Killed), Faults(at, Killed, lasting=True):
            OPERATIONS[name].act(store)
        completed(sound(path), OPERATIONS[name])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads open files through /proc")
@pytest.mark.parametrize("name", ["first head", "candidate, oldest one out", "rollback"])
def test_r01_a_power_failure_at_any_call_leaves_a_sound_store(full: Path, tmp_path: Path, name: str) -> None:
    chance = random.Random(0)
    for at, path in each_step(full, tmp_path, name):
        store = copy_store(full, path)
        with closing(Disk(path)) as disk:
            with pytest.raises(Killed), Faults(at, Killed, lasting=True, disk=disk):
                OPERATIONS[name].act(store)
            for number in range(2):
                written = (lambda: False) if number == 0 else (lambda: chance.random() < 0.5)
                disk.after_power_loss(tmp_path / f"{at} {number}", written)
        for number in range(2):
            completed(sound(tmp_path / f"{at} {number}"), OPERATIONS[name])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads open files through /proc")
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_an_operation_has_done_lasts_when_the_power_fails_after_it(full: Path, tmp_path: Path, name: str) -> None:
    store = copy_store(full, tmp_path / "models")
    spoil(store, name)
    with closing(Disk(store.path)) as disk:
        with Faults(NEVER, Killed, lasting=True, disk=disk):
            OPERATIONS[name].act(store)
        disk.after_power_loss(tmp_path / "after")
    if name != "repair":  # what it removed may be there again, to be removed again
        assert OPERATIONS[name].done(Store(tmp_path / "after"))
    sound(tmp_path / "after")


WRITER = """
import sys
from engine.store.registry import Store
from tests.tiny_store import add_compact
store = Store(sys.argv[1])
print("ready", flush=True)
while True:
    store.promote("alpha", add_compact(store, "alpha"), "better")
    store.promote("alpha", add_compact(store, "alpha"), "better")
    store.rollback("alpha")
"""


def test_r01_kill_9_at_any_moment_leaves_a_sound_store_and_no_lock(full: Path, tmp_path: Path) -> None:
    store, chance = copy_store(full, tmp_path / "models"), random.Random(1)
    for _ in range(3):
        before = versions(store)
        with subprocess.Popen([sys.executable, "-c", WRITER, store.path], cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout and writer.stdout.readline() == b"ready\n"
            while versions(store) == before:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.1))
            writer.kill()
        sound(store.path)
    with pytest.raises(StoreError, match="has no version 999"):
        store.promote("alpha", 999, "the lock is free")
