"""Train/validation splits of samples: `splits/vN.json`, each version an extension of the one before.

A sample never changes side, so that a head is measured on what no earlier head was trained on. Windows of one
recording are on one side, for they show the same transmitter and channel. New samples are assigned by
its content and the seed alone, whatever the order it came in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from engine.errors import InputError, StoreError
from engine.store.files import read_json, write_json
from engine.store.history import now

from .placement import TRAIN, VALIDATION, assign_sides
from .sample import Sample

MIN_LABELLED: Final = 5  # images with at least one box of the signal
NOT_INDEPENDENT: Final = (
    "training and validation are windows of one recording, apart in time: the validation is not independent"
)


@dataclass(frozen=True)
class Split:
    """One version of a signal's split. The samples are ids, sorted."""

    version: int
    created_at: str
    train_samples: tuple[str, ...]
    val_samples: tuple[str, ...]
    val_ratio: float
    random_seed: int
    parent_version: int | None
    samples_added: int
    notes: str

    @property
    def sides(self) -> dict[str, str]:
        return dict.fromkeys(self.train_samples, TRAIN) | dict.fromkeys(self.val_samples, VALIDATION)


def current_split(
    signal: str,
    samples: Sequence[Sample],
    folder: Path,
    *,
    val_ratio: float = 0.2,
    seed: int = 42,
    allow_shared_source: bool = False,
) -> Split:
    """The split of `samples`, all that a signal has now: the last version in `folder`, or a new one where samples
    came or went. The caller holds the lock of the samples' store.

    Raises InputError on fewer than five labelled samples, on labelled samples of one recording only (unless
    `allow_shared_source`: then they are divided in time, and `notes` records it), where a side has no labelled
    sample, and where a sample asks for another side than its recording's.
    """
    if not 0 < val_ratio < 1:
        raise InputError(f"val_ratio is {val_ratio!r}; give a share above 0 and below 1, such as 0.2")
    _enough(signal, samples, allow_shared_source)
    last = last_split(folder)
    before = {} if last is None else last.sides
    sides = {s.sample_id: before[s.sample_id] for s in samples if s.sample_id in before}
    sides |= assign_sides(samples, sides, _remembered(folder), val_ratio, seed)
    for side in (TRAIN, VALIDATION):
        if not any(sides[s.sample_id] == side for s in samples if len(s.own_boxes)):
            raise InputError(
                f"{signal}: no labelled sample is left for {side}, and a sample never changes side: add another "
                f"recording with `g20 samples add {signal} FILE --side {side}`"
            )
    on_side = {side: {s.source_key for s in samples if sides[s.sample_id] == side} for side in (TRAIN, VALIDATION)}
    notes = NOT_INDEPENDENT if on_side[TRAIN] & on_side[VALIDATION] else ""
    return _next(folder, last, sides, val_ratio, seed, notes)


def last_split(folder: Path) -> Split | None:
    """The newest version in a signal's `splits` folder; None before the first."""
    versions = _versions(folder)
    return _read(folder / f"v{versions[-1]}.json") if versions else None


def drop_samples(folder: Path, removed: set[str]) -> None:
    """Drops removed samples from the split, as a new version where the last one has any of them."""
    last = last_split(folder)
    if last is not None and removed & last.sides.keys():
        sides = {sample_id: side for sample_id, side in last.sides.items() if sample_id not in removed}
        _next(folder, last, sides, last.val_ratio, last.random_seed, last.notes)


def _enough(signal: str, samples: Sequence[Sample], allow_shared_source: bool) -> None:
    labelled = [s for s in samples if len(s.own_boxes)]
    if (count := len(labelled)) < MIN_LABELLED:
        raise InputError(
            f"{signal} has {count} labelled samples; at least {MIN_LABELLED} are needed: "
            "add more with `g20 samples add`"
        )
    if len({s.source_key for s in labelled}) == 1 and not allow_shared_source:
        raise InputError(
            f"{signal}: all {count} labelled samples are of one recording, {labelled[0].source_capture}, and its "
            "windows cannot both train and measure a head: add a second recording with `g20 samples add`, or allow "
            "a validation that is not independent with --allow-one-recording"
        )


def _next(folder: Path, last: Split | None, sides: Mapping[str, str], val_ratio: float, seed: int, notes: str) -> Split:
    """Writes the next version, unless `sides` are those of the last one."""
    if last is not None and last.sides == sides:
        return last
    added = len(sides.keys() - (last.sides.keys() if last else set()))
    train, validation = (tuple(sorted(i for i in sides if sides[i] == side)) for side in (TRAIN, VALIDATION))
    version = max(_versions(folder), default=0) + 1
    parent = last.version if last else None
    split = Split(version, now(), train, validation, val_ratio, seed, parent, added, notes)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"v{version}.json", asdict(split))
    return split


def _remembered(folder: Path) -> dict[str, str]:
    """The last side of every sample that any version holds, those since removed included."""
    known: dict[str, str] = {}
    for version in _versions(folder):
        known |= _read(folder / f"v{version}.json").sides
    return known


def _versions(folder: Path) -> list[int]:
    names = (path.stem[1:] for path in folder.glob("v*.json"))
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and name[0] != "0")


def _read(path: Path) -> Split:
    found = read_json(path)
    try:
        ids = {key: _ids(found[key]) for key in ("train_samples", "val_samples")}
        split = Split(**{field.name: found[field.name] for field in fields(Split)} | ids)
        if (
            f"v{split.version}" != path.stem
            or isinstance(split.version, bool)
            or set(ids["train_samples"]) & set(ids["val_samples"])
        ):
            raise ValueError("its number is another one, or a sample stands on both sides")
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: not a split ({error}); restore it from a copy") from error
    return split


def _ids(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("samples are no list of ids")
    return tuple(values)
