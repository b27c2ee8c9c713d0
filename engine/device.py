"""Where arrays live and how work on them is ordered. Nothing else asks which machine it is on.

The CPU does everything at once and in order, so its streams do nothing. The recording device, for tests, computes
as the CPU does and writes down every step, so that the order of work is proven where there is no accelerator.
The GPU is in `engine.cuda`.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from .contract import Contract
from .errors import UnavailableError
from .regions import regions
from .spectrogram import draw, in_turn

T = TypeVar("T")


class Stream(Protocol):
    """A queue of work. `record` marks a point in it; `wait` holds this queue until a mark of another.

    Work handed out within `work` goes into this queue. What it reads and writes are names of arrays, told for the
    proof of order: the recording device writes them down, no other looks at them.
    """

    @property
    def name(self) -> str: ...

    def work(self, name: str, reads: Iterable[str], writes: Iterable[str]) -> AbstractContextManager[None]: ...

    def record(self, mark: str) -> None: ...

    def wait(self, mark: str) -> None: ...

    def synchronise(self) -> None: ...


class Device(Protocol):
    """`xp` is the array namespace. Nothing waits for a device but a stream's `synchronise`."""

    name: str
    kind: str  # "cpu" or "cuda": which runtimes compute on it
    xp: Any

    def draw(self, samples: Any, contract: Contract) -> tuple[Any, Any]:
        """A capture's image, and what is told about it; see `spectrogram.draw`."""
        ...

    def regions(self, image: Any) -> Any:
        """float32[PROPOSALS, 4] of an image; see `engine.regions`."""
        ...

    def at_once(self, array: Any) -> np.ndarray | None:
        """An array's values on the host, None where the host would have to wait for them."""
        ...

    def stream(self, name: str) -> Stream:
        """The queue of that name; the same name is the same queue."""
        ...

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> Any:
        """A host array on the device. It lives until the next upload of that name through that stream."""
        ...

    def download(self, array: Any, stream: Stream, name: str, part: str = "") -> np.ndarray:
        """An array, or part of what goes by that name, in host memory: filled once `stream` has been synchronised;
        lives as uploads do."""
        ...

    def resident(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Arrays that stay, on the device: uploaded once, as long as the same mapping is asked for."""
        ...

    def replayed(self, name: str, owners: tuple[object, ...], step: Callable[[], T]) -> T:
        """What `step` returns. A device that can plays back what it did, where name and owners are those of before, so
        `step` must do the same work on the same arrays each time and wait for nothing."""
        ...


def once(name: str, owners: tuple[object, ...], step: Callable[[], T]) -> T:
    """In place of `Device.replayed`, for what cannot be played back."""
    return step()


@dataclass(frozen=True)
class _InOrder:
    name: str

    def work(self, name: str, reads: Iterable[str], writes: Iterable[str]) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, mark: str) -> None:
        pass

    def wait(self, mark: str) -> None:
        pass

    def synchronise(self) -> None:
        pass


class Cpu:
    """All cores that this process may use. Its threads begin with the first work, so that a fork before it is safe."""

    name = "cpu"
    kind = "cpu"
    xp: Any = np

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

    def spread(self, function: Callable[[int, int], Any], length: int, block: int) -> Iterable[Any]:
        if self._pool is None or self._owner != os.getpid():  # threads do not survive a fork
            self._pool, self._owner = ThreadPoolExecutor(cores(), "hydra"), os.getpid()
        context = copy_context()  # NumPy's ways with what is no number, as the caller has set them

        def one(first: int) -> Any:
            return context.copy().run(function, first, min(first + block, length))

        try:
            return self._pool.map(one, range(0, length, block))
        except RuntimeError:  # no thread to be had: the interpreter is ending, or there are too many
            return in_turn(function, length, block)

    def draw(self, samples: np.ndarray, contract: Contract) -> tuple[Any, Any]:
        return draw(samples, contract, np, self.spread)

    def regions(self, image: np.ndarray) -> np.ndarray:
        return regions(image, self.spread)

    def at_once(self, array: np.ndarray) -> np.ndarray | None:
        return array

    def stream(self, name: str) -> Stream:
        return _InOrder(name)

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> np.ndarray:
        return array

    def download(self, array: np.ndarray, stream: Stream, name: str, part: str = "") -> np.ndarray:
        return np.asarray(array)

    def resident(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return arrays

    def replayed(self, name: str, owners: tuple[object, ...], step: Callable[[], T]) -> T:
        return step()


@dataclass(frozen=True)
class Step:
    """What a recording device was asked for. `what`: work, upload, download, record, wait or synchronise; `mark`: its
    name. reads, writes: names of arrays."""

    stream: str
    what: str
    mark: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Recorded:
    name: str
    log: list[Step]

    @contextmanager
    def work(self, name: str, reads: Iterable[str], writes: Iterable[str]) -> Iterator[None]:
        self.log.append(Step(self.name, "work", name, tuple(reads), tuple(writes)))
        yield

    def record(self, mark: str) -> None:
        self.log.append(Step(self.name, "record", mark))

    def wait(self, mark: str) -> None:
        self.log.append(Step(self.name, "wait", mark))

    def synchronise(self) -> None:
        self.log.append(Step(self.name, "synchronise"))


class Recording(Cpu):
    """Computes as the CPU does, one block after another, and logs each step in the order it was asked for."""

    name = "recording"

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Step] = []

    def spread(self, function: Callable[[int, int], Any], length: int, block: int) -> Iterable[Any]:
        return in_turn(function, length, block)

    def stream(self, name: str) -> Stream:
        return _Recorded(name, self.log)

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> np.ndarray:
        self.log.append(Step(stream.name, "upload", name, (), (name,)))
        return array

    def download(self, array: np.ndarray, stream: Stream, name: str, part: str = "") -> np.ndarray:
        self.log.append(Step(stream.name, "download", name, (name,), (f"{name} {part} on the host",)))
        return np.asarray(array)


def _cuda(number: int) -> Device:
    from .cuda import Cuda

    return Cuda(number)


DEVICES: Final[dict[str, Callable[[], Device]]] = {"cpu": Cpu, "recording": Recording}
CUDA: Final = "cuda:"  # and the number of a GPU


def open_device(name: str = "auto") -> Device:
    """A device by name; `auto` is the CPU. Raises UnavailableError on one that is not here."""
    chosen = "cpu" if name == "auto" else name
    number = chosen.removeprefix(CUDA)
    if chosen.startswith(CUDA) and number.isdecimal():
        return _cuda(int(number))
    if chosen not in DEVICES:
        raise UnavailableError(
            f"device {name!r} is not available; choose one of auto, {', '.join(DEVICES)}, {CUDA}0, {CUDA}1 ..."
        )
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
