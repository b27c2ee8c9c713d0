"""Heads as data: checked weights, anchors, and the snapshot of all heads that one frame uses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from .anchors import Anchors
from .contract import IMAGE_SIZE, LEGACY_INPUT_SIZE

CHANNELS: Final = 256
STRIDES: Final = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}  # network pixels per cell
IMAGE: Final = {"image": (1, 1, IMAGE_SIZE, IMAGE_SIZE)}
PROPOSALS: Final = 512  # shared by all compact heads of a capture
REGIONS: Final = {"regions": (PROPOSALS, 4)}  # their inputs, image pixels; see `engine.regions`
FUSED: Final = 64  # channels of the one map that regions are pooled from
VECTOR: Final = 768  # values that describe a proposal
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
ZOOM_VALUES: Final = 466  # that describe a candidate's IQ; see `engine.zoom`
EMBEDDED: Final = VECTOR + ZOOM_VALUES  # that a typed head reads
HIDDEN: Final = 64  # values between a compact head's two layers
COMPACT: Final = {
    "hidden.weight": (VECTOR, HIDDEN),
    "hidden.bias": (1, HIDDEN),
    "out.weight": (HIDDEN, 5),  # the score's logit and four box deltas
    "out.bias": (1, 5),
}
TYPED: Final = {
    "weight": (EMBEDDED,),  # of a candidate's values in the common metric of types
    "operating": (3,),  # offset and slope of the type's logit; threshold of the log of the product
}
TENSORS: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {  # by head type
    "full": FULL,
    "compact": COMPACT,
    "typed": TYPED,
}
DESCRIBED: Final = {"proposals": (PROPOSALS, 4), "vectors": (PROPOSALS, VECTOR)}  # what all compact heads share


BATCHED: Final = {"boxes": (1, PROPOSALS, 4), "scores": (1, PROPOSALS)}  # per head, of the graph of compact heads


def batched(shapes: Mapping[str, tuple[int, ...]], count: int = 1) -> dict[str, tuple[int, ...]]:
    """The shapes of `count` heads stacked."""
    return {name: (count, *shape) for name, shape in shapes.items()}


def feature_shapes(input_size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the backbone's outputs for a network input of so many rows and columns."""
    rows, columns = input_size
    return {name: (1, CHANNELS, -(-rows // stride), -(-columns // stride)) for name, stride in STRIDES.items()}


FEATURES: Final = feature_shapes((LEGACY_INPUT_SIZE, LEGACY_INPUT_SIZE))  # of a legacy network


def fused_shape(input_size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Name and shape of the one map that regions are pooled from, likewise."""
    return {"fused": (1, FUSED, *feature_shapes(input_size)["p2"][2:])}


@dataclass(frozen=True, eq=False)
class Head:
    """One version of one signal's head, ready to feed: weights are float32 and contiguous."""

    signal: str
    version: int
    head_type: str
    anchors: Anchors | None  # of a full head; a compact one has none
    weights: Mapping[str, np.ndarray] = field(repr=False)
    nms_iou: float = NMS_IOU  # detections of this head overlap each other by no more

    @cached_property
    def feeds(self) -> dict[str, np.ndarray]:
        """Inputs of the full heads' graph other than the feature maps."""
        return {**({"cells": self.anchors.cells()} if self.anchors else {}), **self.weights}
