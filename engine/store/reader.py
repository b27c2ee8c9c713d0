"""Reading the model store. Nothing here writes or takes a lock: what is active is one field of one file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.anchors import Anchors
from engine.contract import Contract
from engine.errors import StoreError
from engine.heads import NMS_IOU, TENSORS, Head
from engine.snapshot import Snapshot

from .files import read_json
from .folders import SCHEMA, int_field, object_field, read_manifest, verified, version_number, versions_in
from .history import checked_history, entry_of, history_revision, now
from .release import BackboneRelease, backbone_revision, check_look, checked_input_size, fits
from .weights import read_weights

SIGNAL_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")
INDEX_NAME: Final = "registry.json"


class StoreReader:
    """A folder of models, as it is now. Several processes may read while one writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def release(self, version: int | None = None) -> BackboneRelease:
        """A backbone release; `version` None is the one in force. Raises StoreError when there is none or it is
        damaged."""
        version = version_number(self._backbone(), "version", self._backbone_path) if version is None else version
        folder = self.path / "backbone" / f"v{version}"
        manifest = read_manifest(folder)
        contract = Contract.from_json(object_field(manifest, "contract", folder))
        return BackboneRelease(
            version, folder, contract, manifest["backbone_hash"], checked_input_size(manifest, folder)
        )

    def signals(self) -> tuple[str, ...]:
        """Names of all signals that have a head, or candidates for one, sorted. Folders of other names are no heads.

        Raises StoreError when the metadata.json of one is gone: detection would leave that signal out in silence.
        """
        self.check_index()
        return self._signals()

    def _signals(self) -> tuple[str, ...]:
        """`signals` by the folders alone: a signal whose whole folder is gone is found by the index."""
        names = sorted(path.name for path in self.path.glob("heads/*") if SIGNAL_NAME.fullmatch(path.name))
        there = tuple(name for name in names if (self.path / "heads" / name / "metadata.json").is_file())
        for name in names:
            if name not in there and versions_in(self.path / "heads" / name):
                raise self._lost(name, "its folder has versions")
        return there

    def _lost(self, name: str, known_by: str) -> StoreError:
        return StoreError(
            f"{self.path / 'heads' / name / 'metadata.json'}: not there, though {known_by}; restore it from a copy, or "
            "give the signal up: move its folder away, then `g20 store check --repair`"
        )

    def history(self, signal: str) -> dict[str, Any]:
        """A signal's metadata. Raises StoreError on a name that is not one, or a signal that is not here."""
        path = self._folder(signal) / "metadata.json"
        if not path.is_file():
            raise StoreError(f"{self.path}: no signal {signal!r}; it has {', '.join(self.signals()) or 'none'}")
        return checked_history(read_json(path), path)

    def head(self, signal: str, release: BackboneRelease, version: int | None = None) -> Head:
        """One head, checked against its manifest and the release; `version` None is the active one."""
        if version is None:
            version = self.history(signal)["active_version"]
        if version is None:
            raise StoreError(
                f"{signal}: no version is active, there are only candidates; see `g20 versions {signal}`, and choose "
                f"one by `g20 versions {signal} --promote N`"
            )
        folder, manifest = self._fitting(signal, version, release)
        head_type = str(manifest.get("head_type"))
        if head_type not in TENSORS:
            known = ", ".join(TENSORS)
            raise StoreError(f"{folder}: head type {head_type!r} is not known, only {known}; update, or retrain it")
        if head_type == "typed":
            check_look(manifest, release, folder)
        weights = read_weights(verified(folder, "weights.safetensors"), head_type)
        anchors = Anchors.from_json(object_field(manifest, "anchors", folder)) if head_type == "full" else None
        return Head(signal, version, head_type, anchors, weights, _nms_iou(manifest, folder))

    def snapshot(
        self,
        signals: tuple[str, ...] | None = None,
        versions: Mapping[str, int] | None = None,
        have: Snapshot | None = None,
    ) -> Snapshot:
        """The active heads of all signals that have one, or of those named; `versions` takes others of some, to measure
        them. Heads of `have` that are still the ones are not read again: a version never changes.

        Raises MismatchError when one of them was made for another backbone; see `incompatible`.
        """
        revision = self.revision()  # first: what changes from here on is seen as a change
        try:
            return self._snapshot(revision, signals, versions, have)
        except StoreError:
            if self.revision() == revision:
                raise
        return self._snapshot(self.revision(), signals, versions, have)  # a writer was at work in between

    def _snapshot(
        self,
        revision: int,
        signals: tuple[str, ...] | None,
        versions: Mapping[str, int] | None,
        have: Snapshot | None,
    ) -> Snapshot:
        release = self.release()
        known = have.heads if have is not None and have.backbone_hash == release.backbone_hash else ()
        loaded = {(head.signal, head.version): head for head in known}
        names = self.signals() if signals is None else tuple(dict.fromkeys(signals))
        chosen = dict(versions or {})
        if not chosen.keys() <= set(names):
            asked = ", ".join(sorted(chosen.keys() - set(names)))
            raise StoreError(f"{self.path}: a version of {asked} was chosen, loaded is {', '.join(names) or 'none'}")
        wanted = [(name, chosen.get(name) or self.history(name)["active_version"]) for name in names]
        if signals is None:
            wanted = [(name, version) for name, version in wanted if version is not None]
        heads = tuple(loaded.get(one) or self.head(one[0], release, one[1]) for one in wanted)
        return Snapshot(revision, release.version, release.backbone_hash, heads)

    def incompatible(self) -> dict[str, str]:
        """Signals whose active head does not fit the backbone and front end in force, and why."""
        release, found = self.release(), {}
        for name in self._signals():
            active = self.history(name)["active_version"]
            try:
                if active is not None:
                    self._fitting(name, active, release)
            except StoreError as error:
                found[name] = str(error)
        return found

    def index(self) -> dict[str, Any]:
        """registry.json as the metadata have it. Raises StoreError when these are damaged."""
        unfit = self.incompatible()
        signals = {}
        for name in self._signals():
            history = self.history(name)
            number = history["active_version"]
            active = {} if number is None else entry_of(history, number)
            signals[name] = {
                "active_head_version": number,
                "head_path": None if number is None else f"heads/{name}/v{number}",
                "sample_count": active.get("sample_count"),
                "f1_score": (active.get("metrics") or {}).get("f1_score"),
                "last_trained": active.get("created_at"),
                "compatible": name not in unfit,
            }
        return {
            "schema": SCHEMA,
            "revision": self._changes(),
            "last_updated": now(),
            "backbone_version": self.release().version,
            "signals": signals,
        }

    def revision(self) -> int:
        """Changes with every change of the store: the sum of the counts that the backbone's and each signal's
        metadata carry. So it cannot fall behind the pointers, whatever becomes of the index."""
        self.check_index()
        return self._changes()

    def _changes(self) -> int:
        counts = [
            history_revision(read_json(p), p) for p in (self._folder(n) / "metadata.json" for n in self._signals())
        ]
        backbone = self._backbone() if self._backbone_path.is_file() else {"revision": 0}
        return sum(counts) + backbone_revision(backbone, self._backbone_path)

    def _fitting(self, signal: str, version: int, release: BackboneRelease) -> tuple[Path, dict[str, Any]]:
        """A version's folder and manifest. Raises StoreError when it is damaged or does not fit the release."""
        folder = self._folder(signal) / f"v{version}"
        manifest = read_manifest(folder)
        fits(manifest, release, folder)
        return folder, manifest

    @property
    def _backbone_path(self) -> Path:
        return self.path / "backbone" / "metadata.json"

    def _backbone(self) -> dict[str, Any]:
        if not self._backbone_path.is_file():
            raise StoreError(f"{self.path}: no backbone here; give --models a store, or make one with `g20 extract`")
        return read_json(self._backbone_path)

    def check_index(self) -> None:
        """Raises StoreError on an index that is damaged, that a newer Hydra has written, or that names a signal whose
        metadata.json is gone: that is written before the index, so no crash leaves this behind."""
        path = self.path / INDEX_NAME
        if not path.is_file():
            return
        try:
            index = read_json(path)
        except StoreError as error:
            raise StoreError(f"{error}, or make it anew by `g20 store check --repair`") from error
        if index.get("schema") != SCHEMA:
            raise StoreError(f"{path}: schema {index.get('schema')!r}, this version reads {SCHEMA}; update")
        int_field(index, "revision", path)
        named = index.get("signals")
        if not isinstance(named, dict) or not all(map(SIGNAL_NAME.fullmatch, named)):
            raise StoreError(
                f"{path}: signals is {named!r:.80}, not an object with the names of signals; restore it from a copy, "
                "or make it anew by `g20 store check --repair`"
            )
        for name in named:
            if not (self.path / "heads" / name / "metadata.json").is_file():
                raise self._lost(name, f"{INDEX_NAME} names {name}")

    def _folder(self, signal: str) -> Path:
        """Folder of a signal's versions, existing or not. Raises StoreError on a bad name or a way out of the store."""
        folder = self.path / "heads" / checked_name(signal)
        if folder.is_symlink() or not folder.resolve().is_relative_to(self.path.resolve()):
            raise StoreError(f"{folder}: leads out of the store; replace the link by the folder itself")
        return folder


def checked_name(signal: str) -> str:
    """`signal` if it is a name; raises StoreError otherwise."""
    if not isinstance(signal, str) or not SIGNAL_NAME.fullmatch(signal):
        raise StoreError(f"signal name {signal!r}: use 1 to 64 of a-z, 0-9 and _")
    return signal


def _nms_iou(manifest: Mapping[str, Any], folder: Path) -> float:
    value = manifest.get("nms_iou", NMS_IOU)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= NMS_IOU:
        raise StoreError(f"{folder}: nms_iou is {value!r:.50}, not above 0 and up to {NMS_IOU}; restore the version")
    return value
