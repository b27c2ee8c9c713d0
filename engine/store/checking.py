"""Consistency check of a store: files against their hashes, histories, pointers, the index, leftovers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.atomic import UNFINISHED
from engine.errors import StoreError

from .files import read_json
from .folders import SCHEMA, half_written, verify_all, versions_in
from .history import is_kept
from .reader import INDEX_NAME, SIGNAL_NAME, StoreReader


@dataclass(frozen=True)
class Problem:
    """An inconsistency. A repairable one is mended by removing `path` and rebuilding the index."""

    what: str  # with the file at fault and the remedy
    path: Path
    repairable: bool = False


def find_problems(store: StoreReader) -> list[Problem]:
    """All of them; none in a store that is well. Takes as long as reading every file does."""
    found = [*_backbones(store), *(problem for name in _head_folders(store) for problem in _versions(store, name))]
    found += _index(store)
    for path in sorted(store.path.rglob(f"{UNFINISHED}*")):
        found.append(Problem(f"{path}: left behind by a writer that was killed; repair removes it", path, True))
    return list({problem.what: problem for problem in found}.values())


def _backbones(store: StoreReader) -> Iterator[Problem]:
    try:
        store.release()
    except StoreError as error:
        yield Problem(str(error), store.path / "backbone")
    for version in versions_in(store.path / "backbone"):
        yield from _damage(store.path / "backbone" / f"v{version}")


def _head_folders(store: StoreReader) -> list[str]:
    """Folders with a history, and those with versions whose history is lost."""
    found = [*store.path.glob("heads/*/metadata.json"), *store.path.glob("heads/*/v*")]
    return sorted({path.parent.name for path in found if SIGNAL_NAME.fullmatch(path.parent.name)})


def _versions(store: StoreReader, name: str) -> Iterator[Problem]:
    folder = store.path / "heads" / name
    if not (folder / "metadata.json").is_file():
        yield Problem(
            f"{folder}: in no history, metadata.json is missing; restore it from a copy, or move the folder away",
            folder,
        )
        return
    try:
        history = store.history(name)
    except StoreError as error:
        yield Problem(str(error), folder)
        return
    there = versions_in(folder)
    for entry in history["versions"]:
        path = folder / f"v{entry['version']}"
        if is_kept(entry):
            yield from _damage(path) or _unfit(store, name, entry["version"], history["active_version"])
        elif entry["version"] in there:
            yield Problem(f"{path}: retention has not finished; repair removes it", path, True)
    for version in set(there) - {entry["version"] for entry in history["versions"]}:
        yield _unknown(folder / f"v{version}")


def _unknown(path: Path) -> Problem:
    """A version folder in no history. A whole one may be a copy that somebody put back, half a one is of no use."""
    try:
        half = half_written(path)
    except StoreError:  # a manifest that cannot be read
        half = False
    if half:
        return Problem(f"{path}: in no history, and files of it are missing; repair removes it", path, True)
    return Problem(f"{path}: in no history, a writer was killed here; remove it if you do not miss it", path)


def _damage(folder: Path) -> list[Problem]:
    try:
        verify_all(folder)
    except StoreError as error:
        return [Problem(str(error), folder)]
    return []


def _unfit(store: StoreReader, name: str, version: int, active: int | None) -> list[Problem]:
    """Of the active version, whether it can be loaded; others may be for an earlier backbone."""
    try:
        if version == active:
            store.head(name, store.release(), version)
    except StoreError as error:
        return [Problem(str(error), store.path / "heads" / name / f"v{version}")]
    return []


def _index(store: StoreReader) -> Iterator[Problem]:
    path = store.path / INDEX_NAME
    try:
        expected = store.index()
    except StoreError:
        return  # it is derived from what is damaged, and reported already
    try:
        found = read_json(path)
    except StoreError as error:
        yield Problem(f"{error}; repair makes it anew", path, True)
        return
    if found.get("schema") != SCHEMA:
        yield Problem(f"{path}: schema {found.get('schema')!r}, this version reads {SCHEMA}; update", path)
        return
    named = found.get("signals")
    gone = sorted(set(named if isinstance(named, dict) else ()) - set(expected["signals"]))
    if gone:
        yield Problem(
            f"{path}: names {', '.join(gone)}, no longer in heads/; repair gives up on what is gone", path, True
        )
    elif {**found, "last_updated": None} != {**expected, "last_updated": None}:
        yield Problem(f"{path}: is not what the metadata say; repair makes it anew", path, True)
