"""One labelled sample: a window's image, the boxes in it and, from version 2 on, its IQ."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from engine.boxes import to_physical
from engine.contract import IMAGE_SIZE, Contract
from engine.errors import InputError, MismatchError, StoreError
from engine.recordings.annotation import Annotation
from engine.store.files import read_json, write_json

from .images import read_image
from .iq import IqFile, PackedIq, iq_path, read_iq, write_iq
from .windows import OTHER

Side = Literal["train", "validation"]
SIDES: Final[tuple[Side, ...]] = ("train", "validation")
EDGES: Final = ("x_min", "y_min", "x_max", "y_max")
PHYSICAL: Final = ("start_s", "stop_s", "low_hz", "high_hz")
DECIMALS: Final = 3  # of a pixel: finer differences are no other box
MAX_BOXES: Final = 2000
MAX_LABEL: Final = 128  # characters
ROUNDING: Final = 1e-12  # relative, of seconds and hertz written by another machine
MAX_NUMBER: Final = 1e15  # seconds and hertz beyond this are nonsense


@dataclass(frozen=True)
class Box:
    """Edges in pixels of the 1024 x 1024 image, as `engine.boxes` has them."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: str

    @classmethod
    def at(cls, edges: Sequence[float], label: str) -> "Box":
        x_min, y_min, x_max, y_max = edges
        return cls(x_min, y_min, x_max, y_max, label)


@dataclass(frozen=True)
class Sample:
    """A labelled window of a recording. `side` is the side asked for, not the one in the split."""

    sample_id: str
    signal: str
    source_capture: str
    time_offset_sec: float
    duration_sec: float
    center_freq_hz: float | None
    sample_rate_hz: float
    created_at: str
    created_by: str
    contract: Contract
    boxes: tuple[Box, ...]
    side: Side | None
    path: Path  # its JSON
    image_sha256: str = field(default="", repr=False)
    iq_file: IqFile | None = None  # None: version 1, an image only

    def image(self) -> np.ndarray:
        """uint8[1024, 1024], the caller's own. Raises StoreError where the file is not what was added."""
        return read_image(self.path.with_suffix(".npz"), self.image_sha256)

    def iq(self) -> np.ndarray | None:
        """complex64[contract.capture_samples] in the recording's units, the caller's own; None where none was kept.

        Raises StoreError where the file is not what was added.
        """
        packed = self.packed_iq()
        return None if packed is None else packed.unpacked()

    def packed_iq(self) -> PackedIq | None:
        """The IQ as it is kept, integer pairs and their full scale. Raises as `iq` does."""
        return None if self.iq_file is None else read_iq(iq_path(self.path), self.iq_file)

    @property
    def source_key(self) -> str:
        """Identity of the recording; see `source_key` below."""
        return source_key(self.source_capture)

    @property
    def own_boxes(self) -> np.ndarray:
        """float32[N, 4] pixel boxes of the signal."""
        return self._edges(lambda label: label == self.signal)

    @property
    def ignored_boxes(self) -> np.ndarray:
        """float32[N, 4] pixel boxes labelled `other`."""
        return self._edges(lambda label: label == OTHER)

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The boxes in seconds from the recording's start and absolute hertz."""
        shift = np.array([self.time_offset_sec] * 2 + [self.center_freq_hz or 0.0] * 2)
        physical = to_physical(np.array([_edges(box) for box in self.boxes]).reshape(-1, 4), self.contract) + shift
        return tuple(Annotation(box.label, *row) for box, row in zip(self.boxes, physical.tolist(), strict=True))

    def as_json(self) -> dict[str, Any]:
        fields = ("sample_id", "signal", "source_capture", "time_offset_sec", "duration_sec", "center_freq_hz",
                  "sample_rate_hz", "created_at", "created_by", "side", "image_sha256")  # fmt: skip
        boxes = [
            {**dict(zip(EDGES, _edges(box), strict=True)), "label": box.label,
             **{name: getattr(place, name) for name in PHYSICAL}}
            for box, place in zip(self.boxes, self.annotations, strict=True)
        ]  # fmt: skip
        about = {name: getattr(self, name) for name in fields}
        document = {**about, "spectrogram_params": self.contract.as_json(), "boxes": boxes}
        if self.iq_file is not None:
            document |= {"version": 2, "iq": self.iq_file.as_json()}
        return {**document, "sha256": _digest(document)}

    @classmethod
    def read(cls, path: Path, signal: str) -> "Sample":
        """A stored sample. Raises StoreError, naming the file, unless all of it is as it was written."""
        if path.is_symlink():
            raise StoreError(f"{path}: a link; replace it by the file itself")
        found = read_json(path)
        try:
            contract = Contract.from_json(found["spectrogram_params"])
            boxes = tuple(Box.at([_number(box, name) for name in EDGES], _text(box, "label")) for box in found["boxes"])
            if checked_boxes(boxes, "its boxes") != boxes:
                raise ValueError("boxes out of order or outside the image")
            centre = None if found["center_freq_hz"] is None else _number(found, "center_freq_hz")
            if found["signal"] != signal or found["side"] not in (None, *SIDES):
                raise ValueError(f"signal {found['signal']!r:.80}, side {found['side']!r:.80}")
            sample = cls(
                path.stem, signal, _text(found, "source_capture"), _number(found, "time_offset_sec"),
                _number(found, "duration_sec"), centre, _number(found, "sample_rate_hz"), _text(found, "created_at"),
                _text(found, "created_by"), contract, boxes, found["side"], path, _text(found, "image_sha256"),
                _iq_file(found, contract),
            )  # fmt: skip
            named = content_id(sample.image_sha256, boxes, contract.hash, sample.source_capture)
            if (sample.duration_sec, sample.sample_rate_hz) != (contract.capture_s, contract.sample_rate_hz):
                raise ValueError("duration or sample rate are not those of its contract")
            if {found["sample_id"], path.stem} != {named}:
                raise ValueError(f"its content is that of sample {named}")
            _check_placement(sample, found)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, MismatchError) as error:
            raise StoreError(f"{path}: not the sample that was added ({error}); remove it and add it again") from error
        return sample

    def _edges(self, chosen: Any) -> np.ndarray:
        return np.array([_edges(box) for box in self.boxes if chosen(box.label)], np.float32).reshape(-1, 4)


