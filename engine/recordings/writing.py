"""Recordings written: RFCAP files and SigMF pairs."""

import hashlib
import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.errors import InputError

from .annotation import Annotation
from .resampling import MAX_RATE_HZ

RFCAP_MAGIC: Final = b"G20\0"
RFCAP_VERSION: Final = 1
RFCAP_HEADER_BYTES: Final = 512
# magic, version, rate, centre, bandwidth (Hz), samples, start (Unix s), signal name, latitude, longitude (degrees)
RFCAP_FIELDS: Final = struct.Struct("<4sIdddQd32sdd")

SIGMF_VERSION: Final = "1.2.0"
SIGMF_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "cf32_le": np.dtype("<f4"),
    "ci16_le": np.dtype("<i2"),
    "ci8": np.dtype("i1"),
}


def write_rfcap(
    path: str | Path,
    iq: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    sample_rate_hz: float,
    center_freq_hz: float,
    bandwidth_hz: float | None = None,
    start_time_unix_s: float = 0.0,
    signal_name: str = "",
    latitude_deg: float = 0.0,
    longitude_deg: float = 0.0,
) -> None:
    """Write complex IQ[n] as an RFCAP file: a 512-byte header, then complex64, all little-endian.

    Without `bandwidth_hz` the sample rate is written. A start time of 0 means unknown.
    Raises InputError on unusable IQ, a number that is not finite, or a name over 32 bytes of UTF-8.
    """
    samples = _checked_iq(iq)
    _check_rate(sample_rate_hz)
    bandwidth = sample_rate_hz if bandwidth_hz is None else bandwidth_hz
    for name, value in (
        ("center_freq_hz", center_freq_hz),
        ("bandwidth_hz", bandwidth),
        ("start_time_unix_s", start_time_unix_s),
        ("latitude_deg", latitude_deg),
        ("longitude_deg", longitude_deg),
    ):
        _check_finite(name, value)
    encoded = signal_name.encode()
    if len(encoded) > 32 or b"\0" in encoded:
        raise InputError(f"signal name {signal_name!r} does not fit: at most 32 bytes of UTF-8 without NUL")
    header = RFCAP_FIELDS.pack(
        RFCAP_MAGIC, RFCAP_VERSION, sample_rate_hz, center_freq_hz, bandwidth, samples.size,
        start_time_unix_s, encoded, latitude_deg, longitude_deg,
    )  # fmt: skip
    with Path(path).open("wb") as file:
        file.write(header.ljust(RFCAP_HEADER_BYTES, b"\0"))
        file.write(samples.astype("<c8", copy=False).data)


def write_sigmf(
    path: str | Path,
    iq: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    sample_rate_hz: float,
    center_freq_hz: float | None = None,
    annotations: Iterable[Annotation] = (),
    datatype: str = "ci16_le",
    description: str = "",
) -> Path:
    """Write complex IQ[n] as `<path>.sigmf-data` and `<path>.sigmf-meta`, and return the latter's path.

    `path` may already carry either ending. `datatype` is `ci16_le`, `ci8` or `cf32_le`; the integers hold
    -1..+1, and IQ beyond that is refused rather than clipped. The metadata is checked against SigMF's schema.
    Raises InputError on unusable IQ, rate, datatype or annotation.
    """
    samples = _checked_iq(iq)
    _check_rate(sample_rate_hz)
    if center_freq_hz is not None:
        _check_finite("center_freq_hz", center_freq_hz)
    stored = _as_datatype(samples, datatype)
    given = Path(path)
    stem = given.with_suffix("") if given.suffix in (".sigmf-meta", ".sigmf-data") else given
    boxes = sorted(
        (_sigmf_annotation(box, sample_rate_hz, samples.size) for box in annotations),
        key=lambda box: int(box["core:sample_start"]),
    )
    segment: dict[str, Any] = {"core:sample_start": 0}
    if center_freq_hz is not None:
        segment["core:frequency"] = float(center_freq_hz)
    about: dict[str, Any] = {
        "core:datatype": datatype,
        "core:sample_rate": float(sample_rate_hz),
        "core:version": SIGMF_VERSION,
        "core:sha512": hashlib.sha512(stored.data).hexdigest(),
        "core:recorder": "hydra-rf",
    }
    if description:
        about["core:description"] = description
    metadata = {"global": about, "captures": [segment], "annotations": boxes}
    _check_schema(metadata)
    meta_path = stem.with_name(f"{stem.name}.sigmf-meta")
    with stem.with_name(f"{stem.name}.sigmf-data").open("wb") as file:
        file.write(stored.data)
    meta_path.write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return meta_path


