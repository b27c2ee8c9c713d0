"""torchvision's Faster R-CNN with ResNet18-FPN, as in legacy checkpoints, split into backbone and head."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops.misc import FrozenBatchNorm2d

from engine.anchors import STOCK, Anchors

BACKBONE_PREFIX: Final = "backbone."
HEAD_PREFIXES: Final = ("rpn.", "roi_heads.")
Tensors = dict[str, torch.Tensor]


def detector(
    num_classes: int = 2,
    anchors: Anchors = STOCK,
    norm_layer: type[nn.Module] = FrozenBatchNorm2d,
    **settings: Any,
) -> FasterRCNN:
    """The whole detector, untrained. `settings` go to torchvision's FasterRCNN; `norm_layer` is BatchNorm2d
    while a backbone is trained and frozen in everything else."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm_layer, trainable_layers=5)
    generator = AnchorGenerator(tuple((size,) for size in anchors.sizes), (anchors.ratios,) * len(anchors.sizes))
    return FasterRCNN(backbone, num_classes=num_classes, rpn_anchor_generator=generator, **settings)


def split(state: Mapping[str, torch.Tensor]) -> tuple[Tensors, Tensors]:
    """A detector's state dict as backbone and head; nothing is renamed."""
    backbone = {key: value for key, value in state.items() if key.startswith(BACKBONE_PREFIX)}
    head = {key: value for key, value in state.items() if key.startswith(HEAD_PREFIXES)}
    return backbone, head


def freeze_norms(state: Mapping[str, torch.Tensor]) -> Tensors:
    """The state of a detector trained with BatchNorm2d as one with frozen norms: only the step counters go,
    the statistics and epsilon (1e-5) are the same."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
