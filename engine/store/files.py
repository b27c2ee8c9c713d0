"""Crash-safe files and folders of a store, JSON within bounds, and hashes."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine.atomic import UNFINISHED, replacing, sync_folder
from engine.errors import StoreError

MAX_JSON_BYTES: Final = 16 << 20
MAX_JSON_INT: Final = 1 << 63  # no number of a store comes near; beyond float's range, arithmetic ends in OverflowError


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Duplicate keys, NaN, infinities (1e999 too), integers beyond 64 bits, lone surrogates
    and anything over 16 MiB are refused.

    Raises StoreError naming the file.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise StoreError(f"{path}: {path.stat().st_size} bytes of JSON, at most {MAX_JSON_BYTES} are read")
        text = path.read_text("utf-8")
        found = json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=_refuse, parse_int=_bounded, parse_float=_finite
        )
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # raises ValueError on a surrogate without its other half
    except FileNotFoundError as error:
        raise StoreError(f"{path}: not there; restore it from a copy") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read as JSON ({error}); restore it from a copy") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path}: holds a {type(found).__name__}, not a JSON object; restore it from a copy")
    return found


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json's `object_pairs_hook`: an object whose keys are unique. Raises ValueError otherwise."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _bounded(text: str) -> int:
    number = int(text) if len(text) <= len(str(MAX_JSON_INT)) + 1 else MAX_JSON_INT
    if abs(number) >= MAX_JSON_INT:
        raise ValueError(f"an integer of {len(text)} digits is out of range")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.50} is out of range")
    return number


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Replaces a JSON file in one step: after a crash either the old or the new one is there, whole."""
    with _write_errors(path):
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, folders in it included, which becomes `target` when the block ends well and vanishes when it
    does not."""
    with _write_errors(target):
        make_folder(target.parent)
        if target.exists():
            raise StoreError(f"{target}: exists; versions never change, publish the next number")
        building = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=target.parent))
        try:
            yield building
            for path in building.rglob("*"):
                if path.is_dir():
                    sync_folder(path)
                    continue
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            building.chmod(0o755)
            sync_folder(building)
            building.rename(target)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, to last. One that is there is fine."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Takes a file, or a folder with all that is in it, away. Raises StoreError when some of it is left."""
    with _write_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Failed writes, OSError, as StoreError that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); check space and rights, then repeat"
        ) from error


def probe(folder: Path, size: int) -> None:
    """Writes `size` bytes to a temporary file in `folder`, which is removed again.

    Raises StoreError on a full or read-only disk, or missing rights.
    """
    with _write_errors(folder), tempfile.NamedTemporaryFile(dir=folder, prefix=UNFINISHED) as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
