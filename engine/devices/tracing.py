"""A CPU device for tests that logs every step, so that stream order is proven without an accelerator."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.spectrogram import in_turn

from .base import Stream
from .cpu import Cpu


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
