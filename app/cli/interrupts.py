"""Signal handling: Ctrl-C as a request to stop at the next safe point."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_on(*numbers: signal.Signals) -> Iterator[threading.Event]:
    """Event that the first of these signals sets; the second raises KeyboardInterrupt.

    Outside the main thread, where Python takes no signals, it stays unset.
    """
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
