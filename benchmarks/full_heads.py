"""What compact heads lose against full ones: a full head trained on the same frozen backbone and samples, both measured
on the same validation samples through the engine.

    python -m benchmarks.full_heads DATA --models models --signals wifi_ofdm,lte_tdd [--steps 300] [--json FILE]

A full head (58 MB) is what a Faster R-CNN has besides its backbone: an RPN on all levels, 12,544 values of each
proposal, two wide layers. So it is also what the peers of `benchmarks.peers` find, if trained on this backbone.
Training writes a checkpoint every 25 steps beside --json and goes on from there.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from engine.anchors import STOCK
from engine.contract import IMAGE_SIZE
from engine.devices.machine import describe_cpu
from engine.heads import FULL, Head
from engine.spectrogram import as_grey
from engine.store.registry import Store
from engine.store.release import BackboneRelease
from export.to_onnx import backbone_tensors
from network.backbone import network_input
from network.detector import detector
from training.evaluation.measuring import Measurement, measure
from training.samples.store import SampleStore

ANCHORS: Final = replace(STOCK, sizes=(16, 32, 64, 128, 256), ratios=(0.2, 1.0, 5.0))
RATE: Final = 5e-4
WARM_UP: Final = 20  # steps
DECAY: Final = 0.3  # of the steps, at the end
CLIP: Final = 5.0
SAVE_EVERY: Final = 25  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="where samples are kept")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--signals", required=True, help="separated by commas")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", type=Path, default=Path("full_heads.json"))
    options = parser.parse_args()
    store, samples = Store(options.models), SampleStore(options.data)
    figures: dict[str, Any] = {"machine": describe_cpu(), "steps": options.steps, "signals": {}}
    for signal in options.signals.split(","):
        figures["signals"][signal] = compared(store, samples, signal, options.steps, options.json.parent)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    Console().print(table(figures))


def compared(store: Store, samples: SampleStore, signal: str, steps: int, folder: Path) -> dict[str, Any]:
    release, split = store.release(), samples.current_split(signal)
    chosen = {name: samples.get(signal, name) for name in (*split.train_samples, *split.val_samples)}
    train = [chosen[name] for name in split.train_samples]
    weights = trained(release, train, steps, folder / f"full-{signal}.pt")
    checks = [chosen[name] for name in split.val_samples]
    compact = store.head(signal, release)
    full = Head(signal, compact.version + 1, "full", ANCHORS, weights)
    measured = {head.head_type: next(iter(measure(release, [head], checks).values())) for head in (compact, full)}
    return {
        "train_samples": len(train),
        "validation_samples": len(checks),
        **{kind: _scores(found) for kind, found in measured.items()},
    }


def _scores(found: Measurement) -> dict[str, float]:
    scores = found.report.scores
    return {"f1": scores.f1, "precision": scores.precision, "recall": scores.recall, "ap50": found.report.ap50}


def trained(release: BackboneRelease, samples: list[Any], steps: int, path: Path) -> dict[str, np.ndarray]:
    """The tensors of a full head after so many steps, one sample each."""
    torch.manual_seed(0)
    model = _model(release)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=RATE, weight_decay=1e-2)
    first = 0
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = int(saved["step"])
    for step, (image, target) in enumerate(_drawn(samples, release, first, steps), first):
        left = (steps - step) / (DECAY * steps)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP, left)
        loss = sum(model([image], [target]).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wanted, CLIP)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, path.with_suffix(".next"))
            path.with_suffix(".next").replace(path)
    state = model.state_dict()
    return {name: np.ascontiguousarray(state[name].numpy(), dtype=np.float32) for name in FULL}


def _model(release: BackboneRelease) -> FasterRCNN:
    """The release's backbone, frozen, and a head that knows nothing yet. Images come resized and normalised."""
    model = detector(
        2, ANCHORS, _skip_resize=True, image_mean=[0.0] * 3, image_std=[1.0] * 3, box_batch_size_per_image=128,
        rpn_batch_size_per_image=128, rpn_pre_nms_top_n_train=600, rpn_post_nms_top_n_train=400,
    )  # fmt: skip
    tensors = backbone_tensors(release.file("backbone.onnx").read_bytes())
    model.load_state_dict(tensors, strict=False)
    model.backbone.requires_grad_(False)
    return model.train()


def _drawn(
    samples: list[Any], release: BackboneRelease, first: int, steps: int
) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Network inputs float32[3, rows, columns] and boxes in their pixels; samples in a new order each time round."""
    rows, columns = release.input_size
    scale = torch.tensor([columns / IMAGE_SIZE, rows / IMAGE_SIZE] * 2)
    for step in tqdm(range(first, steps), initial=first, total=steps, unit="step"):
        order = np.random.default_rng(step // len(samples)).permutation(len(samples))
        sample = samples[order[step % len(samples)]]
        image = torch.from_numpy(as_grey(sample.image()))[None, None]
        boxes = torch.from_numpy(np.asarray(sample.own_boxes, np.float32).reshape(-1, 4)) * scale
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).amin(dim=1) > 0.5]
        yield (
            network_input(image, release.input_size)[0],
            {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)},
        )


def table(figures: dict[str, Any]) -> Table:
    found = Table(title=f"full heads of {figures['steps']} steps beside compact ones, {figures['machine']}")
    for heading in ("signal", "samples", "for validation", "F1 compact", "F1 full", "AP50 compact", "AP50 full"):
        found.add_column(heading, justify="left" if heading == "signal" else "right")
    for signal, row in figures["signals"].items():
        scores = [f"{row[kind][score]:.3f}" for score in ("f1", "ap50") for kind in ("compact", "full")]
        found.add_row(signal, str(row["train_samples"]), str(row["validation_samples"]), *scores)
    return found


if __name__ == "__main__":
    main()
