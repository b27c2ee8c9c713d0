"""How good the shipped heads are, measured through the engine on what they were not trained on.

    python -m benchmarks.quality --recordings DIR [--models models] [--scenes 40] [--noise 40]

Three things are measured, for every signal of the store:
- held-out recordings as they are: those of DIR that `training.bursts.split_recordings` keeps for validation,
- scenes composed from bursts of those same held-out recordings, 6 to 35 dB over the noise in their band,
- captures of noise with receiver artefacts and no signal at all, and DIR's recordings labelled noise.
Detections that lie on a foreign signal (label `other`) count neither for nor against.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from engine.boxes import corners, iou
from engine.contract import CONTRACTS
from engine.detection import Detection, stitch
from engine.device import describe_cpu
from engine.engine import Engine
from engine.recording import open_recording
from training.bursts import cut_bursts, split_recordings
from training.metrics import MIN_SCORE, Judged, Scores, score
from training.render import fits
from training.scenes import SceneSettings, compose

SCORE_FROM = 0.05  # the least that heads give; AP sees these too
SCENE_SEED, NOISE_SEED = 700_000, 800_000  # no training scene has these
SNR_CLASSES_DB = ((6, 10), (10, 20), (20, 35))


@dataclass(frozen=True)
class Boxes:
    """Labelled boxes of one recording or scene: labels and float[N, 4] start_s, stop_s, low_hz, high_hz."""

    labels: tuple[str, ...]
    physical: np.ndarray
    snr_db: np.ndarray

    def of(self, label: str) -> np.ndarray:
        return corners(self.physical)[[name == label for name in self.labels]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--noise", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    with Engine.open(options.models, threshold=SCORE_FROM) as engine:
        figures = measure(engine, options.recordings, options.scenes, options.noise)
    Console().print(as_table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(engine: Engine, recordings: Path, scenes: int, noise: int) -> dict[str, Any]:
    name = next(key for key, value in CONTRACTS.items() if value.hash == engine.contract.hash)
    _, held_out = split_recordings(sorted(recordings.glob("*/*.sigmf-meta")))
    held_out = [path for path in held_out if fits(path, name)]
    signals = tuple(engine.snapshot.versions)
    seen = list(_recordings(engine, held_out))
    composed = list(_scenes(engine, held_out, scenes))
    alarms = list(_noise(engine, recordings, noise))
    figures: dict[str, Any] = {"machine": describe_cpu(), "contract": name, "signals": {}}
    figures["held_out"] = [path.stem for path in held_out]
    for signal in signals:
        by_snr = {
            f"{low}-{high} dB": _figures(score(_judged(composed, signal, (low, high)))) for low, high in SNR_CLASSES_DB
        }
        figures["signals"][signal] = {
            "version": engine.snapshot.versions[signal],
            "recordings": _figures(score(_judged(seen, signal))),
            "scenes": _figures(score(_judged(composed, signal))),
            "scenes_recall_by_snr": {key: value["recall"] for key, value in by_snr.items()},
            "false_alarms_per_noise_capture": float(np.mean([_confident(found, signal) for found in alarms])),
            "noise_captures": len(alarms),
        }
    return figures


def _recordings(engine: Engine, paths: list[Path]) -> Iterator[tuple[Boxes, list[Detection]]]:
    for path in tqdm(paths, desc="recordings"):
        recording = open_recording(path)
        notes = recording.annotations
        boxes = np.array([[n.start_s, n.stop_s, n.low_hz, n.high_hz] for n in notes]).reshape(-1, 4)
        yield Boxes(tuple(n.label for n in notes), boxes, np.full(len(notes), np.nan)), stitch(engine.stream(recording))


def _scenes(engine: Engine, paths: list[Path], count: int) -> Iterator[tuple[Boxes, list[Detection]]]:
    bursts = [burst for path in paths for burst in cut_bursts(path, engine.contract)]
    for seed in tqdm(range(SCENE_SEED, SCENE_SEED + count), desc="scenes"):
        scene = compose(engine.contract, bursts, seed)
        boxes = np.array([[t.start_s, t.stop_s, t.low_hz, t.high_hz] for t in scene.truths]).reshape(-1, 4)
        snr_db = np.array([t.snr_db for t in scene.truths], dtype=float)
        found = engine.detect(scene.iq, sample_rate_hz=engine.contract.sample_rate_hz)
        yield Boxes(tuple(t.label for t in scene.truths), boxes, snr_db), list(found)


def _noise(engine: Engine, recordings: Path, count: int) -> Iterator[list[Detection]]:
    settings = SceneSettings(empty=1.0, artefacts=0.5)
    for seed in tqdm(range(NOISE_SEED, NOISE_SEED + count), desc="noise"):
        scene = compose(engine.contract, (), seed, settings)
        yield list(engine.detect(scene.iq, sample_rate_hz=engine.contract.sample_rate_hz))
    for path in sorted(recordings.glob("*/noise*.sigmf-meta")):
        yield from (list(result) for result in engine.stream(open_recording(path)))


def _judged(
    pairs: list[tuple[Boxes, list[Detection]]], signal: str, snr_db: tuple[float, float] | None = None
) -> Iterator[Judged]:
    for boxes, detections in pairs:
        ours = [d for d in detections if d.signal == signal]
        found = corners(np.array([[d.start_s, d.stop_s, d.low_hz, d.high_hz] for d in ours]))
        scores = np.array([d.score for d in ours])
        ignored = (
            (iou(boxes.of("other"), found) > 0).any(axis=0) if len(boxes.of("other")) else np.zeros(len(ours), bool)
        )
        truth = boxes.of(signal)
        if snr_db is not None:
            levels = boxes.snr_db[[name == signal for name in boxes.labels]]
            truth = truth[(levels >= snr_db[0]) & (levels < snr_db[1])]
        yield Judged(truth, found[~ignored], scores[~ignored])


def _confident(found: list[Detection], signal: str) -> int:
    return sum(d.signal == signal and d.score >= MIN_SCORE for d in found)


def _figures(scores: Scores) -> dict[str, float | int | None]:
    shares = {
        "precision": scores.precision,
        "recall": scores.recall,
        "f1": scores.f1,
        "average_precision": scores.average_precision,
    }
    return {"truths": scores.truths, **{key: None if np.isnan(v) else round(v, 3) for key, v in shares.items()}}


def as_table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"Quality through the engine, {figures['contract']} contract, IoU 0.5, score 0.5")
    for heading in ("signal", "measured on", "truths", "precision", "recall", "F1", "AP"):
        table.add_column(heading, justify="left" if heading in ("signal", "measured on") else "right")
    for signal, found in figures["signals"].items():
        for key, title in (("recordings", "held-out recordings"), ("scenes", "scenes of their bursts")):
            row = found[key]
            shares = (row[share] for share in ("precision", "recall", "f1", "average_precision"))
            table.add_row(signal, title, str(row["truths"]), *("-" if v is None else f"{v:.3f}" for v in shares))
        for level, recall in found["scenes_recall_by_snr"].items():
            table.add_row("", f"scenes, {level}", "", "", "-" if recall is None else f"{recall:.3f}", "", "")
        alarms = f"{found['false_alarms_per_noise_capture']:.3f} a capture in {found['noise_captures']}"
        table.add_row("", f"noise: false alarms {alarms}", "", "", "", "", "")
    table.caption = figures["machine"]
    return table


if __name__ == "__main__":
    main()
