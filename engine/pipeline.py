"""The whole way of a capture, top to bottom: IQ, image, feature maps, boxes, detections. `front_end`, then `find`.

    IQ complex64[n] -> power -> image [1, 1, 1024, 1024] -> p2..p6, or only the fused map where there is no full head
    image -> regions; with the fused map -> proposals and vectors, once for all
    -> compact heads, all as one batch -> boxes, scores -> detections
    -> full heads, one after another  -> boxes, scores -> detections

This is the only place that creates streams or waits on them.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from .boxes import nms, to_physical
from .contract import Contract
from .detection import Detection
from .device import Device, Stream
from .heads import MAX_DETECTIONS, NMS_IOU, Head
from .regions import regions
from .sessions.base import Session
from .snapshot import Snapshot
from .spectrogram import Array, levels, to_image


@dataclass(frozen=True)
class Network:
    """The loaded graphs: one that reads the image, one per head type in use, and what compact heads share."""

    backbone: Session  # to p2..p6; of a lean network the trunk, to the fused map
    heads: Mapping[str, Session]
    shared: Session | None = None  # of compact heads
    capacity: int = 0  # heads that the graph of compact heads has room for
    fuse: Session | None = None  # p2..p6 to the fused map, where full and compact heads run side by side
    lean: bool = False
    precision: str = "float32"  # of what reads the image

    @property
    def sessions(self) -> tuple[Session, ...]:
        return (self.backbone, *self.heads.values(), *filter(None, [self.shared, self.fuse]))

    @property
    def runtime(self) -> str:
        return self.backbone.runtime

    def close(self) -> None:
        for session in self.sessions:
            session.close()


class Slot:
    """What one capture in flight owns: its streams. Given back when the capture's result is out."""

    def __init__(self, device: Device, name: str = "0") -> None:
        self.device = device
        self.upload: Stream = device.stream(f"upload {name}")
        self.compute: Stream = device.stream(f"compute {name}")


@dataclass
class Frame:
    """What came of one capture."""

    quality: str = "ok"
    detections: list[Detection] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


def front_end(iq: np.ndarray, contract: Contract, slot: Slot, frame: Frame) -> Array | None:
    """float32[1024, 1024], or None (and frame.quality) where there is nothing to look at."""
    with _timed(frame, "upload"):
        parts = iq.view(np.float32)
        if not np.isfinite([parts.min(), parts.max()]).all():  # both are NaN where one sample is
            frame.quality = "invalid"
            return None
        samples = slot.device.upload(iq, slot.upload)
        slot.upload.record("samples")
    with _timed(frame, "front_end"):
        slot.compute.wait("samples")
        device = slot.device
        found = levels(samples, contract, device.xp, device.spread)
        if not found.has_power(contract):
            frame.quality = "silent"
            return None
        return to_image(found, contract, device.xp, device.spread)


def find(
    image: Array,
    contract: Contract,
    slot: Slot,
    network: Network,
    snapshot: Snapshot,
    threshold: float,
    frame: Frame,
) -> None:
    """All detections of one image float32[1024, 1024] into `frame`."""
    with _timed(frame, "backbone"):
        features = network.backbone.run({"image": image[None, None]})
    heads, compact = snapshot.full, snapshot.compact
    found: list[dict[str, np.ndarray]] = []
    if compact.heads and network.shared is not None:
        with _timed(frame, "regions"):
            boxes = regions(image, slot.device.spread)
        with _timed(frame, "shared"):
            fused = network.fuse.run(features) if network.fuse else features
            described = network.shared.run({"regions": boxes, "image": image[None, None], **fused})
        with _timed(frame, "heads"):
            batch = network.heads["compact"].run({**described, **compact.weights})
            real = boxes[:, 2] > 0  # the rest is padding
            heads = (*compact.heads, *heads)
            found = [{name: array[place][real] for name, array in batch.items()} for place in range(len(compact.heads))]
    with _timed(frame, "heads"):
        found += [network.heads["full"].run({**features, **head.feeds}) for head in snapshot.full]
        slot.compute.record("found")
    with _timed(frame, "download"):
        slot.upload.wait("found")
        found = [{name: slot.device.download(a, slot.upload) for name, a in out.items()} for out in found]
        slot.upload.synchronise()
    with _timed(frame, "detections"):
        for head, out in zip(heads, found, strict=True):
            frame.detections += _detections(head, out["boxes"], out["scores"], contract, threshold)
        frame.detections.sort(key=lambda d: (-d.score, d.start_s, d.low_hz, d.signal))


def _detections(
    head: Head, boxes: np.ndarray, scores: np.ndarray, contract: Contract, threshold: float
) -> Iterator[Detection]:
    """Padded boxes float32[K, 4] and scores float32[K] to detections, seconds and hertz in the capture."""
    kept = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (scores >= threshold) & (scores > 0)
    kept &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores = boxes[kept], scores[kept]
    if head.head_type == "compact" or head.nms_iou < NMS_IOU:  # the graph of full heads has done NMS_IOU itself
        apart = nms(boxes, scores, head.nms_iou)[:MAX_DETECTIONS]
        boxes, scores = boxes[apart], scores[apart]
    for (start_s, stop_s, low_hz, high_hz), score in zip(
        to_physical(boxes, contract).tolist(), scores.tolist(), strict=True
    ):
        yield Detection(head.signal, score, start_s, stop_s, low_hz, high_hz, head.version)


@contextmanager
def _timed(frame: Frame, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        frame.timings_ms[stage] = frame.timings_ms.get(stage, 0.0) + (time.perf_counter() - start) * 1e3
