"""Certificates: agreement of two implementations of a detector, box by box."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.boxes import match

MATCH_IOU = 0.5
MAX_SCORE_STEP = 0.01  # of a matched pair
MAX_BOX_STEP_PX = 2.0  # image pixels, of a matched pair scored 0.5 or more
MAX_UNMATCHED = 0.02  # share of the reference's detections: those with a score close to a threshold


class Found(NamedTuple):
    """Detections of one image: float[N, 4] corner boxes in image pixels, float[N] scores."""

    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Certificate:
    """Agreement of a candidate with its reference over some images."""

    reference: str
    candidate: str
    images: int
    detections: int  # of the reference
    matched: int
    unmatched_reference: int
    unmatched_candidate: int
    unmatched_max_score: float
    max_box_step_px: float
    max_confident_box_step_px: float  # among pairs that the reference scores 0.5 or more
    max_score_step: float

    @property
    def passed(self) -> bool:
        unmatched = max(self.unmatched_reference, self.unmatched_candidate)
        return (
            self.detections > 0
            and unmatched <= MAX_UNMATCHED * self.detections
            and self.max_score_step <= MAX_SCORE_STEP
            and self.max_confident_box_step_px <= MAX_BOX_STEP_PX
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def certify(reference: str, candidate: str, pairs: Iterable[tuple[Found, Found]]) -> Certificate:
    """Compares (reference, candidate) detections image by image: greedy match by IoU, best score first."""
    images = detections = matched = extra = missing = 0
    box_steps, confident_steps, score_steps, lonely = [0.0], [0.0], [0.0], [0.0]
    for ours, theirs in pairs:
        matches = match(ours.boxes, theirs.boxes, theirs.scores, MATCH_IOU)
        images += 1
        detections += len(ours.scores)
        matched += len(matches)
        missing += len(ours.scores) - len(matches)
        extra += len(theirs.scores) - len(matches)
        for a, b in matches:
            step = float(np.abs(ours.boxes[a] - theirs.boxes[b]).max())
            box_steps.append(step)
            if ours.scores[a] >= 0.5:
                confident_steps.append(step)
            score_steps.append(float(abs(ours.scores[a] - theirs.scores[b])))
        lonely += [float(s) for i, s in enumerate(ours.scores) if i not in {a for a, _ in matches}]
        lonely += [float(s) for i, s in enumerate(theirs.scores) if i not in {b for _, b in matches}]
    return Certificate(
        reference=reference,
        candidate=candidate,
        images=images,
        detections=detections,
        matched=matched,
        unmatched_reference=missing,
        unmatched_candidate=extra,
        unmatched_max_score=max(lonely),
        max_box_step_px=max(box_steps),
        max_confident_box_step_px=max(confident_steps),
        max_score_step=max(score_steps),
    )
