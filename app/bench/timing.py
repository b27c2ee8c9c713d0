"""Timing of an engine: whole captures, warmed up, with results checked against a reference run.

A run is: one engine with so many heads, three captures in turn (dense, sparse, empty), every result compared with
that of a reference run: ONNX Runtime in float32 on one core, block by block. A run that is fast because it
finds nothing, or something else, is an error and not a figure.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from engine.boxes import physical, to_pixels
from engine.contract import Contract
from engine.detection import Detection, Result
from engine.engine import Engine
from engine.errors import HydraError
from engine.heads import Head
from engine.loading import Loader
from engine.sessions.choice import FLOAT32
from engine.snapshot import Snapshot
from export.certificate import Certificate, Found, certify
from training.scenes.synthetic import FSK_BAND, WIFI_BAND, fsk, place, wifi

SEED: Final = 20
WINDOW: Final = 6  # frames; twice so many in a row whose medians agree are warm
STABLE: Final = 0.1  # by how much they may differ
MOST_WARM_UP: Final = 60  # frames
PERCENTILES: Final = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
LEAST_MATCHED: Final = 0.95  # of the reference run's detections, by a trunk in 8 bits
SAME_SCORE: Final = 1e-3  # of a result while timing and of the same engine's first


class ChangedError(HydraError):
    """An engine gave another result while it was timed than before."""


@dataclass(frozen=True)
class Frames:
    """Measurements of one run."""

    signals: int
    total_ms: list[float]
    stages_ms: dict[str, list[float]]
    ran_on: dict[str, str]
    warm_up: int  # frames
    is_warm: bool
    certificate: Certificate  # against the reference run
    detections: dict[str, int] = field(default_factory=dict)  # by capture


def captures(contract: Contract) -> dict[str, np.ndarray]:
    """complex64[capture_samples] by name, the same every time: many bursts, few, and noise alone."""
    return {"dense": _capture(contract, 40), "sparse": _capture(contract, 4), "empty": _capture(contract, 0)}


def _capture(contract: Contract, bursts: int) -> np.ndarray:
    rng = np.random.default_rng([SEED, bursts])
    n = contract.capture_samples
    iq = (rng.standard_normal(n) + 1j * rng.standard_normal(n)) / np.sqrt(2)
    for number in range(bursts):
        length = int(n * rng.uniform(0.008, 0.02))
        first = int((number + rng.uniform(0.1, 0.4)) * n / max(bursts, 1))
        length = min(length, n - first, n // (2 * max(bursts, 1)))
        if number % 2:
            place(iq, fsk(length, rng), first, rng.uniform(-0.4, 0.4), 10 ** (rng.uniform(12, 25) / 20) * FSK_BAND**0.5)
        else:
            place(iq, wifi(length, rng), first, 0.0, 10 ** (rng.uniform(12, 25) / 20) * WIFI_BAND**0.5)
    return np.asarray(iq, np.complex64)


def with_heads(snapshot: Snapshot, count: int) -> Snapshot:
    """Snapshot with `count` heads: a subset, or with heads repeated under other names."""
    heads = snapshot.heads
    chosen = [heads[place % len(heads)] for place in range(count)]
    named = [h if place < len(heads) else _renamed(h, place // len(heads) + 1) for place, h in enumerate(chosen)]
    return replace(snapshot, heads=tuple(named))


def _renamed(head: Head, turn: int) -> Head:
    return replace(head, signal=f"{head.signal}_{turn}")


def opened(snapshot: Snapshot, loader: Loader) -> Engine:
    """An engine with fixed heads and without arbitration, so that results are compared head by head."""
    network, contract = loader.network(snapshot), loader.release.contract
    return Engine(None, contract, network, snapshot, loader.device, loader=loader, arbitrate=False)


def timed(
    engine: Engine, golden: dict[str, Result], iqs: dict[str, np.ndarray], frames: int, on_frame: Callable[[], None]
) -> Frames:
    """Times `frames` captures, in turn, after as many as it takes to warm up. `golden`: results of the reference run.

    Raises ChangedError where a result is not the one that the same engine gave first.
    """
    rate_hz = engine.contract.sample_rate_hz
    first = {name: engine.detect(iq, sample_rate_hz=rate_hz) for name, iq in iqs.items()}
    certificate = compared(engine.contract, golden, first)
    walls: list[float] = []
    stages: dict[str, list[float]] = {}

    def one(number: int) -> Result:
        name = list(iqs)[number % len(iqs)]
        started = time.perf_counter()
        result = engine.detect(iqs[name], sample_rate_hz=rate_hz)
        walls.append((time.perf_counter() - started) * 1e3)
        if not same(first[name], result):
            raise ChangedError(
                f"the {name} capture gave {len(result)} detections while timed, {len(first[name])} before; the "
                "figures are worth nothing: look for what disturbs this machine's arithmetic, then run it again"
            )
        return result

    number = 0
    while number < MOST_WARM_UP and not stable(walls):
        one(number)
        number += 1
    warm = stable(walls)
    walls.clear()
    for count in range(frames):
        for stage, ms in one(count).timings_ms.items():
            stages.setdefault(stage, []).append(ms)
        on_frame()
    found = {name: len(result) for name, result in first.items()}
    ran_on = dict(next(iter(first.values())).ran_on)
    return Frames(len(engine.snapshot.heads), walls, stages, ran_on, number, warm, certificate, found)


def stable(walls_ms: Sequence[float]) -> bool:
    """True where the medians of the last two windows of frames agree."""
    if len(walls_ms) < 2 * WINDOW:
        return False
    before, after = np.median(walls_ms[-2 * WINDOW : -WINDOW]), np.median(walls_ms[-WINDOW:])
    return bool(abs(after - before) <= STABLE * before)


def same(first: Result, second: Result) -> bool:
    return len(first) == len(second) and all(
        a.signal == b.signal and abs(a.score - b.score) <= SAME_SCORE for a, b in zip(first, second, strict=True)
    )


def compared(contract: Contract, golden: dict[str, Result], found: dict[str, Result]) -> Certificate:
    """Detections of all captures against those of the reference run, head by head."""
    ran = next(iter(found.values())).ran_on
    reference = next(iter(golden.values())).ran_on
    pairs = (
        (_found(golden[name].detections, signal, contract), _found(found[name].detections, signal, contract))
        for name in golden
        for signal in sorted({d.signal for d in (*golden[name], *found[name])})
    )
    return certify(", ".join(reference.values()), ", ".join(ran.values()), pairs)


def _found(detections: Sequence[Detection], signal: str, contract: Contract) -> Found:
    own = [d for d in detections if d.signal == signal]
    return Found(to_pixels(physical(own), contract), np.array([d.score for d in own]))


def figures(run: Frames, contract: Contract) -> dict[str, Any]:
    """Statistics of a run for the report: percentiles in milliseconds, throughput, real-time factor."""
    mean_ms = float(np.mean(run.total_ms))
    return {
        "signals": run.signals,
        "total_ms": percentiles(run.total_ms),
        "stages_ms": {stage: percentiles(walls) for stage, walls in run.stages_ms.items()},
        "captures_per_s": round(1e3 / mean_ms, 3),
        "real_time": round(contract.capture_s * 1e3 / mean_ms, 3),  # times as fast as the samples arrive
        "frames": len(run.total_ms),
        "warm_up_frames": run.warm_up,
        "ran_on": run.ran_on,
        "detections": run.detections,
        "against_plain": run.certificate.as_json(),
        "frames_ms": [round(ms, 3) for ms in run.total_ms],
    }


def percentiles(walls_ms: Sequence[float]) -> dict[str, float]:
    return {name: round(float(np.percentile(walls_ms, share)), 3) for name, share in PERCENTILES.items()}


def doubts(run: Frames, frames_needed: int) -> Iterator[str]:
    """Reasons not to trust the timings of a run."""
    if len(run.total_ms) < frames_needed:
        yield f"{len(run.total_ms)} frames, {frames_needed} are needed for the high percentiles"
    if not run.is_warm:
        yield f"not warm after {run.warm_up} frames"
    tail_ratio = float(np.percentile(run.total_ms, 95) / np.median(run.total_ms))
    if tail_ratio > 1.5:
        yield f"p95 is {tail_ratio:.1f} times the median: something else runs on this machine"
    if not run.detections["dense"]:
        yield "nothing was found in the dense capture"
    proof, exact = run.certificate, run.ran_on.get("precision", FLOAT32) == FLOAT32
    if not (proof.passed if exact else proof.matched >= LEAST_MATCHED * max(proof.detections, 1)):
        yield f"not what the reference run finds: {run.certificate.matched} of {run.certificate.detections} matched"
