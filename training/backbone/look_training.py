"""Held-out fits and types over all sources: each recording is judged by what was trained without it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from engine.second_look import choose
from engine.second_look.model import Fit, LookModel
from engine.second_look.settings import LookSettings

from .look_data import Source
from .look_fit import FitSettings, by_source, joined, target, train_fit
from .look_table import Table, table
from .look_types import UNASKED, metric, train_types

FIRST: Final = FitSettings(epochs=4)
SECOND: Final = FitSettings(hidden=128, epochs=12, dropped=0.3)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What of the fits is held out: every logit comes from a network that did not see the row's recording."""

    rows: Table
    fold: np.ndarray  # int64[N] of rows, -1 for scenes
    second: np.ndarray  # float32[N]
    described: np.ndarray  # bool[N]: a detector would describe them
    fits: dict[str, Fit]  # trained on everything


def first_logits(sources: Sequence[Source], fold: np.ndarray, settings: LookSettings) -> tuple[Any, Fit]:
    """For each source and capture the held-out logits float32[K] and those of the final fit; and the final fit."""
    rows = table(sources, None, np.random.default_rng(3))
    inputs = joined([rows.vectors, rows.values], settings.picture_weight)
    fits = _by_fold(inputs, rows, fold, FIRST)
    final = fits[-1]

    def logits(source: int, place: int) -> list[np.ndarray]:
        seen = sources[source].captures[place]
        own = joined([seen.vectors, seen.values], settings.picture_weight)
        return [fits[f].logits(own, settings.clip) for f in sorted({int(fold[source]), -1}, reverse=True)]

    found = [[logits(s, c) for c in range(len(source.captures))] for s, source in enumerate(sources)]
    return found, final


def _by_fold(inputs: np.ndarray, rows: Table, fold: np.ndarray, settings: FitSettings) -> dict[int, Fit]:
    """A fit without the recordings of each fold, and at -1 the one of all."""
    row_fold, asked, scene = fold[rows.source], rows.asked, rows.scene
    fits = {}
    for held_out in [-1, *np.unique(fold[fold >= 0]).tolist()]:
        use = asked & ((row_fold != held_out) | (held_out == -1))
        weight = by_source(rows.source[use], scene[use])
        fits[held_out] = train_fit(inputs[use], target(rows.overlap[use]), weight, settings)
    return fits


def fitted(sources: Sequence[Source], looked: Any, first: Any, first_fit: Fit, fold: np.ndarray) -> Fitted:
    """Second fits, and which candidates the first chose."""
    settings = LookSettings()
    rows = table(sources, looked, np.random.default_rng(5))
    inputs = joined([rows.vectors, rows.zoomed, rows.profiles, rows.values], settings.picture_weight)
    fits = _by_fold(inputs, rows, fold, SECOND)
    row_fold = fold[rows.source]
    second = np.zeros(len(rows), np.float32)
    for held_out, fit in fits.items():
        mine = row_fold == held_out
        second[mine] = fit.logits(inputs[mine], settings.clip)
    described, number = np.zeros(len(rows), bool), 0
    chosen: np.ndarray | list[int]
    for source, logits in zip(sources, first, strict=True):
        for seen, each in zip(source.captures, logits, strict=True):
            chosen = choose(seen.boxes, each[0], settings.choose_iou, settings.places) if len(seen.boxes) else []
            described |= (rows.capture == number) & np.isin(rows.candidate, chosen)
            number += 1
    return Fitted(rows, row_fold, second, described, {"first": first_fit, "second": fits[-1]})


def of_contract(found: Fitted, contract: str) -> Fitted:
    """The part that belongs to one contract, without scenes."""
    rows = found.rows
    kept = [s for s, source in enumerate(rows.sources) if source.contract == contract and source.kind != "scene"]
    place = np.full(len(rows.sources), -1)
    place[kept] = np.arange(len(kept))
    use = place[rows.source] >= 0
    first = np.cumsum([0, *(len(source.captures) for source in rows.sources)])
    moved = np.cumsum([0, *(len(rows.sources[s].captures) for s in kept)])
    columns = {name: value[use] for name, value in vars(rows).items() if isinstance(value, np.ndarray)}
    columns["capture"] = columns["capture"] - first[columns["source"]] + moved[place[columns["source"]]]
    columns["source"] = place[columns["source"]]
    part = Table(**columns, sources=tuple(rows.sources[s] for s in kept))
    return replace(found, rows=part, fold=found.fold[use], second=found.second[use], described=found.described[use])


def held_out_types(
    found: Fitted, names: np.ndarray, labels: Sequence[str], contract_hash: str, families: bool = True
) -> np.ndarray:
    """float32[L, N]: w . x of each label by types trained without the row's recording."""
    rows, types = found.rows, np.zeros((len(labels), len(found.rows)), np.float32)
    for held_out in np.unique(found.fold):
        mine, use = found.fold == held_out, (found.fold != held_out) & (names != UNASKED)
        own, weight = train_metric(rows, names, use, labels, contract_hash, families)
        types[:, mine] = weight @ own.embed(rows.vectors[mine], rows.zoomed[mine]).T
    return types


def train_metric(
    rows: Table, names: np.ndarray, use: np.ndarray, labels: Sequence[str], contract_hash: str, families: bool = True
) -> tuple[LookModel, np.ndarray]:
    """A model without fits, and float32[L, EMBEDDED], from the rows bool[N] in use."""
    model = metric(rows.vectors[use], rows.zoomed[use], names[use], rows.source[use], contract_hash)
    embedded = model.embed(rows.vectors[use], rows.zoomed[use])
    return model, train_types(embedded, names[use], rows.source[use], labels, families)
