"""Version folders: published atomically, never changed, every file verified by the SHA-256 in the manifest."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.atomic import UNFINISHED
from engine.errors import StoreError

from .files import new_folder, read_json, remove, sha256, write_json

SCHEMA: Final = 1
MOST_VERSION: Final = (1 << 31) - 1
VERSION_NAME: Final = re.compile(r"v[1-9][0-9]{0,8}")  # up to 999,999,999: below MOST_VERSION
FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # never a way out of the folder


def publish(target: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Makes a version folder of files and a manifest that names their hashes."""
    with new_folder(target) as folder:
        _fill(folder, files, manifest)


def publish_first(
    target: Path, version: int, files: Mapping[str, bytes], manifest: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Makes a signal's folder, its history and its first version in one step: a process that is killed leaves a
    temporary folder, and never versions without a history. A folder of this name that holds nothing but leftovers of
    killed writers is replaced. Raises StoreError on one that holds something else."""
    if target.is_dir():
        others = sorted(path.name for path in target.iterdir() if not path.name.startswith(UNFINISHED))
        if others:
            raise StoreError(f"{target}: holds {others[0]} and no metadata.json; move it away, then repeat")
        remove(target)
    with new_folder(target) as folder:
        (folder / f"v{version}").mkdir()
        _fill(folder / f"v{version}", files, manifest)
        write_json(folder / "metadata.json", dict(metadata))


def _fill(folder: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    hashes = {name: sha256(folder / name) for name in files}
    write_json(folder / "manifest.json", {"schema": SCHEMA, **manifest, "files": hashes})


def read_manifest(folder: Path) -> dict[str, Any]:
    """A version's manifest. Raises StoreError on one that is missing, damaged, or of another schema."""
    if folder.is_symlink():
        raise StoreError(f"{folder}: a link; replace it by the folder itself")
    manifest = read_json(folder / "manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise StoreError(f"{folder}: manifest schema {manifest.get('schema')!r}, this version reads {SCHEMA}; update")
    if not isinstance(manifest.get("backbone_hash"), str):
        raise StoreError(f"{folder}: manifest without backbone_hash; restore the version from a copy")
    return manifest


def verified(folder: Path, name: str) -> Path:
    """A file of a version folder whose bytes are those the manifest names. Raises StoreError otherwise."""
    if not FILE_NAME.fullmatch(name):
        raise StoreError(f"{folder}: manifest with a file {name!r:.120}, no file name; restore the version from a copy")
    expected = object_field(read_manifest(folder), "files", folder).get(name)
    path = folder / name
    if expected is None or not path.is_file() or path.is_symlink():
        raise StoreError(f"{path}: missing; restore the version from a copy")
    try:
        found = sha256(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror or error}); restore the version from a copy"
        ) from error
    if found != expected:
        raise StoreError(f"{path}: SHA-256 {found} is not {expected} of its manifest; restore the version from a copy")
    return path


def verify_all(folder: Path) -> None:
    """Raises StoreError unless every file that the manifest names is there with its bytes."""
    for name in object_field(read_manifest(folder), "files", folder):
        verified(folder, name)


def object_field(manifest: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """An object inside a manifest. Raises StoreError when it is not there or is something else."""
    if not isinstance(manifest.get(key), dict):
        raise StoreError(f"{folder}: manifest without {key}; restore the version from a copy")
    return manifest[key]  # type: ignore[no-any-return]


def half_written(folder: Path) -> bool:
    """True if a version folder lacks its manifest, which is written last, or a file that this names."""
    if not (folder / "manifest.json").exists():
        return True
    files = object_field(read_manifest(folder), "files", folder)
    return any(FILE_NAME.fullmatch(name) and not (folder / name).exists() for name in files)


def int_field(values: Mapping[str, Any], key: str, path: Path) -> int:
    """A whole number inside a document, 0 to 2^53 - 1. Raises StoreError on anything else."""
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise StoreError(f"{path}: {key} is {value!r:.50}, not a whole number; restore the file from a copy")
    return value


def version_number(values: Mapping[str, Any], key: str, path: Path) -> int:
    """The number of a version inside a document, 1 to 2^31 - 1. Raises StoreError on anything else."""
    value = int_field(values, key, path)
    if not 1 <= value <= MOST_VERSION:
        raise StoreError(f"{path}: {key} is {value}, not 1 to {MOST_VERSION}; restore the file from a copy")
    return value


def versions_in(folder: Path) -> list[int]:
    """Numbers of the version folders that lie in `folder`, whether or not a history knows them."""
    return sorted(int(path.name[1:]) for path in folder.glob("v*") if VERSION_NAME.fullmatch(path.name))
