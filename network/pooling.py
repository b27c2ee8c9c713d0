"""RoIAlign (He et al. 2017) by GridSample and average pooling, for compilers without a RoIAlign operator.

TensorRT has RoIAlign as a plugin only: slow, and in 16 bits it computes coordinates in 16 bits too. GridSample is built
in.
"""

import torch
from torch.nn import functional
from torchvision.ops import roi_align

OUTSIDE = 1.0  # sample points further than this beyond a map's edge count as zero, as in RoIAlign


def plain_align(
    features: torch.Tensor, rois: torch.Tensor, shape: tuple[int, int], scale: float, sampling: int
) -> torch.Tensor:
    """torchvision's RoIAlign, aligned: one operator of ONNX."""
    pooled: torch.Tensor = roi_align(features, rois, shape, scale, sampling, aligned=True)
    return pooled


def grid_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    shape: tuple[int, int],
    scale: float,
    sampling: int,
) -> torch.Tensor:
    """RoIAlign of one image, equal to `plain_align`: float32[N, C, rows, columns].

    features: float32[1, C, h, w]. rois: float32[N, 5], the image's number and x_min, y_min, x_max, y_max.
    """
    (rows, columns), (height, width), count = shape, features.shape[2:], rois.shape[0]
    corners = rois[:, 1:] * scale - 0.5
    x, x_inside = _points(corners[:, 0], corners[:, 2], columns * sampling, width)
    y, y_inside = _points(corners[:, 1], corners[:, 3], rows * sampling, height)
    lines, points = rows * sampling, columns * sampling
    grid = torch.stack([x[:, None].expand(-1, lines, -1), y[:, :, None].expand(-1, -1, points)], dim=-1)
    seen = functional.grid_sample(features, grid.reshape(1, count * lines, points, 2), align_corners=True)
    inside = (y_inside[:, :, None] * x_inside[:, None]).reshape(1, 1, count * lines, points)
    pooled = functional.avg_pool2d(seen * inside, sampling)
    return pooled.reshape(-1, count, rows, columns).transpose(0, 1)


def _points(first: torch.Tensor, last: torch.Tensor, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` points between edges float32[N], in the middle of as many equal parts, in -1..1 across a map of `size`
    cells and moved onto it; and 1 where they were not far outside, else 0: float32[N, count] both."""
    place = first[:, None] + (last - first)[:, None] * ((torch.arange(count) + 0.5) / count)
    inside = ((place >= -OUTSIDE) & (place <= size)).to(place.dtype)
    return place.clamp(0, size - 1) * (2 / (size - 1)) - 1, inside
