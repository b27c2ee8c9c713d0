"""SigMF read: pairs of metadata and samples, and archives of them, mapped where they lie and never extracted.

The metadata is parsed here and not by the `sigmf` package, which refuses at the first flaw; a recording with
a bad annotation is still a recording. Checksums are not verified: that would read the whole file.
"""

import json
import math
import re
import tarfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from engine.errors import RecordingError

from .annotation import Annotation
from .checks import Overrides, checked_number, checked_rate, checked_samples
from .recording import Recording

MAX_METADATA_BYTES: Final = 64 * 2**20
MAX_MEMBERS: Final = 10_000
META, DATA = ".sigmf-meta", ".sigmf-data"
DATATYPE: Final = re.compile(r"([cr])([fiu])(8|16|32|64)(_le|_be)?")


@dataclass(frozen=True)
class _Stretch:
    """Byte range of the samples in a file."""

    path: Path
    offset: int
    n_bytes: int


def read_pair(path: Path, overrides: Overrides) -> Recording:
    """A `.sigmf-meta` with its `.sigmf-data` beside it (or the file that `core:dataset` names)."""
    meta_path = path.with_suffix(META)
    if not meta_path.is_file():
        raise RecordingError(f"{path}: its metadata {meta_path.name} is missing; put it beside, with the same name")
    if (size := meta_path.stat().st_size) > MAX_METADATA_BYTES:
        raise _too_large(meta_path, size)
    metadata = _parsed(meta_path, meta_path.read_bytes())
    data_path = path.with_suffix(DATA)
    dataset = metadata["global"].get("core:dataset")
    if dataset is not None and not data_path.is_file():
        if not isinstance(dataset, str) or not dataset or PurePosixPath(dataset).name != dataset or "\\" in dataset:
            raise RecordingError(
                f"{meta_path}: core:dataset {dataset!r} is not a bare file name; put the file beside it"
            )
        data_path = path.with_name(dataset)
    if not data_path.is_file():
        raise RecordingError(f"{path}: its samples {data_path.name!r} are missing; put them beside the metadata")
    return _recording(path, metadata, _Stretch(data_path, 0, data_path.stat().st_size), overrides)


def read_archive(path: Path, overrides: Overrides) -> Recording:
    """A `.sigmf` archive: an uncompressed tar of one recording. Nothing is extracted, unsafe names are refused."""
    try:
        with tarfile.open(path, "r:") as archive:
            found = _archive_members(path, archive)
            member = found[META]
            if member.size > MAX_METADATA_BYTES:
                raise _too_large(path, member.size)
            content = archive.extractfile(member)
            metadata = _parsed(path, content.read() if content else b"")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise RecordingError(
            f"{path}: not a whole uncompressed tar archive ({error}); copy it again, or unpack it"
        ) from error
    data = found[DATA]
    if data.offset_data + data.size > (size := path.stat().st_size):
        raise RecordingError(
            f"{path}: truncated: {data.name} should end at byte {data.offset_data + data.size}, "
            f"the archive at {size}; copy it again"
        )
    return _recording(path, metadata, _Stretch(path, data.offset_data, data.size), overrides)


