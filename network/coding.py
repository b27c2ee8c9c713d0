"""Box coding of R-CNN: boxes as offsets of a reference box, for regression.

Girshick et al., "Rich feature hierarchies for accurate object detection and semantic segmentation", 2014, appendix C;
weights and the limit of log(1000 / 16) as in Girshick, "Fast R-CNN", 2015, and Detectron. Deltas are float[..., 4]:
shifts of the centre in sides of the reference box, and logarithms of the ratios of sides, all times `weights`.
"""

from typing import Final

import torch

BOX_WEIGHTS: Final = (10.0, 10.0, 5.0, 5.0)
MAX_LOG: Final = 3.0  # of a ratio of sides, either way
MIN_SIDE_PX: Final = 0.25  # of a reference box


def decode_boxes(
    boxes: torch.Tensor,
    deltas: torch.Tensor,
    weights: tuple[float, ...] = BOX_WEIGHTS,
    min_side: float = MIN_SIDE_PX,
    log_limits: tuple[float | None, float] = (-MAX_LOG, MAX_LOG),
) -> torch.Tensor:
    """Boxes float[..., 4] that `deltas` give relative to corner boxes float[..., 4].

    min_side: shorter sides of reference boxes count as this; 0: none do. log_limits: of the logarithms of side ratios.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    if min_side > 0:
        sides = sides.clamp(min=min_side)
    scaled = deltas / torch.tensor(weights)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 + scaled[..., :2] * sides
    half = sides / 2 * torch.exp(scaled[..., 2:].clamp(*log_limits))
    return torch.cat([middle - half, middle + half], dim=-1)


def encode_boxes(boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Deltas float[..., 4] by which `decode_boxes` turns `boxes` into `targets`, both corner boxes float[..., 4]."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=MIN_SIDE_PX)
    wanted = (targets[..., 2:] - targets[..., :2]).clamp(min=MIN_SIDE_PX)
    shift = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2 / sides
    return torch.cat([shift, torch.log(wanted / sides)], dim=-1) * torch.tensor(BOX_WEIGHTS)
