"""Training batches: crops of rendered scenes at the network's scale, all of one shape in a batch.

A whole input costs two seconds a step on two cores, so most steps use crops: tall strips for wide short bursts,
flat strips for narrow long ones, squares, and now and then the whole for context.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from engine.regions import regions
from engine.spectrogram import as_grey
from network.shared import INPUT_SIZE

MIN_CROP_SHARE: Final = 0.3  # of a box's area inside the crop, or it is dropped
MIN_TRUTH_SIDE_PX: Final = 0.4  # network pixels; thinner boxes are widened around their middle


@dataclass(frozen=True)
class Shape:
    rows: int
    columns: int
    batch: int


TALL: Final = Shape(512, 192, 3)
FLAT: Final = Shape(128, 768, 3)
SQUARE: Final = Shape(256, 384, 3)
WHOLE: Final = Shape(*INPUT_SIZE, 1)
SHAPES: Final[dict[str, tuple[tuple[Shape, float], ...]]] = {
    "wideband": ((TALL, 0.5), (SQUARE, 0.3), (WHOLE, 0.2)),
    "ism": ((FLAT, 0.4), (SQUARE, 0.4), (WHOLE, 0.2)),
}

# truths float32[M, 4] in the crop's pixels, their class numbers int64[M], and regions float32[R, 4]
Target = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class SceneImages:
    """All rendered scenes of one contract and side, in memory: about 0.4 MB each."""

    def __init__(self, folder: Path, classes: Sequence[str], processes: int = 2) -> None:
        paths = sorted(folder.glob("[0-9]*.npz"))
        with ThreadPoolExecutor(processes) as pool:
            self.items = list(pool.map(partial(_item, classes=tuple(classes)), paths))

    def batch(self, shape: Shape, rng: np.random.Generator) -> tuple[torch.Tensor, list[Target]]:
        """`shape.batch` crops: float32[B, 1, rows, columns] in 0..1 and their targets."""
        pairs = [self._crop(shape, rng) for _ in range(shape.batch)]
        return torch.stack([image for image, _ in pairs]), [target for _, target in pairs]

    def _crop(self, shape: Shape, rng: np.random.Generator) -> tuple[torch.Tensor, Target]:
        image, boxes, labels, found = self.items[rng.integers(len(self.items))]
        room = np.array([image.shape[1] - shape.columns, image.shape[0] - shape.rows])
        corner = (rng.random(2) * (room + 1)).astype(np.int64)
        if len(boxes) and rng.random() < 0.8:  # usually a crop that holds something
            box = boxes[rng.integers(len(boxes))]
            aim = box[:2] + rng.random(2) * (box[2:] - box[:2]) - rng.random(2) * (shape.columns, shape.rows)
            corner = np.clip(aim, 0, room).astype(np.int64)
        pixels = image[corner[1] : corner[1] + shape.rows, corner[0] : corner[0] + shape.columns]
        boxes, labels = _visible(boxes, labels, corner, (shape.columns, shape.rows))
        found, _ = _visible(found, np.zeros(len(found)), corner, (shape.columns, shape.rows))
        if rng.random() < 0.5:  # high and low swapped
            pixels = np.ascontiguousarray(pixels[::-1])
            boxes, found = _flipped(boxes, shape.rows), _flipped(found, shape.rows)
        gain, lift = rng.uniform(0.85, 1.1), rng.uniform(-0.08, 0.08)  # another level below another maximum
        grey = (torch.from_numpy(pixels)[None].float() / 255 * gain + lift).clamp(0, 1)
        truth, rest = (torch.from_numpy(part.astype(np.float32)) for part in (boxes, found))
        return grey, (truth, torch.from_numpy(labels), rest)


def _item(path: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One scene at the network's scale: image, truths, their numbers, and regions (cached next to the scene)."""
    with np.load(path, allow_pickle=False) as stored:
        labels, boxes, image = stored["labels"], stored["boxes"], stored["image"]
    kept = path.with_suffix(".regions.npy")
    if not kept.exists():
        np.save(kept, regions(as_grey(image)), allow_pickle=False)
    found = np.load(kept, allow_pickle=False)
    numbers = np.array([classes.index(str(label)) for label in labels], dtype=np.int64)
    small = (to_input(image)[0] * 255).round().to(torch.uint8).numpy()
    truths = at_least(to_input_boxes(boxes, image.shape[0]), MIN_TRUTH_SIDE_PX)
    return small, truths, numbers, to_input_boxes(found[found[:, 2] > 0], image.shape[0])


def _flipped(boxes: np.ndarray, rows: int) -> np.ndarray:
    return np.stack([boxes[:, 0], rows - boxes[:, 3], boxes[:, 2], rows - boxes[:, 1]], axis=1)


def to_input(image: np.ndarray) -> torch.Tensor:
    """uint8[1024, 1024] to float32[1, rows, columns] in 0..1, resized as the network's input is."""
    grey = torch.from_numpy(image)[None, None].float() / 255
    return functional.interpolate(grey, size=INPUT_SIZE, mode="bilinear", align_corners=False)[0]


def to_input_boxes(boxes: np.ndarray, image_size: int) -> np.ndarray:
    """Boxes float[N, 4] of a square image in pixels of the network's input."""
    rows, columns = INPUT_SIZE
    return boxes * (np.array([columns, rows] * 2) / image_size)


def at_least(boxes: np.ndarray, side: float) -> np.ndarray:
    """Boxes float[N, 4] widened around their middles to at least `side`."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = np.maximum(half, side / 2)
    return np.concatenate([middle - half, middle + half], axis=1)


def _visible(boxes: np.ndarray, labels: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> Any:
    moved = boxes - np.tile(corner, 2)
    visible = np.stack([moved[:, 0::2].clip(0, size[0]), moved[:, 1::2].clip(0, size[1])], axis=2).reshape(-1, 4)
    whole, kept = boxes[:, 2:] - boxes[:, :2], visible[:, 2:] - visible[:, :2]
    enough = np.prod(kept, axis=1) > np.minimum(MIN_CROP_SHARE * np.prod(whole, axis=1), 1200)
    keep = enough & (kept > np.minimum(1.0, 0.5 * whole)).all(axis=1)
    return visible[keep], labels[keep]
