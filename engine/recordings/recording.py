"""Recordings: files of IQ, mapped into memory, and their way into captures of the contract's rate and length.

    recording = open_recording("street.sigmf-meta")
    for capture in recording.captures(WIDEBAND):
        ...capture.iq, capture.start_s

Formats (`formats.py`, `sigmf_files.py`): SigMF pairs and archives, RFCAP, raw IQ, WAV. Only the stretch at hand
is ever converted, so a file may be far larger than memory. Do not shorten a file while it is open: as with
every memory map, reading what is gone ends the process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.contract import Contract
from engine.errors import InputError

from .annotation import Annotation
from .resampling import rate_ratio, reach, resample_by


@dataclass(frozen=True, eq=False)
class Capture:
    """One stretch of IQ at the contract's rate, exactly `contract.capture_samples` long.

    `start_s` counts from the recording's start. The first `valid_s` seconds are signal, the rest is silence.
    """

    iq: npt.NDArray[np.complex64] = field(repr=False)  # complex64[capture_samples], the caller's own
    sample_rate_hz: float
    center_freq_hz: float | None
    start_s: float
    valid_s: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recording:
    """A file of IQ, memory-mapped, and its metadata.

    `samples` are the raw numbers, [n, 2] for I and Q: floats as they are, signed integers around 0, unsigned
    ones around the middle of their range. `notes` tell what was odd about the file but could be survived.
    """

    path: Path
    sample_rate_hz: float
    center_freq_hz: float | None
    samples: npt.NDArray[Any] = field(repr=False)
    annotations: tuple[Annotation, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    start_time_unix_s: float | None = None
    description: str = ""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def n_samples(self) -> int:
        return len(self.samples)

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate_hz

    def read(self, start: int, count: int) -> npt.NDArray[np.complex64]:  # complex64[count], the caller's own
        """Samples `start` to `start + count`; integers scaled to -1..+1, numbers that are not finite left so.

        Raises InputError on a stretch outside the recording.
        """
        if start < 0 or count < 0 or start + count > self.n_samples:
            raise InputError(f"{self.path}: samples {start} to {start + count} were asked for; it has {self.n_samples}")
        raw = self.samples[start : start + count]
        iq = np.empty(count, np.complex64)
        parts = iq.view(np.float32).reshape(count, 2)
        if raw.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is for the engine to judge
                parts[...] = raw
            return iq
        half_range = 2.0 ** (8 * raw.dtype.itemsize - 1)
        if raw.dtype.kind == "u":  # 0..255 lies around 127.5: an RTL-SDR's zero
            half_range -= 0.5
            np.subtract(raw, np.float32(half_range), out=parts)
        else:
            parts[...] = raw
        parts *= np.float32(1 / half_range)
        return iq

    def captures(self, contract: Contract) -> Iterator[Capture]:
        """The recording from start to end as captures of `contract`'s rate and length.

        They follow each other without gap. The last one reaches back over the one before, so that it is full;
        a recording shorter than one capture is padded with zeros and `valid_s` is the length of the signal. A
        resampled capture is the same as if the whole recording had been resampled and then cut.
        Raises InputError where the two rates are too far apart to resample.
        """
        return (self.capture(contract, index) for index in range(self.n_captures(contract)))

    def n_captures(self, contract: Contract) -> int:
        """Number of captures that `captures` yields; raises as it does."""
        return -(-self._resampled_length(contract) // contract.capture_samples)

    def capture(self, contract: Contract, index: int) -> Capture:
        """Capture number `index` of those that `captures` yields, without reading the ones before it."""
        if not 0 <= index < self.n_captures(contract):
            raise InputError(f"{self.path}: capture {index} of {self.n_captures(contract)}; they count from 0")
        ratio = rate_ratio(self.sample_rate_hz, contract.sample_rate_hz)
        wanted, total = contract.capture_samples, self._resampled_length(contract)
        start = max(0, min(index * wanted, total - wanted))
        notes = [] if ratio == 1 else [_resampled(self.sample_rate_hz, contract.sample_rate_hz, ratio)]
        if start < index * wanted:
            notes.append(f"reaches back {(index * wanted - start) / contract.sample_rate_hz:g} s")
        valid_s = contract.capture_s
        iq = self._read_resampled(start, min(wanted, total), ratio)
        if total < wanted:
            valid_s = min(self.duration_s, contract.capture_s)
            iq = np.pad(iq, (0, wanted - total))
            notes.append(f"padded with silence: {valid_s:g} s of {contract.capture_s:g} s is signal")
        start_s = float(start / ratio) / self.sample_rate_hz
        return Capture(iq, contract.sample_rate_hz, self.center_freq_hz, start_s, valid_s, tuple(notes))

    def _resampled_length(self, contract: Contract) -> int:
        ratio = rate_ratio(self.sample_rate_hz, contract.sample_rate_hz)
        return -(-self.n_samples * ratio.numerator // ratio.denominator)

    def _read_resampled(self, start: int, count: int, ratio: Fraction) -> npt.NDArray[np.complex64]:
        """Samples `start` to `start + count` of the recording resampled by `ratio`.

        Reads a margin to both sides, as far as the filter reaches, so that no capture shows the filter's
        settling. The stretch starts at a multiple of the down factor, where old and new samples coincide.
        """
        if ratio == 1:
            return self.read(start, count)
        margin = reach(ratio)
        first = max(0, int(start / ratio) - margin) // ratio.denominator * ratio.denominator
        last = min(self.n_samples, int((start + count) / ratio) + margin + 1)
        skip = start - int(first * ratio)
        # a copy, so that the margins do not stay in memory with the capture
        return resample_by(self.read(first, last - first), ratio)[skip : skip + count].copy()


def _resampled(from_hz: float, to_hz: float, ratio: Fraction) -> str:
    return f"resampled {from_hz / 1e6:g} MS/s -> {to_hz / 1e6:g} MS/s (x{ratio})"
