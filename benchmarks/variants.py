"""What heads cost and what of the shared vectors they need: the table behind docs/decisions/0005.

    python -m benchmarks.variants --models models [--data training_data --signals lora,gsm]

Cost: bytes of a head as shipped, and milliseconds of everything after the backbone for 1, 6, 12 and 48 heads, compact
and full, medians of several frames in one run on this machine. The heads are the store's own, repeated; full ones have
random weights, which take as long. With --data, heads are trained anew from samples on parts of the vectors.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.anchors import STOCK
from engine.devices.machine import describe_cpu
from engine.devices.open import open_device
from engine.heads import FULL, VECTOR, Head
from engine.loading import Loader
from engine.pipeline import Frame, Slot, find, upload_image
from engine.snapshot import Snapshot
from engine.store.registry import Store
from network.shared import WIDE
from training.head.features import Described, Describer, read_bank
from training.head.loop import PRESETS, example, views_each
from training.head.trainer import Example, HeadTrainer
from training.samples.store import SampleStore

COUNTS = (1, 6, 12, 48)
FULL_COUNTS = (1, 6, 12)  # 48 full heads take a minute and 2.8 GB
PARTS: dict[str, slice] = {
    "both layers": slice(0, VECTOR),
    "first layer (512)": slice(0, WIDE),
    "second layer (256)": slice(WIDE, VECTOR),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--data", type=Path, help="where samples are kept")
    parser.add_argument("--signals", default="", help="to train on parts of the vectors, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    store = Store(options.models)
    figures: dict[str, Any] = {"machine": describe_cpu(), "cost": cost(store, options.repeats), "parts": {}}
    if options.data and options.signals:
        for signal in options.signals.split(","):
            figures["parts"][signal] = parts(store, SampleStore(options.data), signal)
    Console().print(*tables(figures), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def cost(store: Store, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds after the backbone, and in all, by head type and number of heads."""
    release = store.release()
    compact = [head for head in store.snapshot().heads if head.head_type == "compact"]
    rng = np.random.default_rng(0)
    weights = {name: (rng.standard_normal(shape) * 0.01).astype(np.float32) for name, shape in FULL.items()}
    full = Head("full", 1, "full", STOCK, weights)
    slot, rows = Slot(open_device("cpu")), []
    image = rng.random((1024, 1024), np.float32)
    image[200:600, 300:310] = 1
    for kind, heads, counts in (("compact", compact, COUNTS), ("full", [full], FULL_COUNTS)):
        for count in counts:
            chosen = tuple(replace(heads[k % len(heads)], signal=f"head_{k}") for k in range(count))
            snapshot = Snapshot(0, release.version, release.backbone_hash, chosen)
            network = Loader(release).network(snapshot)
            frames = []
            for _ in range(repeats + 1):
                frame = Frame()
                find(upload_image(image, slot), release.contract, slot, network, snapshot, 0.5, frame)
                frames.append(frame.timings_ms)
            network.close()
            after = [sum(ms for stage, ms in timings.items() if stage != "backbone") for timings in frames[1:]]
            whole = [sum(timings.values()) for timings in frames[1:]]
            rows.append(
                {
                    "head_type": kind,
                    "heads": count,
                    "bytes_a_head": _stored_bytes(chosen[0]),
                    "after_backbone_ms": round(float(np.median(after)), 1),
                    "whole_ms": round(float(np.median(whole)), 1),
                }
            )
    return rows


def _stored_bytes(head: Head) -> int:
    """Compact heads are kept in 16 bits; full ones in 32, unless 16 hold every value exactly."""
    return sum(array.size for array in head.weights.values()) * (2 if head.head_type == "compact" else 4)


def parts(store: Store, samples: SampleStore, signal: str) -> dict[str, dict[str, float]]:
    """F1 on the validation samples of heads trained on parts of the vectors, everything else equal."""
    split = samples.current_split(signal)
    preset, release = PRESETS["balanced"], store.release()
    others = {label: rows for label, rows in read_bank(release).items() if label != signal}
    with Describer(release, samples.path / "cache") as describer:
        each = views_each(preset, len(split.train_samples))
        train = [
            example(samples.get(signal, name), number, each, describer)
            for name in split.train_samples
            for number in range(each)
        ]
        checks = [example(samples.get(signal, name), 0, each, describer) for name in split.val_samples]
    found = {}
    for name, part in PARTS.items():
        trainer = HeadTrainer(
            [_masked(e, part) for e in train],
            {label: _only(rows, part) for label, rows in others.items()},
            preset.learning_rate,
            preset.batch_size,
            42,
        )
        kept = [_masked(e, part) for e in checks]
        while trainer.epoch < preset.epochs and trainer.stale < preset.patience:
            losses = list(trainer.steps())
            trainer.epoch += 1
            scores, loss = trainer.validate(kept)
            trainer.keep_if_best(scores.f1, float(np.mean(losses)), loss)
        found[name] = {"f1": round(trainer.best.f1, 3)}
    return found


def _only(vectors: np.ndarray, part: slice) -> np.ndarray:
    kept = np.zeros_like(vectors)
    kept[:, part] = vectors[:, part]
    return kept


def _masked(example: Example, part: slice) -> Example:
    described = Described(example.described.proposals, _only(example.described.vectors, part))
    return Example(described, example.own, example.ignored)


def tables(figures: dict[str, Any]) -> Sequence[Table]:
    cost_table = Table(title=f"Heads: {figures['machine']}")
    for heading in ("head type", "heads", "MB a head", "after the backbone, ms", "with it, ms"):
        cost_table.add_column(heading, justify="right")
    for row in figures["cost"]:
        megabytes = f"{row['bytes_a_head'] / 1e6:.2f}"
        cost_table.add_row(
            row["head_type"], str(row["heads"]), megabytes, *(str(row[k]) for k in ("after_backbone_ms", "whole_ms"))
        )
    part_table = Table(title="F1 on validation samples, by what a head sees of the vectors")
    for heading in ("signal", *PARTS):
        part_table.add_column(heading, justify="right")
    for signal, found in figures["parts"].items():
        part_table.add_row(signal, *(f"{found[name]['f1']:.3f}" for name in PARTS))
    return [cost_table, part_table] if figures["parts"] else [cost_table]


if __name__ == "__main__":
    main()
