"""IQ of samples as files: `<id>.iq.npy` beside the picture, integer pairs at the contract's rate.

A signed integer recording of at most 16 bits at the contract's rate is kept number by number; all else is resampled,
scaled by the window's peak and rounded to 16 bits. A file from outside may claim anything: its header, type, shape and
size are held against the sample's JSON before memory is taken, its hash before a number is used.
"""

import hashlib
import math
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from engine.contract import Contract
from engine.errors import InputError, StoreError
from engine.recordings.recording import Recording
from engine.recordings.resampling import rate_ratio

from .images import MAX_HEADER_BYTES, UNREADABLE, write_whole

ENDING: Final = ".iq.npy"
TYPES: Final[dict[str, np.dtype[Any]]] = {
    "ci8": np.dtype("i1"),
    "ci16": np.dtype("<i2"),
}  # little-endian, I and Q in turn
MAX_FLOAT32: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class IqFile:
    """Entry `iq` of a sample's JSON: numeric type, full scale in the recording's units, length, SHA-256."""

    dtype: str
    scale: float
    samples: int
    sha256: str = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any, contract: Contract) -> "IqFile":
        """Raises ValueError, KeyError or TypeError unless it describes one window of `contract`."""
        dtype, scale, samples, digest = (values[name] for name in ("dtype", "scale", "samples", "sha256"))
        if dtype not in TYPES or len(values) != 4:
            raise ValueError(f"iq is of dtype {dtype!r:.40}; known are {', '.join(TYPES)}")
        if type(scale) is not float or not 0 < scale <= MAX_FLOAT32 or not math.isfinite(scale):
            raise ValueError(f"iq has the scale {scale!r:.40}; it is a finite number above 0")
        if type(samples) is not int or samples != contract.capture_samples:
            raise ValueError(f"iq has {samples!r:.40} samples; a window has {contract.capture_samples}")
        if not isinstance(digest, str):
            raise ValueError(f"iq has the hash {digest!r:.80}, not text")
        return cls(dtype, scale, samples, digest)


@dataclass(frozen=True, eq=False)
class PackedIq:
    """IQ as integers: int8[n, 2] or int16[n, 2], and the full scale that the most negative number stands for."""

    pairs: np.ndarray
    scale: float

    @property
    def about(self) -> IqFile:
        dtype = next(name for name, known in TYPES.items() if known == self.pairs.dtype)
        return IqFile(dtype, self.scale, len(self.pairs), iq_hash(self.pairs))

    def unpacked(self) -> np.ndarray:
        """complex64[n] in the recording's units, the caller's own."""
        parts = self.pairs.astype(np.float32)
        parts *= np.float32(self.scale / _half_range(self.pairs.dtype))
        return parts.view(np.complex64)[:, 0]


def pack(iq: np.ndarray, own: np.dtype[Any] | None = None) -> PackedIq:
    """complex64[n] as integers of 16 bits, its largest real or imaginary part as the largest of them.

    `own`: the signed integer type whose numbers, over half their range, `iq` consists of; they are kept exactly. The
    rounding error otherwise is at most a 65,534th of that part. Raises InputError on another array, or on samples that
    are not finite.
    """
    if not isinstance(iq, np.ndarray) or iq.ndim != 1 or iq.dtype != np.complex64 or not len(iq):
        shape = f"{iq.dtype}{list(iq.shape)}" if isinstance(iq, np.ndarray) else type(iq).__name__
        raise InputError(f"iq is {shape}; a sample keeps complex64[n]")
    parts = np.ascontiguousarray(iq).view(np.float32).reshape(-1, 2)
    peak = np.maximum(parts.max(), -parts.min())
    if not np.isfinite(peak):
        raise InputError("iq has samples that are not finite; leave the window out")
    dtype = TYPES["ci16"] if own is None else TYPES[f"ci{8 * own.itemsize}"]
    half = _half_range(dtype)
    if own is not None or peak == 0:
        return PackedIq(np.rint(parts * np.float32(half)).astype(dtype), 1.0)
    scale = min(float(peak) * half / (half - 1), MAX_FLOAT32)
    return PackedIq(np.rint(parts / peak * np.float32(half - 1)).astype(dtype), scale)


def own_type(recording: Recording, contract: Contract) -> np.dtype[Any] | None:
    """The recording's integer type where its captures at the contract's rate are its own numbers, else None."""
    dtype = recording.samples.dtype
    own = dtype.kind == "i" and dtype.itemsize <= 2
    return dtype if own and rate_ratio(recording.sample_rate_hz, contract.sample_rate_hz) == 1 else None


def iq_path(sample: Path) -> Path:
    """The IQ file of a sample, by the path of its JSON."""
    return sample.with_suffix(ENDING)


def iq_hash(pairs: np.ndarray) -> str:
    """SHA-256 (hex) of integer pairs [n, 2]."""
    return hashlib.sha256(np.ascontiguousarray(pairs).data).hexdigest()


def write_iq(path: Path, packed: PackedIq) -> None:
    """Writes the pairs as npy: aside, flushed, renamed. Raises StoreError naming the file."""
    write_whole(path, lambda file: np.save(file, packed.pairs, allow_pickle=False))


def read_iq(path: Path, about: IqFile) -> PackedIq:
    """The pairs that `about` describes. Raises StoreError, naming the file, on anything else."""
    try:
        there = path.lstat()
        wanted = about.samples * 2 * TYPES[about.dtype].itemsize
        if not stat.S_ISREG(there.st_mode) or not wanted < there.st_size <= wanted + MAX_HEADER_BYTES:
            raise ValueError(f"no regular file of {wanted} bytes and a header")
        with path.open("rb") as file:
            if npy.read_magic(file) != (1, 0):
                raise ValueError("not version 1.0 of the npy format")
            shape, by_columns, dtype = npy.read_array_header_1_0(file, max_header_size=MAX_HEADER_BYTES)
            if shape != (about.samples, 2) or dtype != TYPES[about.dtype] or by_columns:
                raise ValueError(f"{dtype}{list(shape)} instead of {TYPES[about.dtype]}[{about.samples}, 2]")
            content = file.read(wanted + 1)
        if len(content) != wanted:
            raise ValueError(f"{len(content)} bytes or more instead of {wanted}")
    except UNREADABLE as error:
        raise StoreError(
            f"{path}: not the IQ of a sample ({error}); remove the sample and add its recording again"
        ) from error
    pairs = np.frombuffer(content, TYPES[about.dtype]).reshape(-1, 2)
    if iq_hash(pairs) != about.sha256:
        raise StoreError(f"{path}: the IQ is not what was added; remove the sample and add its recording again")
    return PackedIq(pairs, about.scale)


def _half_range(dtype: np.dtype[Any]) -> float:
    return float(2 ** (8 * dtype.itemsize - 1))