def _archive_members(path: Path, archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The metadata and the samples of the archive's only recording, by ending."""
    found: dict[str, tarfile.TarInfo] = {}
    for index, member in enumerate(archive):
        if index >= MAX_MEMBERS or member.size < 0:
            raise RecordingError(f"{path}: member {index} is one too many or damaged; repack it with one recording")
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name[:2]:
            raise RecordingError(f"{path}: member {member.name!r} points outside the archive; do not trust this file")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise RecordingError(f"{path}: member {member.name!r} is a link or device; repack it with plain files")
        if name.suffix in (META, DATA):
            if name.suffix in found:
                raise RecordingError(
                    f"{path}: holds {found[name.suffix].name!r} and {member.name!r}; unpack it and open one of them"
                )
            found[name.suffix] = member
    for ending in (META, DATA):
        if ending not in found:
            raise RecordingError(f"{path}: no {ending} member; pack the recording again with both files")
    return found


def _too_large(path: Path, size: int) -> RecordingError:
    return RecordingError(
        f"{path}: {size} bytes of metadata, above {MAX_METADATA_BYTES}; split the annotations over several files"
    )


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    """SigMF metadata with its three sections present and of the right kind."""
    try:
        metadata = json.loads(content.decode("utf-8-sig"), parse_constant=_refused_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RecordingError(
            f"{path}: the metadata is no valid JSON ({error}); mend it, or export the recording again"
        ) from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("global"), dict):
        raise RecordingError(f"{path}: the metadata has no 'global' object; export the recording again as SigMF")
    for section in ("captures", "annotations"):
        entries = metadata.setdefault(section, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise RecordingError(f"{path}: {section!r} is no list of objects; export the recording again as SigMF")
    return metadata


def _refused_number(text: str) -> float:
    raise ValueError(f"{text} is not a number JSON allows")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is too large a number")
    return value


def _recording(path: Path, metadata: dict[str, Any], stretch: _Stretch, overrides: Overrides) -> Recording:
    about, segments = metadata["global"], metadata["captures"] or [{}]
    dtype, notes = _datatype(path, about)
    if (channels := about.get("core:num_channels", 1)) != 1:
        raise RecordingError(f"{path}: core:num_channels is {channels!r}; write each channel to a recording of its own")
    if overrides.sample_rate_hz is not None:
        rate = float(overrides.sample_rate_hz)
        if about.get("core:sample_rate", rate) != rate:
            notes.append(f"core:sample_rate is {about['core:sample_rate']!r}; {rate:g} Hz was given and is used")
    elif "core:sample_rate" in about:
        rate = checked_rate(path, about["core:sample_rate"], "core:sample_rate")
    else:
        raise RecordingError(f"{path}: core:sample_rate is missing; add it to the metadata, or give it with --rate")
    tuning = _Tuning.of(path, segments, overrides.center_freq_hz)
    if len(set(tuning.centres_hz)) > 1:
        shown = "unknown" if tuning.centre_hz is None else f"{tuning.centre_hz:g} Hz"
        notes.append(f"{len(set(tuning.centres_hz))} centre frequencies in {len(segments)} segments; {shown} is used")
    head = _int_field(path, segments[0], "core:header_bytes")
    tail = _int_field(path, about, "core:trailing_bytes")
    if any(_int_field(path, segment, "core:header_bytes") for segment in segments[1:]):
        raise RecordingError(f"{path}: core:header_bytes in a later segment; write the samples out without headers")
    samples = checked_samples(stretch.path, dtype, stretch.offset + head, stretch.n_bytes - head - tail)
    first_sample = _int_field(path, about, "core:offset")
    annotations, odd = _annotations(metadata["annotations"], tuning, rate, len(samples), first_sample)
    start_time, undated = _start_time(segments[0])
    return Recording(
        path,
        rate,
        tuning.centre_hz,
        samples,
        annotations=annotations,
        notes=(*notes, *undated, *odd),
        start_time_unix_s=start_time,
        description=str(about.get("core:description") or ""),
    )


def _datatype(path: Path, about: dict[str, Any]) -> tuple[np.dtype[Any], list[str]]:
    name = about.get("core:datatype")
    parts = DATATYPE.fullmatch(name) if isinstance(name, str) else None
    if name is None:
        raise RecordingError(f'{path}: core:datatype is missing; add it to the metadata, for example "ci16_le"')
    if not parts or (parts[2] == "f" and parts[3] in ("8", "16")) or (parts[2] != "f" and parts[3] == "64"):
        raise RecordingError(f'{path}: core:datatype {name!r} is not known; correct it, for example to "ci16_le"')
    if parts[1] == "r":
        raise RecordingError(
            f"{path}: core:datatype {name!r} is real samples; convert them to complex IQ, such as cf32_le"
        )
    notes = []
    if parts[3] != "8" and not parts[4]:
        notes.append(f"core:datatype {name!r} does not tell the byte order; little-endian is assumed")
    order = ">" if parts[4] == "_be" else "<"
    return np.dtype(f"{order}{parts[2]}{int(parts[3]) // 8}"), notes


@dataclass(frozen=True)
class _Tuning:
    """Centre frequencies of the capture segments by first sample, and the one taken for the whole recording."""

    starts: tuple[int, ...]
    centres_hz: tuple[float | None, ...]
    centre_hz: float | None

    @classmethod
    def of(cls, path: Path, segments: list[dict[str, Any]], given_hz: float | None) -> "_Tuning":
        starts: list[int] = []
        centres: list[float | None] = []
        for segment in segments:
            starts.append(_int_field(path, segment, "core:sample_start"))
            centre = segment.get("core:frequency")
            known = None if centre is None else checked_number(path, centre, "core:frequency")
            centres.append(centres[0] if known is None and centres else known)
        if starts != sorted(starts):
            raise RecordingError(f"{path}: the capture segments are not in order of core:sample_start; sort them")
        return cls(tuple(starts), tuple(centres), centres[0] if given_hz is None else float(given_hz))

    def shift_at(self, sample: float) -> float:
        """Hz to add to a frequency written at `sample` so that it fits the recording's one centre."""
        segment = max(0, bisect_right(self.starts, sample) - 1)
        return (self.centre_hz or 0.0) - (self.centres_hz[segment] or 0.0)


def _annotations(
    entries: list[dict[str, Any]], tuning: _Tuning, rate: float, n_samples: int, first_sample: int
) -> tuple[tuple[Annotation, ...], list[str]]:
    """The boxes that can be used, cut to the recording, and notes that count the others by their flaw."""
    boxes: list[Annotation] = []
    flaws: Counter[str] = Counter()
    centre = tuning.centre_hz or 0.0
    band = (centre - rate / 2, centre + rate / 2)
    for entry in entries:
        start, count = _number(entry, "core:sample_start"), _number(entry, "core:sample_count")
        if start is None or ("core:sample_count" in entry and count is None):
            flaws["dropped: no usable core:sample_start or core:sample_count"] += 1
            continue
        shift = tuning.shift_at(start)
        low, high = _number(entry, "core:freq_lower_edge"), _number(entry, "core:freq_upper_edge")
        low, high = band[0] if low is None else low + shift, band[1] if high is None else high + shift
        start -= first_sample
        stop = n_samples if count is None else start + count
        if start >= n_samples or stop <= 0:
            flaws["dropped: outside the recording"] += 1
        elif stop <= start or high <= low:
            flaws["dropped: without extent in time or frequency"] += 1
        elif high <= band[0] or low >= band[1]:
            flaws["dropped: outside the band"] += 1
        else:
            if start < 0 or stop > n_samples:
                flaws["cut to the recording's length"] += 1
            start_s, stop_s = max(0, start) / rate, min(stop, n_samples) / rate
            label, comment = str(entry.get("core:label") or ""), str(entry.get("core:comment") or "")
            boxes.append(Annotation(label, start_s, stop_s, low, high, comment))
    return tuple(boxes), [f"{number} of {len(entries)} annotations {flaw}" for flaw, number in flaws.items()]


def _number(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**62:
        return None
    return value


def _int_field(path: Path, section: dict[str, Any], key: str) -> int:
    value = section.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
        raise RecordingError(f"{path}: {key} is {value!r}; correct it to a whole number from 0 up")
    return value


def _start_time(segment: dict[str, Any]) -> tuple[float | None, list[str]]:
    """Unix seconds of the first sample, and a note where the file's time cannot be read."""
    text = segment.get("core:datetime")
    if text is None:
        return None, []
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.timestamp(), []
    except (ValueError, TypeError, OverflowError):
        return None, [f"core:datetime {text!r} is not an ISO 8601 time; ignored"]
