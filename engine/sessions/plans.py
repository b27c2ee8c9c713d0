"""Cache of TensorRT plans built on this machine, in a folder that only this user writes to.

A plan is native code. So none is loaded that was not built here: the folder is private, and each file carries the hash
of what it holds and is built anew where that differs. A file's name is the hash of all that a plan depends on, so
what has changed is another file.
"""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from filelock import FileLock
from platformdirs import user_cache_path

from engine.atomic import replacing
from engine.errors import StoreError

log = logging.getLogger(__name__)

MAGIC: Final = b"hydra plan 1\n"
DIGEST: Final = 32  # bytes of SHA-256
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class PlanCache:
    def __init__(self, folder: Path | None = None) -> None:
        """Raises StoreError on a folder that others may write into."""
        self.folder = folder or user_cache_path("hydra-rf") / "plans"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            log.warning("%s: plans are not kept (%s), so every start builds them anew", self.folder, error)
            return
        about = self.folder.stat()
        if about.st_mode & OTHERS_WRITE or (hasattr(os, "getuid") and about.st_uid != os.getuid()):
            raise StoreError(f"{self.folder}: others may write here, and plans are code: chown it and chmod 700 it")

    def plan(self, key: Mapping[str, str], build: Callable[[], bytes], anew: bool = False) -> bytes:
        """The plan of a key: the one that is kept, or what `build` gives, which is kept. Two processes that want the
        same one build it once."""
        path = self.folder / f"{_name(key)}.plan"
        with self._lock(path):
            plan = None if anew else self._read(path)
            if plan is None:
                plan = build()
                self._write(path, plan)
        return plan

    def timings(self, key: Mapping[str, str]) -> "Timings":
        """TensorRT's own cache of kernel timings for a GPU and version."""
        path = self.folder / f"{_name(key)}.timings"
        return Timings(self._read(path) or b"", lambda data: self._write(path, data))

    def _lock(self, path: Path) -> AbstractContextManager[object]:
        writable = os.access(self.folder, os.W_OK)
        return FileLock(path.with_suffix(".lock")) if writable else nullcontext()

    def _read(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
        except OSError:
            return None
        digest, found = data[len(MAGIC) :][:DIGEST], data[len(MAGIC) + DIGEST :]
        if not data.startswith(MAGIC) or hashlib.sha256(found).digest() != digest:
            log.warning("%s: damaged, so it is built anew", path)
            return None
        return found

    def _write(self, path: Path, data: bytes) -> None:
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(MAGIC + hashlib.sha256(data).digest() + data)
        except OSError as error:
            log.warning("%s: not kept (%s), so the next start builds it anew", path, error)


def _name(key: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


class Timings:
    """TensorRT's timing cache: kernel timings of earlier builds, which later ones need not measure again."""

    def __init__(self, data: bytes = b"", keep: Callable[[bytes], None] = lambda _: None) -> None:
        self.data = data
        self.keep = keep