def with_iq(sample: Sample, iq: PackedIq | None) -> Sample:
    """A stored sample; one of version 1 becomes version 2 on disk where IQ is given, under the same id."""
    if iq is None or sample.iq_file is not None:
        return sample
    write_iq(iq_path(sample.path), iq)
    changed = replace(sample, iq_file=iq.about)
    write_json(sample.path, changed.as_json())
    return changed


def checked_boxes(boxes: Iterable[Box], source: str) -> tuple[Box, ...]:
    """`boxes` clipped to the image, rounded, in order, each once. Raises InputError naming one without area there."""
    kept = []
    for box in boxes:
        edges = np.array(_edges(box), np.float64)
        if not isinstance(box.label, str) or not 0 < len(box.label) <= MAX_LABEL:
            raise InputError(f"{source}: {box}: a label is 1 to {MAX_LABEL} characters of text")
        if not np.isfinite(edges).all() or not (edges[2:] > edges[:2]).all():
            raise InputError(f"{source}: {box} has no area; give finite edges with x_min < x_max and y_min < y_max")
        clipped = np.round(edges.clip(0, IMAGE_SIZE), DECIMALS)
        if not (clipped[2:] > clipped[:2]).all():
            raise InputError(f"{source}: {box} has no area within the image, 0 to {IMAGE_SIZE} on both axes")
        kept.append(Box.at(clipped.tolist(), box.label))
    if len(kept) > MAX_BOXES:
        raise InputError(f"{source}: {len(kept)} boxes in one window; at most {MAX_BOXES} are kept: drop the smallest")
    return tuple(sorted(set(kept), key=lambda box: (_edges(box), box.label)))


def content_id(image_sha256: str, boxes: tuple[Box, ...], contract_hash: str, source_capture: str) -> str:
    """Id of a sample: 16 hex digits of the SHA-256 of image, boxes, contract and source."""
    edges = [[*_edges(box), box.label] for box in boxes]
    content = json.dumps([image_sha256, edges, contract_hash, source_key(source_capture)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def source_key(source_capture: str) -> str:
    """Identity of a recording: its fingerprint where there is one, so that a renamed copy is the same."""
    found = re.fullmatch(r"(?s).*#([0-9a-f]{16})", source_capture)
    return found[1] if found else source_capture


def is_number(value: object) -> bool:
    """True for a number within the range of times and frequencies."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def _check_placement(sample: Sample, found: dict[str, Any]) -> None:
    """Raises ValueError unless time offset and centre frequency are those that the sample was written with.

    They fit the boxes in seconds and hertz to a thousandth of a pixel; the digest covers samples without boxes (none
    is in samples of earlier versions).
    """
    stored = np.array([[_number(box, name) for name in PHYSICAL] for box in found["boxes"]]).reshape(-1, 4)
    placed = np.array([[getattr(place, name) for name in PHYSICAL] for place in sample.annotations]).reshape(-1, 4)
    pixel = np.repeat([sample.duration_sec, sample.sample_rate_hz], 2) / IMAGE_SIZE
    if (np.abs(stored - placed) > 10.0**-DECIMALS * pixel + ROUNDING * np.abs(placed)).any():
        raise ValueError("time_offset_sec or center_freq_hz do not fit its boxes in seconds and hertz")
    document = {key: value for key, value in found.items() if key != "sha256"}
    if found.get("sha256", digest := _digest(document)) != digest:
        raise ValueError("a value was edited, for its digest (sha256) is another")


def _iq_file(found: dict[str, Any], contract: Contract) -> IqFile | None:
    """Entry `iq`, which version 2 has and version 1 has not; version 1 does not name itself."""
    version = found.get("version", 1)
    if type(version) is not int or version not in (1, 2):
        raise ValueError(f"version {version!r:.40}; this release reads 1 and 2")
    if (version == 2) != ("iq" in found) or (version == 2 and "sha256" not in found):
        raise ValueError(f"version {version} with other entries than that version has")
    return IqFile.from_json(found["iq"], contract) if version == 2 else None


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _edges(box: Box) -> tuple[float, float, float, float]:
    return (box.x_min, box.y_min, box.x_max, box.y_max)


def _number(values: dict[str, Any], key: str) -> float:
    value = values[key]
    if not is_number(value):
        raise ValueError(f"{key} is {value!r:.80}, not a number")
    return float(value)


def _text(values: dict[str, Any], key: str) -> str:
    value = values[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is {value!r:.80}, not text")
    return value
