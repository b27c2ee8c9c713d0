"""Compact heads: two layers each on the shared vectors of proposals, N heads as one batch."""

import torch
from torch import nn
from torch.nn import functional

from engine.contract import IMAGE_SIZE
from engine.heads import COMPACT

from .coding import decode_boxes

KEYS = tuple(COMPACT)


class CompactHeads(nn.Module):
    """forward(proposals, vectors, *stacked weights) -> boxes, scores; see `compact_heads`."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return compact_heads(inputs[0], inputs[1], dict(zip(KEYS, inputs[2:], strict=True)))


def compact_heads(
    proposals: torch.Tensor, vectors: torch.Tensor, weights: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward pass of all heads on all proposals.

    proposals: float32[K, 4] in image pixels (1024 x 1024). vectors: float32[K, VECTOR]. weights: the tensors of
    `engine.heads.COMPACT`, stacked [N, ...]. Returns boxes float32[N, K, 4] and scores float32[N, K]; NMS is
    left to the caller.
    """
    logits, deltas = raw(vectors, weights)
    return decode_boxes(proposals, deltas).clamp(0, IMAGE_SIZE), torch.sigmoid(logits)


def raw(vectors: torch.Tensor, weights: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Score logits [N, K] and box deltas [N, K, 4] of vectors [K, VECTOR]."""
    hidden = functional.relu(torch.matmul(vectors, weights["hidden.weight"]) + weights["hidden.bias"])
    out = torch.matmul(hidden, weights["out.weight"]) + weights["out.bias"]
    return out[..., 0], out[..., 1:]
