"""Evaluation captures: held-out recordings, scenes, both retuned within the band, and noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from engine.contract import Contract
from engine.engine import Engine
from engine.recordings.annotation import Annotation
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from engine.recordings.resampling import resample
from engine.stitching import stitch
from training.evaluation.metrics import Evaluated
from training.scenes.bursts import NOT_A_SIGNAL, Burst, shift
from training.scenes.compose import Scene, SceneSettings, compose

SCENE_SEED: Final = 700_000  # no training scene has these
NOISE_SEED: Final = 800_000
RETUNING_SEED: Final = 900_000
EDGES: Final = 4096  # offsets to choose from when retuning
MARGIN: Final = 0.01  # share of the band between a retuned signal and the band's edge
MIN_ROOM: Final = 0.02  # share of the offsets that must be possible, for anything to be retuned


@dataclass(frozen=True, eq=False)
class EvaluationCapture:
    """A recording and what is in it, in the recording's own seconds and hertz."""

    name: str
    recording: Recording
    truths: tuple[Annotation, ...]


def of_recordings(paths: Sequence[Path]) -> Iterator[EvaluationCapture]:
    """Those of `paths` that hold a signal."""
    for path in paths:
        recording = open_recording(path)
        if {note.label for note in recording.annotations} - set(NOT_A_SIGNAL):
            truths = (Annotation(n.label, n.start_s, n.stop_s, n.low_hz, n.high_hz) for n in recording.annotations)
            yield EvaluationCapture(path.stem, recording, tuple(truths))


def of_scenes(contract: Contract, bursts: Sequence[Burst], count: int) -> Iterator[EvaluationCapture]:
    for seed in range(SCENE_SEED, SCENE_SEED + count if bursts else SCENE_SEED):
        yield _of_scene(f"scene {seed}", compose(contract, bursts, seed), contract)


def of_noise(contract: Contract, paths: Sequence[Path], count: int) -> Iterator[EvaluationCapture]:
    """`count` captures made of noise and receiver artefacts, and every capture of those `paths` without a signal."""
    settings = SceneSettings(empty=1.0, artefacts=0.5)
    for seed in range(NOISE_SEED, NOISE_SEED + count):
        yield _of_scene(f"noise {seed}", compose(contract, (), seed, settings), contract)
    for path in paths:
        recording = open_recording(path)
        if not {note.label for note in recording.annotations} - {"noise"}:
            for index, window in enumerate(recording.captures(contract)):
                yield _of_scene(f"{path.stem} {index}", Scene(window.iq, ()), contract)


def retuned(capture: EvaluationCapture, contract: Contract, seed: int) -> EvaluationCapture | None:
    """`capture` at the contract's rate, turned round the band's edge by a random offset that cuts no labelled signal.

    What the receiver added by itself moves along. None where labelled signals fill the band or reach out of it.
    """
    recording, rate_hz = capture.recording, contract.sample_rate_hz
    centre_hz = recording.center_freq_hz or 0.0
    bands_hz = np.array([(truth.low_hz, truth.high_hz) for truth in capture.truths]).reshape(-1, 2) - centre_hz
    edges_hz = np.linspace(-rate_hz / 2, rate_hz / 2, EDGES)  # those that could become the band's edge
    beside = (edges_hz < bands_hz[:, :1] - MARGIN * rate_hz) | (edges_hz > bands_hz[:, 1:] + MARGIN * rate_hz)
    free_hz = edges_hz[beside.all(axis=0)]
    if np.abs(bands_hz).max(initial=0.0) > rate_hz / 2 or len(free_hz) < MIN_ROOM * EDGES:
        return None
    edge_hz = float(np.random.default_rng([RETUNING_SEED, seed]).choice(free_hz))
    by_hz = rate_hz / 2 - edge_hz
    iq = shift(resample(recording.read(0, len(recording)), recording.sample_rate_hz, rate_hz), by_hz, rate_hz)
    moves_hz = np.where(bands_hz[:, 0] > edge_hz, by_hz - rate_hz, by_hz).tolist()
    truths = (
        replace(truth, low_hz=truth.low_hz + move_hz, high_hz=truth.high_hz + move_hz)
        for truth, move_hz in zip(capture.truths, moves_hz, strict=True)
    )
    return EvaluationCapture(
        capture.name, replace(recording, sample_rate_hz=rate_hz, samples=_pairs(iq)), tuple(truths)
    )


def evaluate_on(engine: Engine, capture: EvaluationCapture) -> Evaluated:
    """Detections of an engine in all of `capture`, with its truths; the plane is the contract's band."""
    recording, half_hz = capture.recording, engine.contract.sample_rate_hz / 2
    centre_hz = recording.center_freq_hz or 0.0
    plane = (0.0, recording.duration_s, centre_hz - half_hz, centre_hz + half_hz)
    return Evaluated(capture.name, engine.contract, capture.truths, stitch(engine.stream(recording)), plane)


def _of_scene(name: str, scene: Scene, contract: Contract) -> EvaluationCapture:
    return EvaluationCapture(name, Recording(Path(name), contract.sample_rate_hz, None, _pairs(scene.iq)), scene.truths)


def _pairs(iq: np.ndarray) -> np.ndarray:
    """complex64[n] to float32[n, 2]."""
    return np.ascontiguousarray(iq, np.complex64).view(np.float32).reshape(-1, 2)
