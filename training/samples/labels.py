"""Import and export of labels: COCO, as annotation tools read and write it, and SigMF annotations.

COCO is four tables in a JSON; they are read and written here, for the library that would do it brings a video
decoder and OpenCV along and rounds boxes to float32. What COCO has no word for (recording, time, front end) is kept
in the image's entry under its own names; a tool that drops it loses nothing as long as the sample is still here.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from engine.contract import IMAGE_SIZE, Contract
from engine.errors import InputError, MismatchError, StoreError
from engine.recordings.writing import SIGMF_VERSION
from engine.store.files import read_json, write_json

from .images import image_hash
from .sample import Box, Sample, Side, checked_boxes, is_number
from .splits import last_split
from .store import SampleStore
from .windows import OTHER

COCO_JSON: Final = "annotations.json"
EXTRAS: Final = ("source_capture", "time_offset_sec", "center_freq_hz", "created_by")


def coco_out(samples: Iterable[Sample], folder: str | Path) -> Path:
    """Writes `<folder>/annotations.json` and the images as grey PNGs under `<folder>/images`; returns the JSON's path.

    Raises StoreError where the folder cannot be written or a sample's image is damaged.
    """
    from PIL import Image

    folder, samples = Path(folder), list(samples)
    categories = {name: number for number, name in enumerate(sorted({b.label for s in samples for b in s.boxes}), 1)}
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for image_id, sample in enumerate(samples, 1):
            name = f"images/{sample.sample_id}.png"
            Image.fromarray(sample.image()).save(folder / name)
            size = {"file_name": name, "width": IMAGE_SIZE, "height": IMAGE_SIZE}
            extras = {key: getattr(sample, key) for key in EXTRAS} | {"spectrogram_params": sample.contract.as_json()}
            images.append({"id": image_id, **size, **extras})
            for box in sample.boxes:
                width, height = box.x_max - box.x_min, box.y_max - box.y_min
                place = {"bbox": [box.x_min, box.y_min, width, height], "area": width * height, "iscrowd": 0}
                known = {"id": len(annotations) + 1, "image_id": image_id, "category_id": categories[box.label]}
                annotations.append(known | place)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error}); check space and rights") from error
    tables = {
        "info": {"description": "Hydra samples"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    write_json(folder / COCO_JSON, tables)
    return folder / COCO_JSON


def coco_in(
    store: SampleStore,
    signal: str,
    source: str | Path,
    *,
    contract: Contract,
    side: Side | None = None,
    label: str | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sample]:
    """Adds every image of a COCO file (or of the folder that `coco_out` wrote) with its boxes.

    `label` is the file's category for the signal; `on_image` gets the numbers of images done and in all. Images are
    grey PNGs of 1024 x 1024 pixels made by `contract`. An image that is a sample here already keeps its recording, time
    and side, and takes the file's boxes instead of its own. Raises InputError, naming image or annotation, on anything
    else; images before that one are added.
    """
    path = Path(source)
    path = path / COCO_JSON if path.is_dir() else path
    tables = read_json(path)
    categories = {_key(c, "id", path): str(c.get("name")) for c in _table(tables, "categories", path)}
    boxes: dict[int, list[Box]] = defaultdict(list)
    for entry in _table(tables, "annotations", path):
        name = categories.get(_key(entry, "category_id", path))
        if name is None:
            raise InputError(f"{path}: annotation {entry.get('id')!r:.40} is of a category that is not listed; list it")
        name = signal if name == label else OTHER if entry.get("iscrowd") else name
        boxes[_key(entry, "image_id", path)].append(_box(entry, name, path))
    images = {_key(entry, "id", path): entry for entry in _table(tables, "images", path)}
    if unknown := sorted(boxes.keys() - images.keys()):
        raise InputError(f"{path}: annotations of image {unknown[0]}, which is not listed; list it, or drop them")
    split = last_split(store.splits_folder(signal))
    known = {sample.image_sha256: sample for sample in store.list(signal)}
    target = _Target(store, signal, path, contract, side, known, split.sides if split else {})
    added = list[Sample]()
    for image_id, entry in images.items():
        on_image(len(added), len(images))
        added.append(target.add(entry, checked_boxes(boxes[image_id], str(path))))
    return added


def sigmf_out(samples: Iterable[Sample]) -> dict[str, dict[str, Any]]:
    """The boxes as SigMF metadata without samples, one document per source: `{source_capture: metadata}`.

    Sample numbers count at the contract's rate. Raises InputError where the samples of a source differ in rate or
    centre.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.source_capture].append(sample)
    return {source: _document(source, group) for source, group in sorted(groups.items())}


def _document(source: str, group: Sequence[Sample]) -> dict[str, Any]:
    tunings = {(s.sample_rate_hz, s.center_freq_hz) for s in group}
    if len(tunings) > 1:
        raise InputError(f"{source}: its samples differ in rate or centre; export them apart")
    ((rate, centre),) = tunings
    places = {place for sample in group for place in sample.annotations}
    annotations = []
    for place in sorted(places, key=lambda p: (p.start_s, p.low_hz, p.label)):
        start = max(0, round(place.start_s * rate))
        annotations.append(
            {
                "core:sample_start": start,
                "core:sample_count": max(1, round(place.stop_s * rate) - start),
                "core:freq_lower_edge": place.low_hz,
                "core:freq_upper_edge": place.high_hz,
                "core:label": place.label,
            }
        )
    return {
        "global": {
            "core:version": SIGMF_VERSION,
            "core:datatype": "cf32_le",
            "core:sample_rate": rate,
            "core:metadata_only": True,
            "core:description": source,
        },
        "captures": [{"core:sample_start": 0} | ({} if centre is None else {"core:frequency": centre})],
        "annotations": annotations,
    }


