"""Shared layers of compact heads: RoI features of every region, embedded and refined once for all heads.

Regions come from the image (`engine.regions`); here each is pooled from one map, fused of p2 and p4 (`Fuse`), and from
the image itself, and two wide layers turn these features into a refined box and a vector (`SharedLayers`). Trained with
the backbone, frozen and released with it. Where only compact heads run, nothing else of the FPN is needed: `Trunk`.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from engine.contract import IMAGE_SIZE
from engine.heads import CHANNELS, FUSED, STRIDES, VECTOR

from .backbone import normalised
from .coding import MIN_SIDE_PX, decode_boxes
from .pooling import plain_align

INPUT_SIZE: Final = (512, 768)  # rows (frequency) and columns (time) that a network with compact heads works on
POOL: Final = 7  # cells a side
SAMPLING: Final = 2  # sample points a side of a pooled cell
CONTEXT: Final = 0.15  # of a box's side that is pooled beyond each edge
CONTEXT_PX: Final = 3.0  # and network pixels on top, so that thin boxes show their surroundings
FINE_POOLS: Final = ((32, 2), (2, 32), (10, 10))  # rows, columns of the image's own cells: spectrum, time course, both
FINE: Final = sum(2 * rows * columns + 1 for rows, columns in FINE_POOLS)  # values that come of them
STRIPES: Final = 1e-5  # least variance of a cell's pixels, so that a root has a slope
WIDE: Final = 512  # values of the first wide layer
GEOMETRY: Final = 14  # values that describe a box's size
ROI_FEATURES: Final = FUSED * POOL * POOL + GEOMETRY + FINE  # features of a box, input of the shared layers

Align = Callable[..., torch.Tensor]  # features, rois, shape, scale, sampling; see `pooling`


class Fuse(nn.Module):
    """forward(p2..p6) -> the map that regions are pooled from, at p2's resolution: float32[B, FUSED, h, w]."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(CHANNELS, FUSED, 1)  # of p2
        self.coarse = nn.Conv2d(CHANNELS, FUSED, 1)  # of p4

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        return fuse_maps(self.fine(features[0]), self.coarse(features[2]))


