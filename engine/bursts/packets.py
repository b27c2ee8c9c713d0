"""Bursts: runs above a level joined over gaps of every length, each scored by how well it stands out and hangs together.

At each level the shortest gaps close first, so the groups of one level are a tree over its runs; every node is a
hypothesis. All levels of all bands close their gaps at once, and only the groups that are left go on.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from .envelopes import Envelope
from .runs import MOST_LEVELS, Profile, Runs, crossings, together
from .settings import BurstSettings

FAR: Final = 10**9  # steps: no run beside this one
BORDER: Final = 99  # class of a gap between two sections


@dataclass(frozen=True)
class Bursts:
    """Hypotheses. Times in seconds from the capture's start."""

    span_s: np.ndarray  # float64[N, 2]: start and stop
    band: np.ndarray  # int64[N]: which of the envelopes
    score: np.ndarray  # float64[N]


@dataclass(frozen=True)
class _Tables:
    """What is known of each band, [bands]."""

    length: np.ndarray  # steps
    mean: np.ndarray  # steps
    cells: np.ndarray  # bandwidth times a step's duration
    floor: np.ndarray
    offset: np.ndarray  # of its steps among those of all bands
    place: np.ndarray  # of all profiles: steps, moved by the offset
    energy: np.ndarray  # of all profiles

    def until(self, band: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Energy of a band before a step."""
        return np.interp(step + self.offset[band], self.place, self.energy)


def bursts(envelopes: list[Envelope], duration_s: float, settings: BurstSettings, spread) -> Bursts:
    parts = list(spread(lambda band, _: crossings(envelopes[band], band, settings), len(envelopes), 1))
    profiles, runs = [profile for profile, _ in parts], together([part for _, part in parts])
    tables = _tables(envelopes, profiles)
    first, last, band, score = _hypotheses(runs, tables, settings)
    first, last, band, score = _best(first, last, band, score, settings.per_band)
    first, last = _trimmed(first, last, band, runs, tables, profiles, settings)
    first, last, band, score = _best(first, last, band, score, settings.per_band)
    step_s, first_s = (np.array([getattr(e, name) for e in envelopes]) for name in ("step_s", "first_s"))
    start = np.where(first == 0, 0.0, first * step_s[band] + first_s[band])
    stop = np.where(last == tables.length[band], duration_s, last * step_s[band] + first_s[band])
    return Bursts(np.column_stack([start, np.minimum(stop, duration_s)]), band, score)


def _tables(envelopes: list[Envelope], profiles: list[Profile]) -> _Tables:
    length = np.array([len(e.power) for e in envelopes])
    offset = np.concatenate([[0], np.cumsum(length[:-1] + 1)])
    return _Tables(
        length,
        np.array([e.mean for e in envelopes]),
        np.array([e.width_hz * e.step_s for e in envelopes]),
        np.array([p.floor for p in profiles]),
        offset,
        np.concatenate([p.place + at for p, at in zip(profiles, offset, strict=True)]),
        np.concatenate([p.energy for p in profiles]),
    )


def _hypotheses(runs: Runs, tables: _Tables, settings: BurstSettings) -> tuple[np.ndarray, ...]:
    """first, last, band, score of every group of every level."""
    first, last, section, before, until = runs.first, runs.last, runs.section, runs.before, runs.until
    band = section // MOST_LEVELS
    inner = np.zeros(len(runs), np.int64)
    fresh = np.ones(len(runs), bool)
    left, right, kind = _gaps(first, last, section, tables)
    found = []
    for closed in range(BORDER):
        crowd = np.bincount(section, minlength=1)[section] > settings.most_groups
        new = fresh & ~crowd
        if new.any():
            score = _scores(
                *(part[new] for part in (first, last, band, before, until, left, right, inner)), tables, settings
            )
            good = score > 0
            found.append((first[new][good], last[new][good], band[new][good], score[good]))
        if (kind == BORDER).all():
            break
        if not (kind == closed + 1).any():
            continue
        cut = kind > closed + 1  # between a run and its right neighbour
        begin = np.flatnonzero(np.concatenate([[True], cut[:-1]]))
        end = np.append(begin[1:], len(first)) - 1
        inner = np.maximum.reduceat(np.maximum(inner, np.where(cut, 0, right)), begin)
        fresh = end > begin
        first, last, section, band, before, until = first[begin], last[end], section[begin], band[begin], before[begin], until[end]
        left, right, kind = left[begin], right[end], kind[end]
    if not found:
        return (np.zeros(0, np.int64),) * 3 + (np.zeros(0),)
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _gaps(first, last, section, tables):
    """Steps to the neighbours on the left and right, and the class of the right one: gaps of up to the moving mean
    times 1, 2, 4 ... are of class 1, 2, 3 ... ."""
    band = section // MOST_LEVELS
    border = section[1:] != section[:-1]
    between = first[1:] - last[:-1]
    left = np.where(np.concatenate([[True], border]), np.where(first > 0, first, FAR), np.concatenate([[0], between]))
    rest = tables.length[band] - last
    ends = np.concatenate([border, [True]])
    right = np.where(ends, np.where(rest > 0, rest, FAR), np.concatenate([between, [0]]))
    kind = 1 + np.ceil(np.log2(np.maximum(right / tables.mean[band], 1))).astype(np.int64)
    return left, right, np.where(ends, BORDER, kind)


def _scores(first, last, band, before, until, left, right, inner, tables, settings) -> np.ndarray:
    """float64[N]: contrast to the gaps beside, more for long ones and for those whose own gaps are shorter than those
    beside; 0 for what does not stand out."""
    length = last - first
    far = np.maximum(2 * tables.mean[band], length // 4)
    reach_left, reach_right = np.minimum(np.minimum(left, far), first), np.minimum(np.minimum(right, far), tables.length[band] - last)
    beside_left = (before - tables.until(band, first - reach_left)) / np.maximum(reach_left, 1)
    beside_right = (tables.until(band, last + reach_right) - until) / np.maximum(reach_right, 1)
    beside = np.maximum(np.maximum(beside_left, beside_right), tables.floor[band])
    contrast = 10 * np.log10((until - before) / length / beside + 1e-30)
    cells = length * tables.cells[band]
    apart = np.log2(1 + np.minimum(left, right) / np.maximum(inner, tables.mean[band]))
    size = np.sqrt(np.minimum(cells, settings.most_cells)) * np.maximum(cells / settings.most_cells, 1) ** 0.15
    score = contrast.clip(0, settings.most_contrast_db) * size * np.minimum(apart, settings.most_octaves)
    return np.where(contrast > settings.least_contrast_db, score, 0.0)


def _best(first, last, band, score, most):
    """Each burst once, and the best `most` of each band, best first."""
    order = np.lexsort((-score, last, first, band))
    first, last, band, score = first[order], last[order], band[order], score[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (last[1:] != last[:-1]) | (band[1:] != band[:-1])
    first, last, band, score = first[new], last[new], band[new], score[new]
    order = np.lexsort((-score, band))
    start = np.searchsorted(band[order], band[order])
    order = order[np.arange(len(order)) - start < most]
    order = order[np.argsort(-score[order], kind="stable")]
    return first[order], last[order], band[order], score[order]


def _trimmed(first, last, band, runs, tables, profiles, settings):
    """Edges where a burst first and last exceeds a share of its strong part, as far as the levels tell."""
    strong = _strong(first, last, band, tables)
    level = np.array([len(p.levels) for p in profiles])
    cuts = np.full((len(profiles), MOST_LEVELS), np.inf, np.float32)
    for number, profile in enumerate(profiles):
        cuts[number, : level[number]] = profile.levels
    rank = (cuts[band] <= (settings.trim * strong)[:, None]).sum(axis=1) - 1
    known = np.isin(band * MOST_LEVELS + rank, runs.section) & (rank >= 0)
    base = (np.arange(len(profiles) * MOST_LEVELS) * (int(tables.length.max()) + 2))
    section = (band * MOST_LEVELS + rank.clip(0))
    at = np.searchsorted(runs.last + base[runs.section], first + base[section], side="right").clip(0, len(runs) - 1)
    to = np.searchsorted(runs.first + base[runs.section], last + base[section], side="left") - 1
    begin, end = np.maximum(first, runs.first[at]), np.minimum(last, runs.last[to])
    good = known & (runs.section[at] == section) & (runs.section[to] == section) & (end > begin) & (last - first >= 3 * tables.mean[band])
    return np.where(good, begin, first), np.where(good, end, last)


def _strong(first, last, band, tables):
    """float64[N]: mean power, weighed by power itself, of the pieces that a burst consists of."""
    span = np.diff(tables.place)
    power = np.diff(tables.energy) / np.maximum(span, 1)
    squares = np.concatenate([[0.0], np.cumsum(np.where(power > 0, power, 0) ** 2 * span)])
    total = tables.until(band, last) - tables.until(band, first)
    square = np.interp(last + tables.offset[band], tables.place, squares) - np.interp(first + tables.offset[band], tables.place, squares)
    return square / np.maximum(total, 1e-30)
