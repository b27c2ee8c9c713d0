"""The model store: one backbone release, and per signal a history of head versions.

    models/registry.json                 index of signals, rebuilt from the metadata
    models/backbone/metadata.json        the backbone's history;  backbone/v1/  graphs, manifest, certificate
    models/heads/<signal>/metadata.json  versions and which one is active;  heads/<signal>/v1/  weights, manifest

A version folder appears whole and never changes. What is active is one field of one file, which is replaced
in one step. Every file of a version is held against the SHA-256 in its manifest before it is used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .anchors import Anchors
from .contract import Contract
from .errors import MismatchError, StoreError
from .files import new_folder, read_json, sha256, write_json
from .heads import NMS_IOU, TENSORS, Head, Snapshot, read_weights

SIGNAL_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")
SCHEMA: Final = 1
RETENTION: Final = 5  # versions of a head whose weights are kept
VERSION_FIELDS: Final = (  # of a history's entry; what is not known of a version is null
    *("version", "created_at", "sample_count", "split_version", "epochs_trained", "early_stopped", "best_epoch"),
    *("metrics", "training_time_sec", "learning_rate", "batch_size", "parent_version", "auto_promoted"),
    *("promoted_at", "promotion_reason", "is_active", "notes"),
)


@dataclass(frozen=True)
class Release:
    """A backbone version: its folder and what its manifest says."""

    version: int
    folder: Path
    contract: Contract
    backbone_hash: str

    def file(self, name: str) -> Path:
        return verified(self.folder, name)


class Store:
    """A folder of models. Reading never changes it; `add_backbone` and `add_head` publish new versions."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def release(self) -> Release:
        """The backbone in force. Raises StoreError when there is none or it is damaged."""
        metadata = self.path / "backbone" / "metadata.json"
        if not metadata.is_file():
            raise StoreError(f"{self.path}: no backbone here; give --models a store, or make one with `g20 extract`")
        version = _whole(read_json(metadata), "version", metadata)
        folder = self.path / "backbone" / f"v{version}"
        manifest = _manifest(folder)
        return Release(
            version, folder, Contract.from_json(_part(manifest, "contract", folder)), manifest["backbone_hash"]
        )

    def signals(self) -> tuple[str, ...]:
        """Names of all signals that have a head, sorted. Folders of other names are no heads."""
        found = self.path.glob("heads/*/metadata.json")
        return tuple(sorted(p.parent.name for p in found if SIGNAL_NAME.fullmatch(p.parent.name)))

    def history(self, signal: str) -> dict[str, Any]:
        """A signal's metadata. Raises StoreError on a name that is not one, or a signal that is not here."""
        path = self._folder(signal) / "metadata.json"
        if not path.is_file():
            raise StoreError(f"{self.path}: no signal {signal!r}; it has {', '.join(self.signals()) or 'none'}")
        return _checked_history(read_json(path), path)

    def head(self, signal: str, release: Release, version: int | None = None) -> Head:
        """One head, checked against its manifest and the release; `version` None is the active one."""
        if version is None:
            version = self.history(signal)["active_version"]
        folder = self._folder(signal) / f"v{version}"
        manifest = _manifest(folder)
        _fits(manifest, release, folder)
        head_type = str(manifest.get("head_type"))
        if head_type not in TENSORS:
            known = ", ".join(TENSORS)
            raise StoreError(f"{folder}: head type {head_type!r} is not known, only {known}; update, or retrain it")
        weights = read_weights(verified(folder, "weights.safetensors"), head_type)
        anchors = Anchors.from_json(_part(manifest, "anchors", folder))
        return Head(signal, version, head_type, anchors, weights, _nms_iou(manifest, folder))

    def snapshot(self, signals: tuple[str, ...] | None = None) -> Snapshot:
        """The active heads of all signals, or of those named."""
        release = self.release()
        names = self.signals() if signals is None else tuple(dict.fromkeys(signals))
        heads = tuple(self.head(name, release) for name in names)
        return Snapshot(self.revision(), release.version, release.backbone_hash, heads)

    def revision(self) -> int:
        """Counts every change of the store; 0 for one that has no registry yet."""
        path = self.path / "registry.json"
        if not path.is_file():
            return 0
        index = read_json(path)
        if index.get("schema") != SCHEMA:
            raise StoreError(f"{path}: schema {index.get('schema')!r}, this version reads {SCHEMA}; update")
        return _whole(index, "revision", path)

    def add_backbone(self, files: Mapping[str, bytes], manifest: Mapping[str, Any], info: Mapping[str, Any]) -> int:
        """Publishes a backbone release and makes it the one in force; returns its version."""
        self._index()  # a damaged store takes nothing new
        folder = self.path / "backbone"
        path = folder / "metadata.json"
        version = _next(folder, [_whole(read_json(path), "version", path)] if path.is_file() else [])
        _publish(folder / f"v{version}", files, manifest)
        write_json(path, {"version": version, "created_at": now(), **info})
        self.rebuild_index()
        return version

    def add_head(
        self, signal: str, files: Mapping[str, bytes], manifest: Mapping[str, Any], info: Mapping[str, Any]
    ) -> int:
        """Publishes a head version. The first one of a signal becomes active; a later one is a candidate, for
        promotion to decide. Returns its version. Raises MismatchError on one made for another backbone."""
        folder = self._folder(signal)
        release, _ = self.release(), self._index()  # a damaged store takes nothing new
        _fits(manifest, release, folder)
        first = not (folder / "metadata.json").is_file()
        history: dict[str, Any] = {"signal_name": signal, "versions": []} if first else self.history(signal)
        version = _next(folder, [entry["version"] for entry in history["versions"]])
        _publish(folder / f"v{version}", files, manifest)
        entry = {**dict.fromkeys(VERSION_FIELDS), **info, "version": version, "created_at": now(), "is_active": first}
        if first:
            entry |= {"promoted_at": now(), "promotion_reason": "first version", "auto_promoted": True}
            history |= {"active_version": version, "version_retention": RETENTION}
        history |= {"backbone_version": release.version, "versions": [*history["versions"], entry]}
        write_json(folder / "metadata.json", history)
        self.rebuild_index()
        return version

    def rebuild_index(self) -> None:
        """Writes registry.json from the metadata, one revision up."""
        write_json(self.path / "registry.json", {**self._index(), "backbone_version": self.release().version})

    def _index(self) -> dict[str, Any]:
        """The next registry.json as the metadata have it, short of the backbone."""
        signals = {}
        for name in self.signals():
            history = self.history(name)
            active = next(v for v in history["versions"] if v["version"] == history["active_version"])
            signals[name] = {
                "active_head_version": history["active_version"],
                "head_path": f"heads/{name}/v{history['active_version']}",
                "sample_count": active.get("sample_count"),
                "f1_score": (active.get("metrics") or {}).get("f1_score"),
                "last_trained": active.get("created_at"),
            }
        return {"schema": SCHEMA, "revision": self.revision() + 1, "last_updated": now(), "signals": signals}

    def _folder(self, signal: str) -> Path:
        """Where a signal's versions lie, or would. Raises StoreError on a bad name or a way out of the store."""
        folder = self.path / "heads" / checked_name(signal)
        if folder.is_symlink() or not folder.resolve().is_relative_to(self.path.resolve()):
            raise StoreError(f"{folder}: leads out of the store; replace the link by the folder itself")
        return folder


