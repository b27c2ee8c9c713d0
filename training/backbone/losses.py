"""What the shared layers are taught: which type of signal a region holds, if any, and where its edges are."""

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

from network.coding import MIN_SIDE_PX, encode_boxes

Truth = tuple[torch.Tensor, torch.Tensor]  # boxes float32[M, 4] in network pixels, class numbers int64[M]

SIGNAL_IOU: Final = 0.5  # a region that overlaps a truth by so much holds it
NOTHING_IOU: Final = 0.3  # and by less, nothing; between them it is asked nothing
EDGES_IOU: Final = 0.35  # from here on its edges are taught
SAMPLED: Final = 96  # boxes of an image
SAMPLED_NEAR: Final = 48  # of them at most, near a truth
JITTERS: Final = 2  # disturbed copies of each truth among them
JITTER: Final = 0.12  # of a side
UNASKED: Final = -100  # cross_entropy's own word for it


def sampled_boxes(regions: torch.Tensor, truth: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """What is learnt from in one image: regions and disturbed truths, float32[up to SAMPLED, 4]."""
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
    far = torch.nonzero(~near)[:, 0][: SAMPLED - len(close)]  # those that stand out most
    return boxes[torch.cat([close, far])]


def shared_losses(
    logits: torch.Tensor, refined: torch.Tensor, boxes: Sequence[torch.Tensor], targets: Sequence[Truth]
) -> dict[str, torch.Tensor]:
    """logits float32[N, C + 1] of all images' boxes (the last class is nothing), refined float32[N, 4]."""
    overlaps, numbers, wanted = [], [], []
    for part, (truth, kinds) in zip(boxes, targets, strict=True):
        overlap, owner = owners(part, truth)
        overlaps.append(overlap)
        numbers.append(kinds[owner] if len(truth) else torch.zeros(len(part), dtype=torch.int64))
        wanted.append(truth[owner] if len(truth) else part)
    overlap = torch.cat(overlaps)
    names = named(overlap, torch.cat(numbers), logits.shape[1] - 1)
    losses = {"type": functional.cross_entropy(logits, names, ignore_index=UNASKED)}
    near = overlap >= EDGES_IOU
    if near.any():
        losses["edges"] = edges_loss(torch.cat(list(boxes))[near], refined[near], torch.cat(wanted)[near])
    return losses


def owners(boxes: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each box the largest overlap (IoU) with a truth, and that truth's number; zeros where there is none."""
    if not len(truth):
        return torch.zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64)
    overlap, owner = box_iou(boxes, truth).max(1)
    return overlap, owner


def named(overlap: torch.Tensor, numbers: torch.Tensor, nothing: int) -> torch.Tensor:
    """int64[N]: the type that each box holds, by its overlap with a truth of type `numbers`."""
    name = torch.where(overlap >= SIGNAL_IOU, numbers, UNASKED)
    return torch.where(overlap < NOTHING_IOU, nothing, name)


def edges_loss(boxes: torch.Tensor, refined: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
    steps = functional.smooth_l1_loss(encode_boxes(boxes, refined), encode_boxes(boxes, truths))
    return generalized_box_iou_loss(refined, truths, reduction="mean") + 0.3 * steps
