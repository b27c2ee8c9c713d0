"""R02, R03: a disk that fails at any call, and several processes that write at once."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from engine.engine import Engine
from engine.errors import StoreError
from engine.store import locking
from engine.store.history import was_active
from engine.store.locking import LOCK_NAME, writer_lock
from engine.store.registry import Store

from .faults import NEVER, Faults
from .test_crash import ROOT, sound
from .tiny_store import add_compact, add_head, copy_store, tree

# R02


def failing(number: int) -> Callable[[], OSError]:
    return lambda: OSError(number, os.strerror(number))


CHANGES = {
    "add": lambda store: add_compact(store, "alpha"),
    "add first": lambda store: add_compact(store, "gamma"),
    "promote": lambda store: store.promote("alpha", 3, "better"),
    "rollback": lambda store: store.rollback("alpha"),
}


@pytest.fixture
def two(small: Store) -> Store:
    """Version 2 of alpha is active, 1 was before, 3 is a candidate."""
    store = small
    store.promote("alpha", add_compact(store, "alpha"), "better")
    add_compact(store, "alpha")
    return store


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    ("number", "calls"),
    [(errno.ENOSPC, slice(0, None, 2)), (errno.EIO, slice(1, None, 2)), (errno.EMFILE, slice(0, None, 6))],
    ids=["full from there on", "one call fails", "no handle left to open or read"],
)
def test_r02_a_disk_that_fails_at_any_call_gives_a_typed_error_or_the_change_and_a_sound_store(
    two: Store, tmp_path: Path, number: int, calls: slice, name: str
) -> None:
    lasting, reads = number == errno.ENOSPC, number == errno.EMFILE
    with Faults(NEVER, failing(number), lasting=lasting, reads=reads) as faults:
        CHANGES[name](copy_store(two.path, tmp_path / "counted"))
    for at in range(1, faults.calls + 1)[calls]:
        store = copy_store(two.path, tmp_path / str(at))
        before = {signal: store.history(signal) for signal in store.signals()}
        try:
            with Faults(at, failing(number), lasting=lasting, reads=reads):
                CHANGES[name](store)
        except StoreError as error:
            assert os.strerror(number) in str(error), error
        else:
            assert {signal: store.history(signal) for signal in store.signals()} != before
        sound(store.path)


def test_r02_a_store_on_a_disk_that_only_reads_is_read(two: Store) -> None:
    before = tree(two.path)
    with Faults(1, failing(errno.EROFS), lasting=True):
        assert Store(two.path).snapshot().versions == {"alpha": 2, "beta": 1}
        assert not two.check()
    assert tree(two.path) == before


# R03

OPERATIONS = 8
WRITER = f"""
import sys
from engine.store import history
from engine.store.registry import Store
from tests.tiny_store import add_compact
history.RETENTION = 100  # else what a writer promotes or returns to may be gone when it has waited long enough
store = Store(sys.argv[1])
for step in range({OPERATIONS}):
    if step % 4 == 3:
        store.rollback("alpha")
    else:
        store.promote("alpha", add_compact(store, "alpha"), sys.argv[2])
"""


def write_from(store: Store, *arguments: str, code: str = WRITER) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code, str(store.path), *arguments], cwd=ROOT)


def test_r03_two_processes_that_add_promote_and_roll_back_at_once_lose_nothing(small: Store) -> None:
    revision = small.revision()
    writers = [write_from(small, name) for name in ("one", "two")]
    versions = {small.snapshot().versions["alpha"] for _ in range(20)}  # readers take no lock and see whole states
    assert [writer.wait(60) for writer in writers] == [0, 0]
    history, adds, rollbacks = small.history("alpha"), 2 * OPERATIONS * 3 // 4, 2 * OPERATIONS // 4
    assert [entry["version"] for entry in history["versions"]] == list(range(1, adds + 2))
    assert [step["sequence"] for step in history["activations"]] == list(range(1, 2 + adds + rollbacks))
    assert len(was_active(history)) == 1 + adds - rollbacks
    assert small.revision() == revision + 2 * adds + rollbacks
    assert versions <= set(range(1, adds + 2))
    sound(small.path)
    assert not small.check()


def test_a_running_engine_follows_what_another_process_promotes_and_rolls_back(tiny: Store) -> None:
    add_head(tiny, "alpha", score=0.625)
    move = "import sys; from engine.store.registry import Store; s = Store(sys.argv[1]); {}"
    with Engine.open(tiny.path, threads=1) as engine:
        for code, version in (('s.promote("alpha", 2, "better")', 2), ('s.rollback("alpha")', 1)):
            assert write_from(tiny, code=move.format(code)).wait(60) == 0
            assert engine.refresh()
            assert engine.snapshot.versions["alpha"] == version
            assert not engine.refresh()


def test_a_writer_waits_for_another_and_says_so_when_it_takes_too_long(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "LOCK_WAIT_S", 0.05)
    before = tree(small.path)
    with FileLock(small.path / LOCK_NAME):
        with pytest.raises(StoreError, match=r"\.lock: another process has been writing for 0\.05 s; repeat"):
            small.rollback("alpha")
        assert small.snapshot().versions == {"alpha": 1, "beta": 1}  # readers do not wait
    assert tree(small.path) == before
    assert add_compact(small, "alpha") == 2


def test_r03_a_lock_file_that_a_dead_process_left_holds_nobody_up(small: Store) -> None:
    (small.path / LOCK_NAME).write_text(f"{os.getpid()}\nsome-host\n")  # of a living process even: numbers come again
    with writer_lock(small.path, wait_s=0.05):
        pass


def test_the_lock_is_free_after_a_change_that_failed(small: Store) -> None:
    with pytest.raises(StoreError, match="no version was active before 1"):
        small.rollback("alpha")
    with writer_lock(small.path, wait_s=0.05):
        pass
