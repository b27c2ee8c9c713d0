"""Snapshot of all heads that one frame uses. Compact heads run as one batch: their weights are stacked `[N, ...]` and
fed to one graph.

The graph has room for `capacity` heads; empty places hold zeros that score nothing. So a head that comes, goes or
is replaced is a slice of arrays and nothing is built, until there are more heads than places: then the graph, which
holds no weights and is small, is loaded once more with twice the room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from .heads import COMPACT, Head, batched
from .typed import TypedStack, typed_stack

LEAST_CAPACITY: Final = 16
EMPTY_LOGIT: Final = -30.0  # logit of an empty place


@dataclass(frozen=True, eq=False)
class Stack:
    """The compact heads of a snapshot, in order, and their weights float32[capacity, ...]."""

    heads: tuple[Head, ...]
    weights: dict[str, np.ndarray]

    @property
    def capacity(self) -> int:
        return len(next(iter(self.weights.values())))


def capacity_for(count: int) -> int:
    """Places for `count` heads: a power of two, 16 at least."""
    return max(LEAST_CAPACITY, 1 << max(0, count - 1).bit_length())


def stack(heads: Sequence[Head]) -> Stack:
    """The compact ones among `heads`, stacked."""
    compact = tuple(head for head in heads if head.head_type == "compact")
    capacity = capacity_for(len(compact))
    weights = {name: np.zeros(shape, np.float32) for name, shape in batched(COMPACT, capacity).items()}
    weights["out.bias"][len(compact) :, :, 0] = EMPTY_LOGIT
    for place, head in enumerate(compact):
        for name, tensor in head.weights.items():
            weights[name][place] = tensor
    return Stack(compact, weights)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Versions and weights that decide a frame's detections. Taken once per frame; a hot swap builds the next one in
    the background."""

    revision: int
    backbone_version: int
    backbone_hash: str
    heads: tuple[Head, ...]

    @cached_property
    def compact(self) -> Stack:
        """The compact heads, stacked."""
        return stack(self.heads)

    @cached_property
    def full(self) -> tuple[Head, ...]:
        return tuple(head for head in self.heads if head.head_type == "full")

    @cached_property
    def typed(self) -> TypedStack:
        """The typed heads, stacked."""
        return typed_stack(self.heads)

    @property
    def versions(self) -> dict[str, int]:
        return {head.signal: head.version for head in self.heads}
