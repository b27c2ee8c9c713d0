"""Windows of a recording, cut as in detection, each with the boxes of all annotated objects in it."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from engine.boxes import physical, to_pixels
from engine.contract import IMAGE_SIZE, Contract
from engine.recordings.annotation import Annotation
from engine.recordings.recording import Recording
from engine.spectrogram import levels, to_image

OTHER: Final = "other"  # label of objects that training and evaluation ignore
MIN_OBJECT_SHARE: Final = (
    0.25  # visible share of an object (or of the window, if smaller), below which it is labelled `other`
)
MIN_LABEL_SIDE_PX: Final = 0.02  # shorter and narrower boxes are widened to this, so that rounding leaves something
FINGERPRINT_BLOCKS: Final = 16
FINGERPRINT_ROWS: Final = 1 << 14


@dataclass(frozen=True, eq=False)
class Window:
    """One capture: its start, and labelled boxes float64[N, 4] in image pixels, clipped."""

    index: int
    start_s: float
    boxes: np.ndarray = field(repr=False)
    labels: tuple[str, ...]


def windows(recording: Recording, contract: Contract, objects: Sequence[Annotation]) -> Iterator[Window]:
    """All captures of a recording with the objects they show. An object without a label is `other`."""
    centre_hz = recording.center_freq_hz or 0.0
    edges = physical(objects) - [0, 0, centre_hz, centre_hz]
    step = contract.capture_samples / contract.sample_rate_hz
    last_s = max(0.0, recording.duration_s - step)
    for index in range(recording.n_captures(contract)):
        start_s = min(index * step, last_s)
        whole = to_pixels(edges - [start_s, start_s, 0, 0], contract)
        boxes, shares = _clipped(whole)
        labels = [
            (o.label or OTHER) if share >= MIN_OBJECT_SHARE else OTHER for o, share in zip(objects, shares, strict=True)
        ]
        there = np.flatnonzero(shares > 0)
        yield Window(index, start_s, boxes[there], tuple(labels[place] for place in there))


def image_of(recording: Recording, contract: Contract, index: int) -> np.ndarray | None:
    """uint8[1024, 1024] of capture `index`; None where the engine detects nothing: silence, or NaN and infinity."""
    return rendered(recording.capture(contract, index).iq, contract)


def rendered(iq: np.ndarray, contract: Contract) -> np.ndarray | None:
    """uint8[1024, 1024] of a capture complex64[n]; None where it is silent or not finite."""
    if not np.isfinite(iq.view(np.float32)).all():
        return None
    found = levels(iq, contract)
    if not found.has_power(contract):
        return None
    return np.asarray(np.round(to_image(found, contract) * 255)).astype(np.uint8)


def source_of(recording: Recording) -> str:
    """`name#fingerprint`: the fingerprint is of the samples, so that a copy under another name is no other source.

    Hashed are sixteen stretches spread over the file, for files may be larger than memory.
    """
    rows = recording.samples
    digest = hashlib.sha256(f"{len(rows)} {rows.dtype.str}".encode())
    for start in np.linspace(0, max(0, len(rows) - FINGERPRINT_ROWS), FINGERPRINT_BLOCKS).astype(int):
        digest.update(np.ascontiguousarray(rows[start : start + FINGERPRINT_ROWS]).data)
    return f"{recording.path.name}#{digest.hexdigest()[:16]}"


def _clipped(whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float64[N, 4] clipped to the image, and the visible share of each, float64[N]; 0 outside."""
    lacking = np.clip(MIN_LABEL_SIDE_PX - (whole[:, 2:] - whole[:, :2]), 0, None) / 2
    whole = whole + np.concatenate([-lacking, lacking], axis=1)
    boxes = whole.clip(0, IMAGE_SIZE)
    sides = boxes[:, 2:] - boxes[:, :2]
    seen = np.prod(sides, axis=1) / np.prod(np.minimum(whole[:, 2:] - whole[:, :2], IMAGE_SIZE), axis=1)
    return boxes, np.where((sides >= MIN_LABEL_SIDE_PX / 2).all(axis=1), seen, 0.0)
