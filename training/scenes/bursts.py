"""Single signals cut out of recordings, ready to be placed in a scene.

Rate, band and label come from the recording's own SigMF annotations. A burst is cut at its box, brought to
the contract's rate with its band centred on 0 Hz, and filtered to that band, so that nothing of the
recording's own floor comes along outside it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract import Contract
from engine.recordings.annotation import Annotation
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from engine.recordings.resampling import resample

NOT_A_SIGNAL = ("noise", "other")  # labels that are never placed
VALIDATION_SHARE = 0.25  # of a label's recordings, at least one where there are two
BAND_MARGIN = 1.04  # pass band of the cut, in widths of the box


@dataclass(frozen=True)
class Burst:
    """One signal alone, with its occupied band (99 % of the power, ITU-R SM.328) relative to the centre of `iq`."""

    iq: np.ndarray  # complex64[n], from the burst's first sample to its last
    sample_rate_hz: float
    low_hz: float
    high_hz: float
    label: str
    source: str


def split_recordings(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Recordings for training and for validation: whole files, by label, by the hash of the file name."""
    by_label: dict[str, list[Path]] = {}
    for path in paths:
        labels = {note.label for note in open_recording(path).annotations} - set(NOT_A_SIGNAL)
        by_label.setdefault(min(labels, default="noise"), []).append(path)
    train: list[Path] = []
    validation: list[Path] = []
    for group in by_label.values():
        ordered = sorted(group, key=lambda path: hashlib.sha256(path.stem.encode()).hexdigest())
        held_out = max(1, round(VALIDATION_SHARE * len(ordered))) if len(ordered) > 1 else 0
        validation += ordered[:held_out]
        train += ordered[held_out:]
    return sorted(train), sorted(validation)


def cut_bursts(path: Path, contract: Contract, limit: int = 40) -> Iterator[Burst]:
    """Up to `limit` bursts of one recording, evenly spread over its annotations; those that are wider than
    the contract's band are left out."""
    recording = open_recording(path)
    notes = [note for note in recording.annotations if note.label not in NOT_A_SIGNAL]
    step = max(1, len(notes) // limit)
    for index, note in enumerate(notes[::step][:limit]):
        if note.high_hz - note.low_hz < 0.95 * contract.sample_rate_hz:
            yield _cut(recording, note, contract, f"{path.name} #{index}")


def _cut(recording: Recording, note: Annotation, contract: Contract, source: str) -> Burst:
    rate = recording.sample_rate_hz
    longest = round(contract.capture_s * rate)
    first = max(0, round(note.start_s * rate))
    count = min(round((note.stop_s - note.start_s) * rate), longest, len(recording) - first)
    iq = recording.read(first, count)
    centre_hz = (note.low_hz + note.high_hz) / 2 - (recording.center_freq_hz or 0.0)
    iq = shift(iq, -centre_hz, rate)
    width_hz = min(note.high_hz - note.low_hz, rate)
    iq = resample(band_pass(iq, width_hz * BAND_MARGIN, rate), rate, contract.sample_rate_hz)
    iq = iq[: contract.capture_samples]
    iq = iq / np.sqrt(np.mean(np.abs(iq) ** 2) + 1e-30)
    return Burst(iq.astype(np.complex64), contract.sample_rate_hz, -width_hz / 2, width_hz / 2, note.label, source)


def shift(iq: np.ndarray, by_hz: float, sample_rate_hz: float) -> np.ndarray:
    """complex64[n] moved up in frequency by `by_hz`."""
    turns = np.arange(len(iq)) * (by_hz / sample_rate_hz)
    shifted: np.ndarray = (iq * np.exp(2j * np.pi * (turns % 1.0)).astype(np.complex64)).astype(np.complex64)
    return shifted


def band_pass(iq: np.ndarray, width_hz: float, sample_rate_hz: float) -> np.ndarray:
    """complex64[n] kept within +-width/2, with a raised-cosine edge a tenth of the width wide."""
    frequency_hz = np.abs(np.fft.fftfreq(len(iq), 1 / sample_rate_hz))
    edge = np.clip((frequency_hz - width_hz / 2) / (0.1 * width_hz), 0, 1)
    gain = (0.5 + 0.5 * np.cos(np.pi * edge)).astype(np.float32)
    return np.fft.ifft(np.fft.fft(iq) * gain).astype(np.complex64)


def save_burst(path: Path, burst: Burst) -> None:
    """One burst as plain arrays (16-bit samples and their scale) in an .npz."""
    scale = float(np.abs(burst.iq.view(np.float32)).max()) / 32767
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        iq=np.round(burst.iq.view(np.float32) / scale).astype(np.int16).reshape(-1, 2),
        scale=scale,
        sample_rate_hz=burst.sample_rate_hz,
        low_hz=burst.low_hz,
        high_hz=burst.high_hz,
        label=burst.label,
        source=burst.source,
    )


def load_burst(path: Path) -> Burst:
    with np.load(path, allow_pickle=False) as stored:
        fields: dict[str, Any] = {name: stored[name] for name in stored.files}
    iq = (fields["iq"].astype(np.float32) * np.float32(fields["scale"])).view(np.complex64)[:, 0]
    return Burst(
        iq,
        float(fields["sample_rate_hz"]),
        float(fields["low_hz"]),
        float(fields["high_hz"]),
        str(fields["label"]),
        str(fields["source"]),
    )
