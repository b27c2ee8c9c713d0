"""Backbone releases: the manifest of one, and whether a head's version was made for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.contract import LEGACY_INPUT_SIZE, Contract
from engine.errors import MismatchError, StoreError

from .folders import int_field, object_field, read_manifest, verified

LOOK: Final = "look.safetensors"  # constants of the second look, of a release
LEAST_INPUT: Final = 64  # rows or columns of a network's input
MOST_INPUT: Final = 4096


@dataclass(frozen=True)
class BackboneRelease:
    """A backbone version: its folder and the fields of its manifest."""

    version: int
    folder: Path
    contract: Contract
    backbone_hash: str
    input_size: tuple[int, int] = (LEGACY_INPUT_SIZE, LEGACY_INPUT_SIZE)  # rows and columns that the network works on

    def file(self, name: str) -> Path:
        return verified(self.folder, name)

    def hash_of(self, name: str) -> str | None:
        """SHA-256 of a file by the manifest; None where the release has none of this name."""
        return object_field(read_manifest(self.folder), "files", self.folder).get(name)

    def has(self, name: str) -> bool:
        """True if the manifest lists a file of this name."""
        return name in object_field(read_manifest(self.folder), "files", self.folder)


def backbone_revision(metadata: Mapping[str, Any], path: Path) -> int:
    return int_field(metadata, "revision" if "revision" in metadata else "version", path)


def earlier_releases(metadata: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Metadata of the releases that were in force before. Raises StoreError when that is no list of objects."""
    earlier = metadata.get("earlier", [])
    if not isinstance(earlier, list) or not all(isinstance(entry, dict) for entry in earlier):
        raise StoreError(f"{path}: earlier is not a list of objects; restore the file from a copy")
    return earlier


def fits(manifest: Mapping[str, Any], release: BackboneRelease, folder: Path) -> None:
    """Raises MismatchError, both hashes named, on a head made for another backbone or front end."""
    made_for = manifest["backbone_hash"]
    if made_for != release.backbone_hash:
        raise MismatchError(
            f"{folder}: made for backbone {made_for}, the store has {release.backbone_hash}; retrain it"
        )
    contract = Contract.from_json(object_field(manifest, "contract", folder))
    if contract.hash != release.contract.hash:
        raise MismatchError(
            f"{folder}: made for front-end contract {contract.hash}, the store has {release.contract.hash}; retrain it"
        )


def check_look(manifest: Mapping[str, Any], release: BackboneRelease, folder: Path) -> None:
    """Raises MismatchError on a typed head made for another second look than the release's."""
    made_for, has = manifest.get("look_hash"), release.hash_of(LOOK)
    if made_for != has:
        raise MismatchError(f"{folder}: made for second look {made_for}, the release has {has}; train it again")


def checked_input_size(manifest: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    value = manifest.get("input_size", [LEGACY_INPUT_SIZE, LEGACY_INPUT_SIZE])
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(side) is int and LEAST_INPUT <= side <= MOST_INPUT for side in value)
    ):
        raise StoreError(
            f"{folder}: input_size is {value!r:.50}, not two whole numbers of {LEAST_INPUT} to {MOST_INPUT}; "
            "restore the version from a copy"
        )
    return value[0], value[1]
