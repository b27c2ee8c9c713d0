"""Training the whole detector, and full heads on its frozen backbone.

    python -m training.detector SCENES RUN --steps 1000                      many signals: trains the backbone
    python -m training.detector SCENES RUN --signal wifi_ofdm --from RUN0    two classes, backbone frozen

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
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from engine.anchors import THIN, Anchors
from engine.errors import HydraError
from network.detector import detector, freeze_norms, split

from .crops import HEAD_SHAPES, SHAPES, SceneImages


@dataclass(frozen=True)
class Settings:
    steps: int = 1000
    learning_rate: float = 5e-4
    warm_up: int = 30
    decay_share: float = 0.3  # of the steps, at the end
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    save_every: int = 40
    seed: int = 0


def rate_at(step: int, settings: Settings) -> float:
    """Learning rate as a share of the full one."""
    left = (settings.steps - step) / max(1.0, settings.decay_share * settings.steps)
    return min(1.0, (step + 1) / settings.warm_up, max(0.0, left))


def build(classes: Sequence[str], frozen_backbone: bool, anchors: Anchors = THIN) -> FasterRCNN:
    """A detector for crops: no resizing, fewer proposals than in evaluation."""
    model = detector(
        len(classes) + 1,
        anchors,
        **({} if frozen_backbone else {"norm_layer": nn.BatchNorm2d}),
        _skip_resize=True,
        box_batch_size_per_image=128,
        rpn_batch_size_per_image=128,
        rpn_pre_nms_top_n_train=600,
        rpn_post_nms_top_n_train=400,
    )
    model.backbone.requires_grad_(not frozen_backbone)
    return model.to(memory_format=torch.channels_last)


def two_class(state: dict[str, torch.Tensor], row: int, fresh: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A many-class state as background against one class, as a start for its own head. The RPN's last layers,
    which belong to the anchors, come from `fresh`."""
    state = freeze_norms(state)
    state |= {key: fresh[key] for key in state if key.startswith(("rpn.head.cls_logits", "rpn.head.bbox_pred"))}
    pick = {"cls_score": [0, row], "bbox_pred": [0, 1, 2, 3, *range(4 * row, 4 * row + 4)]}
    for name, rows in pick.items():
        for kind in ("weight", "bias"):
            key = f"roi_heads.box_predictor.{name}.{kind}"
            state[key] = state[key][rows].clone()
    return state


def train(
    scenes: Path,
    run: Path,
    classes: Sequence[str],
    settings: Settings,
    start: Path | None = None,
    anchors: Anchors = THIN,
) -> None:
    """Trains until `settings.steps`; `start` is the run on whose frozen backbone a head is trained."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    model = build(classes, start is not None, anchors)
    crop_shapes = SHAPES
    if start is not None:
        many = json.loads((start / "classes.json").read_text())
        state = torch.load(start / "last.pt", weights_only=True)["model"]
        model.load_state_dict(two_class(state, 1 + many.index(classes[0]), model.state_dict()))
        crop_shapes = HEAD_SHAPES
    data = {name: SceneImages(scenes / name / "train", classes) for name in crop_shapes}
    data = {name: images for name, images in data.items() if any(len(boxes) for _, boxes, _ in images.items)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    run.mkdir(parents=True, exist_ok=True)
    (run / "classes.json").write_text(json.dumps(list(classes)))
    step = _resume(run, model, optimizer, rng)
    model.train()
    bar = tqdm(total=settings.steps, initial=step, unit="step")
    while step < settings.steps:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_at(step, settings)
        contract = list(data)[step % 3 % len(data)]  # wideband, ism, wideband
        shapes, odds = zip(*crop_shapes[contract], strict=True)
        images, targets = data[contract].batch(shapes[rng.choice(len(shapes), p=odds)], rng)
        losses = model([image.contiguous() for image in images], targets)
        loss = sum(losses.values())
        if not torch.isfinite(loss):
            raise HydraError(
                f"{run}: the loss of step {step} is {float(loss.detach())}; the last checkpoint stands: start again "
                "with a smaller --learning-rate"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        optimizer.step()
        step += 1
        bar.update()
        with (run / "log.jsonl").open("a") as lines:
            parts = {name.removeprefix("loss_"): round(float(value.detach()), 4) for name, value in losses.items()}
            lines.write(
                json.dumps({"step": step, "time_unix_s": round(time.time()), "loss": float(loss.detach()), **parts})
                + "\n"
            )
        if step % settings.save_every == 0 or step == settings.steps:
            _save(run, model, optimizer, rng, step)
    bar.close()


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


def legacy_checkpoint(run: Path, target: Path) -> None:
    """A two-class run as a legacy checkpoint: a plain state dict, its values rounded to 16 bits so that the
    store can hold them in 16 bits without loss. Norms keep 32 bits."""
    state = freeze_norms(torch.load(run / "last.pt", weights_only=True)["model"])
    backbone, head = split(state)
    rounded = {key: value.half().float() if value.ndim > 1 else value for key, value in {**backbone, **head}.items()}
    torch.save(rounded, target)


def scene_classes(scenes: Path) -> list[str]:
    """All labels of the training scenes, sorted."""
    found: set[str] = set()
    for path in scenes.glob("*/train/[0-9]*.npz"):
        with np.load(path, allow_pickle=False) as stored:
            found |= {str(label) for label in stored["labels"]}
    return sorted(found)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder that training.render wrote")
    parser.add_argument("run", type=Path, help="folder of this run's checkpoints")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument("--signal", help="train a two-class head for this signal instead")
    parser.add_argument("--from", dest="start", type=Path, help="the run whose backbone the head is trained on")
    parser.add_argument("--anchor-sizes", type=_numbers, default=THIN.sizes, help="five, in network pixels")
    parser.add_argument("--anchor-ratios", type=_numbers, default=THIN.ratios, help="three, height over width")
    parser.add_argument("--checkpoint", type=Path, help="write the finished run as a legacy checkpoint to this file")
    options = parser.parse_args(arguments)
    if bool(options.signal) != bool(options.start):
        parser.error("--signal and --from go together: a head is trained on a finished run's backbone")
    classes = [options.signal] if options.signal else scene_classes(options.scenes)
    settings = Settings(steps=options.steps, learning_rate=options.learning_rate)
    anchors = Anchors(options.anchor_sizes, options.anchor_ratios)
    train(options.scenes, options.run, classes, settings, options.start, anchors)
    if options.checkpoint:
        legacy_checkpoint(options.run, options.checkpoint)


if __name__ == "__main__":
    main()
