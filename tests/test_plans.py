"""Plans kept on disk: built once, found again, never taken where anything about them is not as it was. G06."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import StoreError
from engine.sessions.plans import PlanCache

ROOT = Path(__file__).parents[1]
KEY = {"graph": "ab" * 32, "runtime": "tensorrt 10.3", "gpu": "one, sm_80", "driver": "13000"}
PLAN = np.random.default_rng(0).bytes(40_000)


class Builds:
    """Builds PLAN and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return PLAN


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


@pytest.fixture
def builds(cache: PlanCache) -> Iterator[Builds]:
    """One plan is built and kept."""
    builds = Builds()
    assert cache.plan(KEY, builds) == PLAN
    assert builds.count == 1
    yield builds


def file_of(cache: PlanCache) -> Path:
    (path,) = cache.folder.glob("*.plan")
    return path


def test_a_plan_is_built_once_and_found_again_by_another_process_s_cache(cache: PlanCache, builds: Builds) -> None:
    assert PlanCache(cache.folder).plan(KEY, builds) == PLAN
    assert builds.count == 1


@pytest.mark.parametrize("changed", KEY)
def test_another_graph_version_gpu_or_driver_is_another_plan(cache: PlanCache, builds: Builds, changed: str) -> None:
    cache.plan({**KEY, changed: "another"}, builds)
    assert builds.count == 2
    cache.plan(KEY, builds)
    assert builds.count == 2  # the first one is still there


def test_a_plan_cut_short_anywhere_is_built_anew(cache: PlanCache, builds: Builds) -> None:
    path, whole = file_of(cache), file_of(cache).read_bytes()
    for number, length in enumerate(range(0, len(whole), 4096)):
        path.write_bytes(whole[:length])
        assert cache.plan(KEY, builds) == PLAN
        assert builds.count == 2 + number
        assert path.read_bytes() == whole


def test_a_plan_with_any_bit_flipped_is_built_anew(cache: PlanCache, builds: Builds) -> None:
    path, whole = file_of(cache), file_of(cache).read_bytes()
    rng = np.random.default_rng(1)
    places = [*range(64), *rng.integers(0, len(whole), 936)]
    for number, place in enumerate(places):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        assert cache.plan(KEY, builds) == PLAN
        assert builds.count == 2 + number


def test_another_file_s_head_on_a_plan_is_seen(cache: PlanCache, builds: Builds) -> None:
    cache.plan({**KEY, "gpu": "two"}, lambda: bytes(reversed(PLAN)))
    first, second = sorted(cache.folder.glob("*.plan"))
    head = len(first.read_bytes()) - len(PLAN)
    first.write_bytes(second.read_bytes()[:head] + first.read_bytes()[head:])
    assert cache.plan(KEY, builds) == PLAN


def test_a_build_that_fails_leaves_nothing_and_the_next_one_may_succeed(cache: PlanCache) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.plan(KEY, lambda: bytes(1 // 0))
    assert not list(cache.folder.glob("*.plan"))
    assert cache.plan(KEY, Builds()) == PLAN


def test_two_processes_that_want_one_plan_build_it_once(cache: PlanCache, tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from engine.sessions.plans import PlanCache
def build():
    with open({str(tmp_path / "built")!r}, "a") as log:
        log.write("built\\n")
    time.sleep(1)
    return b"plan" * 1000
assert PlanCache(Path({str(cache.folder)!r})).plan({KEY!r}, build) == b"plan" * 1000
"""
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "built").read_text() == "built\n"


def test_a_full_disk_costs_the_next_start_a_build_and_nothing_else(
    cache: PlanCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        assert cache.plan(KEY, Builds()) == PLAN
    assert "No space left" in caplog.text and "builds it anew" in caplog.text
    monkeypatch.undo()
    assert not list(cache.folder.glob("*.plan"))


def test_a_folder_that_cannot_be_made_costs_every_start_a_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        cache = PlanCache(tmp_path / "file" / "plans")
        assert cache.plan(KEY, Builds()) == PLAN
    assert "every start builds them anew" in caplog.text


def test_a_folder_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans").chmod(0o777)
    with pytest.raises(StoreError, match="others may write here, and plans are code: chown it and chmod 700 it"):
        PlanCache(tmp_path / "plans")
    assert PlanCache(tmp_path / "new").folder.stat().st_mode & 0o077 == 0


def test_timings_are_kept_beside_the_plans(cache: PlanCache) -> None:
    first = cache.timings(KEY)
    assert first.data == b""
    first.keep(b"measured")
    assert cache.timings(KEY).data == b"measured"
    assert cache.timings({**KEY, "gpu": "two"}).data == b""
