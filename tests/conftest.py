"""What several test files need."""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from engine.devices.cuda import Cuda, missing
from engine.store.registry import Store

from .fake_gpu import fake_cupy
from .tiny_store import build_store, copy_store, small_store

settings.register_profile("untimed", deadline=None)  # no test asserts a time
settings.load_profile("untimed")


def pytest_configure() -> None:
    """One OpenMP thread for torch, here and in child processes: its threads wait for each other by spinning, which
    on two busy cores takes several times the processor time of the work."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="tests that need a GPU fail where there is none")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reason = missing()
    if reason is not None and not config.getoption("--gpu"):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "gpu" in r.keywords]
    if skipped:
        terminalreporter.section("GPU")
        terminalreporter.line(f"{len(skipped)} tests need a GPU and were NOT run; `scripts/gpu` runs them where one is")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of stand-ins (see tiny_store), for reading only."""
    return build_store(tmp_path_factory.mktemp("tiny") / "models").path


@pytest.fixture
def tiny(tiny_models: Path, tmp_path: Path) -> Store:
    """A copy of it that a test may change; files by `overwrite`, never in place."""
    return copy_store(tiny_models, tmp_path / "models")


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of histories and files (see tiny_store.small_store), for reading only."""
    return small_store(tmp_path_factory.mktemp("small") / "models").path


@pytest.fixture
def small(small_models: Path, tmp_path: Path) -> Store:
    """A copy of it that a test may change."""
    return copy_store(small_models, tmp_path / "small")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of this machine neither helps nor harms a test, and no test leaves anything behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    plans = SimpleNamespace(get_fft_plan=lambda rows, axes: nullcontext())
    monkeypatch.setitem(sys.modules, "cupyx.scipy.fft", plans)
    monkeypatch.setattr("engine.devices.cuda.missing", lambda number: None)
    yield module


@pytest.fixture
def gpu(cupy: Any) -> Cuda:
    return Cuda()
