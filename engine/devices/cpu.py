"""CPU device: NumPy arrays, all cores, work done immediately and in order, so streams do nothing."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from engine.regions import regions
from engine.spectrogram import ParallelMap, render, serial_map

from .base import Ops, Stream, T
from .machine import cores


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


class Workers:
    """Parallel map over all cores that this process may use. Its threads start with the first work, so that a fork
    before it is safe."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

    def __call__(self, function: Callable[[int, int], Any], length: int, block: int) -> Iterable[Any]:
        if self._pool is None or self._owner != os.getpid():  # threads do not survive a fork
            self._pool, self._owner = ThreadPoolExecutor(cores(), "hydra"), os.getpid()
        context = copy_context()  # NumPy's floating-point error handling, as the caller has set it

        def one(first: int) -> Any:
            return context.copy().run(function, first, min(first + block, length))

        try:
            return self._pool.map(one, range(0, length, block))
        except RuntimeError:  # no thread to be had: the interpreter is ending, or there are too many
            return serial_map(function, length, block)


class Cpu:
    """CPU device, whose operations run on `parallel_map`: all cores where None is given."""

    name = "cpu"
    kind = "cpu"
    xp: Any = np

    def __init__(self, parallel_map: ParallelMap | None = None) -> None:
        self.parallel_map: ParallelMap = parallel_map or Workers()
        self.ops = Ops(
            render=partial(render, xp=np, parallel_map=self.parallel_map),
            regions=partial(regions, parallel_map=self.parallel_map),
            parallel_map=self.parallel_map,
        )

    def peek(self, array: np.ndarray) -> np.ndarray | None:
        return array

    def stream(self, name: str) -> Stream:
        return _InOrder(name)

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> np.ndarray:
        return array

    def download(self, array: np.ndarray, stream: Stream, name: str, part: str = "") -> np.ndarray:
        return np.asarray(array)

    def resident(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return arrays

    def replayed(self, name: str, key: tuple[object, ...], step: Callable[[], T]) -> T:
        return step()