def checked_name(signal: str) -> str:
    """`signal` if it is a name; raises StoreError otherwise."""
    if not isinstance(signal, str) or not SIGNAL_NAME.fullmatch(signal):
        raise StoreError(f"signal name {signal!r}: use 1 to 64 of a-z, 0-9 and _")
    return signal


def verified(folder: Path, name: str) -> Path:
    """A file of a version folder whose bytes are those the manifest names. Raises StoreError otherwise."""
    expected = _part(_manifest(folder), "files", folder).get(name)
    path = folder / name
    if expected is None or not path.is_file() or path.is_symlink():
        raise StoreError(f"{path}: missing; restore the version from a copy")
    found = sha256(path)
    if found != expected:
        raise StoreError(f"{path}: SHA-256 {found} is not {expected} of its manifest; restore the version from a copy")
    return path


def _next(folder: Path, known: list[int]) -> int:
    """A number never used before: the history counts as well as what lies there."""
    there = [int(path.name[1:]) for path in folder.glob("v*") if path.name[1:].isdecimal()]
    return max([*known, *there], default=0) + 1


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _publish(target: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    with new_folder(target) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        hashes = {name: sha256(folder / name) for name in files}
        write_json(folder / "manifest.json", {"schema": SCHEMA, **manifest, "files": hashes})


def _manifest(folder: Path) -> dict[str, Any]:
    if folder.is_symlink():
        raise StoreError(f"{folder}: a link; replace it by the folder itself")
    manifest = read_json(folder / "manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise StoreError(f"{folder}: manifest schema {manifest.get('schema')!r}, this version reads {SCHEMA}; update")
    if not isinstance(manifest.get("backbone_hash"), str):
        raise StoreError(f"{folder}: manifest without backbone_hash; restore the version from a copy")
    return manifest


def _part(manifest: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    if not isinstance(manifest.get(key), dict):
        raise StoreError(f"{folder}: manifest without {key}; restore the version from a copy")
    return manifest[key]  # type: ignore[no-any-return]


def _whole(values: Mapping[str, Any], key: str, path: Path) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise StoreError(f"{path}: {key} is {value!r:.50}, not a whole number; restore the file from a copy")
    return value


def _checked_history(history: dict[str, Any], path: Path) -> dict[str, Any]:
    """`history` if versions are told apart and one of them is active; raises StoreError otherwise."""
    entries = history.get("versions")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("metrics") or {}, dict) for entry in entries
    ):
        raise StoreError(f"{path}: versions are not a list of objects; restore the file from a copy")
    active, numbers = _whole(history, "active_version", path), [_whole(entry, "version", path) for entry in entries]
    if len(set(numbers)) != len(numbers) or active not in numbers:
        raise StoreError(f"{path}: active_version {active} of versions {numbers}; restore the file from a copy")
    return history


def _nms_iou(manifest: Mapping[str, Any], folder: Path) -> float:
    value = manifest.get("nms_iou", NMS_IOU)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= NMS_IOU:
        raise StoreError(f"{folder}: nms_iou is {value!r:.50}, not above 0 and up to {NMS_IOU}; restore the version")
    return value


def _fits(manifest: Mapping[str, Any], release: Release, folder: Path) -> None:
    """Raises MismatchError, both hashes named, on a head made for another backbone or front end."""
    made_for = manifest["backbone_hash"]
    if made_for != release.backbone_hash:
        raise MismatchError(
            f"{folder}: made for backbone {made_for}, the store has {release.backbone_hash}; retrain it"
        )
    contract = Contract.from_json(_part(manifest, "contract", folder))
    if contract.hash != release.contract.hash:
        raise MismatchError(
            f"{folder}: made for front-end contract {contract.hash}, the store has {release.contract.hash}; retrain it"
        )
