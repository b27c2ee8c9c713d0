"""A device that keeps one set of arrays for each slot and writes over them in place, as a GPU's pinned buffers and
captured graphs do. It computes on the CPU, at once: what comes out wrong on it was written over while in use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from engine.devices.base import Stream
from engine.devices.cpu import Cpu

T = TypeVar("T")


class Keeping(Cpu):
    name = "keeping"

    def __init__(self) -> None:
        super().__init__()
        self.images = 0  # made so far
        self._kept: dict[str, Any] = {}

    def peek(self, array: np.ndarray) -> None:
        return None

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> np.ndarray:
        return self._placed(f"{stream.name}, {name}", array.copy())

    def download(self, array: np.ndarray, stream: Stream, name: str, part: str = "") -> np.ndarray:
        return self._placed(f"{stream.name}, {name} {part}", np.array(array))

    def replayed(self, name: str, key: tuple[object, ...], step: Callable[[], T]) -> T:
        made = self._placed(name, step())
        self.images += name.startswith("render")
        return made

    def _placed(self, name: str, made: T) -> T:
        """What is kept under that name, holding the new values from now on; the first time, the new."""
        kept = self._kept.setdefault(name, made)
        if kept is not made:
            for old, new in zip(_arrays(kept), _arrays(made), strict=True):
                old[...] = new
        return kept


def _arrays(thing: Any) -> list[np.ndarray]:
    if isinstance(thing, np.ndarray):
        return [thing]
    if isinstance(thing, Mapping):
        return [array for value in thing.values() for array in _arrays(value)]
    if isinstance(thing, Sequence):
        return [array for value in thing for array in _arrays(value)]
    assert is_dataclass(thing)
    return [array for each in fields(thing) for array in _arrays(getattr(thing, each.name))]
