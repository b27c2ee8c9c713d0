"""The CPU as a device: NumPy arrays, all cores, work done at once and in order, so streams do nothing."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.contract import Contract
from engine.regions import regions
from engine.spectrogram import draw, in_turn

from .base import Stream, T
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
