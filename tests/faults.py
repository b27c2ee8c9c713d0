"""A process that dies, or a disk that fails, at the Nth call that the store makes of the system; and a power failure.

`Faults` stands in for the functions through which Python changes files. `Disk` remembers what was made to last by
fsync, file contents and folder entries apart, and can say what a disk may hold after the power went.
"""

import io
import os
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

NEVER = sys.maxsize
CHANGES = ("mkdir", "fsync", "replace", "rename", "unlink", "rmdir", "chmod")
WRITING = os.O_CREAT | os.O_WRONLY | os.O_RDWR


class Killed(BaseException):
    """The process is gone: no handler of it does anything more."""


class Faults:
    """In a `with` block, from call number `at` on (or at that one alone) `error` is raised instead of the call.

    Calls that only read count with `reads`.
    """

    def __init__(
        self,
        at: int,
        error: Callable[[], BaseException],
        *,
        lasting: bool,
        reads: bool = False,
        disk: "Disk | None" = None,
    ) -> None:
        self.at, self.error, self.lasting, self.reads, self.disk = at, error, lasting, reads, disk
        self.calls = 0

    def __enter__(self) -> "Faults":
        self._patches = ExitStack()
        for name in CHANGES:
            self._patches.enter_context(self._patched(os, name, lambda *arguments: True))
        self._patches.enter_context(self._patched(os, "open", lambda path, flags, *more: flags & WRITING))
        self._patches.enter_context(self._patched(io, "open", lambda path, mode="r", *more: mode.strip("rbt")))
        return self

    def __exit__(self, *about: object) -> None:
        self._patches.close()

    def _patched(self, module: Any, name: str, changes: Callable[..., object]) -> AbstractContextManager[object]:
        real = getattr(module, name)
        if name == "fsync" and self.disk is not None:
            real = self.disk.sync

        def call(*arguments: Any, **options: Any) -> Any:
            if self.reads or changes(*arguments):
                self.calls += 1
                if self.calls == self.at or (self.lasting and self.calls > self.at):
                    raise self.error()
            return real(*arguments, **options)

        return mock.patch.object(module, name, call)


Entries = dict[str, int]  # of a folder: name and number of the file


class Disk:
    """What of a folder would be there after the power went: all that is in it now, then what `sync` is told."""

    def __init__(self, root: Path) -> None:
        self._handles: dict[int, int] = {}  # held open, so that no number is used again
        self._lasting: dict[int, Entries | bytes] = {}
        self.root = self._hold(os.open(root, os.O_RDONLY))
        for path in [root, *root.rglob("*")]:
            handle = os.open(path, os.O_RDONLY)
            self.sync(handle)
            os.close(handle)

    def sync(self, handle: int) -> None:
        number = self._hold(os.dup(handle))
        self._lasting[number] = self._now(number)

    def after_power_loss(self, target: Path, written: Callable[[], bool] = lambda: False) -> None:
        """Builds what lasted at `target`; where `written` says so, what was not yet made to last is there as well."""
        self._build(self.root, target, written)

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)

    def _hold(self, handle: int) -> int:
        number = os.fstat(handle).st_ino
        if number in self._handles:
            os.close(handle)
        else:
            self._handles[number] = handle
        return number

    def _now(self, number: int) -> Entries | bytes:
        handle = self._handles[number]
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            return Path(f"/proc/self/fd/{handle}").read_bytes()
        return {
            name: self._hold(os.open(name, os.O_RDONLY, dir_fd=handle))
            for name in os.listdir(handle)  # noqa: PTH208  a folder that may have no name any more
        }

    def _build(self, number: int, target: Path, written: Callable[[], bool]) -> None:
        is_folder = stat.S_ISDIR(os.fstat(self._handles[number]).st_mode)
        content = self._now(number) if written() else self._lasting.get(number, {} if is_folder else b"")
        if isinstance(content, bytes):
            target.write_bytes(content)
            return
        target.mkdir()
        for name, child in content.items():
            self._build(child, target / name, written)
