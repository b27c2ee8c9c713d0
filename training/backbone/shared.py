"""Training of the shared layers of compact heads, on a release with a frozen backbone.

    python -m training.backbone.shared SCENES RUN --release models/backbone/v1 --epochs 12

RoI features, the input of these layers, do not change in training: they are computed once for each scene and cached in
RUN (0.6 MB a scene). After that an epoch of 6,000 scenes takes a minute or two, where the whole backbone would take
hours. RUN/last.pt is written after each epoch, and a run that is started again goes on from it;
`training.backbone.release` takes it as it takes one of `training.backbone.train`.
"""

import argparse
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from engine.contract import CONTRACTS
from engine.errors import HydraError
from engine.regions import regions
from engine.sessions.base import Session
from engine.sessions.open import open_session
from engine.spectrogram import as_grey
from network.shared import WIDE, SharedLayers

from .crops import MIN_TRUTH_SIDE_PX, at_least, to_input, to_input_boxes
from .losses import EDGES_IOU, IGNORE_INDEX, assign_truths, class_targets, edges_loss, sampled_boxes
from .train import ManyTypes, begin, scene_classes

GAIN: Final = (0.9, 1.05)  # of a scene's levels
LIFT: Final = (-0.06, 0.06)


@dataclass(frozen=True)
class SharedLayerSettings:
    epochs: int = 12
    learning_rate: float = 1e-3
    batch_size: int = 512  # regions
    dropout: float = 0.25
    smoothing: float = 0.05  # of labels
    weight_decay: float = 0.05
    warm_up: int = 50  # steps
    seed: int = 0
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoiDataset:
    """RoI features float16[N, ROI_FEATURES] of the regions of many scenes, class targets int64[N], boxes float32[N, 4]
    in network pixels, and for each the truth of largest IoU, float32[N, 4] and float32[N]."""

    features: torch.Tensor
    types: torch.Tensor
    boxes: torch.Tensor
    truths: torch.Tensor
    overlap: torch.Tensor

    def batch(self, rows: torch.Tensor) -> "RoiDataset":
        return RoiDataset(*(value[rows] for value in vars(self).values()))


def cache_roi_features(scene: Path, out: Path, release: Path) -> None:
    """Caches the RoI features of one training scene, at a random gain and offset, unless they are there already."""
    target = out / f"{scene.parent.parent.name}-{scene.stem}.npz"
    if target.exists():
        return
    torch.set_num_threads(1)
    seed = int(scene.stem)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    with np.load(scene, allow_pickle=False) as stored:
        image, truths, labels = stored["image"], stored["boxes"], stored["labels"]
    levels = (as_grey(image) * rng.uniform(*GAIN) + rng.uniform(*LIFT)).clip(0, 1)
    image = np.round(levels * 255).astype(np.uint8)
    grey = as_grey(image)
    found = regions(grey)
    inside = to_input_boxes(found[found[:, 2] > 0], len(image)).astype(np.float32)
    truth = torch.from_numpy(at_least(to_input_boxes(truths, len(image)), MIN_TRUTH_SIDE_PX).astype(np.float32))
    small = to_input(image)[None]
    boxes = sampled_boxes(torch.from_numpy(inside), truth, small.shape[2:])
    overlap, owner = assign_truths(boxes, truth)
    fused = torch.from_numpy(next(iter(_trunk(release).run({"image": grey[None, None]}).values())))
    with torch.no_grad():
        features = SharedLayers().roi_features(fused, small, [boxes])
    aside = target.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(
        aside,
        allow_pickle=False,
        seen=features.half().numpy(),
        labels=labels[owner.numpy()] if len(labels) else np.full(len(boxes), "", np.str_),
        boxes=boxes.numpy(),
        truths=truth[owner].numpy() if len(truth) else boxes.numpy(),
        overlap=overlap.numpy(),
    )
    aside.replace(target)


@lru_cache(maxsize=1)
def _trunk(release: Path) -> Session:
    """Trunk session, one per process."""
    return open_session((release / "trunk.onnx").read_bytes(), threads=1)