def _as_datatype(samples: npt.NDArray[np.complex64], datatype: str) -> npt.NDArray[Any]:
    """Interleaved I and Q of the named SigMF type, [2n]."""
    if datatype not in SIGMF_TYPES:
        raise InputError(f"SigMF datatype {datatype!r} is not written; choose one of {', '.join(SIGMF_TYPES)}")
    stored, parts = SIGMF_TYPES[datatype], samples.view(np.float32)
    if stored.kind == "f":
        return parts.astype(stored, copy=False)
    peak = float(np.abs(parts).max())
    if not peak <= 1.0:  # also where it is not a number
        raise InputError(f"iq peaks at {peak:g}, but {datatype} holds -1..+1: scale it, or write cf32_le")
    top = 2 ** (8 * stored.itemsize - 1)
    whole: npt.NDArray[Any] = np.clip(np.rint(parts * top), -top, top - 1).astype(stored)
    return whole


def _sigmf_annotation(box: Annotation, sample_rate_hz: float, n_samples: int) -> dict[str, Any]:
    numbers = (box.start_s, box.stop_s, box.low_hz, box.high_hz)
    if not all(map(math.isfinite, numbers)) or not (
        0 <= box.start_s < box.stop_s and box.low_hz < box.high_hz and box.start_s * sample_rate_hz < n_samples
    ):
        raise InputError(
            f"annotation {box} is not a box inside {n_samples / sample_rate_hz:g} s of signal: "
            "give start_s < stop_s and low_hz < high_hz"
        )
    start = min(round(box.start_s * sample_rate_hz), n_samples - 1)
    stop = min(round(box.stop_s * sample_rate_hz), n_samples)
    entry: dict[str, Any] = {
        "core:sample_start": start,
        "core:sample_count": max(1, stop - start),
        "core:freq_lower_edge": float(box.low_hz),
        "core:freq_upper_edge": float(box.high_hz),
    }
    if box.label:
        entry["core:label"] = box.label
    if box.comment:
        entry["core:comment"] = box.comment
    return entry


def _check_schema(metadata: dict[str, Any]) -> None:
    from sigmf import validate as sigmf  # its import takes longer than all of this module

    try:
        sigmf.validate(metadata)
    except sigmf.jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path))
        raise InputError(f"SigMF refuses the metadata at {where}: {error.message}") from error


def _checked_iq(iq: npt.NDArray[np.complexfloating[Any, Any]]) -> npt.NDArray[np.complex64]:
    if not isinstance(iq, np.ndarray) or iq.ndim != 1 or not np.iscomplexobj(iq) or not iq.size:
        shape = f"{iq.dtype}{list(iq.shape)}" if isinstance(iq, np.ndarray) else type(iq).__name__
        raise InputError(f"iq is {shape}; a recording needs complex samples in one dimension, at least one")
    return np.ascontiguousarray(iq, np.complex64)


def _check_rate(sample_rate_hz: float) -> None:
    if not 0 < sample_rate_hz < MAX_RATE_HZ:
        raise InputError(f"sample rate {sample_rate_hz!r} Hz is not above 0 and below {MAX_RATE_HZ:g}")


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; give a finite number")
