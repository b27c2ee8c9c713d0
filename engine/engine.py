"""Engine: open a model store, hand over IQ, get signals.

with Engine.open("models") as engine:
    for detection in engine.detect(iq, sample_rate_hz=20e6, center_freq_hz=2.44e9):
        print(detection)
"""

import os
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .arbitration import arbitrate
from .contract import Contract
from .detection import Detection, Result
from .devices.base import Device
from .devices.open import open_device
from .errors import ClosedError, MismatchError
from .inputs import checked_center, checked_image, checked_iq, checked_rate, checked_threshold, to_capture
from .loading import Loader
from .pipeline import Frame, Network, Rendered, Slot, find, front_end, upload_image
from .recordings.recording import Capture
from .shutdown import call_under_way
from .slots import Slots
from .snapshot import Snapshot
from .store.finding import find_models
from .store.registry import Store
from .streaming import CaptureSource, captures_of, checked_source, stitched, streamed

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class _Serving:
    """Network and heads that frames run on. Replaced as one object, so that no frame mixes two."""

    network: Network
    snapshot: Snapshot
    loader: Loader | None


@dataclass(frozen=True)
class _RenderedCapture:
    """A capture and its image; no image where it is silent or invalid."""

    capture: Capture
    slot: Slot
    frame: Frame
    rendered: Rendered | None


