"""Training of a backbone and the shared layers of compact heads, on many signal types of both contracts at once.

    python -m training.backbone.train SCENES RUN --steps 900 [--start models/backbone/v1]

A run writes RUN/last.pt every few minutes and goes on from it when started again. The learning rate is
constant after a warm-up and falls to zero over the last part, so a run may be shortened or lengthened.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from tqdm import tqdm

from engine.errors import HydraError
from engine.heads import VECTOR
from export.to_onnx import backbone_tensors, stored_tensors
from network.backbone import normalised
from network.detector import BACKBONE_PREFIX
from network.shared import WIDE, Fuse, SharedLayers

from .crops import SHAPES, SceneImages, Target
from .losses import sampled_boxes, shared_losses

NEW_PARTS = 2.0  # their learning rate, in that of the backbone


@dataclass(frozen=True)
class BackboneSettings:
    steps: int = 900
    learning_rate: float = 5e-4
    warm_up: int = 50
    decay_share: float = 0.5  # of the steps, at the end
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    save_every: int = 50
    seed: int = 0


class ManyTypes(nn.Module):
    """Backbone and shared layers with a classifier that only training uses."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
        )
        self.fuse = Fuse()
        self.shared = SharedLayers()
        self.types = nn.Linear(VECTOR - WIDE, classes + 1)  # the last one is nothing
        nn.init.normal_(self.shared.deltas.weight, std=1e-3)

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Grey float32[B, 1, rows, columns] in 0..1 to p2..p6."""
        return tuple(self.backbone(normalised(images).contiguous(memory_format=torch.channels_last)).values())

    def losses(self, images: torch.Tensor, targets: Sequence[Target]) -> dict[str, torch.Tensor]:
        """targets: per image truths, their class numbers, and regions, boxes in the crop's pixels."""
        boxes = [sampled_boxes(regions, truth, images.shape[2:]) for truth, _, regions in targets]
        vectors, refined = self.shared.describe(self.fuse(*self.features(images)), images, boxes)
        return shared_losses(self.types(vectors[:, WIDE:]), refined, boxes, [target[:2] for target in targets])


def rate_at(step: int, settings: BackboneSettings) -> float:
    """Learning rate as a share of the full one."""
    left = (settings.steps - step) / max(1.0, settings.decay_share * settings.steps)
    return min(1.0, (step + 1) / settings.warm_up, max(0.0, left))


def train(scenes: Path, run: Path, settings: BackboneSettings, start: Path | None = None) -> None:
    """Trains until `settings.steps`, from the weights of the release in `start` where one is given.

    Raises HydraError on a loss that is not finite; the last checkpoint is kept.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    classes = scene_classes(scenes)
    model = ManyTypes(len(classes))
    if start is not None:
        begin(model, start)
    model = model.to(memory_format=torch.channels_last)
    data = {name: SceneImages(scenes / name / "train", classes) for name in SHAPES}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    old = {id(parameter) for parameter in model.backbone.parameters()}
    groups = [
        {"params": [parameter for parameter in trained if (id(parameter) in old) == is_old], "share": share}
        for is_old, share in ((True, 1.0), (False, NEW_PARTS))
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    run.mkdir(parents=True, exist_ok=True)
    (run / "classes.json").write_text(json.dumps(classes))
    step = _resume(run, model, optimizer, rng)
    model.train()
    started = time.monotonic()
    bar = tqdm(total=settings.steps, initial=step, unit="step")
    while step < settings.steps:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_at(step, settings) * group["share"]
        contract = ("wideband", "ism", "wideband")[step % 3]
        shapes, odds = [shape for shape, _ in SHAPES[contract]], [share for _, share in SHAPES[contract]]
        images, targets = data[contract].batch(shapes[rng.choice(len(shapes), p=odds)], rng)
        losses = model.losses(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise HydraError(
                f"{run}: the loss of step {step} is {float(loss.detach())}; the last checkpoint stands: start again "
                "with a smaller --learning-rate"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        optimizer.step()
        step += 1
        bar.update()
        with (run / "log.jsonl").open("a") as lines:
            parts = {name: round(float(value.detach()), 4) for name, value in losses.items()}
            lines.write(json.dumps({"step": step, "seconds": round(time.monotonic() - started), **parts}) + "\n")
        if step % settings.save_every == 0 or step == settings.steps:
            _save(run, model, optimizer, rng, step)
    bar.close()


def begin(model: ManyTypes, release: Path) -> None:
    """Initialises the model with a release's backbone and shared layers. Stem and first stage are frozen: their
    features are generic, and a fifth of the backward pass is saved."""
    tensors = backbone_tensors((release / "backbone.onnx").read_bytes())
    model.backbone.load_state_dict({k.removeprefix(BACKBONE_PREFIX): v for k, v in tensors.items()}, strict=False)
    for part in (model.backbone.body.conv1, model.backbone.body.bn1, model.backbone.body.layer1):
        part.requires_grad_(False)
    for name, part in (("fuse.onnx", model.fuse), ("shared.onnx", model.shared)):
        if (release / name).exists():  # not in a legacy store
            stored = stored_tensors((release / name).read_bytes())
            part.load_state_dict({name: stored[name] for name in part.state_dict()})


def _save(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator, step: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save({**state, "rng": json.dumps(rng.bit_generator.state)}, run / "next.pt")
    (run / "next.pt").replace(run / "last.pt")


def _resume(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> int:
    if not (run / "last.pt").exists():
        return 0
    saved = torch.load(run / "last.pt", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    rng.bit_generator.state = json.loads(saved["rng"])
    return int(saved["step"])


def scene_classes(scenes: Path) -> list[str]:
    """All labels of the training scenes, sorted."""
    found: set[str] = set()
    for path in scenes.glob("*/train/[0-9]*.npz"):
        with np.load(path, allow_pickle=False) as stored:
            found |= {str(label) for label in stored["labels"]}
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder that training.render wrote")
    parser.add_argument("run", type=Path, help="folder of this run's checkpoints")
    parser.add_argument("--steps", type=int, default=BackboneSettings.steps)
    parser.add_argument("--learning-rate", type=float, default=BackboneSettings.learning_rate)
    parser.add_argument("--start", type=Path, help="folder of a release whose weights the run begins with")
    options = parser.parse_args(arguments)
    settings = BackboneSettings(steps=options.steps, learning_rate=options.learning_rate)
    train(options.scenes, options.run, settings, options.start)


if __name__ == "__main__":
    main()
