"""Heads as data: checked weights, anchors, and the snapshot of all heads that one frame uses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from .anchors import Anchors
from .contract import IMAGE_SIZE
from .errors import StoreError
from .files import once

CHANNELS: Final = 256
FEATURES: Final = {
    name: (1, CHANNELS, side, side)
    for name, side in zip(("p2", "p3", "p4", "p5", "p6"), (200, 100, 50, 25, 13), strict=True)
}
IMAGE: Final = {"image": (1, 1, IMAGE_SIZE, IMAGE_SIZE)}
MAX_DETECTIONS: Final = 100
NMS_IOU: Final = 0.5  # of the graph; a head's manifest may ask for less
CELLS: Final = {"cells": (5, 3, 4)}
DETECTIONS: Final = {"boxes": (MAX_DETECTIONS, 4), "scores": (MAX_DETECTIONS,)}
FULL: Final = {
    "rpn.head.conv.0.0.weight": (CHANNELS, CHANNELS, 3, 3),
    "rpn.head.conv.0.0.bias": (CHANNELS,),
    "rpn.head.cls_logits.weight": (3, CHANNELS, 1, 1),
    "rpn.head.cls_logits.bias": (3,),
    "rpn.head.bbox_pred.weight": (12, CHANNELS, 1, 1),
    "rpn.head.bbox_pred.bias": (12,),
    "roi_heads.box_head.fc6.weight": (1024, CHANNELS * 7 * 7),
    "roi_heads.box_head.fc6.bias": (1024,),
    "roi_heads.box_head.fc7.weight": (1024, 1024),
    "roi_heads.box_head.fc7.bias": (1024,),
    "roi_heads.box_predictor.cls_score.weight": (2, 1024),
    "roi_heads.box_predictor.cls_score.bias": (2,),
    "roi_heads.box_predictor.bbox_pred.weight": (8, 1024),
    "roi_heads.box_predictor.bbox_pred.bias": (8,),
}
TENSORS: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {"full": FULL}  # by head type


@dataclass(frozen=True, eq=False)
class Head:
    """One version of one signal's head, ready to feed: weights are float32 and contiguous."""

    signal: str
    version: int
    head_type: str
    anchors: Anchors
    weights: Mapping[str, np.ndarray] = field(repr=False)
    nms_iou: float = NMS_IOU  # detections of this head overlap each other by no more

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """What the head type's graph takes beside the feature maps."""
        return {"cells": self.anchors.cells(), **self.weights}


@dataclass(frozen=True)
class Snapshot:
    """All that decides a frame's detections. Taken once a frame; a swap makes the next one aside."""

    revision: int
    backbone_version: int
    backbone_hash: str
    heads: tuple[Head, ...]

    @property
    def versions(self) -> dict[str, int]:
        return {head.signal: head.version for head in self.heads}


def read_weights(path: Path, head_type: str) -> dict[str, np.ndarray]:
    """A head's tensors as float32. Raises StoreError on damage, a wrong set of tensors, or values that are not
    finite."""
    expected = TENSORS[head_type]
    try:
        data = path.read_bytes()
        for name, dtype in _stored_types(data).items():
            if dtype not in ("F16", "F32"):
                raise StoreError(f"{path}: tensor {name!r} is {dtype}, not F16 or F32; restore this version")
        found = load(data)
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: not a readable safetensors file ({error}); restore this version") from error
    for name in sorted({*found, *expected}):
        shape = found[name].shape if name in found else "missing"
        if shape != expected.get(name):
            raise StoreError(
                f"{path}: tensor {name!r} is {shape}, a {head_type} head has {expected.get(name, 'none')}; "
                "restore this version"
            )
    for name, tensor in found.items():
        if not np.isfinite(tensor).all():
            raise StoreError(f"{path}: tensor {name!r} holds NaN or infinity; restore or retrain this version")
    return {name: np.ascontiguousarray(found[name], dtype=np.float32) for name in expected}


def _stored_types(data: bytes) -> dict[str, Any]:
    """Tensor names and their types by a safetensors header. Raises ValueError on what the format forbids and
    its reader lets through: tensors named twice, blanks before the header."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        raise ValueError("the header does not begin with {")
    header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=once)
    return {
        name: about.get("dtype") for name, about in header.items() if name != "__metadata__" and isinstance(about, dict)
    }