class Engine:
    """A loaded store. Thread-safe: one capture is rendered while the network runs on another, further ones queue."""

    def __init__(
        self,
        store: Store | None,
        contract: Contract,
        network: Network,
        snapshot: Snapshot,
        device: str | Device = "auto",
        threshold: float = DEFAULT_THRESHOLD,
        signals: tuple[str, ...] | None = None,
        loader: Loader | None = None,
        arbitrate: bool = True,
    ) -> None:
        self.contract = contract
        self.threshold = checked_threshold(threshold)
        self.arbitrate = arbitrate
        self._store = store
        self._signals = signals
        self._serving = _Serving(network, snapshot, loader)
        self._device = open_device(device) if isinstance(device, str) else device
        self._slots = Slots(self._device)
        self._rendering = threading.Lock()  # the device's own: an FFT plan bears one caller at a time
        self._turn = threading.Lock()  # the network's
        self._refreshing = threading.Lock()
        self._closed = False
        self._owner = os.getpid()

    @classmethod
    def open(
        cls,
        models: str | Path | None = None,
        *,
        signals: Sequence[str] | None = None,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "float32",
        threads: int = 0,
        threshold: float = DEFAULT_THRESHOLD,
        versions: Mapping[str, int] | None = None,
        arbitrate: bool = True,
    ) -> "Engine":
        """Loads the backbone and the active heads of all signals, or of those named.

        `versions` runs other versions of some signals than the active ones, to measure them. Of detections of
        different signals on one burst only the best-scored one is kept; `arbitrate=False` gives every head's.
        `runtime` "auto" is the one that `g20 bench` found fastest on this machine, else ONNX Runtime; runtimes differ
        in the last digits of scores and edges. `precision` is that of the trunk: float32, or where named int8 (CPU)
        or float16 (GPU). Every result says what ran.

        Raises StoreError when the store or a head is damaged or missing, UnavailableError on a device or
        runtime that is not here.
        """
        store = Store(find_models(models))
        wanted = None if signals is None else tuple(signals)
        snapshot = store.snapshot(wanted, versions)
        opened = open_device(device)
        loader = Loader(store.release(snapshot.backbone_version), runtime, threads, precision, opened)
        with call_under_way():
            network = loader.network(snapshot)
        return cls(store, loader.release.contract, network, snapshot, opened, threshold, wanted, loader, arbitrate)

    def detect(
        self, iq: Any, *, sample_rate_hz: float, center_freq_hz: float | None = None, threshold: float | None = None
    ) -> Result:
        """The signals in one capture of IQ, best score first.

        iq: complex[n], up to `contract.capture_s` seconds (200 ms); other rates than the contract's are
        resampled, shorter captures padded with silence, and the result's notes say so. Seconds count from
        the first sample; hertz are absolute when `center_freq_hz` is given. `threshold`: least score of a detection,
        0 to 1, for this call; None: the engine's (0.5 unless set otherwise). Samples that are not finite give
        an empty result with data_quality "invalid". Raises InputError on IQ or numbers that cannot be used.
        """
        rate, centre, least = checked_rate(sample_rate_hz), checked_center(center_freq_hz), _checked(threshold)
        with call_under_way():
            capture, valid_s, notes = to_capture(checked_iq(iq), rate, self.contract)
            whole = Capture(capture, self.contract.sample_rate_hz, centre, 0.0, valid_s, notes)
            self._check_open()
            with self._slots.take() as slot:
                return self._infer(self._render(whole, slot), least)

    def stream(
        self, source: CaptureSource, *, center_freq_hz: float | None = None, threshold: float | None = None
    ) -> Generator[Result, None, None]:
        """One result per capture of a recording or another source, in order; seconds count from the source's start.

        `threshold` is that of `detect`. A stream may be left at any time; `close()` ends it at once. `detections`
        joins what capture borders have cut. Raises InputError on a source that is none, or whose captures do not
        fit the contract.
        """
        checked, least = checked_source(source), _checked(threshold)
        captures = captures_of(checked, self.contract, checked_center(center_freq_hz))
        return streamed(captures, self._slots, self._render, partial(self._infer, threshold=least))

    def detections(
        self, source: CaptureSource, *, center_freq_hz: float | None = None, threshold: float | None = None
    ) -> Generator[Detection, None, None]:
        """The signals of a whole recording, or of a source without an end, each as soon as it is complete: in order
        of completion, one that crosses captures as one detection. Takes and raises what `stream` does.

        After an error of the source, detections that were still open come first, then the error. A caller that may
        stop early, or be interrupted, and wants those too holds an `engine.stitching.Stitcher` itself: `add(result)`
        for each result of `stream`, and in a `finally` the rest by `close()`.
        """
        return stitched(self.stream(source, center_freq_hz=center_freq_hz, threshold=threshold))

    def detect_image(self, image: np.ndarray, *, threshold: float | None = None) -> tuple[Detection, ...]:
        """The signals in one rendered capture, as training's samples hold it.

        image: uint8[1024, 1024] or float32[1024, 1024] in 0..1, made by the front end of `contract`. Seconds count
        from the capture's first sample, hertz from its centre. Raises InputError on anything else.
        """
        least = self.threshold if threshold is None else checked_threshold(threshold)
        pixels = checked_image(image)
        frame = Frame()
        self._check_open()
        with call_under_way(), self._slots.take() as slot, self._turn:
            self._check_open()
            with np.errstate(all="ignore"):
                serving, rendered = self._serving, upload_image(pixels, slot)
                find(rendered, self.contract, slot, serving.network, serving.snapshot, least, frame)
        return tuple(self._arbitrated(frame.detections))

    def refresh(self) -> bool:
        """Takes over what was promoted, rolled back or added in the store; whether anything changed.

        Call it from any thread: new versions are loaded in the background, and the next frame uses them.
        """
        with call_under_way(), self._refreshing:
            return self._refresh()

    def _refresh(self) -> bool:
        self._check_open()
        old = self._serving
        if self._store is None or old.loader is None or self._store.revision() == old.snapshot.revision:
            return False
        snapshot = self._store.snapshot(self._signals, have=old.snapshot)
        release = self._store.release(snapshot.backbone_version)
        loader, have = old.loader, old.network if old.loader.release == release else None
        if have is None:
            if release.contract != self.contract:
                raise MismatchError(
                    f"{self._store.path} holds a backbone for front-end contract {release.contract.hash} now, this "
                    f"engine runs {self.contract.hash}; open another with Engine.open"
                )
            loader = replace(loader, release=release)
        network = loader.network(snapshot, have)  # the frame under way keeps its own
        loader.device.resident(snapshot.compact.weights)
        self._serving = _Serving(network, snapshot, loader)
        outdated = [session for session in old.network.sessions if session not in network.sessions]
        if outdated:
            with self._turn:  # the frame under way may still use them
                for session in outdated:
                    session.close()
        return True

    @property
    def snapshot(self) -> Snapshot:
        """The heads that the next frame will use."""
        return self._serving.snapshot

    @property
    def ran_on(self) -> dict[str, str]:
        """Device, runtime, and the precision of what reads the image."""
        return self._ran_on(self._serving)

    def _ran_on(self, serving: _Serving) -> dict[str, str]:
        network = serving.network
        return {"device": self._device.name, "runtime": network.runtime, "precision": network.precision}

    def _render(self, capture: Capture, slot: Slot) -> _RenderedCapture:
        frame = Frame()
        with self._rendering, np.errstate(all="ignore"):
            return _RenderedCapture(capture, slot, frame, front_end(capture.iq, self.contract, slot, frame))

    def _infer(self, image: _RenderedCapture, threshold: float | None) -> Result:
        """Inference and post-processing of a rendered capture, one at a time."""
        with self._turn:
            self._check_open()
            return self._result(image, self.threshold if threshold is None else threshold)

    def _result(self, image: _RenderedCapture, threshold: float) -> Result:
        capture, frame, serving = image.capture, image.frame, self._serving
        if image.rendered is not None:
            with np.errstate(all="ignore"):
                find(image.rendered, self.contract, image.slot, serving.network, serving.snapshot, threshold, frame)
        placed = (_placed(found, capture) for found in self._arbitrated(frame.detections))
        return Result(
            detections=tuple(found for found in placed if found is not None),
            start_s=capture.start_s,
            stop_s=capture.start_s + capture.valid_s,
            resolution_s=self.contract.resolution_s,
            data_quality=frame.quality,
            notes=capture.notes,
            timings_ms=frame.timings_ms,
            ran_on=self._ran_on(serving),
            revision=serving.snapshot.revision,
            versions=serving.snapshot.versions,
        )

    def _arbitrated(self, found: list[Detection]) -> list[Detection]:
        return arbitrate(found) if self.arbitrate else found

    def close(self) -> None:
        """Frees the graphs once the frame under way is out. Closing twice is fine."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._serving.network.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine is closed; open another with Engine.open")
        if self._owner != os.getpid():  # the runtime's threads did not come along: it would wait for them for ever
            raise ClosedError("the engine was opened before this process was forked; open one of its own in each")

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(threshold: Any) -> float | None:
    return None if threshold is None else checked_threshold(threshold)


def _placed(found: Detection, capture: Capture) -> Detection | None:
    """A capture's detection in the recording: cut to what is signal, moved to its time and frequency."""
    start_s, stop_s = max(found.start_s, 0.0), min(found.stop_s, capture.valid_s)
    if stop_s <= start_s:
        return None
    centre_hz = capture.center_freq_hz or 0.0
    return replace(
        found,
        start_s=start_s + capture.start_s,
        stop_s=stop_s + capture.start_s,
        low_hz=found.low_hz + centre_hz,
        high_hz=found.high_hz + centre_hz,
    )
