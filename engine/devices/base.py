"""Device and stream protocols: where arrays live and how work on them is ordered.

Nothing else asks which machine it is on. Implementations: `cpu.py`, `cuda.py`, and `tracing.py` for tests.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from engine.contract import Contract
from engine.spectrogram import ParallelMap, serial_map

T = TypeVar("T")


class Stream(Protocol):
    """Queue of work. `record` marks a point in it; `wait` holds this queue until a mark of another.

    Work issued within `work` goes into this queue. `reads` and `writes` name arrays for the proof of order: only the
    tracing device logs them.
    """

    @property
    def name(self) -> str: ...

    def work(self, name: str, reads: Iterable[str], writes: Iterable[str]) -> AbstractContextManager[None]: ...

    def record(self, mark: str) -> None: ...

    def wait(self, mark: str) -> None: ...

    def synchronise(self) -> None: ...


@dataclass(frozen=True)
class Ops:
    """Array operations of a device: plain functions on its arrays that never wait for it."""

    render: Callable[[Any, Contract], tuple[Any, Any]]  # complex64[n] -> image, statistics; see `spectrogram.render`
    regions: Callable[[Any], Any]  # float32[1024, 1024] -> float32[PROPOSALS, 4]; see `engine.regions`
    parallel_map: ParallelMap = serial_map  # over blocks of host work


class Device(Protocol):
    """Memory and execution order of arrays. Only a stream's `synchronise` waits for a device."""

    name: str
    kind: str  # "cpu" or "cuda": which runtimes compute on it
    xp: Any  # the array namespace
    ops: Ops

    def peek(self, array: Any) -> np.ndarray | None:
        """Values of an array on the host, None where the host would have to wait for them."""
        ...

    def stream(self, name: str) -> Stream:
        """Queue of that name; the same name is the same queue."""
        ...

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> Any:
        """Copy a host array to the device. It is valid until the next upload of that name through that stream."""
        ...

    def download(self, array: Any, stream: Stream, name: str, part: str = "") -> np.ndarray:
        """Copy an array, or part of what goes by that name, to the host: filled once `stream` has been synchronised;
        valid until the next download of that name and part."""
        ...

    def resident(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Arrays kept on the device: uploaded once, as long as the same mapping is asked for."""
        ...

    def replayed(self, name: str, key: tuple[object, ...], step: Callable[[], T]) -> T:
        """Run `step`, or replay it where the device recorded it under this name with the same key (compared by
        identity), and return its result. `step` must do the same work on the same arrays each time and never wait."""
        ...


def run_directly(name: str, key: tuple[object, ...], step: Callable[[], T]) -> T:
    """Run `step`; in place of `Device.replayed` for steps that cannot be replayed."""
    return step()
