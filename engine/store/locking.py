"""Writer lock of a store, across processes. Readers take no lock."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from engine.errors import StoreError

from .files import make_folder

LOCK_NAME: Final = ".lock"
LOCK_WAIT_S: Final = 30.0

logging.getLogger("filelock").setLevel(logging.WARNING)


@contextmanager
def writer_lock(folder: Path, wait_s: float | None = None) -> Iterator[None]:
    """Holds the writers' lock of a store. The system lets go of it when the process ends, however it ends, so none
    is ever stale. Raises StoreError when another writer holds it for longer than `wait_s` (default 30 s)."""
    wait_s = LOCK_WAIT_S if wait_s is None else wait_s
    path = folder / LOCK_NAME
    lock = FileLock(path, timeout=wait_s)
    try:
        make_folder(folder)
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"{path}: another process has been writing for {wait_s:g} s; repeat when it is done"
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be locked ({error.strerror or error}); check space and rights, then repeat"
        ) from error
    try:
        yield
    finally:
        lock.release()
