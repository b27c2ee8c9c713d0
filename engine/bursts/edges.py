"""Bursts found, each once, and their edges moved in to where the strong part begins."""

from dataclasses import dataclass, fields

import numpy as np

from .runs import MOST_LEVELS, Runs, Tables

LEAST_MEANS = 3  # of a burst whose edges are moved, in envelope means


@dataclass(frozen=True)
class Found:
    """Hypotheses in steps of their band's envelope."""

    first: np.ndarray  # int64[N]
    last: np.ndarray  # int64[N], the step after
    band: np.ndarray  # int64[N]
    score: np.ndarray  # float64[N]

    @classmethod
    def none(cls) -> "Found":
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, nothing, np.zeros(0))

    @classmethod
    def joined(cls, parts: "list[Found]") -> "Found":
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def of(self, kept: np.ndarray) -> "Found":
        return Found(self.first[kept], self.last[kept], self.band[kept], self.score[kept])


def best(found: Found, most: int) -> Found:
    """Each burst once, with its highest score, and the best `most` of each band; best first."""
    found = found.of(np.lexsort((-found.score, found.last, found.first, found.band)))
    where = np.column_stack([found.band, found.first, found.last])
    found = found.of(np.concatenate([[True], (where[1:] != where[:-1]).any(axis=1)])[: len(where)])
    found = found.of(np.lexsort((-found.score, found.band)))
    rank = np.arange(len(found.band)) - np.searchsorted(found.band, found.band)
    found = found.of(rank < most)
    return found.of(np.argsort(-found.score, kind="stable"))


def trimmed(found: Found, runs: Runs, tables: Tables, share: float) -> Found:
    """With edges where a burst first and last exceeds `share` of its strong part, as exactly as there are levels."""
    if not len(runs):
        return found
    band = found.band
    level = (tables.levels[band] <= (share * _strong(found, tables))[:, None]).sum(axis=1) - 1
    section = band * MOST_LEVELS + level.clip(0)
    base = np.arange(len(tables.length) * MOST_LEVELS) * (int(tables.length.max()) + 2)  # sections one after another
    starts, stops = runs.first + base[runs.section], runs.last + base[runs.section]
    at = np.searchsorted(stops, found.first + base[section], side="right").clip(0, len(runs) - 1)
    to = np.searchsorted(starts, found.last + base[section], side="left") - 1
    first, last = np.maximum(found.first, runs.first[at]), np.minimum(found.last, runs.last[to])
    good = (level >= 0) & (runs.section[at] == section) & (runs.section[to] == section) & (last > first)
    good &= found.last - found.first >= LEAST_MEANS * tables.mean[band]
    return Found(np.where(good, first, found.first), np.where(good, last, found.last), band, found.score)


def _strong(found: Found, tables: Tables) -> np.ndarray:
    """float64[N]: mean power of each burst, weighed by power itself, so that gaps inside do not count."""
    span = np.diff(tables.place)
    power = np.maximum(np.diff(tables.energy), 0) / np.maximum(span, 1)
    scale = max(float(power.max(initial=0)), 1e-300)
    squares = np.concatenate([[0.0], np.cumsum((power / scale) ** 2 * span)])
    offset = tables.offset[found.band]
    square = np.interp(found.last + offset, tables.place, squares) - np.interp(
        found.first + offset, tables.place, squares
    )
    total = tables.until(found.band, found.last) - tables.until(found.band, found.first)
    return np.asarray(scale * square / np.maximum(total / scale, 1e-30))
