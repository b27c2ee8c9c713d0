"""The full head as a plain tensor function of feature maps, anchors and its own weights.

It computes what torchvision's RPN and RoI heads compute in evaluation, with results padded to a fixed
size, so that one exported graph serves every full head: the weights are inputs. `size` is rows and columns of the
network's input.
"""

import math
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import nms, roi_align

from engine.contract import IMAGE_SIZE, LEGACY_INPUT_SIZE
from engine.heads import FULL, MAX_DETECTIONS, NMS_IOU

from .coding import BOX_WEIGHTS, decode_boxes

PRE_NMS: Final = 1000  # proposals kept per level before NMS
POST_NMS: Final = 1000  # and in all after it
RPN_NMS_IOU: Final = 0.7
RPN_MIN_SIDE: Final = 1e-3  # network pixels
SCORE_MIN: Final = 0.05
MIN_SIDE: Final = 1e-2  # network pixels
MAX_LOG_SCALE: Final = math.log(1000 / 16)
POOL: Final = 7
SAMPLING: Final = 2
LEGACY_SIZE: Final = (LEGACY_INPUT_SIZE, LEGACY_INPUT_SIZE)
Size = tuple[int, int]

HEAD_KEYS: Final = tuple(FULL)


class FullHead(nn.Module):
    """forward(p2..p6, cells, *weights) -> boxes, scores; see `full_head`."""

    def __init__(self, size: Size = LEGACY_SIZE) -> None:
        super().__init__()
        self.size = size

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return full_head(inputs[:5], inputs[5], dict(zip(HEAD_KEYS, inputs[6:], strict=True)), self.size)


