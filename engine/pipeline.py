"""The whole way of a capture, top to bottom: IQ, image, feature maps, boxes, detections. `front_end`, then `find`.

    IQ complex64[n] -> power -> image [1, 1, 1024, 1024] -> p2..p6, or only the fused map where there is no full head
    image -> regions; with the fused map -> proposals and vectors, once for all
    -> compact heads, all as one batch -> boxes, scores -> detections
    -> full heads, one after another  -> boxes, scores -> detections

This is the only place that creates streams or waits on them. A capture waits once for the device: for what was found.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from .boxes import nms, to_physical
from .contract import Contract
from .detection import Detection
from .devices.base import Device, Stream, once
from .heads import MAX_DETECTIONS, NMS_IOU, Head
from .sessions.base import Session
from .snapshot import Snapshot
from .spectrogram import Array

WORTH_A_LOOK: Final = np.ones(2, np.float32)  # told of an image that is given


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
    def replayable(self) -> bool:
        """Whether what the graphs do can be played back; see `Device.replayed`."""
        return all(getattr(session, "replayable", True) for session in self.sessions)

    @property
    def runtime(self) -> str:
        return self.backbone.runtime

    def close(self) -> None:
        for session in self.sessions:
            session.close()


class Slot:
    """What one capture in flight owns: its ways to and from the device, and the arrays that go by its name. Taken from
    `engine.slots` and given back when the capture's result is out. Computing is one queue for all slots, so captures
    take turns there and the arrays of the network are one set."""

    def __init__(self, device: Device, name: str = "0") -> None:
        self.device = device
        self.name = name
        self.under_way = False  # work was handed out that the host has not waited for
        self.upload: Stream = device.stream(f"upload {name}")
        self.compute: Stream = device.stream("compute")
        self.download: Stream = device.stream(f"download {name}")

    def own(self, name: str) -> str:
        """The name of an array or mark of this slot's."""
        return f"{name} {self.name}"

    def settle(self) -> None:
        """Waits for the work of a capture that was given up half-way: its arrays are then free for another."""
        if not self.under_way:
            return
        self.compute.record(self.own("given up"))
        self.download.wait(self.own("given up"))
        self.download.synchronise()
        self.under_way = False


@dataclass(frozen=True)
class Drawn:
    """A capture's image, float32[1024, 1024] in 0..1, and what is told about it (see `spectrogram.draw`), both where
    the network reads them."""

    image: Array
    told: Array


@dataclass
class Frame:
    """What came of one capture. Steps that a device plays back leave no timings of their own."""

    quality: str = "ok"
    detections: list[Detection] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


def front_end(iq: np.ndarray, contract: Contract, slot: Slot, frame: Frame) -> Drawn | None:
    """The image of complex64[n]; None (and frame.quality) where there is nothing to look at and the device says so
    without being waited for."""
    device, own = slot.device, slot.own
    slot.under_way = True
    with _timed(frame, "upload"):
        samples = device.upload(iq, slot.upload, own("iq"))
        slot.upload.record(own("iq is up"))
    with _timed(frame, "front_end"):
        slot.compute.wait(own("iq is up"))
        with slot.compute.work("draw", reads=[own("iq")], writes=[own("image"), own("told")]):
            drawn = device.replayed(own("draw"), (contract, samples), lambda: Drawn(*device.draw(samples, contract)))
        frame.quality = _quality(device.at_once(drawn.told))
    return drawn if frame.quality == "ok" else None


def given(pixels: np.ndarray, slot: Slot) -> Drawn:
    """An image float32[1024, 1024] that is there already."""
    slot.under_way = True
    image = slot.device.upload(pixels, slot.upload, slot.own("image"))
    told = slot.device.upload(WORTH_A_LOOK, slot.upload, slot.own("told"))
    slot.upload.record(slot.own("image is up"))
    slot.compute.wait(slot.own("image is up"))
    return Drawn(image, told)


def find(
    drawn: Drawn,
    contract: Contract,
    slot: Slot,
    network: Network,
    snapshot: Snapshot,
    threshold: float,
    frame: Frame,
) -> None:
    """All detections of one image into `frame`."""
    device, own = slot.device, slot.own
    weights = device.resident(snapshot.compact.weights)
    replayed = device.replayed if network.replayable else once
    with slot.compute.work("look", reads=[own("image")], writes=["found"]):
        found = replayed(
            own("look"),
            (network, weights, drawn),
            lambda: _look(drawn.image, device, network, snapshot, weights, frame),
        )
    slot.compute.record(own("all is found"))
    with _timed(frame, "download"):
        slot.download.wait(own("all is found"))
        told = device.download(drawn.told, slot.download, own("told"))
        results = [
            {name: device.download(array, slot.download, "found", f"{name} {number}") for name, array in out.items()}
            for number, out in enumerate(found)
        ]
        slot.download.synchronise()
    slot.under_way = False
    frame.quality = _quality(told)
    if frame.quality != "ok":
        return
    with _timed(frame, "detections"):
        for head, out in zip(*_by_head(snapshot, results), strict=True):
            frame.detections += _detections(head, out["boxes"], out["scores"], contract, threshold)
        frame.detections.sort(key=lambda d: (-d.score, d.start_s, d.low_hz, d.signal))


def _look(
    image: Array,
    device: Device,
    network: Network,
    snapshot: Snapshot,
    weights: Mapping[str, Array],
    frame: Frame,
) -> list[Mapping[str, Array]]:
    """What the heads find in an image: boxes and scores of all compact heads with the regions they judged, then those
    of each full head. Waits for nothing."""
    found: list[Mapping[str, Array]] = []
    whole = image[None, None]
    with _timed(frame, "backbone"):
        features = network.backbone.run({"image": whole})
    if snapshot.compact.heads and network.shared is not None:
        with _timed(frame, "regions"):
            regions = device.regions(image)
        with _timed(frame, "shared"):
            fused = network.fuse.run(features) if network.fuse else features
            described = network.shared.run({"regions": regions, "image": whole, **fused})
        with _timed(frame, "heads"):
            found.append({"regions": regions, **network.heads["compact"].run({**described, **weights})})
    with _timed(frame, "heads"):
        found += [network.heads["full"].run({**features, **device.resident(h.feeds)}) for h in snapshot.full]
    return found


def _by_head(
    snapshot: Snapshot, results: Sequence[Mapping[str, np.ndarray]]
) -> tuple[list[Head], list[Mapping[str, np.ndarray]]]:
    """The heads of what `_look` found, and what each found."""
    if len(results) == len(snapshot.full):
        return list(snapshot.full), list(results)
    batch, compact = results[0], snapshot.compact.heads
    real = batch["regions"][:, 2] > 0  # the rest is padding
    each = [{name: batch[name][place][real] for name in ("boxes", "scores")} for place in range(len(compact))]
    return [*compact, *snapshot.full], [*each, *results[1:]]


def _quality(told: np.ndarray | None) -> str:
    """What is told of a capture, in a word; "ok" as well where it is not known yet."""
    if told is None:
        return "ok"
    loudest, has_power = told
    return "invalid" if not np.isfinite(loudest) else "ok" if has_power else "silent"


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