def load_roi_dataset(folder: Path, classes: Sequence[str]) -> RoiDataset:
    """RoI features cached in a folder, less regions of a type that is not among the sorted `classes`."""
    paths = sorted(folder.glob("*-[0-9]*.npz"))
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("seen", "labels", "boxes", "truths", "overlap")}
    for path in tqdm(paths, desc="reading RoI features", unit="scene"):
        with np.load(path, allow_pickle=False) as stored:
            known = np.isin(stored["labels"], [*classes, ""])
            for name, values in columns.items():
                values.append(stored[name][known])
    labels = np.concatenate(columns.pop("labels"))
    numbers = torch.from_numpy(np.searchsorted(classes, labels))
    features, boxes, truths, overlap = (torch.from_numpy(np.concatenate(values)) for values in columns.values())
    return RoiDataset(features, class_targets(overlap, numbers, len(classes)), boxes, truths, overlap)


def train(scenes: Path, run: Path, release: Path, settings: SharedLayerSettings, processes: int = 2) -> None:
    """Trains the shared layers of `release` for `settings.epochs`, on nothing of the labels `settings.without`.

    Raises HydraError on a loss that is not finite; the last checkpoint is kept.
    """
    classes = [label for label in scene_classes(scenes) if label not in settings.without]
    kept = run / "looks"
    kept.mkdir(parents=True, exist_ok=True)
    (run / "classes.json").write_text(json.dumps(classes))
    paths = [path for name in sorted(CONTRACTS) for path in sorted((scenes / name / "train").glob("[0-9]*.npz"))]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        cached = pool.map(partial(cache_roi_features, out=kept, release=release), paths, chunksize=4)
        list(tqdm(cached, total=len(paths), desc="RoI features", unit="scene"))
    data = load_roi_dataset(kept, classes)
    torch.manual_seed(settings.seed)
    model = ManyTypes(len(classes))
    begin(model, release)
    trained = [*model.shared.parameters(), *model.types.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = len(data.types) // settings.batch_size
    epoch = _resume(run, model, optimizer)
    for number in range(epoch, settings.epochs):
        order = torch.randperm(len(data.types), generator=torch.Generator().manual_seed(number))
        losses = []
        for step in tqdm(range(steps), desc=f"epoch {number + 1} of {settings.epochs}", unit="step"):
            share = (number * steps + step) / (settings.epochs * steps)
            rate = min(1.0, (number * steps + step + 1) / settings.warm_up) * (1 + math.cos(math.pi * share)) / 2
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate
            loss = _loss(model, data.batch(order[step * settings.batch_size :][: settings.batch_size]), settings)
            if not torch.isfinite(loss):
                raise HydraError(
                    f"{run}: the loss of epoch {number + 1} is {float(loss.detach())}; the last checkpoint stands: "
                    "start again with a smaller --learning-rate"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        with (run / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({"epoch": number + 1, "loss": round(float(np.mean(losses)), 4)}) + "\n")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": number + 1}
        torch.save({**state, "settings": asdict(settings)}, run / "next.pt")
        (run / "next.pt").replace(run / "last.pt")


def _loss(model: ManyTypes, batch: RoiDataset, settings: SharedLayerSettings) -> torch.Tensor:
    vectors, refined = model.shared.embed_regions(batch.features.float(), batch.boxes, settings.dropout)
    loss = functional.cross_entropy(
        model.types(vectors[:, WIDE:]), batch.types, ignore_index=IGNORE_INDEX, label_smoothing=settings.smoothing
    )
    near = batch.overlap >= EDGES_IOU
    if near.any():
        loss = loss + edges_loss(batch.boxes[near], refined[near], batch.truths[near])
    return loss


def _resume(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not (run / "last.pt").exists():
        return 0
    saved = torch.load(run / "last.pt", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["epoch"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder that training.render wrote")
    parser.add_argument("run", type=Path, help="folder of this run's checkpoints")
    parser.add_argument("--release", type=Path, required=True, help="folder of the release to begin with")
    parser.add_argument("--epochs", type=int, default=SharedLayerSettings.epochs)
    parser.add_argument("--learning-rate", type=float, default=SharedLayerSettings.learning_rate)
    parser.add_argument("--without", action="append", default=[], metavar="LABEL", help="learn nothing of this label")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    settings = SharedLayerSettings(options.epochs, options.learning_rate, without=tuple(options.without))
    train(options.scenes, options.run, options.release, settings, options.processes)


if __name__ == "__main__":
    main()
