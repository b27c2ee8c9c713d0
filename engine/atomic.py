"""Atomic replacement of files: written under a temporary name, flushed, renamed into place."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

UNFINISHED: Final = ".new-"  # prefix of temporary names; a killed writer leaves such a file behind


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Temporary path in the folder of `path`, to write to. At the end of the block it is flushed and replaces `path` in
    one step, so that after a crash either the old or the new file is there, whole; after an error it is removed."""
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