def sigmf_write(samples: Iterable[Sample], folder: str | Path) -> list[Path]:
    """Writes what `sigmf_out` gives as `<folder>/<source>.sigmf-meta` each; returns their paths."""
    folder = Path(folder)
    documents = sigmf_out(samples)
    names = [re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r"\.sigmf(-meta|-data)?", "", source)) for source in documents]
    paths = [folder / f"{name[-100:].lstrip('.')}.sigmf-meta" for name in names]
    if len(set(paths)) < len(paths):
        raise InputError(f"{folder}: two sources would be written under one name; export fewer samples at a time")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error}); check rights") from error
    for path, document in zip(paths, documents.values(), strict=True):
        write_json(path, document)
    return paths


@dataclass(frozen=True)
class _Target:
    """Import of one COCO file: target store, contract, and the samples already there."""

    store: SampleStore
    signal: str
    path: Path
    contract: Contract
    side: Side | None
    known: dict[str, Sample]  # by the image's hash; each is taken once
    sides: Mapping[str, Any]  # by sample id

    def add(self, entry: dict[str, Any], boxes: tuple[Box, ...]) -> Sample:
        image = _image(self.path, entry)
        old = self.known.pop(image_hash(image), None)
        if old is not None:
            entry = {**{key: getattr(old, key) for key in EXTRAS}, "spectrogram_params": old.contract.as_json()}
            where = f"{self.path}: sample {old.sample_id}"
        else:
            entry = {"source_capture": entry["file_name"], "created_by": "coco"} | entry
            where = f"{self.path}: image {entry['file_name']!r:.80}"
        self._check(entry, where)
        side, iq = self.side, None
        if old is not None and old.boxes != boxes:  # a sample never changes: this is another one, on the same side
            side, iq = side or self.sides.get(old.sample_id) or old.side, old.packed_iq()
            self.store.remove(self.signal, old.sample_id)
        extras: dict[str, Any] = {key: entry.get(key) for key in EXTRAS} | {
            "time_offset_sec": entry.get("time_offset_sec", 0.0)
        }
        return self.store.add(self.signal, image, boxes, contract=self.contract, side=side, iq=iq, **extras)

    def _check(self, entry: dict[str, Any], where: str) -> None:
        try:
            made = Contract.from_json(entry.get("spectrogram_params", self.contract.as_json()))
        except (MismatchError, AttributeError, TypeError) as error:
            raise InputError(f"{where}: its spectrogram_params cannot be read ({error}); take them out") from error
        if made.hash != self.contract.hash:
            raise InputError(
                f"{where}: made by front-end contract {made.hash}, wanted is {self.contract.hash}; add its recording"
            )
        texts = (entry["source_capture"], entry["created_by"])
        offset, centre = entry.get("time_offset_sec", 0.0), entry.get("center_freq_hz")
        if not all(isinstance(text, str) and text for text in texts) or not (
            is_number(offset) and (centre is None or is_number(centre))
        ):
            raise InputError(f"{where}: one of {', '.join(EXTRAS)} is no text or number; correct it, or take it out")


def _image(path: Path, entry: dict[str, Any]) -> np.ndarray:
    from PIL import Image

    name = entry.get("file_name")
    if not isinstance(name, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise InputError(f"{path}: file_name {name!r:.80} leads out of the folder; put the image beside the JSON")
    file = path.parent / name
    try:
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise InputError(f"{path}: file_name {name!r:.80} leads out of the folder; replace the link by the image")
        with Image.open(file, formats=("PNG",)) as opened:  # reads the header only
            if opened.size != (IMAGE_SIZE, IMAGE_SIZE) or opened.mode not in ("L", "RGB", "RGBA"):
                raise InputError(
                    f"{file}: {opened.mode} of {opened.size[0]} x {opened.size[1]} pixels; a sample is a grey PNG of "
                    f"{IMAGE_SIZE} x {IMAGE_SIZE}: export it at full size"
                )
            return np.asarray(opened.convert("L")).copy()
    except (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError, Warning) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: file_name {name!r:.80} cannot be read as PNG ({error}); export it again") from error


def _box(entry: dict[str, Any], label: str, path: Path) -> Box:
    numbers = entry.get("bbox")
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(is_number, numbers)):
        raise InputError(
            f"{path}: annotation {entry.get('id')!r:.40} has bbox {numbers!r:.80}; give x, y, width and height"
        )
    x, y, width, height = map(float, numbers)
    return Box(x, y, x + width, y + height, label)


def _table(tables: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    rows = tables.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: {name!r} is no list of objects; export it again as COCO")
    return rows


def _key(row: Mapping[str, Any], name: str, path: Path) -> int:
    if type(row.get(name)) is not int:
        raise InputError(f"{path}: {name} is {row.get(name)!r:.40}, not a whole number; export it again as COCO")
    return int(row[name])
