"""What a compact head is taught: a score that tells how well its box fits, and the box."""

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

NOTHING_IOU: Final = 0.3  # a box that overlaps a truth by no more is nothing
WHOLE_IOU: Final = 0.65  # and from here on it is the signal; between them the score rises
BOX_IOU: Final = 0.35  # proposals that overlap a truth by so much learn its edges
IGNORED_SHARE: Final = 0.5  # of a box inside a foreign region: it learns nothing
BOX_WEIGHT: Final = 1.0

Truths = tuple[torch.Tensor, torch.Tensor]  # own boxes float32[M, 4], ignored regions float32[L, 4]


def head_loss(logits: torch.Tensor, boxes: torch.Tensor, truths: Sequence[Truths]) -> torch.Tensor:
    """logits float32[B, K], boxes float32[B, K, 4] as the head would give them; per image its truths."""
    wanted, weight = torch.zeros_like(logits), torch.ones_like(logits)
    found, right = [], []
    for image, (own, ignored) in enumerate(truths):
        now = boxes[image].detach()
        if len(own):
            overlap, owner = box_iou(now, own).max(1)
            wanted[image] = ((overlap - NOTHING_IOU) / (WHOLE_IOU - NOTHING_IOU)).clamp(0, 1)
            near = overlap >= BOX_IOU
            found.append(boxes[image][near])
            right.append(own[owner[near]])
        if len(ignored):
            weight[image] = torch.where(_inside(now, ignored) & (wanted[image] == 0), 0.0, 1.0)
    terms = functional.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="sum")
    loss = terms / wanted.sum().clamp(min=len(truths))
    if found and sum(map(len, found)):
        loss = loss + BOX_WEIGHT * generalized_box_iou_loss(torch.cat(found), torch.cat(right), reduction="mean")
    return loss


def _inside(boxes: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """bool[N]: boxes that lie for a good part in one of `areas`."""
    low, high = (
        torch.maximum(boxes[:, None, :2], areas[None, :, :2]),
        torch.minimum(boxes[:, None, 2:], areas[None, :, 2:]),
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return ((high - low).clamp(min=0).prod(2) >= IGNORED_SHARE * area[:, None]).any(1)
