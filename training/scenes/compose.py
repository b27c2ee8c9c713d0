"""Seeded labelled captures: bursts at random time, frequency and level in noise, with receiver artefacts.

The noise is stronger than a burst's own floor, or the burst's band would show as a rectangle that gives the
box away. Receiver artefacts (spurs, DC, image, gain step, channel edges, silence) are added without labels, as
negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.boxes import corners, iou, physical
from engine.contract import Contract
from engine.recordings.annotation import Annotation
from engine.recordings.open import open_recording
from engine.recordings.resampling import resample

from .bursts import NOT_A_SIGNAL, Burst, shift

MIN_VISIBLE = 0.25  # of a burst's duration inside the capture, for it to be placed


@dataclass(frozen=True)
class Scene:
    iq: np.ndarray  # complex64[capture_samples]
    truths: tuple[Annotation, ...]


@dataclass(frozen=True)
class SceneSettings:
    """Ranges and probabilities of one kind of scene."""

    bursts: tuple[int, int] = (1, 12)
    snr_db: tuple[float, float] = (6.0, 35.0)
    empty: float = 0.06
    train_of_bursts: float = 0.35
    overlap: float = 0.1  # share of scenes in which bursts may cover each other
    artefacts: float = 0.25  # probability of each artefact
    favour: str | None = None  # a label that every third burst has


def compose(contract: Contract, bursts: Sequence[Burst], seed: int, settings: SceneSettings | None = None) -> Scene:
    """One scene. The same bursts, seed and settings give the same samples."""
    settings = settings or SceneSettings()
    rng = np.random.default_rng(seed)
    labels = sorted({burst.label for burst in bursts})
    iq = _noise(contract.capture_samples, rng)
    truths: list[Annotation] = []
    crowd = rng.random() < settings.overlap
    count = 0 if rng.random() < settings.empty else int(rng.integers(settings.bursts[0], settings.bursts[1] + 1))
    for _ in range(count):
        label = labels[rng.integers(len(labels))]
        if settings.favour is not None and rng.random() < 1 / 3:
            label = settings.favour
        same = [burst for burst in bursts if burst.label == label]
        burst = same[rng.integers(len(same))]
        snr_db = float(rng.uniform(*settings.snr_db))
        for start_s, centre_hz in _places(burst, contract, rng, settings):
            truth = _truth(burst, start_s, centre_hz, snr_db, contract)
            if truth is not None and (crowd or _free(truth, truths)):
                _add(iq, _vary(burst, rng), start_s, centre_hz, snr_db, contract)
                truths.append(truth)
    return _receive(Scene(iq, tuple(truths)), contract, rng, settings.artefacts)


def native(contract: Contract, path: Path, seed: int) -> Scene:
    """A random excerpt of a recording, unmixed, resampled to the contract's rate and, where it is narrower than
    the contract's band, moved in frequency; every second time from the capture's start on, as a recording is
    read; every second time with noise over the empty rest of the band."""
    rng = np.random.default_rng(seed)
    recording = open_recording(path)
    rate = recording.sample_rate_hz
    window = min(len(recording), round(contract.capture_s * rate))
    first = int(rng.integers(0, len(recording) - window + 1))
    iq = resample(recording.read(first, window), rate, contract.sample_rate_hz)[: contract.capture_samples]
    room_hz = max(0.0, (contract.sample_rate_hz - rate) / 2)
    moved_hz = float(rng.uniform(-room_hz, room_hz))
    iq = shift(iq, moved_hz, contract.sample_rate_hz)
    if rng.random() < 0.5:
        density = np.quantile(np.abs(np.fft.fft(iq[: min(len(iq), 1 << 16)])) ** 2, 0.3) / min(len(iq), 1 << 16)
        iq = iq + np.float32(np.sqrt(density * 10 ** rng.uniform(-0.5, 1.0) + 1e-12)) * _noise(len(iq), rng)
    padded = np.zeros(contract.capture_samples, np.complex64)
    at = int(rng.integers(0, contract.capture_samples - len(iq) + 1)) if rng.random() < 0.5 else 0
    padded[at : at + len(iq)] = iq
    offset_s = at / contract.sample_rate_hz - first / rate
    centre_hz = (recording.center_freq_hz or 0.0) - moved_hz
    seen = (at / contract.sample_rate_hz, (at + len(iq)) / contract.sample_rate_hz)
    truths = [
        Annotation(
            note.label,
            max(seen[0], note.start_s + offset_s),
            min(seen[1], note.stop_s + offset_s),
            note.low_hz - centre_hz,
            note.high_hz - centre_hz,
        )
        for note in recording.annotations
        if note.label not in NOT_A_SIGNAL
    ]
    return Scene(padded, tuple(truth for truth in truths if truth.stop_s > truth.start_s))


def _noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """complex64[count] of white Gaussian noise, unit power."""
    pairs = rng.standard_normal((count, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return pairs.view(np.complex64)[:, 0]


def _places(
    burst: Burst, contract: Contract, rng: np.random.Generator, settings: SceneSettings
) -> list[tuple[float, float]]:
    """Random placements (start_s, centre_hz) of a burst: one, or a train of several on one frequency."""
    duration_s = len(burst.iq) / burst.sample_rate_hz
    room_hz = max(0.0, contract.sample_rate_hz * 0.49 - (burst.high_hz - burst.low_hz) / 2)
    middle_hz = (burst.low_hz + burst.high_hz) / 2
    centre_hz = float(rng.uniform(-room_hz, room_hz)) - middle_hz
    start_s = float(rng.uniform(-0.5 * duration_s, contract.capture_s - 0.5 * duration_s))
    repeats = 1
    if duration_s < contract.capture_s / 10 and rng.random() < settings.train_of_bursts:
        repeats = int(rng.integers(2, 10))
    gap_s = duration_s * float(rng.uniform(0.4, 6.0))
    return [(start_s + k * (duration_s + gap_s), centre_hz) for k in range(repeats)]


def _truth(burst: Burst, start_s: float, centre_hz: float, snr_db: float, contract: Contract) -> Annotation | None:
    stop_s = start_s + len(burst.iq) / burst.sample_rate_hz
    seen = min(stop_s, contract.capture_s) - max(start_s, 0.0)
    if seen < MIN_VISIBLE * (stop_s - start_s):
        return None
    low_hz, high_hz = centre_hz + burst.low_hz, centre_hz + burst.high_hz
    return Annotation(burst.label, max(start_s, 0.0), min(stop_s, contract.capture_s), low_hz, high_hz, snr_db=snr_db)


def _free(truth: Annotation, others: Sequence[Annotation]) -> bool:
    box = corners(physical([truth]))
    rest = corners(physical(others))
    return not bool((iou(box, rest) > 0.02).any())


def _vary(burst: Burst, rng: np.random.Generator) -> Burst:
    """Channel effects: a two-path echo and slow fading, each with probability 1/4."""
    iq = burst.iq
    if rng.random() < 0.25:
        delay = int(rng.integers(1, 12))
        gain = np.complex64(rng.uniform(0.1, 0.7) * np.exp(2j * np.pi * rng.random()))
        iq = iq + gain * np.concatenate([np.zeros(delay, np.complex64), iq[:-delay]])
    if rng.random() < 0.25:
        ends = np.linspace(0, 1, len(iq), dtype=np.float32)
        depth, phase, turns = rng.uniform(0.1, 0.6), rng.random(), rng.uniform(0.3, 3)
        iq = iq * (1 + np.float32(depth) * np.sin(2 * np.pi * (np.float32(turns) * ends + np.float32(phase))))
    return replace(burst, iq=iq)


def _add(iq: np.ndarray, burst: Burst, start_s: float, centre_hz: float, snr_db: float, contract: Contract) -> None:
    """Adds a burst in place, at `snr_db` over the unit-power white noise that lies in its band."""
    first = round(start_s * contract.sample_rate_hz)
    begin, end = max(0, -first), min(len(burst.iq), len(iq) - first)
    power = float(np.mean(np.abs(burst.iq) ** 2)) + 1e-30
    noise_in_band = (burst.high_hz - burst.low_hz) / contract.sample_rate_hz
    gain = np.sqrt(10 ** (snr_db / 10) * noise_in_band / power)
    piece = shift(burst.iq[begin:end], centre_hz, contract.sample_rate_hz)
    iq[first + begin : first + end] += np.float32(gain) * piece


def _receive(scene: Scene, contract: Contract, rng: np.random.Generator, probability: float) -> Scene:
    """Receiver artefacts (spurs, IQ image, DC, filter, gain step, dropout, quantisation), each with `probability`."""
    iq, truths = scene.iq, scene.truths
    n, rate = len(iq), contract.sample_rate_hz

    def happens(factor: float = 1.0) -> bool:
        return bool(rng.random() < probability * factor)

    if happens():  # steady spurs
        for _ in range(int(rng.integers(1, 5))):
            level = np.float32(10 ** (rng.uniform(-35, -5) / 20))
            iq = iq + level * shift(np.ones(n, np.complex64), rng.uniform(-0.49, 0.49) * rate, rate)
    if happens():  # image of imperfect IQ balance
        iq = iq + np.complex64(10 ** (rng.uniform(-45, -22) / 20) * np.exp(2j * np.pi * rng.random())) * iq.conj()
    if happens():  # DC
        iq = iq + np.complex64(10 ** (rng.uniform(-30, 0) / 20) * np.exp(2j * np.pi * rng.random()))
    if happens():  # channel filter of the receiver: noise and signals fall off at the edges
        iq = _channel(iq, truths, rng, rate)
    if happens(0.5):  # gain step
        at = int(rng.integers(n // 10, n))
        iq = iq.copy()
        iq[at:] *= np.float32(10 ** (rng.uniform(-12, 12) / 20))
    if happens():  # a capture that is only partly there: silence at its end
        at = int(rng.integers(n // 8, n))
        iq = iq.copy()
        iq[at:] = 0
        cut = [replace(t, stop_s=min(t.stop_s, at / rate)) for t in truths]
        truths = tuple(t for t in cut if t.stop_s > t.start_s)
    if happens(2.0):  # 8-bit converter
        full = np.abs(iq.view(np.float32)).max() / rng.uniform(0.3, 1.0)
        iq = (np.round(iq.view(np.float32) / full * 127).clip(-127, 127) / np.float32(127)).view(np.complex64)
    return Scene(iq.astype(np.complex64) * np.float32(10 ** rng.uniform(-3, 0.5)), truths)


def _channel(iq: np.ndarray, truths: Sequence[Annotation], rng: np.random.Generator, rate: float) -> np.ndarray:
    """Channel filter of a receiver: a raised-cosine low-pass, wide enough for every labelled signal."""
    widest_hz = max((max(abs(truth.low_hz), abs(truth.high_hz)) for truth in truths), default=0.0)
    half_hz = max(rate / 2 * rng.uniform(0.3, 0.97), widest_hz)
    stop = 10 ** (-rng.uniform(25, 70) / 20)
    edge = np.clip((np.abs(np.fft.fftfreq(len(iq), 1 / rate)) - half_hz) / (0.04 * rate), 0, 1)
    gain = (stop ** (0.5 - 0.5 * np.cos(np.pi * edge))).astype(np.float32)
    return np.fft.ifft(np.fft.fft(iq) * gain).astype(np.complex64)
