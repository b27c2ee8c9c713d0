"""What is wrong with a store: files against their hashes, histories, pointers, the index, what is left over."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import StoreError
from .files import UNFINISHED, read_json
from .folders import SCHEMA, verify_all, versions_in
from .history import is_kept
from .reading import INDEX_NAME, StoreReader


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be. What is repairable goes by removing `path` and making the index anew."""

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
    """Signals, and folders of versions whose history is lost."""
    lost = {path.parent.name for path in store.path.glob("heads/*/v*") if path.is_dir()}
    return sorted({*store.signals(), *lost})


def _versions(store: StoreReader, name: str) -> Iterator[Problem]:
    folder = store.path / "heads" / name
    if not (folder / "metadata.json").is_file():
        yield Problem(f"{folder}: in no history, metadata.json is missing; restore it, or remove the folder", folder)
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
        path = folder / f"v{version}"
        yield Problem(f"{path}: in no history, a writer was killed here; remove it if you do not miss it", path)


def _damage(folder: Path) -> list[Problem]:
    try:
        verify_all(folder)
    except StoreError as error:
        return [Problem(str(error), folder)]
    return []


def _unfit(store: StoreReader, name: str, version: int, active: int) -> list[Problem]:
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
        return  # it is derived from what is damaged, and told already
    try:
        found = read_json(path)
    except StoreError as error:
        yield Problem(f"{error}; repair makes it anew", path, True)
        return
    if found.get("schema") != SCHEMA:
        yield Problem(f"{path}: schema {found.get('schema')!r}, this version reads {SCHEMA}; update", path)
    elif {**found, "last_updated": None} != {**expected, "last_updated": None}:
        yield Problem(f"{path}: is not what the metadata say; repair makes it anew", path, True)
