"""The model store: backbone releases, and per signal a history of head versions.

    models/registry.json                 index of signals, derived from the metadata
    models/backbone/metadata.json        the release in force;      backbone/v1/  graphs, manifest, certificate
    models/heads/<signal>/metadata.json  versions, what was active  heads/<signal>/v1/  weights, manifest

A version folder appears whole and never changes. What is active is one field of one file, which is replaced
in one step. Every file of a version is held against the SHA-256 in its manifest before it is used.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.errors import MismatchError, StoreError

from .checking import Problem, find_problems
from .files import probe, read_json, remove, write_json
from .folders import MOST_VERSION, publish, publish_first, version_number, versions_in
from .history import (
    History,
    activated,
    checked_history,
    entry_of,
    ever_active,
    evictable,
    history_revision,
    new_history,
    noted,
    now,
    rolled_back,
    was_active,
    with_version,
)
from .locking import writer_lock
from .reader import INDEX_NAME, StoreReader, checked_name
from .release import BackboneRelease, backbone_revision, earlier_releases, fits

__all__ = ["BackboneRelease", "Problem", "Store", "checked_name", "now"]

log = logging.getLogger(__name__)


class Store(StoreReader):
    """A folder of models. Reading never changes it. Whatever writes waits for the writers' lock, refuses a damaged
    store, and has happened wholly or not at all, also when the process is killed or the power fails."""

    def add_backbone(self, files: Mapping[str, bytes], manifest: Mapping[str, Any], info: Mapping[str, Any]) -> int:
        """Publishes a backbone release and makes it the one in force; returns its version. Heads made for another
        are incompatible from then on."""
        with self._writing():
            folder, path = self.path / "backbone", self._backbone_path
            version = _next(folder, [version_number(read_json(path), "version", path)] if path.is_file() else [])
            publish(folder / f"v{version}", files, manifest)
            self._write_backbone({"version": version, "created_at": now(), **info})
        return version

    def release_info(self) -> dict[str, Any]:
        """Fields of the metadata of the release in force that another one made from it carries on."""
        metadata = read_json(self._backbone_path)
        return {
            key: value for key, value in metadata.items() if key not in ("version", "created_at", "revision", "earlier")
        }

    def add_head(
        self,
        signal: str,
        files: Mapping[str, bytes],
        manifest: Mapping[str, Any],
        info: Mapping[str, Any],
        *,
        promote: bool | None = None,
        against: int | None = None,
    ) -> int:
        """Publishes a head version, and makes it active in the same step if `promote`; by default the first one of a
        signal becomes active and a later one is a candidate. Returns its version.

        info: what is known of it, see VERSION_FIELDS; a `promotion_reason` says why it is or is not to be promoted,
        and without one it counts as under test. `against`: the version that it was measured against. Raises
        MismatchError on one made for another backbone, StoreError when it is to be promoted and another version than
        `against` is active by now; nothing is published then.
        """
        folder, path = self._folder(signal), self._folder(signal) / "metadata.json"
        fits(manifest, self.release(), folder)
        with self._writing():
            release = self.release()
            fits(manifest, release, folder)
            first = not path.is_file()
            history = new_history(signal) if first else self.history(signal)
            version = _next(folder, [entry["version"] for entry in history["versions"]])
            if promote:
                _unchanged(signal, history, "the new version", against)
            history = with_version(history, version, release.version, info)
            if first if promote is None else promote:
                history = activated(history, version, info.get("promotion_reason") or "first version", auto=True)
            checked_history(history, path)
            if first:
                publish_first(folder, version, files, manifest, {**history, "revision": 1})
            else:
                publish(folder / f"v{version}", files, manifest)
                with self._withdrawn_unless_known(signal, version):
                    if promote:
                        self._check_ready(signal, history, version)
                    self._write_history(signal, history)
        return version

    def probe(self, size: int) -> None:
        """Tries what publishing `size` bytes will need: the writers' lock, a sound store, rights and disk space.

        Raises StoreError where publishing now would; nothing changes.
        """
        self.release()
        with writer_lock(self.path):
            self.check_index()
            self.index()
            probe(self.path, size)

    def promote(self, signal: str, version: int, reason: str, auto: bool = False, against: int | None = None) -> None:
        """Makes a version the active one, after a check of all its files; the active one is left as it is.

        `against` is the version that it was measured against. Raises StoreError when another one is active by now,
        or the version is not there, damaged, or made for another backbone.
        """
        with self._changing(signal) as history:
            active = history["active_version"]
            if version != active:
                if against is not None:
                    _unchanged(signal, history, f"version {version}", against)
                self._check_ready(signal, history, version)
                self._write_history(signal, activated(history, version, reason, auto=auto))

    def rollback(self, signal: str) -> int:
        """Undoes the last promotion that is not undone yet; returns the version that is active again.

        Raises StoreError when there is none before, or its files are gone or damaged; nothing changes then.
        """
        with self._changing(signal) as history:
            stack = was_active(history)
            if len(stack) < 2:
                before = f" before {stack[-1]}" if stack else ""
                raise StoreError(
                    f"{signal}: no version was active{before}; choose one by `g20 versions {signal} --promote N`"
                )
            self._check_ready(signal, history, stack[-2])
            self._write_history(signal, rolled_back(history, stack[-2]))
        return stack[-2]

    def reset(self, backbone: int | None = None) -> dict[str, int]:
        """Back to the beginning: every signal to the first version that was active on a backbone release (None: the
        one in force), which is made the one in force. Returns the version of each signal that has an active one.

        Raises StoreError, and changes nothing, when a signal has no such version or its files are gone or damaged.
        """
        self._backbone()  # a folder that is no store stays as it is
        with self._writing():
            release = self.release(backbone)
            served = [name for name in self.signals() if self.history(name)["active_version"] is not None]
            firsts = {name: self._first_for(name, release) for name in served}
            if release.version != self.release().version:
                self._write_backbone({"version": release.version})
            for name, version in firsts.items():
                history = self.history(name)
                if history["active_version"] != version:
                    self._write_history(name, activated(history, version, "reset to the first version", how="reset"))
        return firsts

    def pin(self, signal: str, version: int, pinned: bool = True) -> None:
        """Keeps a version's weights from retention, or no longer."""
        with self._changing(signal) as history:
            entry_of(history, version)
            self._write_history(signal, noted(history, version, pinned=pinned))

    def check(self) -> list[Problem]:
        """Everything that is wrong with the store: every hash, history, pointer and the index are looked at."""
        return find_problems(self)

    def repair(self) -> list[Problem]:
        """Mends what can be mended without loss (the index, what killed writers left); returns what that was."""
        if not self._backbone_path.is_file():
            self._backbone()  # says so: a folder that is no store stays as it is
        with writer_lock(self.path):
            problems, index = self.check(), self.path / INDEX_NAME
            if any(problem.path == index and not problem.repairable for problem in problems):
                return []  # a newer Hydra wrote this store
            mended = [problem for problem in problems if problem.repairable]
            for problem in mended:
                remove(problem.path)
            if any(problem.path == index for problem in mended):
                write_json(index, self.index())
        return mended

    @contextmanager
    def _withdrawn_unless_known(self, signal: str, version: int) -> Iterator[None]:
        """Removes a version folder again when the history could not be written, so that it takes no space."""
        try:
            yield
        except StoreError:
            with suppress(StoreError):
                if version not in (entry["version"] for entry in self.history(signal)["versions"]):
                    remove(self._folder(signal) / f"v{version}")
            raise

    def _first_for(self, signal: str, release: BackboneRelease) -> int:
        """The first version that was active on a release. Raises StoreError when there is none or it is damaged."""
        for entry in ever_active(self.history(signal)):
            try:
                return self.head(signal, release, entry["version"]).version
            except MismatchError:
                continue
        raise StoreError(
            f"{signal} has no version for backbone v{release.version}, {release.backbone_hash}; train one for it"
        )

    def _check_ready(self, signal: str, history: History, version: int) -> None:
        """Raises StoreError on a version that cannot be served: unknown, removed, damaged, for another backbone."""
        removed_at = entry_of(history, version).get("weights_removed_at")
        if removed_at:
            raise StoreError(
                f"{signal}: the weights of version {version} were removed by retention at {removed_at}; choose another"
            )
        self.head(signal, self.release(), version)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the lock around a change and brings the index up to date after it. The change holds without that."""
        with writer_lock(self.path):
            self.check_index()
            if self._backbone_path.is_file():
                self.index()  # a damaged store takes nothing new
            yield
            try:
                write_json(self.path / INDEX_NAME, self.index())
            except StoreError:
                log.warning("the index is behind, the next change makes it anew", exc_info=True)

    @contextmanager
    def _changing(self, signal: str) -> Iterator[History]:
        """`_writing`, with the history of a signal that is here."""
        self.history(signal)
        with self._writing():
            yield self.history(signal)

    def _write_history(self, signal: str, history: History) -> None:
        """The one step that changes what is active. Weights go after it, so a history never names what is gone."""
        folder = self._folder(signal)
        path, outdated = folder / "metadata.json", evictable(history)
        checked_history(history, path)  # what is written can be read
        for version in outdated:
            history = noted(history, version, weights_removed_at=now())
        write_json(path, {**history, "revision": history_revision(history, path) + 1})
        for version in outdated:
            try:
                remove(folder / f"v{version}")
            except StoreError:
                log.warning(
                    "%s: version %d takes space until `g20 store check --repair`", signal, version, exc_info=True
                )

    def _write_backbone(self, metadata: dict[str, Any]) -> None:
        """The one step that changes the release in force. Metadata of earlier ones are kept with it."""
        path = self._backbone_path
        before = read_json(path) if path.is_file() else {}
        number = metadata["version"]
        known = [*earlier_releases(before, path), {k: v for k, v in before.items() if k not in ("earlier", "revision")}]
        previous = next((entry for entry in known if entry.get("version") == number), {})
        earlier = [entry for entry in known if entry and entry.get("version") != number]
        revision = backbone_revision(before, path) + 1 if before else 1
        write_json(path, {**previous, **metadata, "revision": revision, "earlier": earlier})


def _unchanged(signal: str, history: History, what: str, against: int | None) -> None:
    """Raises StoreError when another version is active than `against`, which something was measured against."""
    active = history["active_version"]
    if active != against:
        raise StoreError(
            f"{signal}: version {active} is active now, {what} was measured against {against}; measure it again"
        )


def _next(folder: Path, known: list[int]) -> int:
    """A number never used before: the history counts as well as what lies there."""
    number = max([*known, *versions_in(folder)], default=0) + 1
    if number > MOST_VERSION:
        raise StoreError(f"{folder}: version {MOST_VERSION} is the last number there is; move the folder away")
    return number
