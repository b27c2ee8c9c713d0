"""What all compact heads share: every region of a capture refined and described, once for all of them.

Regions come from the image (`engine.regions`); here each is pooled from one map, fused of p2 and p4, and from the image
itself, and two wide layers turn that into a refined box and a vector. Trained with the backbone, frozen and released
with it.
"""

from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import roi_align

from engine.contract import IMAGE_SIZE
from engine.heads import CHANNELS, STRIDES, VECTOR

INPUT_SIZE: Final = (512, 768)  # rows (frequency) and columns (time) that a network with compact heads works on
REDUCED: Final = 64  # channels of the fused map
POOL: Final = 7  # cells a side
SAMPLING: Final = 2  # sample points a side of a pooled cell
CONTEXT: Final = 0.15  # of a box's side that is pooled beyond each edge
CONTEXT_PX: Final = 3.0  # and network pixels on top, so that thin boxes show their surroundings
FINE_POOLS: Final = ((32, 2), (2, 32), (10, 10))  # rows, columns of the image's own cells: spectrum, time course, both
FINE: Final = sum(2 * rows * columns + 1 for rows, columns in FINE_POOLS)  # values that come of them
STRIPES: Final = 1e-5  # least variance of a cell's pixels, so that a root has a slope
WIDE: Final = 512  # values of the first wide layer
DELTA_SCALE: Final = (10.0, 10.0, 5.0, 5.0)  # of the refinement, as R-CNN has it
MAX_LOG: Final = 3.0  # of a side's scaling
MIN_SIDE_PX: Final = 0.25
GEOMETRY: Final = 14  # values that describe a box's size


class SharedLayers(nn.Module):
    """forward(regions, image, p2..p6) -> proposals float32[K, 4], vectors float32[K, VECTOR]; boxes in image pixels."""

    def __init__(self, input_size: tuple[int, int] = INPUT_SIZE) -> None:
        super().__init__()
        self.input_size = input_size  # rows, columns of the network's input
        self.fine = nn.Conv2d(CHANNELS, REDUCED, 1)  # of p2
        self.coarse = nn.Conv2d(CHANNELS, REDUCED, 1)  # of p4
        self.wide = nn.Linear(REDUCED * POOL * POOL + GEOMETRY + FINE, WIDE)
        self.embed = nn.Linear(WIDE, VECTOR - WIDE)
        self.deltas = nn.Linear(VECTOR, 4)

    def forward(
        self, regions: torch.Tensor, image: torch.Tensor, *features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = torch.tensor([self.input_size[1] / IMAGE_SIZE, self.input_size[0] / IMAGE_SIZE] * 2)
        grey = functional.interpolate(image, size=self.input_size, mode="bilinear", align_corners=False)
        vectors, refined = self.describe(self.fused(features), grey, [regions * scale])
        used = features[1].flatten()[0] + features[3].flatten()[0] + features[4].flatten()[0]  # so that all are inputs
        return (refined / scale).clamp(0, IMAGE_SIZE), vectors + 0 * used

    def fused(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The one map that boxes are pooled from, at p2's resolution: float32[B, REDUCED, h, w]."""
        fine, coarse = self.fine(features[0]), self.coarse(features[2])
        return functional.relu(fine + functional.interpolate(coarse, size=fine.shape[2:], mode="nearest"))

    def describe(
        self, fused: torch.Tensor, grey: torch.Tensor, boxes: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors float32[N, VECTOR] and refined boxes float32[N, 4] of all images' boxes, in network pixels.

        grey: float32[B, 1, rows, columns] in 0..1, the network's input before it is normalised.
        """
        flat = torch.cat(boxes)
        sides = flat[:, 2:] - flat[:, :2]
        margin = sides * CONTEXT + CONTEXT_PX
        around = torch.cat([flat[:, :2] - margin, flat[:, 2:] + margin], dim=1)
        number = torch.cat([torch.full((len(part), 1), float(i)) for i, part in enumerate(boxes)])
        rois = torch.cat([number, around], dim=1)
        pooled = roi_align(fused, rois, (POOL, POOL), 1 / STRIDES["p2"], SAMPLING, aligned=True).flatten(1)
        seen = torch.cat([pooled, geometry(sides), fine_look(grey, rois)], dim=1)
        hidden = functional.relu(self.wide(seen))
        vectors = torch.cat([hidden, functional.relu(self.embed(hidden))], dim=1)
        return vectors, moved(flat, self.deltas(vectors))


def fine_look(grey: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
    """float32[N, FINE] of image pixels that feature maps no longer tell apart: how a region's level runs over frequency
    and over time, and how rough it is in each cell, after the region's mean level."""
    values = []
    for shape in FINE_POOLS:
        mean, square = roi_align(torch.cat([grey, grey * grey], dim=1), rois, shape, 1.0, SAMPLING, True).unbind(1)
        mean, square = mean.flatten(1), square.flatten(1)
        level = mean.mean(dim=1, keepdim=True)
        rough = ((square - mean * mean).clamp(min=0) + STRIPES).sqrt()
        values += [(mean - level) * 8, rough * 16, level * 4]  # 10 dB are 1
    return torch.cat(values, dim=1)


def geometry(sides: torch.Tensor) -> torch.Tensor:
    """float32[N, GEOMETRY] of widths and heights in network pixels: their logarithms, plain and as three waves, so
    that a linear layer can tell one bandwidth from the next."""
    logs = torch.log2(sides.clamp(min=MIN_SIDE_PX)) - 5
    waves = [f(logs * turns) for turns in (0.75, 1.5, 3.0) for f in (torch.sin, torch.cos)]
    return torch.cat([logs / 4, *waves], dim=1)


def moved(boxes: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """R-CNN's box regression: centres shifted in sides, sides scaled. Works on [..., 4]."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=MIN_SIDE_PX)
    scaled = deltas / torch.tensor(DELTA_SCALE)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 + scaled[..., :2] * sides
    half = sides / 2 * torch.exp(scaled[..., 2:].clamp(-MAX_LOG, MAX_LOG))
    return torch.cat([middle - half, middle + half], dim=-1)


def deltas_to(boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What `moved` needs to turn `boxes` into `targets`: float32[..., 4]."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=MIN_SIDE_PX)
    wanted = (targets[..., 2:] - targets[..., :2]).clamp(min=MIN_SIDE_PX)
    shift = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2 / sides
    return torch.cat([shift, torch.log(wanted / sides)], dim=-1) * torch.tensor(DELTA_SCALE)
