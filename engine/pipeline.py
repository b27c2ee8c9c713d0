"""The whole way of a capture, top to bottom: IQ, image, feature maps, boxes, detections. `front_end`, then `find`.

    IQ complex64[n] -> power -> image [1, 1, 1024, 1024] -> p2..p6, or only the fused map where there is no full head
    image -> regions; with the fused map -> proposals and vectors, once for all
    -> compact heads, all as one batch -> boxes, scores -> detections
    -> full heads, one after another  -> boxes, scores -> detections

This is the only place that creates streams or waits on them. Each capture synchronises with the device once, to read
its detections.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from .boxes import nms, to_physical
from .contract import Contract
from .describing import Stage, describe, is_region
from .detection import Detection
from .devices.base import Device, Stream, run_directly
from .errors import MismatchError
from .heads import MAX_DETECTIONS, NMS_IOU, Head
from .second_look import look
from .second_look.model import LookModel
from .sessions.base import Arrays, Session
from .snapshot import Snapshot
from .spectrogram import Array
from .typed import scores, typed_detections

HAS_SIGNAL: Final = np.ones(2, np.float32)  # statistics of an uploaded image


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
    look: LookModel | None = None  # constants of the second look, of typed heads

    @property
    def sessions(self) -> tuple[Session, ...]:
        return (self.backbone, *self.heads.values(), *filter(None, [self.shared, self.fuse]))

    @property
    def replayable(self) -> bool:
        """True if all sessions can be captured in a CUDA graph; see `Device.replayed`."""
        return all(session.replayable for session in self.sessions)

    @property
    def runtime(self) -> str:
        return self.backbone.runtime

    def close(self) -> None:
        for session in self.sessions:
            session.close()


class Slot:
    """Resources of one capture in flight: its upload and download streams, and the arrays under its name. Taken from
    `engine.slots` and given back when the capture's result is out. The compute stream is shared by all slots, so
    captures are serialised there and the network has one set of arrays."""

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
class Rendered:
    """A capture's image, float32[1024, 1024] in 0..1, its statistics float32[2]: peak amplitude, and whether it
    contains any power (see `spectrogram.render`), and its IQ where there is any. All are arrays of the device."""

    image: Array
    stats: Array
    samples: Array | None = None


@dataclass
class Frame:
    """Detections, data quality and timings of one capture. Steps replayed as a CUDA graph have no timings of their
    own."""

    quality: str = "ok"
    detections: list[Detection] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


def front_end(iq: np.ndarray, contract: Contract, slot: Slot, frame: Frame) -> Rendered | None:
    """Render complex64[n] to an image. None, with the reason in frame.quality, for a silent or invalid capture where
    the device knows that without waiting."""
    device, own = slot.device, slot.own
    slot.under_way = True
    with _timed(frame, "upload"):
        samples = device.upload(iq, slot.upload, own("iq"))
        slot.upload.record(own("iq is up"))
    with _timed(frame, "front_end"):
        slot.compute.wait(own("iq is up"))
        with slot.compute.work("render", reads=[own("iq")], writes=[own("image"), own("stats")]):
            rendered = device.replayed(
                own("render"), (contract, samples), lambda: Rendered(*device.ops.render(samples, contract), samples)
            )
        frame.quality = _quality(device.peek(rendered.stats))
    return rendered if frame.quality == "ok" else None


def upload_image(pixels: np.ndarray, slot: Slot) -> Rendered:
    """Upload an image float32[1024, 1024] that was rendered before."""
    slot.under_way = True
    image = slot.device.upload(pixels, slot.upload, slot.own("image"))
    stats = slot.device.upload(HAS_SIGNAL, slot.upload, slot.own("stats"))
    slot.upload.record(slot.own("image is up"))
    slot.compute.wait(slot.own("image is up"))
    return Rendered(image, stats)


def find(
    rendered: Rendered,
    contract: Contract,
    slot: Slot,
    network: Network,
    snapshot: Snapshot,
    threshold: float,
    frame: Frame,
) -> None:
    """Detect all signals of one image; detections, quality and timings go to `frame`."""
    device, own = slot.device, slot.own
    weights = device.resident(snapshot.compact.weights)
    replayed = device.replayed if network.replayable else run_directly
    reads = [own("image"), own("iq")] if _looks_again(rendered, network, snapshot) else [own("image")]
    with slot.compute.work("infer", reads=reads, writes=["found"]):
        found = replayed(
            own("infer"),
            (network, weights, rendered),
            lambda: infer(rendered, contract, device, network, snapshot, weights, frame),
        )
    slot.compute.record(own("inference is done"))
    with _timed(frame, "download"):
        slot.download.wait(own("inference is done"))
        stats = device.download(rendered.stats, slot.download, own("stats"))
        results = [
            {name: device.download(array, slot.download, "found", f"{name} {number}") for name, array in out.items()}
            for number, out in enumerate(found)
        ]
        slot.download.synchronise()
    slot.under_way = False
    frame.quality = _quality(stats)
    if frame.quality != "ok":
        return
    with _timed(frame, "detections"):
        if _looks_again(rendered, network, snapshot):
            frame.detections += typed_detections(snapshot.typed, results.pop(), threshold)
        for head, out in zip(*_by_head(snapshot, results), strict=True):
            frame.detections += _detections(head, out["boxes"], out["scores"], contract, threshold)
        frame.detections.sort(key=lambda d: (-d.score, d.start_s, d.low_hz, d.signal))


def infer(
    rendered: Rendered,
    contract: Contract,
    device: Device,
    network: Network,
    snapshot: Snapshot,
    weights: Mapping[str, Array],
    frame: Frame,
) -> list[Mapping[str, Array]]:
    """Forward pass of backbone and heads: boxes and scores of all compact heads, with the regions they classified,
    then those of each full head, then those of all typed heads. Never waits for the device."""
    image, found = rendered.image, list[Mapping[str, Array]]()
    stage = partial(_timed, frame)
    regions: Array | None = None
    if snapshot.compact.heads and network.shared is not None:
        described = describe(image, device.ops.regions, network.backbone, network.shared, network.fuse, stage)
        features, regions = described.features, described.regions
        with stage("heads"):
            feeds = {"proposals": described.proposals, "vectors": described.vectors, **weights}
            found.append({"regions": described.regions, **network.heads["compact"].run(feeds)})
    else:
        with stage("backbone"):
            features = network.backbone.run({"image": image[None, None]})
    with stage("heads"):
        found += [network.heads["full"].run({**features, **device.resident(h.feeds)}) for h in snapshot.full]
    if _looks_again(rendered, network, snapshot):
        with stage("regions"):
            regions = device.ops.regions(image) if regions is None else regions
        found.append(_typed(rendered, regions, features, contract, device, network, snapshot, stage))
    return found


def _typed(
    rendered: Rendered,
    regions: Array,
    features: Arrays,
    contract: Contract,
    device: Device,
    network: Network,
    snapshot: Snapshot,
    stage: Stage,
) -> dict[str, Array]:
    """Boxes float64[S, 4] in seconds and hertz of described candidates, and scores float32[H, S] of typed heads."""
    if network.look is None or network.shared is None or rendered.samples is None:
        raise MismatchError("typed heads need the second look and the shared layers of their release")
    sessions, parallel = (network.shared, network.fuse), device.ops.parallel_map
    chosen = look(
        rendered.samples, rendered.image, regions, features, sessions, contract, network.look, parallel, stage
    )
    with stage("heads"):
        return {"boxes": chosen.boxes, "scores": scores(chosen, snapshot.typed)}


def _looks_again(rendered: Rendered, network: Network, snapshot: Snapshot) -> bool:
    """Whether typed heads take part: they need the IQ."""
    return bool(snapshot.typed.heads) and network.look is not None and rendered.samples is not None


def _by_head(
    snapshot: Snapshot, results: Sequence[Mapping[str, np.ndarray]]
) -> tuple[list[Head], list[Mapping[str, np.ndarray]]]:
    """Heads in the order of `infer`, and boxes and scores of each."""
    if len(results) == len(snapshot.full):
        return list(snapshot.full), list(results)
    batch, compact = results[0], snapshot.compact.heads
    real = is_region(batch["regions"])
    each = [{name: batch[name][place][real] for name in ("boxes", "scores")} for place in range(len(compact))]
    return [*compact, *snapshot.full], [*each, *results[1:]]


def _quality(stats: np.ndarray | None) -> str:
    """Data quality by a capture's statistics: ok, silent or invalid; ok as long as they are not known."""
    if stats is None:
        return "ok"
    loudest, has_power = stats
    return "invalid" if not np.isfinite(loudest) else "ok" if has_power else "silent"


def _detections(
    head: Head, boxes: np.ndarray, scores: np.ndarray, contract: Contract, threshold: float
) -> Iterator[Detection]:
    """Detections, in seconds and hertz of the capture, of boxes float32[K, 4] and scores float32[K], after NMS."""
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
