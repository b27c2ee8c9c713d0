"""How good the shipped heads are, measured through the engine on what they were not trained on.

    python -m benchmarks.quality --recordings DIR [--generated BURSTS] [--models models] [--precision int8] [--json F]

Measured for every signal of the store:
- recordings of DIR that `training.scenes.bursts.split_recordings` keeps for validation, as they are,
- scenes composed from bursts of those recordings and the held-out ones of BURSTS (what `training.scenes.generated`
  wrote), 6 to 35 dB over the noise in their band; on these, arbitration between heads is tried as well,
- both once more, turned in frequency by a random offset where the band has room: what recall is lost,
- captures of noise with receiver artefacts and no signal at all, and held-out recordings of noise.
Metrics are defined in `training.evaluation.metrics`.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from engine.contract import CONTRACTS
from engine.devices.machine import describe_cpu
from engine.engine import Engine
from training.evaluation.metrics import Evaluated, arbitration_cost, evaluate, per_image
from training.evaluation.report import EvaluationReport, Scores
from training.scenes.bursts import split_recordings
from training.scenes.render import fits, sources

from .datasets import EvaluationCapture, evaluate_on, of_noise, of_recordings, of_scenes, retuned

SCORE_FROM = 0.05  # the least that heads give; average precision sees these too


@dataclass(frozen=True)
class Material:
    """Where the recordings and generated bursts lie, and how many scenes and noise captures are made."""

    recordings: Path
    generated: Path | None = None
    scenes: int = 40
    noise: int = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--generated", type=Path, help="folder that training.generated wrote")
    parser.add_argument("--scenes", type=int, default=Material.scenes)
    parser.add_argument("--noise", type=int, default=Material.noise)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--precision", default="float32", help="of the trunk: float32 or int8")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    material = Material(options.recordings, options.generated, options.scenes, options.noise)
    how = {"runtime": options.runtime, "precision": options.precision}
    with Engine.open(options.models, threshold=SCORE_FROM, arbitrate=False, **how) as engine:
        figures, reports = measure(engine, material)
    console = Console()
    for title, report in reports.items():
        console.print(report.as_table(f"{title}, {figures['contract']} contract, IoU 0.5, score 0.5"))
    console.print(_retuning_table(figures["retuned"]))
    console.print(f"mean F1 on scenes from 10 dB: {figures['mean_f1_from_10_db']}; {figures['machine']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def measure(engine: Engine, material: Material) -> tuple[dict[str, Any], dict[str, EvaluationReport]]:
    """The figures for a file, and a report on recordings, scenes and noise."""
    contract, signals = engine.contract, sorted(engine.snapshot.versions)
    name = next(key for key, value in CONTRACTS.items() if value.hash == contract.hash)
    _, paths = split_recordings(sorted(material.recordings.glob("*/*.sigmf-meta")))
    paths = [path for path in paths if fits(path, name)]
    bursts = sources(material.recordings, material.generated, name, "validation").bursts if material.scenes else ()
    recordings = _twice(engine, of_recordings(paths), "recordings")
    scenes = _twice(engine, of_scenes(contract, bursts, material.scenes), "scenes")
    noise = [evaluate_on(engine, capture) for capture in tqdm(of_noise(contract, paths, material.noise), desc="noise")]
    kinds = {"recordings": [first for first, _ in recordings], "scenes": [first for first, _ in scenes], "noise": noise}
    reports = {kind: evaluate(images, signals) for kind, images in kinds.items()}
    strong = [signal.strong.f1 for signal in reports["scenes"].signals.values() if signal.strong.truths]
    figures = {
        "machine": describe_cpu(),
        "contract": name,
        "ran_on": engine.ran_on,
        "versions": dict(engine.snapshot.versions),
        "held_out": [path.stem for path in paths],
        **{kind: report.as_json() for kind, report in reports.items()},
        "mean_f1_from_10_db": fmean(strong) if strong else None,
        "retuned": {"recordings": recall_change(recordings, signals), "scenes": recall_change(scenes, signals)},
        "arbitration": arbitration_cost(kinds["scenes"], signals),
    }
    return figures, reports


def recall_change(pairs: Iterable[tuple[Evaluated, Evaluated | None]], signals: Iterable[str]) -> dict[str, Any]:
    """Recall of each signal, and of `all`, before and after retuning, of what could be retuned (not None)."""
    moved = [(before, after) for before, after in pairs if after is not None]
    sides = [[before for before, _ in moved], [after for _, after in moved]]
    counts = {signal: [per_image(side, signal).sum(axis=0) for side in sides] for signal in signals}
    counts["all"] = [sum((both[side] for both in counts.values()), np.zeros(3, int)) for side in (0, 1)]
    change = {}
    for signal, both in counts.items():
        before, after = (Scores(*map(int, row)) for row in both)
        recalls = (before.recall, after.recall, after.recall - before.recall) if before.truths else (None,) * 3
        change[signal] = {"truths": before.truths, **dict(zip(("as_is", "retuned", "change"), recalls, strict=True))}
    return {"captures": len(moved), "recall": change}


def _twice(
    engine: Engine, captures: Iterable[EvaluationCapture], what: str
) -> list[tuple[Evaluated, Evaluated | None]]:
    """What is found in each capture, and in the same retuned."""
    pairs = []
    for number, capture in enumerate(tqdm(captures, desc=what)):
        moved = retuned(capture, engine.contract, number)
        pairs.append((evaluate_on(engine, capture), None if moved is None else evaluate_on(engine, moved)))
    return pairs


def _retuning_table(figures: dict[str, Any]) -> Table:
    table = Table(title="Recall when retuned")
    for heading in ("on", "signal", "truths", "as is", "retuned", "change"):
        table.add_column(heading, justify="left" if heading in ("on", "signal") else "right")
    for kind, found in figures.items():
        for signal, row in found["recall"].items():
            if row["truths"]:
                shares = (f"{row[key]:.3f}" for key in ("as_is", "retuned"))
                table.add_row(kind, signal, str(row["truths"]), *shares, f"{row['change']:+.3f}")
    return table


if __name__ == "__main__":
    main()
