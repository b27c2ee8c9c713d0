"""Typed heads: one signal type each, a linear discriminant of described candidates, combined with how well a box fits.

The score is the product of two probabilities, that the type is the head's and that the box fits, mapped so that 0.5
is the head's operating point.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .detection import Detection
from .heads import MAX_DETECTIONS, TYPED, Head
from .second_look import SecondLook, suppress

MOST_LOGIT: Final = 60.0
SUPPRESS_SHARE: Final = 0.8  # of the smaller of two detections of one head inside the other


@dataclass(frozen=True, eq=False)
class TypedStack:
    """The typed heads of a snapshot, in order, and their tensors stacked."""

    heads: tuple[Head, ...]
    weight: np.ndarray  # float32[H, EMBEDDED]
    operating: np.ndarray  # float32[H, 3]


def typed_stack(heads: Sequence[Head]) -> TypedStack:
    """The typed ones among `heads`, stacked."""
    typed = tuple(head for head in heads if head.head_type == "typed")
    arrays = [
        np.array([head.weights[name] for head in typed], np.float32).reshape(len(typed), *shape)
        for name, shape in TYPED.items()
    ]
    return TypedStack(typed, *arrays)


def scores(found: SecondLook, stack: TypedStack) -> np.ndarray:
    """float32[H, S] in 0..1 of S described candidates; 0.5 is each head's operating point."""
    offset, slope, threshold = (stack.operating[:, k : k + 1].astype(np.float64) for k in range(3))
    log_score = log_product(stack.weight @ found.embedded.T, offset, slope, found.fit)
    return np.asarray(1 / (1 + np.exp(-(log_score - threshold).clip(-MOST_LOGIT, MOST_LOGIT))), np.float32)


def typed_detections(stack: TypedStack, found: Mapping[str, np.ndarray], threshold: float) -> Iterator[Detection]:
    """Detections of the typed heads, in seconds and hertz of the capture, after suppression."""
    for head, score in zip(stack.heads, found["scores"], strict=True):
        kept = np.flatnonzero((score >= threshold) & (score > 0))
        kept = kept[suppress(found["boxes"][kept], score[kept], head.nms_iou, SUPPRESS_SHARE)][:MAX_DETECTIONS]
        for (start_s, stop_s, low_hz, high_hz), value in zip(
            found["boxes"][kept].tolist(), score[kept].tolist(), strict=True
        ):
            yield Detection(head.signal, value, start_s, stop_s, low_hz, high_hz, head.version)


def log_product(types: np.ndarray, offset: np.ndarray, slope: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """float64[..., S]: log of the probability of the type times that of the fit. types: [..., S]; fit: logits [S]."""
    return np.asarray(log_sigmoid(slope * (types - offset)) + log_sigmoid(fit))


def log_sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(-np.logaddexp(0, -np.asarray(values, np.float64)))
