"""Assignment of new samples to training or validation: pure functions of the samples and of earlier assignments."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from engine.errors import InputError

if TYPE_CHECKING:
    from .sample import Sample

TRAIN: Final = "train"
VALIDATION: Final = "validation"
SLACK: Final = 1e-6  # of a window: what rounding may make two neighbours overlap

Group = Sequence["Sample"]  # the windows of one recording
Sides = Mapping[str, str]  # of each sample id


def assign_sides(samples: Group, sides: Sides, remembered: Sides, val_ratio: float, seed: int) -> dict[str, str]:
    """A side for each sample that has none in `sides`. `remembered`: sides of samples before they were removed.

    Raises InputError where a sample asks for another side than its recording's.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.source_key].append(sample)
    found: dict[str, str] = {}
    fresh: dict[str, list[Sample]] = {}
    for key, group in groups.items():
        on = {sides[s.sample_id] for s in group if s.sample_id in sides}
        if len(on) == 2:
            found |= _by_time(group, sides)
        elif (side := _side_of(group, on, remembered)) is not None:
            found |= {s.sample_id: side for s in group if s.sample_id not in sides}
        else:
            fresh[key] = group
    labelled = {key for key, group in groups.items() if any(len(s.own_boxes) for s in group)}
    if len(labelled) == 1 and labelled <= fresh.keys():
        found |= _divided(fresh.pop(*labelled), val_ratio)
    for kind in (labelled, groups.keys() - labelled):
        assigned = [s.sample_id for key in kind - fresh.keys() for s in groups[key]]
        known = [side for sample_id in assigned if (side := found.get(sample_id) or sides.get(sample_id))]
        new = {key: len(fresh[key]) for key in _shuffled(kind & fresh.keys(), seed)}
        validation = _chosen(new, known, val_ratio, both_sides=kind is labelled)
        found |= {s.sample_id: VALIDATION if key in validation else TRAIN for key in new for s in fresh[key]}
    return found


def _shuffled(keys: set[str], seed: int) -> list[str]:
    """Deterministic shuffle by keys and seed."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())


def _chosen(new: Mapping[str, int], known: Sequence[str], val_ratio: float, *, both_sides: bool) -> set[str]:
    """New recordings for validation: taken in order while that brings the share nearer to `val_ratio`.

    new: samples of each; known: the sides of samples assigned earlier. With `both_sides`, neither is left empty
    while there is a recording to give.
    """
    target = val_ratio * (sum(new.values()) + len(known))
    count, chosen = known.count(VALIDATION), set[str]()
    at_most = len(new) - (both_sides and TRAIN not in known)
    for key, size in new.items():
        if len(chosen) < at_most and abs(count + size - target) < abs(count - target):
            chosen.add(key)
            count += size
    if both_sides and not count and at_most > 0:
        chosen.add(min(new, key=lambda key: new[key]))
    return chosen


def _side_of(group: Group, on: set[str], remembered: Sides) -> str | None:
    """Side that a recording has, asks for, or had earlier; None where it is free."""
    wishes = {s.side for s in group if s.side is not None}
    if len(on | wishes) == 2:
        side = min(on or {TRAIN})
        raise _refused(next(s for s in group if s.side not in (None, side)), side)
    once = {remembered[s.sample_id] for s in group if s.sample_id in remembered}
    return next((min(found) for found in (on, wishes, once) if len(found) == 1), None)


def _by_time(group: Group, sides: Sides) -> dict[str, str]:
    """New windows of a recording that was divided in time: before its first window that validates, or after its
    last one that trains."""
    train = [s for s in group if sides.get(s.sample_id) == TRAIN]
    validation = [s for s in group if sides.get(s.sample_id) == VALIDATION]
    found = {}
    for sample in sorted((s for s in group if s.sample_id not in sides), key=_when):
        if _before(sample, validation):
            side, assigned = TRAIN, train
        elif all(_before(other, [sample]) for other in train):
            side, assigned = VALIDATION, validation
        else:
            raise InputError(
                f"sample {sample.sample_id}: its window reaches into training and validation of {sample.source_capture}"
                f"; remove it with `g20 samples remove {sample.signal} {sample.sample_id}`"
            )
        if sample.side not in (None, side):
            raise _refused(sample, side)
        assigned.append(sample)
        found[sample.sample_id] = side
    return found


def _divided(group: Group, val_ratio: float) -> dict[str, str]:
    """The windows of one recording, the late ones for validation, cut where no window reaches over the cut."""
    ordered = sorted(group, key=_when)
    cuts = []
    for cut in range(1, len(ordered)):
        early, late = ordered[:cut], ordered[cut:]
        if all(any(len(s.own_boxes) for s in part) for part in (early, late)) and all(_before(s, late) for s in early):
            cuts.append(cut)
    if not cuts:
        raise InputError(
            f"{ordered[0].signal}: the windows of {ordered[0].source_capture} cannot be divided in time with labelled "
            "ones on both sides: add a second recording with `g20 samples add`"
        )
    best = min(cuts, key=lambda cut: abs(len(ordered) - cut - val_ratio * len(ordered)))
    return {s.sample_id: TRAIN if place < best else VALIDATION for place, s in enumerate(ordered)}


def _when(sample: "Sample") -> tuple[float, str]:
    return sample.time_offset_sec, sample.sample_id


def _before(sample: "Sample", others: Group) -> bool:
    end_s = sample.time_offset_sec + sample.duration_sec * (1 - SLACK)
    return all(end_s <= other.time_offset_sec for other in others)


def _refused(sample: "Sample", side: str) -> InputError:
    return InputError(
        f"sample {sample.sample_id} asks for {sample.side}, but its recording {sample.source_capture} stands on {side}"
        f", and windows of one recording stay together: remove it with `g20 samples remove {sample.signal} "
        f"{sample.sample_id}`, and add it again for {side}"
    )
