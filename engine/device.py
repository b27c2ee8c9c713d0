"""Where arrays live and how work on them is ordered. Nothing else asks which machine it is on.

The CPU does everything at once and in order, so its streams do nothing. The recording device, for tests,
writes down every step, so that the order of work is tested where there is no accelerator.
"""

import os
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from .errors import UnavailableError

T = TypeVar("T")


class Stream(Protocol):
    """A queue of work. `record` marks a point in it; `wait` holds this queue until a mark of another."""

    @property
    def name(self) -> str: ...

    def record(self, mark: str) -> None: ...

    def wait(self, mark: str) -> None: ...

    def synchronise(self) -> None: ...


class Device(Protocol):
    """`xp` is the array namespace; `upload` and `download` move arrays to and from host memory; `spread` is a `map`
    that may work on several blocks of an array at once."""

    name: str
    xp: Any

    def spread(self, function: Callable[[int], T], blocks: Iterable[int]) -> Iterable[T]: ...

    def stream(self, name: str) -> Stream: ...

    def upload(self, array: np.ndarray, stream: Stream) -> Any: ...

    def download(self, array: Any, stream: Stream) -> np.ndarray: ...


@dataclass(frozen=True)
class _InOrder:
    name: str

    def record(self, mark: str) -> None:
        pass

    def wait(self, mark: str) -> None:
        pass

    def synchronise(self) -> None:
        pass


class Cpu:
    """All cores that this process may use. Its threads begin with the first work, so that a fork before it is safe."""

    name = "cpu"
    xp: Any = np

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

    def spread(self, function: Callable[[int], T], blocks: Iterable[int]) -> Iterable[T]:
        if self._pool is None or self._owner != os.getpid():  # threads do not survive a fork
            self._pool, self._owner = ThreadPoolExecutor(cores(), "hydra"), os.getpid()
        return self._pool.map(function, blocks)

    def stream(self, name: str) -> Stream:
        return _InOrder(name)

    def upload(self, array: np.ndarray, stream: Stream) -> np.ndarray:
        return array

    def download(self, array: np.ndarray, stream: Stream) -> np.ndarray:
        return array


@dataclass(frozen=True)
class _Recorded:
    name: str
    log: list[tuple[str, str, str]]

    def record(self, mark: str) -> None:
        self.log.append((self.name, "record", mark))

    def wait(self, mark: str) -> None:
        self.log.append((self.name, "wait", mark))

    def synchronise(self) -> None:
        self.log.append((self.name, "synchronise", ""))


@dataclass
class Recording:
    """Computes as the CPU does and logs (stream, what, mark) in the order it was asked for."""

    name: str = "recording"
    xp: Any = np
    log: list[tuple[str, str, str]] = field(default_factory=list)

    def spread(self, function: Callable[[int], T], blocks: Iterable[int]) -> Iterable[T]:
        return map(function, blocks)

    def stream(self, name: str) -> Stream:
        return _Recorded(name, self.log)

    def upload(self, array: np.ndarray, stream: Stream) -> np.ndarray:
        self.log.append((stream.name, "upload", ""))
        return array

    def download(self, array: np.ndarray, stream: Stream) -> np.ndarray:
        self.log.append((stream.name, "download", ""))
        return array


DEVICES: Final[dict[str, Callable[[], Device]]] = {"cpu": Cpu, "recording": Recording}


def open_device(name: str = "auto") -> Device:
    """A device by name; `auto` is the CPU. Raises UnavailableError on one that is not here."""
    chosen = "cpu" if name == "auto" else name
    if chosen not in DEVICES:
        raise UnavailableError(f"device {name!r} is not available; choose one of auto, {', '.join(DEVICES)}")
    return DEVICES[chosen]()


def cores() -> int:
    """Cores that this process may use: those of its affinity mask, fewer where its control group has a quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _quota() or allowed)


def _quota(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole cores that a container is limited to (cpu.max: microseconds of work in each period), None without limit."""
    try:
        share, period = (group / "cpu.max").read_text().split()
        return None if share == "max" else max(1, int(share) // int(period))
    except (OSError, ValueError):
        return None  # no control groups of the second version here


def describe_cpu() -> str:
    """The processor and how many cores this process may use, for reports."""
    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()
