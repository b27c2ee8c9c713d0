"""One reader per recording format, picked by file ending. SigMF has its own file."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from engine.errors import RecordingError

from .checks import Overrides, checked_number, checked_rate, checked_samples
from .recording import Recording
from .sigmf_files import read_archive, read_pair
from .writing import RFCAP_FIELDS, RFCAP_HEADER_BYTES, RFCAP_MAGIC, RFCAP_VERSION

RAW_TYPES: Final[dict[str, np.dtype[Any]]] = {
    ".cf32": np.dtype("<f4"),
    ".fc32": np.dtype("<f4"),
    ".iq": np.dtype("<f4"),
    ".cs16": np.dtype("<i2"),
    ".cs8": np.dtype("i1"),
    ".cu8": np.dtype("u1"),
}
# format tag (1 PCM, 3 float) and bits per number -> what a WAV file holds
WAV_TYPES: Final[dict[tuple[int, int], np.dtype[Any]]] = {
    (1, 8): np.dtype("u1"),
    (1, 16): np.dtype("<i2"),
    (1, 32): np.dtype("<i4"),
    (3, 32): np.dtype("<f4"),
    (3, 64): np.dtype("<f8"),
}
WAV_EXTENSIBLE: Final = 0xFFFE  # the true format tag then opens the sub-format field, 24 bytes into the chunk
WAV_SMALL_CHUNK: Final = 4096  # bytes of a chunk that are looked at; those wanted here are far shorter

SCALES: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
QUANTITY: Final = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([kMG]?)(Hz|sps|S)?(?![A-Za-z0-9])")


@dataclass(frozen=True)
class RfcapHeader:
    """The fields of an RFCAP header: Hz, Unix seconds, degrees."""

    sample_rate_hz: float
    center_freq_hz: float
    bandwidth_hz: float
    n_samples: int
    start_time_unix_s: float
    signal_name: str
    latitude_deg: float
    longitude_deg: float
    reserved_is_zero: bool = True


def read_rfcap_header(path: Path) -> RfcapHeader:
    """The header of an RFCAP file; raises RecordingError where it is cut short, foreign, or of another version."""
    with path.open("rb") as file:
        header = file.read(RFCAP_HEADER_BYTES)
    if header[: len(RFCAP_MAGIC)] != RFCAP_MAGIC:
        raise RecordingError(
            f"{path}: begins with {header[:4]!r}, RFCAP with {RFCAP_MAGIC!r}; "
            "rename it to the ending of its true format, such as .cf32"
        )
    if len(header) < RFCAP_HEADER_BYTES:
        raise RecordingError(
            f"{path}: {len(header)} bytes, an RFCAP header has {RFCAP_HEADER_BYTES}; truncated: copy it again"
        )
    _, version, rate, centre, bandwidth, count, start, name, latitude, longitude = RFCAP_FIELDS.unpack_from(header)
    if version != RFCAP_VERSION:
        raise RecordingError(f"{path}: RFCAP version {version}; this program reads version {RFCAP_VERSION}: convert it")
    text = name.split(b"\0")[0].decode(errors="replace")
    reserved_is_zero = not any(header[RFCAP_FIELDS.size :])
    return RfcapHeader(rate, centre, bandwidth, count, start, text, latitude, longitude, reserved_is_zero)


def read_rfcap(path: Path, overrides: Overrides) -> Recording:
    """RFCAP: a 512-byte header, then complex64. A header that miscounts its samples is noted."""
    header = read_rfcap_header(path)
    rate, notes = _settled_rate(path, header.sample_rate_hz, "the header's sample rate", overrides)
    centre = overrides.center_freq_hz
    if centre is None:
        centre = checked_number(path, header.center_freq_hz, "the header's centre frequency")
    n_bytes = path.stat().st_size - RFCAP_HEADER_BYTES
    there = n_bytes // 8
    if header.n_samples * 8 != n_bytes:
        notes += (f"the header counts {header.n_samples} samples, the file has {n_bytes} bytes of them: {there} read",)
    if not header.reserved_is_zero:
        notes += ("the reserved part of the header is not zero; ignored",)
    return Recording(
        path,
        rate,
        centre,
        checked_samples(path, np.dtype("<f4"), RFCAP_HEADER_BYTES, there * 8),
        notes=notes,
        start_time_unix_s=header.start_time_unix_s if 0 < header.start_time_unix_s < np.inf else None,
        description=header.signal_name,
    )


def read_raw(path: Path, overrides: Overrides) -> Recording:
    """Bare interleaved I and Q, little-endian; rate and centre from the caller or the file name."""
    rate, centre = rate_and_center_in_name(path.stem)
    rate = rate if overrides.sample_rate_hz is None else overrides.sample_rate_hz
    centre = centre if overrides.center_freq_hz is None else overrides.center_freq_hz
    if rate is None:
        raise RecordingError(
            f"{path}: no sample rate: a raw file does not carry one; give it with --rate, "
            "or in a name like g001_868M_1024k.cs16"
        )
    rate = checked_rate(path, rate, "the sample rate in the file name")
    samples = checked_samples(path, RAW_TYPES[path.suffix.lower()], 0, path.stat().st_size)
    return Recording(path, rate, centre, samples)


def rate_and_center_in_name(name: str) -> tuple[float | None, float | None]:
    """Sample rate and centre frequency in Hz, as far as a name such as `g001_433.92M_250k` tells them.

    A unit decides: Hz is a centre, S or sps a rate. Without one, k is a rate, the first M or G is the centre and
    a second one the rate, as rtl_433 names its files.
    """
    rates: list[float] = []
    centres: list[float] = []
    bare: list[float] = []
    for number, prefix, unit in QUANTITY.findall(name):
        if not prefix and not unit:
            continue
        value = float(number) * SCALES[prefix]
        kind = centres if unit == "Hz" else rates if unit or prefix == "k" else bare
        kind.append(value)
    if not centres and bare:
        centres.append(bare.pop(0))
    rates += bare
    return (rates[0] if rates else None), (centres[0] if centres else None)


def read_wav(path: Path, overrides: Overrides) -> Recording:
    """Two-channel WAV (RIFF or RF64): I left, Q right. The centre comes from an `auxi` chunk or the file name."""
    with path.open("rb") as file:
        chunks = _wav_chunks(path, file)
    form, (data_at, data_bytes) = chunks.form, chunks.data
    if len(form) < 16 or not data_at:
        raise RecordingError(f"{path}: no {'data' if len(form) >= 16 else 'fmt'} chunk; truncated: copy it again")
    tag, channels, rate_in_file, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == WAV_EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack_from("<H", form, 24)
    if channels != 2:
        raise RecordingError(f"{path}: {channels} channels; IQ has two, I left and Q right: record it as stereo IQ")
    if (tag, bits) not in WAV_TYPES:
        raise RecordingError(
            f"{path}: WAV format {tag} with {bits} bits is not read; convert it to 16-bit PCM or 32-bit float"
        )
    dtype = WAV_TYPES[tag, bits]
    rate, notes = _settled_rate(path, rate_in_file, "the WAV header's sample rate", overrides)
    there = min(data_bytes, path.stat().st_size - data_at)
    whole = there // (2 * dtype.itemsize) * (2 * dtype.itemsize)
    if whole != data_bytes:
        notes += (f"the header counts {data_bytes} bytes of samples; {whole} are there and read",)
    centre = overrides.center_freq_hz
    if centre is None and len(chunks.auxiliary) >= 36:  # two 16-byte times, then the centre in Hz
        centre = float(struct.unpack_from("<I", chunks.auxiliary, 32)[0]) or None
    if centre is None:
        centre = rate_and_center_in_name(path.stem)[1]
    return Recording(path, rate, centre, checked_samples(path, dtype, data_at, whole), notes=notes)


@dataclass
class _WavChunks:
    form: bytes = b""
    auxiliary: bytes = b""
    data: tuple[int, int] = (0, 0)  # offset in the file, bytes


def _wav_chunks(path: Path, file: BinaryIO) -> _WavChunks:
    """The chunks that matter, up to and including the samples."""
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise RecordingError(f"{path}: begins with {head!r}, not a WAV header; rename it to its true format's ending")
    found, long_size = _WavChunks(), None
    while len(opening := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", opening)
        at = file.tell()
        if name == b"data":
            found.data = (at, long_size if size == 0xFFFFFFFF and long_size is not None else size)
            return found
        content = file.read(min(size, WAV_SMALL_CHUNK))
        if name == b"fmt ":
            found.form = content
        elif name == b"auxi":
            found.auxiliary = content
        elif name == b"ds64" and len(content) >= 16:  # RF64: sizes of the file and of its samples, 8 bytes each
            (long_size,) = struct.unpack_from("<Q", content, 8)
        file.seek(at + size + size % 2)
    return found


def _settled_rate(path: Path, in_file: Any, source: str, overrides: Overrides) -> tuple[float, tuple[str, ...]]:
    """The rate to use, and a note where the caller's differs from the file's."""
    if overrides.sample_rate_hz is None:
        return checked_rate(path, in_file, source), ()
    rate = float(overrides.sample_rate_hz)
    return rate, () if in_file == rate else (f"{source} is {in_file:g} Hz; {rate:g} Hz was given and is used",)


READERS: Final[dict[str, Callable[[Path, Overrides], Recording]]] = {
    ".sigmf-meta": read_pair,
    ".sigmf-data": read_pair,
    ".sigmf": read_archive,
    ".rfcap": read_rfcap,
    ".wav": read_wav,
    **dict.fromkeys(RAW_TYPES, read_raw),
}
