"""The end of the interpreter, while other threads detect.

Python ends a daemon thread as it comes back from C++ code, by unwinding its stack; the runtimes' C++ does not bear that
and takes the whole process down ("terminate called without an active exception"). So the end waits for the threads
that are inside a call, and whoever comes later is held for the moment the process still has.
"""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE_S: Final = 30.0  # a frame takes less; a runtime that hangs must not hold the process for ever


class _Gate:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.inside = 0
        self.shut = False

    def enter(self) -> None:
        with self.changed:
            while self.shut and threading.current_thread() is not threading.main_thread():  # which ends the interpreter
                self.changed.wait()
            self.inside += 1

    def leave(self) -> None:
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def shut_down(self) -> None:
        with self.changed:
            self.shut = True
            self.changed.wait_for(lambda: self.inside == 0, PATIENCE_S)


_gate = _Gate()


def _forked() -> None:
    global _gate
    _gate = _Gate()  # the threads that were inside did not come along


@contextmanager
def call_under_way() -> Iterator[None]:
    """Context in which a call completes before the interpreter ends. Not to be nested."""
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


atexit.register(lambda: _gate.shut_down())
os.register_at_fork(after_in_child=_forked)
