"""Description of an image's regions by the shared layers of compact heads, once for engine and training.

    image -> backbone or trunk -> (fuse) -> fused map
    image -> region proposals; with the fused map -> refined proposals and feature vectors, padding masked

Heads are trained on these vectors, the negative feature bank is filled with them, and the engine feeds them to heads.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from .sessions.base import Arrays, Session
from .spectrogram import Array

Stage = Callable[[str], AbstractContextManager[Any]]  # surrounds a named step, to time it


@dataclass(frozen=True)
class Described:
    """Regions float32[PROPOSALS, 4], refined proposals float32[PROPOSALS, 4], both in image pixels, and feature vectors
    float32[PROPOSALS, VECTOR]. Rows beyond the regions found are zeros."""

    regions: Array
    proposals: Array
    vectors: Array
    features: Arrays  # outputs of the backbone or trunk, for full heads


def describe(
    image: Array,
    regions: Callable[[Array], Array],
    backbone: Session,
    shared: Session,
    fuse: Session | None = None,
    stage: Stage = nullcontext,
) -> Described:
    """Region proposals of float32[1024, 1024] in 0..1 and their features. Never waits for the device.

    regions: the device's region proposals, float32[PROPOSALS, 4], zeros as padding; see `engine.regions`.
    backbone: to the fused map, or, with `fuse`, to p2..p6.
    """
    with stage("backbone"):
        features = backbone.run({"image": image[None, None]})
    with stage("regions"):
        boxes = regions(image)
    with stage("shared"):
        return describe_boxes(image, boxes, features, shared, fuse)


def describe_boxes(
    image: Array, boxes: Array, features: Arrays, shared: Session, fuse: Session | None = None
) -> Described:
    """Boxes float32[PROPOSALS, 4], zeros as padding, refined and described from the backbone's features of an image."""
    fused = fuse.run(features) if fuse else features
    found = shared.run({"regions": boxes, "image": image[None, None], **fused})
    real = is_region(boxes)[:, None]
    return Described(boxes, found["proposals"] * real, found["vectors"] * real, features)


def is_region(boxes: Array) -> Array:
    """bool[N] of boxes float32[N, 4]: False for the zeros that pad them."""
    return boxes[:, 2] > 0