def fuse_maps(fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    return functional.relu(fine + functional.interpolate(coarse, size=fine.shape[2:], mode="nearest"))


class Trunk(nn.Module):
    """forward(image) -> the fused map of backbone and `Fuse`, with half the arithmetic.

    Between p2's last convolution, 3 x 3 and 256 channels wide, and the fused map is only a 1 x 1 one down to FUSED.
    The two are one 3 x 3 convolution, so p2 need not be computed; likewise p4; p3, p5 and p6 are not used. Equal
    up to rounding, borders included: the second convolution comes after the padding.
    """

    def __init__(self, net: BackboneWithFPN, fuse: Fuse, input_size: tuple[int, int] = INPUT_SIZE) -> None:
        super().__init__()
        self.input_size = input_size
        self.body, self.laterals = net.body, net.fpn.inner_blocks
        self.fine = fold_conv1x1(net.fpn.layer_blocks[0][0], fuse.fine)
        self.coarse = fold_conv1x1(net.fpn.layer_blocks[2][0], fuse.coarse)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        grey = functional.interpolate(image, size=self.input_size, mode="bilinear", align_corners=False)
        levels = list(self.body(normalised(grey)).values())
        tops = [self.laterals[-1](levels[-1])]
        for lateral, level in zip(self.laterals[-2::-1], levels[-2::-1], strict=True):
            side = lateral(level)
            tops.append(side + functional.interpolate(tops[-1], size=side.shape[2:], mode="nearest"))
        return fuse_maps(self.fine(tops[3]), self.coarse(tops[1]))


def fold_conv1x1(first: nn.Conv2d, then: nn.Conv2d) -> nn.Conv2d:
    """Folds the 1 x 1 convolution `then` into `first`: one convolution equal to both. ValueError without biases."""
    if first.bias is None or then.bias is None or isinstance(first.padding, str):
        raise ValueError("a convolution without a bias, or with padding by name; both need a bias and padding in cells")
    mix = then.weight[:, :, 0, 0].double()
    both = nn.Conv2d(first.in_channels, then.out_channels, _pair(first.kernel_size), padding=_pair(first.padding))
    with torch.no_grad():
        both.weight.copy_(torch.einsum("ok,kiyx->oiyx", mix, first.weight.double()))
        both.bias = nn.Parameter((mix @ first.bias.double() + then.bias).to(both.weight.dtype))
    return both.requires_grad_(False)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns


class SharedLayers(nn.Module):
    """forward(regions, image, fused) -> proposals float32[K, 4], vectors float32[K, VECTOR]; boxes in image pixels."""

    def __init__(self, input_size: tuple[int, int] = INPUT_SIZE, align: Align = plain_align) -> None:
        """align: how regions are pooled; `pooling.grid_align` does the same for runtimes without RoIAlign."""
        super().__init__()
        self.input_size = input_size  # rows, columns of the network's input
        self.align = align
        self.wide = nn.Linear(ROI_FEATURES, WIDE)
        self.embed = nn.Linear(WIDE, VECTOR - WIDE)
        self.deltas = nn.Linear(VECTOR, 4)

    def forward(
        self, regions: torch.Tensor, image: torch.Tensor, fused: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = torch.tensor([self.input_size[1] / IMAGE_SIZE, self.input_size[0] / IMAGE_SIZE] * 2)
        grey = functional.interpolate(image, size=self.input_size, mode="bilinear", align_corners=False)
        vectors, refined = self.describe(fused, grey, [regions * scale])
        return (refined / scale).clamp(0, IMAGE_SIZE), vectors

    def describe(
        self, fused: torch.Tensor, grey: torch.Tensor, boxes: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors float32[N, VECTOR] and refined boxes float32[N, 4] of all images' boxes, in network pixels.

        grey: float32[B, 1, rows, columns] in 0..1, the network's input before it is normalised.
        """
        return self.embed_regions(self.roi_features(fused, grey, boxes), torch.cat(boxes))

    def roi_features(self, fused: torch.Tensor, grey: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
        """RoI features float32[N, ROI_FEATURES] of all images' boxes: pooled map, size, image. No trained weights."""
        flat = torch.cat(boxes)
        sides = flat[:, 2:] - flat[:, :2]
        margin = sides * CONTEXT + CONTEXT_PX
        around = torch.cat([flat[:, :2] - margin, flat[:, 2:] + margin], dim=1)
        number = torch.cat([torch.full((len(part), 1), float(i)) for i, part in enumerate(boxes)])
        rois = torch.cat([number, around], dim=1)
        pooled = self.align(fused, rois, (POOL, POOL), 1 / STRIDES["p2"], SAMPLING).flatten(1)
        return torch.cat([pooled, geometry(sides), fine_features(grey, rois, self.align)], dim=1)

    def embed_regions(
        self, features: torch.Tensor, boxes: torch.Tensor, dropout: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors and refined boxes from RoI features float32[N, ROI_FEATURES]. dropout: of both layers' inputs."""
        hidden = functional.relu(self.wide(functional.dropout(features, dropout, dropout > 0)))
        embedded = functional.relu(self.embed(functional.dropout(hidden, dropout, dropout > 0)))
        vectors = torch.cat([hidden, embedded], dim=1)
        return vectors, decode_boxes(boxes, self.deltas(vectors))


def fine_features(grey: torch.Tensor, rois: torch.Tensor, align: Align = plain_align) -> torch.Tensor:
    """Full-resolution features float32[N, FINE]: profiles of a region's level over frequency and time, relative to its
    mean, and the standard deviation within each cell, which the feature maps no longer resolve."""
    values = []
    for shape in FINE_POOLS:
        mean, square = align(torch.cat([grey, grey * grey], dim=1), rois, shape, 1.0, SAMPLING).unbind(1)
        mean, square = mean.flatten(1), square.flatten(1)
        level = mean.mean(dim=1, keepdim=True)
        rough = ((square - mean * mean).clamp(min=0) + STRIPES).sqrt()
        values += [(mean - level) * 8, rough * 16, level * 4]  # 10 dB are 1
    return torch.cat(values, dim=1)


def geometry(sides: torch.Tensor) -> torch.Tensor:
    """float32[N, GEOMETRY] of widths and heights in network pixels: logarithms and their Fourier features
    (Tancik et al. 2020), so that a linear layer can distinguish bandwidths."""
    logs = torch.log2(sides.clamp(min=MIN_SIDE_PX)) - 5
    waves = [f(logs * turns) for turns in (0.75, 1.5, 3.0) for f in (torch.sin, torch.cos)]
    return torch.cat([logs / 4, *waves], dim=1)
