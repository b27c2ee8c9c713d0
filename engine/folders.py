"""Version folders: published whole, never changed, every file held against the SHA-256 in the manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .errors import StoreError
from .files import new_folder, read_json, sha256, write_json

SCHEMA: Final = 1


def publish(target: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Makes a version folder of files and a manifest that names their hashes."""
    with new_folder(target) as folder:
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
    expected = part(read_manifest(folder), "files", folder).get(name)
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
    for name in part(read_manifest(folder), "files", folder):
        verified(folder, name)


def part(manifest: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """An object inside a manifest. Raises StoreError when it is not there or is something else."""
    if not isinstance(manifest.get(key), dict):
        raise StoreError(f"{folder}: manifest without {key}; restore the version from a copy")
    return manifest[key]  # type: ignore[no-any-return]


def whole(values: Mapping[str, Any], key: str, path: Path) -> int:
    """A whole number inside a document. Raises StoreError on anything else."""
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise StoreError(f"{path}: {key} is {value!r:.50}, not a whole number; restore the file from a copy")
    return value


def versions_in(folder: Path) -> list[int]:
    """Numbers of the version folders that lie in `folder`, whether or not a history knows them."""
    return sorted(int(path.name[1:]) for path in folder.glob("v*") if path.name[1:].isdecimal())
