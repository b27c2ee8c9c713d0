"""Streams: a source of captures, one result for each, the next capture rendered while the network runs on this one."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from .contract import Contract
from .detection import Detection, Result
from .errors import InputError
from .pipeline import Slot
from .recordings.recording import Capture
from .shutdown import call_under_way
from .slots import Held, Slots
from .stitching import Stitcher

R = TypeVar("R")  # a rendered capture


@runtime_checkable
class CaptureSource(Protocol):
    """Source of captures for `Engine.stream`: a Recording, a receiver, anything that yields them in order of time."""

    def captures(self, contract: Contract) -> Iterator[Capture]:
        """Captures of complex64[contract.capture_samples] at `contract.sample_rate_hz`; seconds count from the
        source's start. It is advanced by a thread of the stream's own, one capture ahead of the results. It should
        end, or raise, when no more samples come: leaving a stream waits for the capture that is being read."""
        ...


def checked_source(source: Any) -> CaptureSource:
    """Raises InputError on what gives no captures."""
    if isinstance(source, type) or not isinstance(source, CaptureSource) or not callable(source.captures):
        raise InputError(
            f"stream takes a Recording or another source with captures(contract), not a {type(source).__name__}; use "
            "open_recording(path) for a file, Engine.detect for samples"
        )
    return source


def captures_of(source: CaptureSource, contract: Contract, center_freq_hz: float | None) -> Iterator[Capture]:
    """A source's captures, each checked; their centre is `center_freq_hz` where it is not None.

    Raises InputError on what is no capture, or one of another length, type or rate than the contract's.
    """
    for capture in source.captures(contract):
        _check(capture, contract, source)
        yield capture if center_freq_hz is None else replace(capture, center_freq_hz=center_freq_hz)


def _check(capture: Any, contract: Contract, source: CaptureSource) -> None:
    name = type(source).__name__
    if not isinstance(capture, Capture):
        raise InputError(f"{name}.captures gave a {type(capture).__name__}, not an engine.recordings.recording.Capture")
    iq, rate_hz = capture.iq, capture.sample_rate_hz
    if not isinstance(iq, np.ndarray) or iq.dtype != np.complex64 or iq.shape != (contract.capture_samples,):
        found = f"{iq.dtype}{list(iq.shape)}" if isinstance(iq, np.ndarray) else type(iq).__name__
        raise InputError(f"{name}.captures gave {found}; a capture's iq is complex64[{contract.capture_samples}]")
    if rate_hz != contract.sample_rate_hz:
        raise InputError(
            f"{name}.captures gave samples at {rate_hz:g} Hz, the contract's are at {contract.sample_rate_hz:g} Hz; "
            "resample them with engine.recordings.resampling.resample"
        )


@dataclass(frozen=True)
class _Ahead(Generic[R]):
    """A capture that has been read, and rendered where a slot could be kept for it."""

    capture: Capture
    held: Held | None = None
    rendered: R | None = None

    def give_back(self) -> None:
        if self.held is not None:
            self.held.give_back()


def streamed(
    captures: Iterator[Capture], slots: Slots, render: Callable[[Capture, Slot], R], infer: Callable[[R], Result]
) -> Generator[Result, None, None]:
    """One result per capture, in order. However it is left, exhausted, closed, collected or by an error, its slots are
    given back and its thread has ended."""

    def read() -> _Ahead[R] | None:
        capture = next(captures, None)
        if capture is None:
            return None
        held = slots.keep()
        if held is None:
            return _Ahead(capture)
        try:
            return _Ahead(capture, held, render(capture, held.slot))
        except BaseException:
            held.give_back()
            raise

    with ThreadPoolExecutor(1, "hydra-ahead") as ahead:
        upcoming = ahead.submit(read)
        try:
            while (now := upcoming.result()) is not None:
                with call_under_way(), now.held or slots.take() as slot:
                    upcoming = ahead.submit(read)
                    result = infer(render(now.capture, slot) if now.rendered is None else now.rendered)
                yield result
        finally:
            ahead.shutdown()
            _give_back(upcoming)


def _give_back(upcoming: "Future[_Ahead[R] | None]") -> None:
    """Never waits: in a forked child the thread that would finish it is not there."""
    if upcoming.done() and upcoming.exception() is None:
        left = upcoming.result()
        if left is not None:
            left.give_back()


def stitched(results: Generator[Result, None, None]) -> Generator[Detection, None, None]:
    """Detections of a stream as they are complete, pieces on both sides of a capture's border joined. After an
    error of the stream, those that were still open come before it is raised."""
    stitcher = Stitcher()
    with closing(results):
        try:
            for result in results:
                yield from stitcher.add(result)
        except Exception:
            yield from stitcher.close()
            raise
        yield from stitcher.close()
