"""The backbone as a plain tensor function: one image to five feature maps."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from .detector import BACKBONE_PREFIX, detector
from .heads import LEGACY_SIZE, Size

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """ResNet18-FPN with torchvision's resize and normalisation in front. `size`: rows and columns it works on."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], size: Size = LEGACY_SIZE) -> None:
        super().__init__()
        self.size = size
        self.net = detector().backbone
        self.net.load_state_dict({key.removeprefix(BACKBONE_PREFIX): value for key, value in tensors.items()})
        self.eval().requires_grad_(False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """float32[1, 1, 1024, 1024] to p2..p6, float32[1, 256, rows, columns] a stride of 4 to 64 smaller."""
        return tuple(self.net(network_input(image, self.size)).values())


def network_input(image: torch.Tensor, size: Size = LEGACY_SIZE) -> torch.Tensor:
    """float32[B, 1, H, W] grey to float32[B, 3, *size], as torchvision's transform resizes and normalises it."""
    return normalised(functional.interpolate(image, size=size, mode="bilinear", align_corners=False))


def normalised(grey: torch.Tensor) -> torch.Tensor:
    """float32[B, 1, rows, columns] in 0..1 to the three equal channels of ImageNet's mean and deviation."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (grey - mean) / std
