"""The backbone as a plain tensor function: one image to five feature maps."""

import torch
from torch import nn
from torch.nn import functional

from engine.contract import INPUT_SIZE

from .detector import BACKBONE_PREFIX, Tensors, detector

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """ResNet18-FPN with torchvision's resize and normalisation in front."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.net = detector().backbone
        self.net.load_state_dict({key.removeprefix(BACKBONE_PREFIX): value for key, value in tensors.items()})
        self.eval().requires_grad_(False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """float32[1, 1, 1024, 1024] to p2..p6, float32[1, 256, s, s] with s = 200, 100, 50, 25, 13."""
        return tuple(self.net(network_input(image)).values())


def network_input(image: torch.Tensor) -> torch.Tensor:
    """float32[B, 1, H, W] grey to the float32[B, 3, 800, 800] that torchvision's transform makes of it."""
    small = functional.interpolate(image, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (small - mean) / std