def full_head(
    features: tuple[torch.Tensor, ...], cells: torch.Tensor, weights: dict[str, torch.Tensor], size: Size = LEGACY_SIZE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Detections of one head.

    features: p2..p6, float32[1, 256, s, s]. cells: float32[5, 3, 4], anchors around the origin.
    weights: the 14 tensors of a head. Returns float32[100, 4] boxes in image pixels (1024 x 1024), best
    first, and float32[100] scores; rows past the last detection have score 0.
    """
    proposals, real = _proposals(features, cells, weights, size)
    pooled = _pool(features, proposals, size).flatten(1)
    hidden = functional.relu(functional.linear(pooled, *_pair(weights, "roi_heads.box_head.fc6")))
    hidden = functional.relu(functional.linear(hidden, *_pair(weights, "roi_heads.box_head.fc7")))
    logits = functional.linear(hidden, *_pair(weights, "roi_heads.box_predictor.cls_score"))
    deltas = functional.linear(hidden, *_pair(weights, "roi_heads.box_predictor.bbox_pred"))
    scores = functional.softmax(logits, dim=-1)[:, 1]
    boxes = _clip(_decode(deltas[:, 4:8], proposals, BOX_WEIGHTS), size)
    good = real & (scores > SCORE_MIN) & (_shorter_side(boxes) >= MIN_SIDE)
    kept = _nms(boxes, torch.where(good, scores, torch.full_like(scores, -1.0)), NMS_IOU, MAX_DETECTIONS)
    found = torch.cat([scores * good, scores.new_zeros(1)])[kept]  # the added row is where padding points
    boxes = torch.cat([boxes, boxes.new_zeros(1, 4)])[kept]
    return boxes * torch.tensor([IMAGE_SIZE / size[1], IMAGE_SIZE / size[0]] * 2), found


def _pair(weights: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _proposals(
    features: tuple[torch.Tensor, ...], cells: torch.Tensor, weights: dict[str, torch.Tensor], size: Size
) -> tuple[torch.Tensor, torch.Tensor]:
    """The RPN: float32[1000, 4] proposals in network pixels and bool[1000], which of them are real."""
    boxes, scores = [], []
    for level, feature in enumerate(features):
        hidden = functional.relu(functional.conv2d(feature, *_pair(weights, "rpn.head.conv.0.0"), padding=1))
        objectness = functional.conv2d(hidden, *_pair(weights, "rpn.head.cls_logits"))
        deltas = functional.conv2d(hidden, *_pair(weights, "rpn.head.bbox_pred"))
        objectness = objectness[0].permute(1, 2, 0).reshape(-1)  # rows, columns, ratios
        deltas = deltas[0].reshape(3, 4, *feature.shape[2:]).permute(2, 3, 0, 1).reshape(-1, 4)
        top, index = objectness.topk(min(PRE_NMS, objectness.shape[0]))
        anchors = _anchors(feature.shape[2], feature.shape[3], cells[level], size)[index]
        decoded = _clip(_decode(deltas[index], anchors, (1.0, 1.0, 1.0, 1.0)), size)
        score = torch.sigmoid(top)
        score = torch.where(_shorter_side(decoded) >= RPN_MIN_SIDE, score, torch.full_like(score, -1.0))
        kept = _nms(decoded, score, RPN_NMS_IOU, PRE_NMS)
        scores.append(torch.cat([score, score.new_full((1,), -1.0)])[kept])
        boxes.append(torch.cat([decoded, decoded.new_zeros(1, 4)])[kept])
    best, index = torch.cat(scores).topk(POST_NMS)
    return torch.cat(boxes)[index], best >= 0


def _anchors(rows: int, columns: int, cells: torch.Tensor, size: Size) -> torch.Tensor:
    """float32[rows * columns * 3, 4]. torchvision's stride is the whole pixels per cell (800 // 13 = 61)."""
    y = torch.arange(rows, dtype=torch.float32) * (size[0] // rows)
    x = torch.arange(columns, dtype=torch.float32) * (size[1] // columns)
    y, x = (grid.reshape(-1) for grid in torch.meshgrid(y, x, indexing="ij"))
    return (torch.stack([x, y, x, y], dim=1)[:, None] + cells[None]).reshape(-1, 4)


def _decode(deltas: torch.Tensor, boxes: torch.Tensor, weights: tuple[float, ...]) -> torch.Tensor:
    """Box decoding with the limits of torchvision's BoxCoder."""
    return decode_boxes(boxes, deltas, weights, min_side=0.0, log_limits=(None, MAX_LOG_SCALE))


def _clip(boxes: torch.Tensor, size: Size) -> torch.Tensor:
    return torch.minimum(boxes.clamp(min=0), torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype))


def _shorter_side(boxes: torch.Tensor) -> torch.Tensor:
    return torch.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])


def _nms(boxes: torch.Tensor, scores: torch.Tensor, min_iou: float, count: int) -> torch.Tensor:
    """Greedy NMS, best first: int64[count] indices, padded with len(boxes). Rows of negative score, which
    sort behind all real ones, suppress nothing real and are masked by their score afterwards."""
    kept = nms(boxes, scores, min_iou)[:count]
    padding = torch.full((count,), boxes.shape[0], dtype=torch.int64)
    return torch.cat([kept, padding])[:count]


def _pool(features: tuple[torch.Tensor, ...], boxes: torch.Tensor, input_size: Size) -> torch.Tensor:
    """Multi-level RoIAlign: float32[N, 256, 7, 7], level by box size as in the FPN paper, equation 1."""
    size = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    level = torch.floor(4 + torch.log2(size / 224) + 1e-6).clamp(2, 5)
    rois = torch.cat([boxes.new_zeros(boxes.shape[0], 1), boxes], dim=1)
    pooled, order = [], []
    for number, feature in zip((2, 3, 4, 5), features, strict=False):
        index = torch.nonzero(level == number)[:, 0]
        scale = 2.0 ** round(math.log2(feature.shape[3] / input_size[1]))
        pooled.append(roi_align(feature, rois[index], (POOL, POOL), scale, SAMPLING, aligned=False))
        order.append(index)
    return torch.cat(pooled)[torch.argsort(torch.cat(order))]
