"""Candidates of labelled captures, as the second look finds and describes them, cached on disk.

Two files for each recording, noise or scene: all candidates with their vectors, and the zoom values and profiles of
those that a first fit chose.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.boxes import corners, iou

OTHER: Final = "other"  # label of signals of no type: neither positives nor negatives
SEEN: Final = ("boxes", "vectors", "values", "truths", "labels", "valid_s")
LOOKED: Final = ("chosen", "zoomed", "profiles")


@dataclass(frozen=True, eq=False)
class Looked:
    """Candidates of one capture described from the IQ."""

    chosen: np.ndarray  # int64[S], of the capture's candidates
    zoomed: np.ndarray  # float16[S, VALUES]
    profiles: np.ndarray  # float16[S, PROFILE_VALUES]


@dataclass(frozen=True, eq=False)
class Seen:
    """One capture: K candidates best first and T labelled boxes, all of them start_s, stop_s, low_hz, high_hz."""

    boxes: np.ndarray  # float64[K, 4]
    vectors: np.ndarray  # float16[K, VECTOR]
    values: np.ndarray  # float32[K, BOX_VALUES]
    truths: np.ndarray  # float64[T, 4]
    labels: np.ndarray  # str[T]
    valid_s: np.ndarray  # float64[]

    @cached_property
    def typed(self) -> np.ndarray:
        """bool[T]: truths of a type."""
        return np.asarray(self.labels != OTHER)

    @cached_property
    def overlap(self) -> np.ndarray:
        """float64[K, T'], IoU with the truths of a type."""
        return iou(corners(self.boxes), corners(self.truths[self.typed]))

    @cached_property
    def best_iou(self) -> np.ndarray:
        """float64[K]"""
        return np.asarray(self.overlap.max(axis=1, initial=0.0))

    @cached_property
    def owner(self) -> np.ndarray:
        """str[K]: label of the truth that a candidate overlaps most; "" where it overlaps none."""
        if not self.overlap.shape[1]:
            return np.full(len(self.boxes), "", "U24")
        names = self.labels[self.typed][self.overlap.argmax(axis=1)]
        return np.asarray(np.where(self.best_iou > 0, names, ""), "U24")

    @cached_property
    def ignored(self) -> np.ndarray:
        """bool[K]: candidates on a signal of no type, and not on one of a type."""
        if self.typed.all():
            return np.zeros(len(self.boxes), bool)
        others = self.truths[~self.typed]
        alike = iou(corners(self.boxes), corners(others)).max(axis=1) > 0.1
        within = inside(self.boxes, others).max(axis=1) > 0.3
        return np.asarray((alike | within) & (self.best_iou < 0.5))


@dataclass(frozen=True, eq=False)
class Source:
    """A recording, a noise or a generated scene, described."""

    name: str
    kind: str  # recording, noise, scene
    contract: str
    captures: tuple[Seen, ...]
    labels: frozenset[str]  # of its boxes, without OTHER
    complete: bool = True  # every signal has a box, so that what lies outside the boxes is a negative


def inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float64[N, M]: share of each of boxes float64[N, 4] that lies inside each of others float64[M, 4]."""
    low = np.maximum(boxes[:, None, ::2], others[None, :, ::2])
    high = np.minimum(boxes[:, None, 1::2], others[None, :, 1::2])
    area = (boxes[:, 1::2] - boxes[:, ::2]).prod(axis=1)
    return np.asarray((high - low).clip(0).prod(axis=2) / np.maximum(area, 1e-30)[:, None])


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """An .npz, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")
    with aside.open("wb") as file:
        np.savez(file, **arrays)
    aside.replace(path)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """None where the file is absent or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def numbered(items: list[Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Arrays of several objects under the names that `read_source` and `read_looked` know."""
    arrays: dict[str, Any] = {"count": len(items)}
    for number, item in enumerate(items):
        arrays |= {f"{name}_{number}": getattr(item, name) for name in names}
    return arrays


def read_source(path: Path) -> Source | None:
    """None where the file is absent or damaged."""
    arrays = read_arrays(path)
    if arrays is None or not {"contract", "kind", "count"} <= arrays.keys():
        return None
    captures = tuple(Seen(*(arrays[f"{name}_{n}"] for name in SEEN)) for n in range(int(arrays["count"])))
    labels = frozenset(str(label) for seen in captures for label in seen.labels) - {OTHER}
    return Source(path.stem, str(arrays["kind"]), str(arrays["contract"]), captures, labels)


def read_looked(path: Path) -> tuple[Looked, ...] | None:
    """None where the file is absent or damaged."""
    arrays = read_arrays(path)
    if arrays is None or "count" not in arrays:
        return None
    return tuple(Looked(*(arrays[f"{name}_{n}"] for name in LOOKED)) for n in range(int(arrays["count"])))
