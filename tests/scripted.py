"""An engine whose network is scripted: its heads box what shines in the image, or say what a test puts in their mouth.

The backbone hands the image on as its one feature map, so that what a head finds depends on the capture, and one
capture's results in place of another's cannot go unnoticed.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pytest

from engine.anchors import STOCK
from engine.contract import IMAGE_SIZE, Contract
from engine.detection import Result
from engine.devices.base import Device
from engine.engine import Engine
from engine.errors import InputError
from engine.heads import MAX_DETECTIONS, NMS_IOU, Head
from engine.pipeline import Network
from engine.recordings.recording import Capture
from engine.sessions.scripted import ScriptedSession
from engine.snapshot import Snapshot

SHORT: Final = Contract(capture_s=0.01)  # 200,000 samples, 96 frames: quick
RATE: Final = SHORT.sample_rate_hz
SHINES: Final = 0.15  # of the image's range below its brightest cell: 12 dB
WIDTH: Final = 0.01  # of the band, taken by a `burst`
PATIENCE_S: Final = 60  # what takes longer waits for ever
FULL_SCORE: Final = 0.9  # of the head numbered 0; each next one is 0.001 less sure

Answer = tuple[Sequence[Sequence[float]], Sequence[float]]  # boxes, scores; the rest is padding
Answers = dict[int, Answer]


@dataclass(frozen=True)
class Bench:
    """An engine and what moves it. `answers`: by head number, in place of what shines; a test may change it."""

    engine: Engine
    answers: Answers
    backbone: ScriptedSession
    heads: ScriptedSession
    signals: tuple[str, ...] = field(default=())

    def detect(self, iq: object, **options: object) -> Result:
        return self.engine.detect(iq, **{"sample_rate_hz": RATE, **options})  # type: ignore[arg-type]


def bench(
    signals: Sequence[str] = ("radar",),
    answers: Mapping[int, Answer] | None = None,
    contract: Contract = SHORT,
    device: str | Device = "auto",
    threshold: float = 0.5,
    nms_iou: float = NMS_IOU,
    arbitrate: bool = False,
) -> Bench:
    """An engine without a store. Head number k is of version k + 1; all claim one burst, and all are heard."""
    mouth: Answers = dict(answers or {})
    backbone = ScriptedSession(("image",), ("p2",), lambda feeds: {"p2": feeds["image"]})
    heads = ScriptedSession(
        ("p2", "number"), ("boxes", "scores"), lambda feeds: _say(feeds["p2"][0, 0], int(feeds["number"][0]), mouth)
    )
    rows = tuple(
        Head(signal, number + 1, "full", STOCK, {"number": np.array([number], np.float32)}, nms_iou)
        for number, signal in enumerate(signals)
    )
    engine = Engine(
        store=None,
        contract=contract,
        network=Network(backbone, {"full": heads}),
        snapshot=Snapshot(7, 1, "ab" * 32, rows),
        device=device,
        threshold=threshold,
        arbitrate=arbitrate,
    )
    return Bench(engine, mouth, backbone, heads, tuple(signals))


def _say(image: np.ndarray, number: int, answers: Answers) -> dict[str, np.ndarray]:
    boxes, scores = answers.get(number) or ([shining(image)], [FULL_SCORE - 0.001 * number])
    padded = {"boxes": np.zeros((MAX_DETECTIONS, 4), np.float32), "scores": np.zeros(MAX_DETECTIONS, np.float32)}
    padded["boxes"][: len(boxes)] = np.reshape(boxes, (-1, 4))
    padded["scores"][: len(scores)] = scores
    return padded


def shining(image: np.ndarray) -> list[float]:
    """The pixel box around all that shines in an image."""
    assert image.shape == (IMAGE_SIZE, IMAGE_SIZE)
    assert image.dtype == np.float32
    lit = image > image.max() - SHINES
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@dataclass(frozen=True)
class Source:
    """A source of captures as they are given."""

    iqs: Sequence[np.ndarray]

    def captures(self, contract: Contract) -> Iterator[Capture]:
        for number, iq in enumerate(self.iqs):
            yield Capture(iq, contract.sample_rate_hz, None, number * contract.capture_s, contract.capture_s)


def when(reached: Callable[[], bool]) -> None:
    """Returns once that is so."""
    for _ in range(1000 * PATIENCE_S):
        if reached():
            return
        threading.Event().wait(0.001)
    pytest.fail("it never is")


EMPTY: Final[Answer] = ([], [])


def noise(n: int, seed: int = 1, level: float = 1.0) -> np.ndarray:
    """complex64[n], normally distributed with an RMS of `level`."""
    parts = np.random.default_rng(seed).standard_normal(2 * n, dtype=np.float32) * np.float32(level / 2**0.5)
    return parts.view(np.complex64)


def tone(n: int, freq_hz: float, rate_hz: float = RATE) -> np.ndarray:
    """complex64[n] of amplitude 1."""
    return np.exp(2j * np.pi * freq_hz / rate_hz * np.arange(n)).astype(np.complex64)


def burst(
    freq_hz: float = 3e6, start_s: float = 0.003, stop_s: float = 0.006, contract: Contract = SHORT, seed: int = 1
) -> np.ndarray:
    """A capture of faint noise with a sweep, WIDTH of the band wide, from `start_s` to `stop_s`:
    complex64[capture_samples].

    No pure tone: that would be dark wherever it falls on one of the two bins in four that the resize skips.
    """
    rate = contract.sample_rate_hz
    iq = noise(contract.capture_samples, seed, 1e-3)
    first, last = round(start_s * rate), round(stop_s * rate)
    sweep_hz = WIDTH * rate * (np.arange(last - first) / (5 * contract.n_fft) % 1 - 0.5)
    iq[first:last] += np.exp(2j * np.pi * np.cumsum((freq_hz + sweep_hz) / rate)).astype(np.complex64)
    return iq


def same(first: Result, second: Result) -> bool:
    """Whether two results agree in all but how long they took."""
    return [value for name, value in vars(first).items() if name != "timings_ms"] == [
        value for name, value in vars(second).items() if name != "timings_ms"
    ]


NORMAL: Final = burst()


@contextmanager
def unharmed(b: Bench) -> Iterator[None]:
    """The next normal capture gives what the one before gave."""
    before = b.detect(NORMAL)
    assert len(before) == 1
    yield
    assert same(b.detect(NORMAL), before)


def accepted(b: Bench, iq: Any, **options: Any) -> Result:
    with unharmed(b):
        result = b.detect(iq, **options)
    for found in result:
        numbers = (found.score, found.start_s, found.stop_s, found.low_hz, found.high_hz)
        assert all(type(value) is float and math.isfinite(value) for value in numbers)
        assert 0 <= found.start_s < found.stop_s <= result.stop_s
    return result


def refused(b: Bench, iq: Any, said: str, **options: Any) -> None:
    with unharmed(b), pytest.raises(InputError, match=said):
        b.detect(iq, **options)
