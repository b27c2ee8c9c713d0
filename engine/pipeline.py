"""The whole way of a capture, top to bottom: IQ, image, feature maps, boxes, detections. `front_end`, then `find`.

    IQ complex64[n] -> power -> image [1, 1, 1024, 1024] -> p2..p6, or only the fused map where there is no full head
    image -> regions, on the host; with the fused map -> proposals and vectors, once for all
    -> compact heads, all as one batch -> boxes, scores -> detections
    -> full heads, one after another  -> boxes, scores -> detections

This is the only place that creates streams or waits on them. A capture waits twice for the device: for its image, in
which the host looks for regions, and for what the heads found.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from .boxes import nms, to_physical
from .contract import Contract
from .detection import Detection
from .device import Device, Stream, once
from .heads import MAX_DETECTIONS, NMS_IOU, Head
from .regions import regions
from .sessions.base import Session
from .snapshot import Snapshot
from .spectrogram import Array


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
    """What one capture in flight owns: its ways to and from the device. Given back when the capture's result is out.
    Computing is one queue for all slots, so captures take turns there and the arrays of the network are one set."""

    def __init__(self, device: Device, name: str = "0") -> None:
        self.device = device
        self.name = name
        self.upload: Stream = device.stream(f"upload {name}")
        self.compute: Stream = device.stream("compute")
        self.download: Stream = device.stream(f"download {name}")

    def own(self, name: str) -> str:
        """The name of an array or mark of this slot's."""
        return f"{name} {self.name}"


@dataclass(frozen=True)
class Drawn:
    """A capture's image, float32[1024, 1024] in 0..1, where the network reads it and on the host."""

    image: Array
    shown: np.ndarray


@dataclass
class Frame:
    """What came of one capture."""

    quality: str = "ok"
    detections: list[Detection] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


def front_end(iq: np.ndarray, contract: Contract, slot: Slot, frame: Frame) -> Drawn | None:
    """The image of complex64[n], or None (and frame.quality) where there is nothing to look at."""
    device, own = slot.device, slot.own
    with _timed(frame, "upload"):
        samples = device.upload(iq, slot.upload, own("iq"))
        slot.upload.record(own("iq is up"))
    with _timed(frame, "front_end"):
        slot.compute.wait(own("iq is up"))
        with slot.compute.work("draw", reads=[own("iq")], writes=[own("image"), own("told")]):
            image, told = device.replayed(own("draw"), (contract,), lambda: device.draw(samples, contract))
        slot.compute.record(own("image is drawn"))
        slot.download.wait(own("image is drawn"))
        shown = device.download(image, slot.download, own("image"))
        numbers = device.download(told, slot.download, own("told"))
        slot.download.synchronise()
    loudest, has_power = numbers
    if not np.isfinite(loudest):
        frame.quality = "invalid"
    elif not has_power:
        frame.quality = "silent"
    return Drawn(image, shown) if frame.quality == "ok" else None


def given(pixels: np.ndarray, slot: Slot) -> Drawn:
    """An image float32[1024, 1024] that is there already."""
    image = slot.device.upload(pixels, slot.upload, slot.own("image"))
    slot.upload.record(slot.own("image is up"))
    slot.compute.wait(slot.own("image is up"))
    return Drawn(image, pixels)


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
    device, own, compute = slot.device, slot.own, slot.compute
    replayed = device.replayed if network.replayable else once
    image = drawn.image[None, None]
    heads, compact = snapshot.full, snapshot.compact
    with _timed(frame, "backbone"), compute.work("backbone", reads=[own("image")], writes=["features"]):
        features = replayed(own("backbone"), (network, drawn.image), lambda: network.backbone.run({"image": image}))
    found: list[Mapping[str, Array]] = []
    if compact.heads and network.shared is not None:
        heads = (*compact.heads, *heads)
        with _timed(frame, "regions"):  # on the host, while the device is at the backbone
            boxes = regions(drawn.shown, device.host.spread)
            placed = device.upload(boxes, slot.upload, own("regions"))
            slot.upload.record(own("regions are up"))
        compute.wait(own("regions are up"))
        with _timed(frame, "shared"), compute.work(
            "shared", reads=["features", own("image"), own("regions")], writes=["described"]
        ):  # fmt: skip
            described = replayed(
                own("shared"),
                (network, drawn.image, features, placed),
                lambda: _describe(network, features, image, placed),
            )
        weights = device.resident(compact.weights)
        with _timed(frame, "heads"), compute.work("heads", reads=["described"], writes=["boxes 0", "scores 0"]):
            batch = replayed(
                own("heads"),
                (network, described, weights),
                lambda: network.heads["compact"].run({**described, **weights}),
            )
        found.append(batch)
    with _timed(frame, "heads"):
        for head in snapshot.full:
            number = len(found)
            with compute.work(head.signal, reads=["features"], writes=[f"boxes {number}", f"scores {number}"]):
                found.append(network.heads["full"].run({**features, **device.resident(head.feeds)}))
        compute.record(own("heads are done"))
    with _timed(frame, "download"):
        slot.download.wait(own("heads are done"))
        results = [
            {name: device.download(array, slot.download, f"{name} {number}") for name, array in out.items()}
            for number, out in enumerate(found)
        ]
        slot.download.synchronise()
    with _timed(frame, "detections"):
        if len(results) > len(snapshot.full):
            batch, real = results[0], boxes[:, 2] > 0  # the rest is padding
            results[:1] = [{name: array[k][real] for name, array in batch.items()} for k in range(len(compact.heads))]
        for head, out in zip(heads, results, strict=True):
            frame.detections += _detections(head, out["boxes"], out["scores"], contract, threshold)
        frame.detections.sort(key=lambda d: (-d.score, d.start_s, d.low_hz, d.signal))


def _describe(network: Network, features: Mapping[str, Array], image: Array, placed: Array) -> Mapping[str, Array]:
    """Proposals and vectors of the regions, from the fused map and the image."""
    assert network.shared is not None
    fused = network.fuse.run(features) if network.fuse else features
    return network.shared.run({"regions": placed, "image": image, **fused})


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
