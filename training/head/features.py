"""Backbone features of augmented samples, cached on disk, and the negative feature bank of a release.

The graphs of the release are run by the engine's own sessions, so that a head is trained on the features that it gets
in detection.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from engine.atomic import replacing
from engine.describing import describe
from engine.errors import StoreError, UnavailableError
from engine.heads import DESCRIBED, VECTOR
from engine.loading import Loader
from engine.regions import regions
from engine.sessions.base import Session
from engine.spectrogram import as_grey
from engine.store.release import BackboneRelease

BANK: Final = "bank.safetensors"
TRAINED_ON: Final = ("onnxruntime", 0, "float32")  # so that heads do not depend on where they were trained
BACKGROUND: Final = ""  # the bank's label for proposals without a signal


@dataclass(frozen=True)
class Described:
    """Features of one image: proposals float32[K, 4] in image pixels and vectors float16[K, VECTOR], zero-padded."""

    proposals: np.ndarray
    vectors: np.ndarray


class Describer:
    """Feature extractor: runs backbone and shared layers of a release on images, with a cache on disk.

    `folder` keeps one file of 0.4 MB per image and release; those of other releases are removed. Use it in a `with`
    block, or close it.
    """

    def __init__(self, release: BackboneRelease, folder: Path | None = None) -> None:
        if not release.has("trunk.onnx"):
            raise UnavailableError(
                f"{release.folder} has no shared layers, so no compact heads can be trained on it; take a newer release"
            )
        self.release = release
        self._folder = folder / release.backbone_hash[:16] if folder else None
        self._sessions: tuple[Session, Session] | None = None  # opened when first needed
        if folder and self._folder:
            for other in folder.glob("*"):
                if other.is_dir() and other != self._folder:
                    shutil.rmtree(other, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)

    def describe(self, image: np.ndarray) -> Described:
        """Features of an image uint8[1024, 1024], from the cache where they are there."""
        path = self._folder / f"{hashlib.sha256(image.tobytes()).hexdigest()}.safetensors" if self._folder else None
        known = _read(path) if path else None
        if known is not None:
            return known
        if self._sessions is None:
            loader = Loader(self.release, *TRAINED_ON)
            self._sessions = loader.trunk(), loader.shared()
        trunk, shared = self._sessions
        found = describe(as_grey(image), regions, trunk, shared)
        described = Described(found.proposals, found.vectors.astype(np.float16))
        if path:
            with replacing(path) as temporary:
                temporary.write_bytes(save({"proposals": described.proposals, "vectors": described.vectors}))
        return described

    def close(self) -> None:
        for session in self._sessions or ():
            session.close()
        self._sessions = None

    def __enter__(self) -> "Describer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _read(path: Path) -> Described | None:
    try:
        stored = load(path.read_bytes())
        described = Described(stored["proposals"], stored["vectors"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None  # not there, or cut short by a crash: it is computed again
    fits = described.proposals.shape == DESCRIBED["proposals"] and described.vectors.shape == DESCRIBED["vectors"]
    return described if fits else None


def bank_file(vectors: Mapping[str, np.ndarray]) -> bytes:
    """A negative feature bank as a safetensors file: vectors float16[n, VECTOR] of proposals by label, background
    included. They are negatives for new heads, so that five samples need not contain every other signal."""
    labels = sorted(vectors)
    stacked = np.concatenate([vectors[label] for label in labels]).astype(np.float16)
    counts = json.dumps([[label, len(vectors[label])] for label in labels])
    return bytes(save({"vectors": stacked}, metadata={"counts": counts}))


def read_bank(release: BackboneRelease) -> dict[str, np.ndarray]:
    """Negative feature bank of a release by label; empty where it has none. Raises StoreError on damage."""
    if not release.has(BANK):
        return {}
    path = release.file(BANK)
    try:
        with safe_open(path, "numpy") as file:
            counts = json.loads(file.metadata()["counts"])
            vectors = file.get_tensor("vectors")
        ends = np.cumsum([count for _, count in counts])
        if vectors.shape != (ends[-1], VECTOR):
            raise ValueError(f"{vectors.shape} vectors for {ends[-1]} rows")
        return {label: part for (label, _), part in zip(counts, np.split(vectors, ends[:-1]), strict=True)}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: not a readable bank ({error}); restore the release from a copy") from error
