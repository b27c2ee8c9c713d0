"""Captures that the second look is trained on: of labelled SigMF recordings, of noise and of generated scenes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from engine.contract import CONTRACTS, ISM, WIDEBAND, Contract
from engine.recordings.annotation import Annotation
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording

from .look_data import OTHER
from .look_noise import noise
from .look_scenes import scene

ALIASES: Final = {"btle": "ble"}
NOISE: Final = "noise"  # label of a recording without signals
WIDEBAND_FROM_HZ: Final = 6e6  # recordings of this rate and more belong to the wideband contract
MOST_LABELLED: Final = 6  # captures of a recording with a box of a type
MOST_EMPTY: Final = 2  # and without
VISIBLE: Final = 0.25  # of a labelled box inside the capture; less is of no type


class Labelled(NamedTuple):
    """A capture and its boxes, start_s, stop_s, low_hz, high_hz from its beginning and its centre."""

    iq: np.ndarray  # complex64[capture_samples]
    contract: Contract
    valid_s: float
    truths: np.ndarray  # float64[T, 4]
    labels: list[str]


@dataclass(frozen=True)
class Origin:
    """Where captures come from: a recording's path, or the seed of a noise or scene."""

    kind: str  # recording, noise, scene
    name: str
    path: Path | None = None
    seed: int = 0
    complete: bool = True

    @property
    def contract(self) -> str:
        """Its contract's name."""
        found = contract_of(open_recording(self.path)) if self.path else next(self.captures()).contract
        return next(name for name, contract in CONTRACTS.items() if contract == found)

    def captures(self) -> Iterator[Labelled]:
        """The same captures at every call."""
        if self.path is not None:
            yield from recording_captures(self.path)
        else:
            yield Labelled(*(noise(self.seed) if self.kind == "noise" else scene(self.seed)))


def origins(recordings: Path, noises: int, scenes: int, incomplete: frozenset[str] = frozenset()) -> list[Origin]:
    """All there is: each SigMF recording under a folder, noises and scenes. `incomplete` names recordings in which not
    every signal has a box; those with signals of no type are too."""
    paths = sorted(recordings.rglob("*.sigmf-meta"), key=lambda path: path.stem)
    found = [Origin("recording", path.stem, path, complete=_complete(path, incomplete)) for path in paths]
    found += [Origin("noise", f"noise-{seed:04d}", seed=seed) for seed in range(noises)]
    return found + [Origin("scene", f"scene-{seed:04d}", seed=seed) for seed in range(scenes)]


def _complete(path: Path, incomplete: frozenset[str]) -> bool:
    return path.stem not in incomplete and all(note.label != OTHER for note in open_recording(path).annotations)


def contract_of(recording: Recording) -> Contract:
    """By the recording's rate."""
    return WIDEBAND if recording.sample_rate_hz >= WIDEBAND_FROM_HZ else ISM


def labelled(
    notes: tuple[Annotation, ...], contract: Contract, start_s: float, valid_s: float, centre_hz: float
) -> tuple[np.ndarray, list[str]]:
    """Boxes float64[T, 4] and labels of annotations within a capture; those cut short are of no type."""
    half = contract.sample_rate_hz / 2
    truths, labels = [], []
    for note in notes:
        begin, end = max(note.start_s - start_s, 0.0), min(note.stop_s - start_s, valid_s)
        low, high = max(note.low_hz - centre_hz, -half), min(note.high_hz - centre_hz, half)
        if end <= begin or high <= low or note.label == NOISE:
            continue
        whole = min(note.stop_s - note.start_s, valid_s) * (note.high_hz - note.low_hz)
        visible = (end - begin) * (high - low) >= VISIBLE * whole
        truths.append((begin, end, low, high))
        labels.append(ALIASES.get(note.label, note.label) if visible and note.label else OTHER)
    return np.array(truths, np.float64).reshape(-1, 4), labels


def recording_captures(path: Path) -> Iterator[Labelled]:
    """Captures of a SigMF recording, evenly spread: at most MOST_LABELLED with a box of a type, MOST_EMPTY without."""
    recording = open_recording(path)
    contract, centre_hz = contract_of(recording), recording.center_freq_hz or 0.0
    last_s = max(0.0, recording.duration_s - contract.capture_s)
    starts = [min(index * contract.capture_s, last_s) for index in range(recording.n_captures(contract))]
    inside = [labelled(recording.annotations, contract, start, contract.capture_s, centre_hz)[1] for start in starts]
    lit = np.array([any(label != OTHER for label in labels) for labels in inside], bool)
    for index in [*_spread(np.flatnonzero(lit), MOST_LABELLED), *_spread(np.flatnonzero(~lit), MOST_EMPTY)]:
        capture = recording.capture(contract, int(index))
        if np.isfinite(capture.iq).all() and np.abs(capture.iq).max() > 0:
            found = labelled(recording.annotations, contract, capture.start_s, capture.valid_s, centre_hz)
            yield Labelled(capture.iq, contract, capture.valid_s, *found)


def _spread(indices: np.ndarray, most: int) -> np.ndarray:
    if not len(indices):
        return indices
    places = np.linspace(0, len(indices) - 1, min(most, len(indices))).astype(int)
    return np.asarray(indices[np.unique(places)])
