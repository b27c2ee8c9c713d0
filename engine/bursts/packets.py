"""Bursts: runs above a level joined over gaps of every length, each scored by its contrast and its inner gaps.

At each level the shortest gaps close first, so the groups of one level are a tree over its runs (single linkage in one
dimension); every node is a hypothesis. All levels of all bands close their gaps at once, and only the groups that are
left go on.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.spectrogram import ParallelMap

from .edges import Found, best, trimmed
from .envelope import Envelope
from .runs import MOST_LEVELS, Runs, Tables, crossings, together
from .settings import BurstSettings

FAR: Final = 10**9  # steps: nothing beside this group
BORDER: Final = 99  # class of a gap between two levels or bands
LONG_POWER: Final = 0.15  # of the duration beyond which a burst hardly gains


@dataclass(frozen=True)
class Bursts:
    """Hypotheses, best first. Times in seconds from the capture's start."""

    span_s: np.ndarray  # float64[N, 2]: start and stop
    found: Found  # which of the envelopes, steps, score
    tables: Tables
    step_s: np.ndarray  # float64[N]
    first_s: np.ndarray  # float64[N]: time of step 0

    def strong_s(self, chosen: np.ndarray, count: int) -> np.ndarray:
        """float64[chosen, count]: times at which there is power, the more the denser."""
        found = self.found.of(chosen)
        steps = self.tables.quantiles(found.band, found.first, found.last, count)
        return np.asarray(steps * self.step_s[chosen, None] + self.first_s[chosen, None])


@dataclass(frozen=True)
class _Groups(Runs):
    """Runs joined over gaps of up to some class; see `_closed`."""

    inner: np.ndarray  # int64[R]: largest gap inside
    left: np.ndarray  # int64[R]: steps to the group before
    right: np.ndarray  # int64[R]: and after
    kind: np.ndarray  # int64[R]: class of the gap on the right
    fresh: np.ndarray  # bool[R]: joined just now

    @property
    def band(self) -> np.ndarray:
        return np.asarray(self.section // MOST_LEVELS)

    def of(self, kept: np.ndarray) -> "_Groups":
        return _Groups(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


def bursts(envelopes: list[Envelope], duration_s: float, settings: BurstSettings, parallel_map: ParallelMap) -> Bursts:
    """The best hypotheses of each band, all together."""
    parts = list(parallel_map(lambda band, _: crossings(envelopes[band], band, settings), len(envelopes), 1))
    runs, tables = together([part for _, part in parts]), Tables.of(envelopes, [profile for profile, _ in parts])
    found = _hypotheses(runs, tables, settings)
    found = best(trimmed(best(found, settings.per_band), runs, tables, settings.trim), settings.per_band)
    band = found.band
    step_s, first_s = (np.array([getattr(e, name) for e in envelopes])[band] for name in ("step_s", "first_s"))
    start = np.where(found.first == 0, 0.0, found.first * step_s + first_s)
    stop = np.where(found.last == tables.length[band], duration_s, found.last * step_s + first_s)
    return Bursts(np.column_stack([start, np.minimum(stop, duration_s)]), found, tables, step_s, first_s)


def _hypotheses(runs: Runs, tables: Tables, settings: BurstSettings) -> Found:
    """Every group of every level that stands out."""
    groups = _apart(runs, tables)
    found = [Found.none()]
    while len(groups):
        crowd = np.bincount(groups.section)[groups.section] > settings.most_groups
        lasting = (groups.last - groups.first) * tables.cells[groups.band] >= settings.fewest_cells
        new = groups.of(groups.fresh & lasting & ~crowd)
        score = _scores(new, tables, settings)
        good = score > 0
        found.append(Found(new.first[good], new.last[good], new.band[good], score[good]))
        shortest = int(groups.kind.min())
        if shortest == BORDER:
            break
        groups = _closed(groups, shortest)
    return Found.joined(found)


def _apart(runs: Runs, tables: Tables) -> _Groups:
    """Each run a group of its own. Gaps of up to the moving mean times 1, 2, 4 ... are of class 1, 2, 3 ... ."""
    band = runs.section // MOST_LEVELS
    border = runs.section[1:] != runs.section[:-1]
    between = runs.first[1:] - runs.last[:-1]
    begins, ends = np.concatenate([[True], border]), np.concatenate([border, [True]])
    rest = tables.length[band] - runs.last
    left = np.where(begins, np.where(runs.first > 0, runs.first, FAR), np.concatenate([[0], between]))
    right = np.where(ends, np.where(rest > 0, rest, FAR), np.concatenate([between, [0]]))
    kind = 1 + np.ceil(np.log2(np.maximum(right / tables.mean[band], 1))).astype(np.int64)
    parts = (runs.first, runs.last, runs.section, runs.before, runs.until)
    nothing, all_new = np.zeros(len(runs), np.int64), np.ones(len(runs), bool)
    return _Groups(*parts, nothing, left, right, np.where(ends, BORDER, kind), all_new)


def _closed(groups: _Groups, kind: int) -> _Groups:
    """Groups joined over gaps of up to that class."""
    cut = groups.kind > kind  # between a group and the next
    begin = np.flatnonzero(np.concatenate([[True], cut[:-1]]))
    end = np.append(begin[1:], len(groups)) - 1
    inner = np.maximum.reduceat(np.maximum(groups.inner, np.where(cut, 0, groups.right)), begin)
    firsts, lasts = (groups.first[begin], groups.last[end]), (groups.before[begin], groups.until[end])
    return _Groups(
        *firsts,
        groups.section[begin],
        *lasts,
        inner,
        groups.left[begin],
        groups.right[end],
        groups.kind[end],
        end > begin,
    )


def _scores(groups: _Groups, tables: Tables, settings: BurstSettings) -> np.ndarray:
    """float64[R]: contrast to the gaps beside, more for long groups and for those whose own gaps are shorter than those
    beside; 0 for what does not stand out."""
    band, length = groups.band, groups.last - groups.first
    far = np.maximum(2 * tables.mean[band], length // 4)  # of the gaps beside, so much is compared
    left = np.minimum(np.minimum(groups.left, far), groups.first)
    right = np.minimum(np.minimum(groups.right, far), tables.length[band] - groups.last)
    on_left = (groups.before - tables.until(band, groups.first - left)) / np.maximum(left, 1)
    on_right = (tables.until(band, groups.last + right) - groups.until) / np.maximum(right, 1)
    around = np.maximum(np.maximum(on_left, on_right), tables.floor[band])
    contrast = 10 * np.log10(np.maximum((groups.until - groups.before) / length / around, 1e-30))
    cells = length * tables.cells[band]
    size = np.sqrt(np.minimum(cells, settings.most_cells)) * np.maximum(cells / settings.most_cells, 1) ** LONG_POWER
    apart = np.log2(1 + np.minimum(groups.left, groups.right) / np.maximum(groups.inner, tables.mean[band]))
    score = contrast.clip(0, settings.most_contrast_db) * size * np.minimum(apart, settings.most_octaves)
    return np.where(contrast > settings.least_contrast_db, score, 0.0)
