"""What the shared layers are taught: which type of signal a region holds, if any, and where its edges are."""

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

from network.shared import MIN_SIDE_PX, deltas_to

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
    nothing = logits.shape[1] - 1
    names, wanted, near = [], [], []
    for part, (truth, numbers) in zip(boxes, targets, strict=True):
        if not len(truth):
            names.append(torch.full((len(part),), nothing))
            wanted.append(torch.zeros(len(part), 4))
            near.append(torch.zeros(len(part), dtype=torch.bool))
            continue
        overlap, owner = box_iou(part, truth).max(1)
        name = torch.where(overlap >= SIGNAL_IOU, numbers[owner], UNASKED)
        names.append(torch.where(overlap < NOTHING_IOU, nothing, name))
        wanted.append(truth[owner])
        near.append(overlap >= EDGES_IOU)
    close, flat, target = torch.cat(near), torch.cat(list(boxes)), torch.cat(wanted)
    losses = {"type": functional.cross_entropy(logits, torch.cat(names), ignore_index=UNASKED)}
    if close.any():
        flat, found, target = flat[close], refined[close], target[close]
        steps = functional.smooth_l1_loss(deltas_to(flat, found), deltas_to(flat, target))
        losses["edges"] = generalized_box_iou_loss(found, target, reduction="mean") + 0.3 * steps
    return losses
