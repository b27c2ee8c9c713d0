"""Training batches for the whole detector: crops of rendered scenes, all of one shape in a batch.

A whole 800 x 800 image costs five seconds a step on two cores, so steps see parts of images at the scale the
network will see them: tall strips for wide short bursts, flat strips for narrow long ones, squares, and
whole images at 512 x 512 for context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from engine.contract import INPUT_SIZE

MIN_SIDE = 2.0  # network pixels a label has at least; thinner ones are widened around their middle
MIN_SEEN = 0.3  # of a box's area inside the crop, or it is dropped


@dataclass(frozen=True)
class Shape:
    rows: int
    columns: int
    batch: int
    image: int  # side of the whole image that the crop is taken from


TALL = Shape(800, 160, 4, INPUT_SIZE)
FLAT = Shape(160, 800, 4, INPUT_SIZE)
SQUARE = Shape(352, 352, 4, INPUT_SIZE)
WHOLE = Shape(512, 512, 2, 512)
HEAD_SHAPES = {"wideband": ((TALL, 1.0),), "ism": ((FLAT, 1.0),)}  # for heads: the scale of detection alone
SHAPES = {"wideband": ((TALL, 0.5), (SQUARE, 0.2), (WHOLE, 0.3)), "ism": ((FLAT, 0.5), (SQUARE, 0.2), (WHOLE, 0.3))}

Target = dict[str, torch.Tensor]


class SceneImages:
    """All rendered scenes of one contract and side, in memory: about 1 MB each."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self.items: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for path in sorted(folder.glob("[0-9]*.npz")):
            with np.load(path, allow_pickle=False) as stored:
                labels = stored["labels"]
                wanted = np.isin(labels, classes)
                numbers = np.array([1 + classes.index(str(label)) for label in labels[wanted]], dtype=np.int64)
                self.items.append((stored["image"], stored["boxes"][wanted], numbers))

    def batch(self, shape: Shape, rng: np.random.Generator) -> tuple[list[torch.Tensor], list[Target]]:
        """`shape.batch` crops: images float32[3, rows, columns] in 0..1 and torchvision's targets."""
        pairs = [self._crop(shape, rng) for _ in range(shape.batch)]
        return [image for image, _ in pairs], [target for _, target in pairs]

    def _crop(self, shape: Shape, rng: np.random.Generator) -> tuple[torch.Tensor, Target]:
        image, boxes, labels = self.items[rng.integers(len(self.items))]
        side = shape.image
        boxes = _at_least(boxes * (side / image.shape[0]), MIN_SIDE)
        room = np.array([side - shape.columns, side - shape.rows])
        corner = (rng.random(2) * (room + 1)).astype(np.int64)
        if len(boxes) and rng.random() < 0.7:  # usually a crop that holds something
            box = boxes[rng.integers(len(boxes))]
            aim = box[:2] + rng.random(2) * (box[2:] - box[:2]) - rng.random(2) * (shape.columns, shape.rows)
            corner = np.clip(aim, 0, room).astype(np.int64)
        pixels = to_side(image, side)[:, corner[1] : corner[1] + shape.rows, corner[0] : corner[0] + shape.columns]
        gain, lift = rng.uniform(0.85, 1.1), rng.uniform(-0.08, 0.08)  # another level below another maximum
        pixels = (pixels * gain + lift).clamp(0, 1).expand(3, -1, -1)
        boxes, labels = _visible(boxes, labels, corner, (shape.columns, shape.rows))
        return pixels, {"boxes": torch.from_numpy(boxes.astype(np.float32)), "labels": torch.from_numpy(labels)}


def to_side(image: np.ndarray, side: int) -> torch.Tensor:
    """uint8[1024, 1024] to float32[1, side, side] in 0..1, resized as the network's input is."""
    grey = torch.from_numpy(image)[None, None].float() / 255
    return functional.interpolate(grey, size=(side, side), mode="bilinear", align_corners=False)[0]


def _at_least(boxes: np.ndarray, side: float) -> np.ndarray:
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = np.maximum(half, side / 2)
    return np.concatenate([middle - half, middle + half], axis=1)


def _visible(boxes: np.ndarray, labels: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> Any:
    moved = boxes - np.tile(corner, 2)
    seen = np.stack([moved[:, 0::2].clip(0, size[0]), moved[:, 1::2].clip(0, size[1])], axis=2).reshape(-1, 4)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    sides = seen[:, 2:] - seen[:, :2]
    keep = (sides > 1).all(axis=1) & (np.prod(sides, axis=1) > np.minimum(MIN_SEEN * area, 1200))
    return seen[keep], labels[keep]
