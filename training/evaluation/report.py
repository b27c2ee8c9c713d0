"""Evaluation results: precision, recall, F1 and average precision as figures, JSON and tables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 from counts over many images. NaN where the denominator is 0."""

    truths: int
    predictions: int
    true_positives: int

    @property
    def precision(self) -> float:
        return self.true_positives / self.predictions if self.predictions else math.nan

    @property
    def recall(self) -> float:
        return self.true_positives / self.truths if self.truths else math.nan

    @property
    def f1(self) -> float:
        total = self.truths + self.predictions
        return 2 * self.true_positives / total if total else math.nan


@dataclass(frozen=True, eq=False)
class SignalReport:
    """Detection metrics of one signal. NaN where there is nothing to divide by."""

    per_image: np.ndarray  # int64[n, 3]: truths, predictions, true positives, in the order of the images
    strong: Scores  # of truths known to lie 10 dB and more above the noise
    ap50: float  # average precision at IoU 0.5
    ap: float  # mean over IoU 0.50, 0.55 ... 0.95
    by_snr: Mapping[str, tuple[int, int]]  # class: truths, true positives
    by_bandwidth: Mapping[str, tuple[int, int]]
    false_alarms: float  # false positives per capture without any truth
    false_positive_area: float  # share of the image area under detections and outside every truth

    @property
    def scores(self) -> Scores:
        return Scores(*self.per_image.sum(axis=0).tolist())

    def as_json(self) -> dict[str, Any]:
        scores = self.scores
        return {
            "truths": scores.truths,
            "found": scores.predictions,
            "hits": scores.true_positives,
            "precision": _number(scores.precision),
            "recall": _number(scores.recall),
            "f1": _number(scores.f1),
            "truths_from_10_db": self.strong.truths,
            "recall_from_10_db": _number(self.strong.recall),
            "f1_from_10_db": _number(self.strong.f1) if self.strong.truths else None,
            "ap50": _number(self.ap50),
            "ap": _number(self.ap),
            "recall_by_snr": _recalls(self.by_snr),
            "recall_by_bandwidth": _recalls(self.by_bandwidth),
            "false_alarms_per_noise_capture": _number(self.false_alarms),
            "wrongly_lit": _number(self.false_positive_area),
        }


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Detection metrics of every signal, and the confusion between heads and labels."""

    sample_ids: tuple[str, ...]
    noise_captures: int  # of them, those without any truth
    signals: Mapping[str, SignalReport]
    bursts: Mapping[str, int]  # number of truths by label
    confusion: Mapping[str, Mapping[str, int]]  # label of the truth -> head -> number of truths that it detects
    multi_claimed: int  # truths detected by more than one head

    def as_json(self) -> dict[str, Any]:
        """Numbers, None where there is nothing to take a share of; never NaN."""
        return {
            "images": len(self.sample_ids),
            "noise_captures": self.noise_captures,
            "signals": {name: signal.as_json() for name, signal in self.signals.items()},
            "bursts": dict(self.bursts),
            "confusion": {label: dict(heads) for label, heads in self.confusion.items()},
            "two_heads_on_one_burst": self.multi_claimed,
        }

    def as_table(self, title: str = "IoU 0.5, score 0.5") -> Group:
        """Tables for a terminal 80 columns wide: scores, recall by class, and confusion between heads."""
        figures = {name: signal.as_json() for name, signal in self.signals.items()}
        scores = _table(title, "signal", "truths", "prec.", "recall", "F1", "strong", "AP50", "AP", "false", "lit %")
        scores.caption = (
            f"{len(self.sample_ids)} captures, {self.noise_captures} of them without a signal\n"
            "false: alarms in each of these; lit: of the plane, wrongly\n"
            "strong: F1 at 10 dB and more"
        )
        for name, found in figures.items():
            keys = ("precision", "recall", "f1", "f1_from_10_db", "ap50", "ap", "false_alarms_per_noise_capture")
            lit = found["wrongly_lit"]
            shares = [*(found[key] for key in keys), lit if lit is None else 100 * lit]
            scores.add_row(name, str(found["truths"]), *map(_share, shares))
        classes = [
            _by_class(f"Recall by {what} (truths)", {name: found[key] for name, found in figures.items()})
            for what, key in (("SNR", "recall_by_snr"), ("share of the band", "recall_by_bandwidth"))
        ]
        heads = _table("Heads that fire on a burst", "burst", "there", "heads")
        heads.caption = f"more than one head on {self.multi_claimed} bursts"
        for label, row in self.confusion.items():
            fired = ", ".join(f"{name} {count}" for name, count in row.items() if count)
            heads.add_row(label, str(self.bursts[label]), fired or "-")
        return Group(*(table for table in (scores, *classes, heads) if table.row_count))


def _by_class(title: str, figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """One row a signal, one column a class; signals without a truth in any class are left out."""
    labelled = {name: row for name, row in figures.items() if any(cell["truths"] for cell in row.values())}
    table = _table(title, "signal", *next(iter(labelled.values()), ()))
    for name, row in labelled.items():
        cells = (f"{_share(cell['recall'])} ({cell['truths']})" if cell["truths"] else "-" for cell in row.values())
        table.add_row(name, *cells)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, collapse_padding=True, pad_edge=False)
    for heading in headings:
        is_text = heading in ("signal", "burst", "heads")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "heads")
    return table


def _recalls(classes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, float | int | None]]:
    return {
        name: {"truths": truths, "recall": found / truths if truths else None}
        for name, (truths, found) in classes.items()
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
