"""Losses of the shared layers: signal type of a region (cross-entropy) and box regression.

Boxes are regressed with the generalised IoU loss (Rezatofighi et al. 2019) and smooth L1 on R-CNN box codes (Girshick
et al. 2014; Girshick 2015).
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

from network.coding import MIN_SIDE_PX, encode_boxes

Truth = tuple[torch.Tensor, torch.Tensor]  # boxes float32[M, 4] in network pixels, class numbers int64[M]

SIGNAL_IOU: Final = 0.5  # regions of at least this IoU with a truth are of its class
BACKGROUND_IOU: Final = 0.3  # below it they are background; in between they are ignored
EDGES_IOU: Final = 0.35  # from here on a region takes part in box regression
SAMPLED: Final = 96  # boxes of an image
SAMPLED_NEAR: Final = 48  # of them at most, near a truth
JITTERS: Final = 2  # jittered copies of each truth among them
JITTER: Final = 0.12  # of a side
IGNORE_INDEX: Final = -100  # of cross_entropy: boxes that belong to no class for certain


def sampled_boxes(regions: torch.Tensor, truth: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Training boxes of one image: region proposals and jittered truths, float32[up to SAMPLED, 4]."""
    if not len(truth):
        return regions[:SAMPLED]
    jittered = truth.repeat(JITTERS, 1)
    sides = (jittered[:, 2:] - jittered[:, :2]).repeat(1, 2)
    jittered = jittered + torch.randn_like(jittered) * JITTER * sides
    limit = torch.tensor([size[1], size[0]] * 2, dtype=jittered.dtype)
    jittered = torch.minimum(jittered.clamp(min=0), limit)
    jittered = jittered[((jittered[:, 2:] - jittered[:, :2]) >= MIN_SIDE_PX).all(1)]
    boxes = torch.cat([jittered, regions])
    near = box_iou(boxes, truth).amax(1) >= EDGES_IOU
    close = torch.nonzero(near)[:, 0]
    close = close[torch.randperm(len(close))[:SAMPLED_NEAR]]
    far = torch.nonzero(~near)[:, 0][: SAMPLED - len(close)]  # the best-ranked proposals
    return boxes[torch.cat([close, far])]


def shared_losses(
    logits: torch.Tensor, refined: torch.Tensor, boxes: Sequence[torch.Tensor], targets: Sequence[Truth]
) -> dict[str, torch.Tensor]:
    """Losses by name, from logits float32[N, C + 1] (last class: background) and refined boxes float32[N, 4]."""
    overlaps, classes, wanted = [], [], []
    for part, (truth, kinds) in zip(boxes, targets, strict=True):
        overlap, owner = assign_truths(part, truth)
        overlaps.append(overlap)
        classes.append(kinds[owner] if len(truth) else torch.zeros(len(part), dtype=torch.int64))
        wanted.append(truth[owner] if len(truth) else part)
    overlap = torch.cat(overlaps)
    names = class_targets(overlap, torch.cat(classes), logits.shape[1] - 1)
    losses = {"type": functional.cross_entropy(logits, names, ignore_index=IGNORE_INDEX)}
    near = overlap >= EDGES_IOU
    if near.any():
        losses["edges"] = edges_loss(torch.cat(list(boxes))[near], refined[near], torch.cat(wanted)[near])
    return losses


def assign_truths(boxes: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Assignment of boxes to truths: the largest IoU of each box, float32[N], and the index of that truth, int64[N]."""
    if not len(truth):
        return torch.zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64)
    overlap, owner = box_iou(boxes, truth).max(1)
    return overlap, owner


def class_targets(overlap: torch.Tensor, classes: torch.Tensor, background: int) -> torch.Tensor:
    """Class targets int64[N] by IoU with truths of `classes` int64[N]: class, background or IGNORE_INDEX."""
    name = torch.where(overlap >= SIGNAL_IOU, classes, IGNORE_INDEX)
    return torch.where(overlap < BACKGROUND_IOU, background, name)


def edges_loss(boxes: torch.Tensor, refined: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
    """Box regression loss: GIoU plus 0.3 times smooth L1 on box codes, all float32[N, 4]."""
    steps = functional.smooth_l1_loss(encode_boxes(boxes, refined), encode_boxes(boxes, truths))
    overlap: torch.Tensor = generalized_box_iou_loss(refined, truths, reduction="mean")
    return overlap + 0.3 * steps
