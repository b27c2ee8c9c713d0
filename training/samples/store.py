"""Store of labelled samples: windows of recordings, cut as in detection, with boxes of all signals in them.

    training_data/index.json                              signals, rebuilt from what is there
    training_data/signals/<signal>/manifest.json          the signal's samples, likewise
    training_data/signals/<signal>/samples/<id>.npz       `spectrogram` uint8[1024, 1024]
    training_data/signals/<signal>/samples/<id>.iq.npy    the window's IQ, see `iq.py`; not of samples of version 1
    training_data/signals/<signal>/samples/<id>.json      where it comes from, and its boxes
    training_data/signals/<signal>/splits/v1.json         see `splits.py`

A sample is named by its content and never changes, but that IQ may be added to one of version 1. It exists when its
JSON exists, which is written last.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.atomic import sync_folder
from engine.contract import Contract
from engine.errors import InputError, StoreError
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from engine.store.files import read_json, write_json
from engine.store.history import now
from engine.store.locking import writer_lock
from engine.store.reader import checked_name

from .images import SHAPE, image_hash, write_image
from .iq import ENDING, PackedIq, iq_path, own_type, pack, write_iq
from .objects import Physical, objects_of
from .sample import SIDES, Box, Sample, Side, checked_boxes, content_id, is_number, with_iq
from .splits import Split, current_split, drop_samples
from .windows import OTHER, rendered, source_of, windows

__all__ = ["Box", "Sample", "SampleStore"]

SCHEMA: Final = 1
SAMPLE_ID: Final = re.compile(r"[0-9a-f]{16}")


class SampleStore:
    """A folder of samples. Reading never changes it; several processes may add and remove at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(
        self,
        signal: str,
        image: np.ndarray,
        boxes: Iterable[Box],
        *,
        contract: Contract,
        source_capture: str,
        time_offset_sec: float = 0.0,
        center_freq_hz: float | None = None,
        created_by: str = "user",
        side: Side | None = None,
        iq: PackedIq | None = None,
    ) -> Sample:
        """Keeps a window, uint8[1024, 1024], its boxes in image pixels and, where it is given, its IQ.

        What is here already stays as it is, but that a sample without IQ (version 1) gets it (version 2).

        Boxes that stick out are clipped. Raises InputError on another image, on a box that is not finite, has
        no area or lies outside, on a repeat that asks for another side, and on other boxes for a window that is
        here. `side` asks for one side of the split; None leaves it to the split.
        """
        folder = self.folder(signal)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != SHAPE:
            shape = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(f"{source_capture}: the image is {shape}; a sample is uint8{list(SHAPE)}")
        if side not in (None, *SIDES):
            raise InputError(f"{source_capture}: side {side!r} is not known; choose one of {', '.join(SIDES)}, or none")
        if not source_capture or not is_number(time_offset_sec) or not is_number(center_freq_hz or 0.0):
            raise InputError(
                f"{source_capture!r} at {time_offset_sec!r} s, {center_freq_hz!r} Hz: name the recording, and give "
                "numbers that are finite"
            )
        if iq is not None and len(iq.pairs) != (wanted := contract.capture_samples):
            raise InputError(f"{source_capture}: {len(iq.pairs)} samples of IQ; a window has {wanted}: give all of it")
        if signal == OTHER:
            raise InputError(f"signal {OTHER!r}: labels what belongs to no signal; choose another name")
        kept, pixels = checked_boxes(boxes, source_capture), image_hash(image)
        sample_id = content_id(pixels, kept, contract.hash, source_capture)
        path = folder / f"{sample_id}.json"
        with writer_lock(self.path):
            if path.is_file():
                return with_iq(_same_side(self.get(signal, sample_id), side), iq)
            known = self._known(signal)
            same = next((key for key, about in known.items() if about["image_sha256"] == pixels), None)
            if same is not None and (kept or known[same]["own_boxes"]):  # empty windows may well look the same
                raise InputError(
                    f"{source_capture}: its window at {time_offset_sec:g} s is sample {same} with other boxes, or "
                    f"of another source or contract; remove that with `g20 samples remove {signal} {same}`"
                )
            sample = Sample(
                sample_id, signal, source_capture, float(time_offset_sec), contract.capture_s, center_freq_hz,
                contract.sample_rate_hz, now(), created_by, contract, kept, side, path, pixels,
                None if iq is None else iq.about,
            )  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)
            _clean(folder)
            write_image(path.with_suffix(".npz"), image)
            if iq is not None:
                write_iq(iq_path(path), iq)
            write_json(path, sample.as_json())
            self._rebuild(signal, known | {sample_id: _about(sample)})
        return sample

    def add_recording(
        self,
        signal: str,
        recording: str | Path | Recording,
        *,
        contract: Contract,
        limit: int | None = None,
        negatives: int = 0,
        side: Side | None = None,
        boxes_physical: Iterable[Physical] | None = None,
        label: str | None = None,
        created_by: str = "user",
        keep_iq: bool = True,
        on_window: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Sample]:
        """Adds the windows of a recording that show the signal, cut and rendered as in detection.

        At most `limit` of them, and at most `negatives` without it. All annotations of the file become boxes,
        and so do `boxes_physical`: start_s, stop_s, low_hz, high_hz, label, as `Annotation` has them, clipped to
        the recording. `label` is the file's name for the signal. Objects seen by less than a quarter are labelled
        `other`. With `keep_iq` each window's IQ is kept too. Windows that are silent or not finite are passed over.
        Raises InputError where no window would be kept, and, before any is, on a box smaller than a head resolves (see
        `objects_of`). `on_window` gets the numbers of windows done and in all.
        """
        self.folder(signal)  # refused before anything is read
        taken = recording if isinstance(recording, Recording) else open_recording(recording)
        objects = objects_of(taken, boxes_physical or (), contract, signal, label)
        source, added = source_of(taken), list[Sample]()
        left = {True: len(taken) if limit is None else limit, False: negatives}
        total = taken.n_captures(contract)
        for window in windows(taken, contract, objects):
            on_window(window.index, total)
            shown = signal in window.labels
            if left[shown] < 1:
                continue
            iq = taken.capture(contract, window.index).iq
            if (image := rendered(iq, contract)) is None:
                continue
            left[shown] -= 1
            boxes = [Box.at(edges, name) for edges, name in zip(window.boxes.tolist(), window.labels, strict=True)]
            try:
                sample = self.add(
                    signal, image, boxes, contract=contract, source_capture=source, time_offset_sec=window.start_s,
                    center_freq_hz=taken.center_freq_hz, created_by=created_by, side=side,
                    iq=pack(iq, own_type(taken, contract)) if keep_iq else None,
                )  # fmt: skip
            except InputError as error:
                kept = f"; {len(added)} windows of {taken.path.name} before it were added" if added else ""
                raise InputError(f"{error}{kept}") from error
            added.append(sample)
        if not added:
            labels = ", ".join(repr(name) for name in sorted({found.label for found in objects})) or "none"
            raise InputError(
                f"{taken.path}: no window shows {signal!r} (labels in it: {labels}); name its label with --label, "
                "mark it with --box, or keep windows without it with --negatives"
            )
        return added

    def list(self, signal: str) -> list[Sample]:
        """All samples of a signal, by id. Raises StoreError, naming the file, on one that is damaged."""
        folder = self.folder(signal)
        return [Sample.read(folder / f"{sample_id}.json", signal) for sample_id in _ids(folder)]

    def get(self, signal: str, sample_id: str) -> Sample:
        """One sample. Raises StoreError where it is not here, or damaged."""
        return Sample.read(self._path(signal, sample_id), signal)

    def remove(self, signal: str, sample_id: str) -> None:
        """Removes a sample's files, manifest entries and side in the split; damaged ones as well."""
        path = self._path(signal, sample_id)
        with writer_lock(self.path):
            try:
                path.unlink(missing_ok=True)  # from here on it does not exist
                path.with_suffix(".npz").unlink(missing_ok=True)
                iq_path(path).unlink(missing_ok=True)
                sync_folder(path.parent)
            except OSError as error:
                raise StoreError(f"{path}: cannot be removed ({error.strerror or error}); check rights") from error
            drop_samples(self.splits_folder(signal), {sample_id})
            self._rebuild(signal, self._known(signal))

    def signals(self) -> tuple[str, ...]:
        """Names of all signals that have a sample, sorted."""
        found = self.path.glob("signals/*/samples")
        names = (path.parent.name for path in found if _ids(path))
        return tuple(sorted(name for name in names if re.fullmatch(r"[a-z0-9_]{1,64}", name)))

    def folder(self, signal: str, name: str = "samples") -> Path:
        """Folder of a signal's samples, existing or not. Raises StoreError on a bad name or a way out of the store."""
        folder = self.path / "signals" / checked_name(signal) / name
        try:
            inside = folder.resolve() == self.path.resolve() / "signals" / signal / name
        except RuntimeError:  # a circle of links
            inside = False
        if not inside:
            raise StoreError(f"{folder}: leads out of the store; replace the link by the folder itself")
        return folder

    def current_split(
        self, signal: str, *, val_ratio: float = 0.2, seed: int = 42, allow_shared_source: bool = False
    ) -> Split:
        """Split into training and validation samples; see `splits.current_split`, also for what it raises."""
        with writer_lock(self.path):
            return current_split(
                signal,
                self.list(signal),
                self.splits_folder(signal),
                val_ratio=val_ratio,
                seed=seed,
                allow_shared_source=allow_shared_source,
            )

    def splits_folder(self, signal: str) -> Path:
        return self.folder(signal, "splits")

    def _path(self, signal: str, sample_id: str) -> Path:
        if not isinstance(sample_id, str) or not SAMPLE_ID.fullmatch(sample_id):
            raise StoreError(f"sample {sample_id!r}: an id is 16 of 0-9 and a-f; see `g20 samples list {signal}`")
        path = self.folder(signal) / f"{sample_id}.json"
        if not path.is_file() or path.is_symlink():
            raise StoreError(f"{signal}: no sample {sample_id}; see `g20 samples list {signal}`")
        return path

    def _known(self, signal: str) -> dict[str, dict[str, Any]]:
        """Manifest entries of the samples on disk; those in the last manifest are not read again."""
        folder = self.folder(signal)
        try:
            known = read_json(folder.with_name("manifest.json"))["samples"]
            known = {key: about for key, about in known.items() if {*about} == {*_about(None)}}
        except (StoreError, KeyError, TypeError, AttributeError):
            known = {}
        there: dict[str, dict[str, Any]] = {}
        for sample_id in _ids(folder):
            try:
                there[sample_id] = known.get(sample_id) or _about(Sample.read(folder / f"{sample_id}.json", signal))
            except StoreError:  # damaged: `list` says so, and others may still come and go
                there[sample_id] = _about(None)
        return there

    def _rebuild(self, signal: str, samples: dict[str, dict[str, Any]]) -> None:
        """Writes the signal's manifest and the index anew."""
        ordered = dict(sorted(samples.items()))
        manifest = {"schema": SCHEMA, "signal": signal, "labelled": _labelled(samples), "samples": ordered}
        write_json(self.folder(signal).with_name("manifest.json"), manifest)
        signals = {}
        for name in self.signals():
            found = samples if name == signal else self._known(name)
            signals[name] = {"sample_count": len(found), "labelled": _labelled(found)}
        write_json(self.path / "index.json", {"schema": SCHEMA, "last_updated": now(), "signals": signals})


