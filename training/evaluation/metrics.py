"""Detection metrics: precision, recall, F1, average precision, recall by SNR and bandwidth, and confusion of heads.

Truths and detections are matched as in `matching`. The label `other` marks a foreign signal of unknown type:
detections on it are ignored, neither true nor false positives.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from engine.arbitration import arbitrate
from engine.boxes import corners, iou, physical, to_physical
from engine.contract import Contract
from engine.detection import Detection
from engine.recordings.annotation import Annotation

from .matching import (
    GRID,
    MIN_IOU,
    MIN_SCORE,
    NO_BOXES,
    ImageResult,
    average_precision,
    count,
    false_positive_area,
    score,
    true_positives,
)
from .report import EvaluationReport, Scores, SignalReport

__all__ = [
    "MIN_IOU",
    "MIN_SCORE",
    "Evaluated",
    "ImageResult",
    "Scores",
    "arbitration_cost",
    "average_precision",
    "evaluate",
    "per_image",
    "score",
]

Plane = tuple[float, float, float, float]  # start_s, stop_s, low_hz, high_hz

STRONG_DB: Final = 10.0  # signal-to-noise ratio from which truths are also scored separately
IGNORED: Final = "other"
NOISE: Final = "noise"  # labels a stretch of recording in which there is nothing
SNR_CLASSES: Final = {
    "<0 dB": (-math.inf, 0.0),
    "0-10 dB": (0.0, 10.0),
    "10-20 dB": (10.0, 20.0),
    ">=20 dB": (20.0, math.inf),
}
BANDWIDTH_CLASSES: Final = {  # share of the band: from, up to
    "<1 %": (0.0, 0.01),
    "1-5 %": (0.01, 0.05),
    "5-25 %": (0.05, 0.25),
    ">=25 %": (0.25, math.inf),
}


@dataclass(frozen=True)
class Evaluated:
    """Truths of one capture and its detections at any score, in the same seconds and hertz."""

    sample_id: str
    contract: Contract
    truths: Sequence[Annotation]
    detections: Sequence[Detection]
    plane: Plane | None = None  # area covered by detection; None: one capture of the contract


def per_image(images: Iterable[Evaluated], signal: str) -> np.ndarray:
    """int64[n, 3]: truths, predictions and true positives of `signal` in each image, for paired comparisons."""
    counts = [count(_Plane(image).result(signal)) for image in images]
    return np.array(counts, dtype=np.int64).reshape(-1, 3)


def evaluate(images: Iterable[Evaluated], signals: Iterable[str] | None = None) -> EvaluationReport:
    """Metrics of `signals`; None: of all that are labelled or detected.

    Raises UnavailableError without faster-coco-eval.
    """
    images = list(images)
    planes = [_Plane(image) for image in images]
    bursts = sorted({label for plane in planes for label in plane.labels})
    if signals is None:
        signals = {d.signal for image in images for d in image.detections} | (set(bursts) - {IGNORED})
    signals = sorted(signals)
    noise = np.array([len(plane.labels) == 0 for plane in planes], bool)
    predicts = [plane.predicts(signals) for plane in planes]
    on_burst = {label: [fire[plane.labels == label] for plane, fire in zip(planes, predicts, strict=True)]
                for label in bursts}  # fmt: skip
    return EvaluationReport(
        sample_ids=tuple(image.sample_id for image in images),
        noise_captures=int(noise.sum()),
        signals={name: _signal(name, planes, noise) for name in signals},
        bursts={label: sum(len(fire) for fire in found) for label, found in on_burst.items()},
        confusion={
            label: dict(zip(signals, np.concatenate(found).sum(axis=0).tolist(), strict=True))
            for label, found in on_burst.items()
        },
        multi_claimed=sum(int((fire.sum(axis=1) > 1).sum()) for fire in predicts),
    )


def arbitration_cost(images: Iterable[Evaluated], signals: Iterable[str] | None = None) -> dict[str, Any]:
    """Metrics with and without arbitration between heads (`engine.arbitration`), and its milliseconds per capture.

    Arguments and errors are those of `evaluate`.
    """
    images = list(images)
    began_s = time.perf_counter()
    settled = [replace(image, detections=arbitrate(image.detections)) for image in images]
    elapsed_s = time.perf_counter() - began_s
    before = evaluate(images, signals).as_json()
    after = evaluate(settled, before["signals"]).as_json()
    keys = ("precision", "recall", "f1", "ap50")
    return {
        "signals": {
            name: {key: {"without": figures[key], "with": after["signals"][name][key]} for key in keys}
            | {"f1_change": _change(figures["f1"], after["signals"][name]["f1"])}
            for name, figures in before["signals"].items()
        },
        "two_heads_on_one_burst": {
            "without": before["two_heads_on_one_burst"],
            "with": after["two_heads_on_one_burst"],
        },
        "ms_per_capture": 1e3 * elapsed_s / len(images) if images else None,
    }


class _Plane:
    """One capture with all boxes in corner form on a plane of GRID x GRID."""

    def __init__(self, image: Evaluated) -> None:
        whole = to_physical(np.array([[0, 0, 1, 1]]) * image.contract.image_size, image.contract)
        self.extent = corners(whole if image.plane is None else np.array(image.plane))[0]
        truths = [truth for truth in image.truths if truth.label != NOISE]
        self.labels = np.array([truth.label for truth in truths], dtype=object)
        self.snr_db = np.array([math.nan if truth.snr_db is None else truth.snr_db for truth in truths])
        self.truth = self._on_grid(truths)
        self.signals = np.array([d.signal for d in image.detections], dtype=object)
        self.scores = np.array([d.score for d in image.detections])
        self.predictions = self._on_grid(image.detections)

    def _on_grid(self, things: Sequence[Annotation] | Sequence[Detection]) -> np.ndarray:
        boxes = corners(physical(things))
        origin, size = self.extent[:2], self.extent[2:] - self.extent[:2]
        on_grid: np.ndarray = (boxes - np.tile(origin, 2)) * (GRID / np.tile(size, 2))
        return on_grid

    def result(self, signal: str) -> ImageResult:
        ours = self.signals == signal
        return ImageResult(
            self.truth[self.labels == signal],
            self.predictions[ours],
            self.scores[ours],
            self.truth[self.labels == IGNORED],
        )

    def predicts(self, signals: Sequence[str]) -> np.ndarray:
        """bool[T, S]: truths that each of `signals` detects at the operating point."""
        on = (iou(self.truth, self.predictions) >= MIN_IOU) & (self.scores >= MIN_SCORE)
        return np.stack([on[:, self.signals == name].any(axis=1) for name in signals], axis=1) if signals else on[:, :0]


def _signal(name: str, planes: Sequence[_Plane], noise: np.ndarray) -> SignalReport:
    results = [plane.result(name) for plane in planes]
    snr_db = [plane.snr_db[plane.labels == name] for plane in planes]
    counts = np.array([count(image) for image in results], dtype=np.int64).reshape(-1, 3)
    strong = [count(image, levels >= STRONG_DB) for image, levels in zip(results, snr_db, strict=True)]
    hit = np.concatenate([np.zeros(0, bool), *(true_positives(image) for image in results)])
    boxes = np.concatenate([NO_BOXES, *(image.truth for image in results)])
    return SignalReport(
        counts,
        Scores(*np.array(strong, dtype=np.int64).reshape(-1, 3).sum(axis=0).tolist()),
        *average_precision(results),
        by_snr=_by_class(SNR_CLASSES, np.concatenate([np.zeros(0), *snr_db]), hit),
        by_bandwidth=_by_class(BANDWIDTH_CLASSES, (boxes[:, 3] - boxes[:, 1]) / GRID, hit),
        false_alarms=float(counts[noise, 1].mean()) if noise.any() else math.nan,
        false_positive_area=float(np.mean([false_positive_area(image) for image in results])) if results else math.nan,
    )


def _by_class(
    classes: Mapping[str, tuple[float, float]], values: np.ndarray, hit: np.ndarray
) -> dict[str, tuple[int, int]]:
    within = {name: (values >= low) & (values < high) for name, (low, high) in classes.items()}
    return {name: (int(mask.sum()), int(hit[mask].sum())) for name, mask in within.items()}


def _change(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
