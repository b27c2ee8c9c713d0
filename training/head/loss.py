"""Loss of a compact head: IoU-aware score (binary cross-entropy) and GIoU box regression.

Score targets rise with the IoU of the predicted box, as in IoU-aware classification (Jiang et al. 2018, IoU-Net; Zhang
et al. 2021, VarifocalNet); the box loss is the generalised IoU of Rezatofighi et al. 2019.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

ZERO_SCORE_IOU: Final = 0.3  # predicted boxes of no larger IoU with a truth are background, target 0
FULL_SCORE_IOU: Final = 0.65  # from here on the target is 1; linear in between
BOX_IOU: Final = 0.35  # boxes of at least this IoU with a truth take part in box regression
IGNORED_SHARE: Final = 0.5  # of a box inside an ignored region: its score has no loss
BOX_WEIGHT: Final = 1.0

Truths = tuple[torch.Tensor, torch.Tensor]  # own boxes float32[M, 4], ignored regions float32[L, 4]


def head_loss(logits: torch.Tensor, boxes: torch.Tensor, truths: Sequence[Truths]) -> torch.Tensor:
    """Scalar loss of logits float32[B, K] and decoded boxes float32[B, K, 4], with the truths of each image."""
    wanted, weight = torch.zeros_like(logits), torch.ones_like(logits)
    found, right = [], []
    for image, (own, ignored) in enumerate(truths):
        now = boxes[image].detach()
        if len(own):
            overlap, owner = box_iou(now, own).max(1)
            wanted[image] = ((overlap - ZERO_SCORE_IOU) / (FULL_SCORE_IOU - ZERO_SCORE_IOU)).clamp(0, 1)
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
    """bool[N]: boxes with at least IGNORED_SHARE of their area inside one of `areas`."""
    low, high = (
        torch.maximum(boxes[:, None, :2], areas[None, :, :2]),
        torch.minimum(boxes[:, None, 2:], areas[None, :, 2:]),
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return ((high - low).clamp(min=0).prod(2) >= IGNORED_SHARE * area[:, None]).any(1)
