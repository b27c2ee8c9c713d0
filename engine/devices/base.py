"""Device and stream protocols: where arrays live and how work on them is ordered.

Nothing else asks which machine it is on. Implementations: `cpu.py`, `cuda.py`, and `tracing.py` for tests.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np

from engine.contract import Contract

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
