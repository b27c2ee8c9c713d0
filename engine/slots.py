"""Slots: a bounded pool, from which each capture in flight takes one and gives it back once its result is out.

    with slots.take() as slot:
        ... render, infer, result ...

A device may keep one set of arrays for each slot (pinned buffers, captured CUDA graphs), so two captures in one slot
would yield one capture's detections in place of the other's.

Why nothing deadlocks: a slot is held either by a call (`take`), from rendering to result, which waits for no second
slot meanwhile; or by a stream between two calls (`keep`), with the next capture rendered ahead, for as long as its
consumer pleases. Keeping never waits, and at most all slots but one are kept. So a call waits only for calls, which
end; a thread may hold any number of half-read streams and call `detect`. A stream that may keep none renders its next
capture within its own call: it loses the overlap, and nothing else.
"""

import threading
from collections import deque
from types import TracebackType
from typing import Final

from .devices.base import Device
from .pipeline import Slot

SLOTS: Final = (
    4  # three streams render ahead and calls go on; on a GPU each used one takes two captures and their graphs
)


class Held:
    """One holding of a slot. As a context manager it belongs to the call under way; it is given back once, however
    often that is asked for."""

    def __init__(self, pool: "Slots", slot: Slot, kept: bool) -> None:
        self.slot = slot
        self.kept = kept
        self.given_back = False
        self._pool = pool

    def __enter__(self) -> Slot:
        self._pool.use(self)
        return self.slot

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        self._pool.give_back(self)


class Slots:
    """`limit` slots of a device, 2 at least. The lowest free one is taken first, so that arrays of the others are
    allocated only when captures are in flight at the same time. Callers that find none wait in the order they came."""

    def __init__(self, device: Device, limit: int = SLOTS) -> None:
        self.limit = limit
        self._free = [Slot(device, str(number)) for number in range(limit)]
        self._kept = 0
        self._queue: deque[object] = deque()  # of those that wait
        self._changed = threading.Condition()  # re-entrant: a stream may be collected, and give back, at any line

    @property
    def free(self) -> int:
        """Number of free slots."""
        return len(self._free)

    def take(self) -> Held:
        """A slot for one call, which waits for no other slot before it gives this one back."""
        place = object()
        with self._changed:
            self._queue.append(place)
            try:
                self._changed.wait_for(lambda: self._queue[0] is place and bool(self._free))
                return Held(self, self._lowest(), kept=False)
            finally:
                self._queue.remove(place)
                self._changed.notify_all()

    def keep(self) -> Held | None:
        """A slot to be held between calls; None where a call waits for one or would have to. Never waits."""
        with self._changed:
            if self._queue or not self._free or self._kept >= self.limit - 1:
                return None
            self._kept += 1
            return Held(self, self._lowest(), kept=True)

    def use(self, held: Held) -> None:
        """Turn a kept slot into a call's."""
        with self._changed:
            self._kept -= held.kept
            held.kept = False

    def give_back(self, held: Held) -> None:
        """Frees a slot, once the device is done with what was begun in it."""
        with self._changed:
            if held.given_back:
                return
            held.given_back = True
        try:
            held.slot.settle()
        finally:
            with self._changed:
                self._kept -= held.kept
                held.kept = False
                self._free.append(held.slot)
                self._changed.notify_all()

    def _lowest(self) -> Slot:
        slot = min(self._free, key=lambda slot: int(slot.name))
        self._free.remove(slot)
        return slot
