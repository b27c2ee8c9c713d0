"""Tracing device for tests: computes on the CPU and logs every step, to prove stream order without a GPU."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from engine.spectrogram import serial_map

from .base import Stream
from .cpu import Cpu


@dataclass(frozen=True)
class Step:
    """Logged step of a stream. `what`: work, upload, download, record, wait or synchronise; `mark`: its name; `reads`
    and `writes`: names of arrays."""

    stream: str
    what: str
    mark: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TracingStream:
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


class TracingDevice(Cpu):
    """CPU device that computes one block after another and logs each step in the order of issue."""

    name = "tracing"

    def __init__(self) -> None:
        super().__init__(serial_map)
        self.log: list[Step] = []

    def stream(self, name: str) -> Stream:
        return _TracingStream(name, self.log)

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> np.ndarray:
        self.log.append(Step(stream.name, "upload", name, (), (name,)))
        return array

    def download(self, array: np.ndarray, stream: Stream, name: str, part: str = "") -> np.ndarray:
        self.log.append(Step(stream.name, "download", name, (name,), (f"{name} {part} on the host",)))
        return np.asarray(array)