def _labelled(samples: dict[str, dict[str, Any]]) -> int:
    return sum(bool(about["own_boxes"]) for about in samples.values())


def _about(sample: Sample | None) -> dict[str, Any]:
    """Manifest entry of a sample; None is one that cannot be read."""
    fields = ("source_capture", "time_offset_sec", "created_at", "image_sha256")
    if sample is None:
        return dict.fromkeys((*fields, "own_boxes"))
    return {**{name: getattr(sample, name) for name in fields}, "own_boxes": len(sample.own_boxes)}


def _ids(folder: Path) -> list[str]:
    there = (path.stem for path in folder.glob("*.json"))
    return sorted(name for name in there if SAMPLE_ID.fullmatch(name))


def _clean(folder: Path) -> None:
    """Removes what a killed process left: unfinished files, images and IQ without their JSON."""
    there = {*folder.iterdir(), *folder.parent.iterdir()}
    for path in there:
        unfinished = path.name.startswith(".") and path.is_file()
        owner = path.with_name(f"{path.name.removesuffix(ENDING).removesuffix('.npz')}.json")
        if unfinished or (path.name.endswith((".npz", ENDING)) and owner not in there):
            path.unlink(missing_ok=True)


def _same_side(sample: Sample, side: Side | None) -> Sample:
    if side not in (None, sample.side):
        raise InputError(
            f"sample {sample.sample_id} is here already, with side {sample.side or 'left open'}; to move it to {side}, "
            f"remove it first with `g20 samples remove {sample.signal} {sample.sample_id}`"
        )
    return sample
