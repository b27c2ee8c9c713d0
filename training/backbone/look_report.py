"""Detections of described candidates, and their scores by label: F1, precision, recall, false alarms a second."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.boxes import corners, match
from engine.second_look import suppress
from engine.second_look.settings import LookSettings

from .look_data import Seen, Source
from .look_table import FITTING, Table
from .look_types import family


@dataclass
class Tally:
    """Counts of one label over all recordings, each as a head saw it that was trained without it."""

    recordings: int = 0
    truths: int = 0
    found: int = 0  # truths detected
    extra: int = 0  # false alarms in recordings of the label
    alarms: int = 0  # in all others
    family_alarms: int = 0  # those of `alarms` in recordings of the label's family
    seconds: float = 0.0  # of all others

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.extra, 1)

    @property
    def recall(self) -> float:
        return self.found / max(self.truths, 1)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(2 * self.found + self.extra + self.truths - self.found, 1)

    @property
    def alarms_per_s(self) -> float:
        return self.alarms / max(self.seconds, 1e-9)

    def as_json(self) -> dict[str, Any]:
        more = {"f1": self.f1, "precision": self.precision, "recall": self.recall}
        return {**asdict(self), **more, "alarms_per_s": self.alarms_per_s}


def detect(
    over: np.ndarray, rows: Table, described: np.ndarray, settings: LookSettings
) -> list[tuple[int, int, float]]:
    """(row, label, score) of all detections. over: float[L, N], scores less their thresholds; described: bool[N]."""
    found: list[tuple[int, int, float]] = []
    lit = described & (over > 0).any(axis=0)
    for capture in np.unique(rows.capture[lit]):
        mine = np.flatnonzero(lit & (rows.capture == capture))
        label, place = np.nonzero(over[:, mine] > 0)
        score = over[label, mine[place]]
        kept = suppress(rows.boxes[mine[place]], score, settings.suppress_iou, settings.suppress_share)
        found += [(int(mine[place[k]]), int(label[k]), float(score[k])) for k in kept]
    return found


def tallies(found: Sequence[tuple[int, int, float]], rows: Table, labels: Sequence[str]) -> dict[str, Tally]:
    """By label. Incomplete recordings without any box say nothing of false alarms."""
    tally = {label: Tally() for label in labels}
    by_place: dict[tuple[int, str], list[tuple[int, float]]] = {}
    for row, place, score in found:
        by_place.setdefault((int(rows.capture[row]), labels[place]), []).append((row, score))
    number = 0
    for source in rows.sources:
        judged = source.kind != "scene" and (source.complete or bool(source.labels))
        for seen in source.captures:
            for label in labels if judged else ():
                here = by_place.get((number, label), [])
                _count(tally[label], label, source, seen, here, rows)
            number += 1
        for label in source.labels & set(labels) if judged else ():
            tally[label].recordings += 1
    return tally


def _count(tally: Tally, label: str, source: Source, seen: Seen, here: list[tuple[int, float]], rows: Table) -> None:
    chosen = np.array([row for row, _ in here], np.int64)
    score = np.array([value for _, value in here])
    if label not in source.labels:
        alarms = int((~rows.ignored[chosen]).sum())
        tally.alarms += alarms
        tally.family_alarms += alarms if source.labels & set(family(label)) else 0
        tally.seconds += float(seen.valid_s)
        return
    truths = seen.truths[seen.labels == label]
    pairs = match(corners(truths), corners(rows.boxes[chosen]), score, FITTING) if len(chosen) else []
    wrong = set(range(len(chosen))) - {box for _, box in pairs}
    tally.truths += len(truths)
    tally.found += len(pairs)
    tally.extra += sum(not rows.ignored[chosen[box]] for box in wrong)


def text(tally: dict[str, Tally], title: str) -> str:
    """A table to read."""
    lines = [f"{title}\n{'label':18}{'rec':>4}{'n':>5}{'P':>6}{'R':>6}{'F1':>6}{'FA':>5}{'FA/s':>7}"]
    for label, each in sorted(tally.items()):
        shown = f"{each.precision:6.2f}{each.recall:6.2f}{each.f1:6.2f}{each.alarms:5d}{each.alarms_per_s:7.3f}"
        lines.append(f"{label:18}{each.recordings:4d}{each.truths:5d}{shown}")
    return "\n".join([*lines, summary(tally)])


def summary(tally: dict[str, Tally]) -> str:
    """Mean F1 and false alarms a second of all heads together."""
    rows = list(tally.values())
    mean = float(np.mean([each.f1 for each in rows])) if rows else 0.0
    alarms, related = (sum(getattr(each, name) / max(each.seconds, 1e-9) for each in rows) for name in
                       ("alarms", "family_alarms"))  # fmt: skip
    return f"mean F1 {mean:.3f}; all heads {alarms:.2f} FA/s, of them {related:.2f} inside families"
