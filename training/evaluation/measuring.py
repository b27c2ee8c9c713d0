"""Evaluation of exported heads on validation samples, run through the engine as in detection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engine.boxes import physical, to_physical, to_pixels
from engine.detection import Detection
from engine.engine import Engine
from engine.heads import Head
from engine.loading import Loader
from engine.recordings.annotation import Annotation
from engine.snapshot import Snapshot
from engine.store.release import BackboneRelease
from training.samples.sample import Sample

from .matching import MIN_SCORE
from .metrics import Evaluated, evaluate
from .promotion import Measured
from .report import SignalReport

SCORE_FROM: Final = 0.05  # the least that average precision sees


@dataclass(frozen=True)
class Measurement:
    """Metrics of one head on one validation set."""

    report: SignalReport
    measured: Measured

    def operating_point(self) -> dict[str, Any]:
        """F1, precision and recall for the version's history."""
        found = self.report.as_json()
        return {"f1_score": found["f1"], "precision": found["precision"], "recall": found["recall"]}

    def as_json(self) -> dict[str, Any]:
        return {**self.report.as_json(), "samples": list(self.measured.sample_ids)}


def measure(release: BackboneRelease, heads: Sequence[Head], samples: Sequence[Sample]) -> dict[int, Measurement]:
    """Metrics of several versions of one signal's head on the same samples, in one pass; by version."""
    signal = heads[0].signal
    snapshot = Snapshot(0, release.version, release.backbone_hash, tuple(heads))
    network = Loader(release).network(snapshot)
    images: dict[int, list[Evaluated]] = {head.version: [] for head in heads}
    with Engine(None, release.contract, network, snapshot, threshold=SCORE_FROM, arbitrate=False) as engine:
        for sample in samples:
            found = detections_in(engine, sample)
            for version, evaluated in images.items():
                ours = [detection for detection in found if detection.version == version]
                evaluated.append(Evaluated(sample.sample_id, sample.contract, truths(sample), ours))
    ids = tuple(sample.sample_id for sample in samples)
    measured = {}
    for version, evaluated in images.items():
        found_boxes = frozenset(box for one in evaluated for box in _pixel_boxes(one))
        report = evaluate(evaluated, [signal]).signals[signal]
        scores = report.scores
        measured[version] = Measurement(
            report, Measured(scores.f1, scores.precision, scores.recall, report.per_image, ids, found_boxes)
        )
    return measured


def detections_in(engine: Engine, sample: Sample) -> tuple[Detection, ...]:
    """Detections in a sample, in seconds from its start and hertz from its centre: of its IQ where that was kept, of
    its image otherwise. Raises StoreError where the file is damaged."""
    iq = sample.iq()
    if iq is None:
        return engine.detect_image(sample.image())
    return engine.detect(iq, sample_rate_hz=sample.sample_rate_hz).detections


def _pixel_boxes(image: Evaluated) -> list[tuple[str | int, ...]]:
    """Sample and box, in whole pixels, of each detection that counts."""
    counted = [d for d in image.detections if d.score >= MIN_SCORE]
    edges = physical(counted)
    pixels = to_pixels(edges, image.contract).round().astype(int).tolist()
    return [(image.sample_id, *box) for box in pixels]


def truths(sample: Sample) -> list[Annotation]:
    """Ground truth of a sample, other labels included, in seconds from its start and hertz from its centre."""
    edges = np.array([[box.x_min, box.y_min, box.x_max, box.y_max] for box in sample.boxes]).reshape(-1, 4)
    return [
        Annotation(box.label, *row)
        for box, row in zip(sample.boxes, to_physical(edges, sample.contract).tolist(), strict=True)
    ]
