"""Runs of an envelope above several levels, as run-length code: nothing after this reads single samples."""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from .envelope import Envelope, levels
from .settings import BurstSettings

MOST_LEVELS: Final = 16  # of a band


@dataclass(frozen=True)
class Runs:
    """Stretches above a level, level by level and in order of time. Times in steps of the band's envelope."""

    first: np.ndarray  # int64[R]
    last: np.ndarray  # int64[R], the step after
    section: np.ndarray  # int64[R]: band * MOST_LEVELS + level
    before: np.ndarray  # float64[R]: energy of the band before `first`
    until: np.ndarray  # float64[R]: energy before `last`

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Profile:
    """An envelope as a piecewise constant function: where it crosses a level, and the energy until there."""

    place: np.ndarray  # int64[P], from 0 to the envelope's length
    energy: np.ndarray  # float64[P]
    levels: np.ndarray  # float32[L], ascending
    floor: float


@dataclass(frozen=True)
class Tables:
    """What is known of each band. Arrays of one value a band, unless said otherwise."""

    length: np.ndarray  # steps
    mean: np.ndarray  # steps that one value is the mean of
    cells: np.ndarray  # bandwidth times a step's duration
    floor: np.ndarray
    levels: np.ndarray  # float32[bands, MOST_LEVELS], ascending, then infinite
    offset: np.ndarray  # of a band's steps among those of all bands
    place: np.ndarray  # int64[P] of all profiles, steps moved by the offset
    energy: np.ndarray  # float64[P] of all profiles
    total: np.ndarray  # float64[P] likewise, one band after another

    @classmethod
    def of(cls, envelopes: list[Envelope], profiles: list[Profile]) -> "Tables":
        length = np.array([len(envelope.power) for envelope in envelopes])
        offset = np.concatenate([[0], np.cumsum(length[:-1] + 1)])
        levels = np.full((len(profiles), MOST_LEVELS), np.inf, np.float32)
        for row, profile in zip(levels, profiles, strict=True):
            row[: len(profile.levels)] = profile.levels
        return cls(
            length,
            np.array([envelope.mean for envelope in envelopes]),
            np.array([envelope.width_hz * envelope.step_s for envelope in envelopes]),
            np.array([profile.floor for profile in profiles]),
            levels,
            offset,
            np.concatenate([profile.place + at for profile, at in zip(profiles, offset, strict=True)]),
            energy := np.concatenate([profile.energy for profile in profiles]),
            np.cumsum(np.maximum(np.diff(energy, prepend=0.0), 0.0)),
        )

    def until(self, band: np.ndarray, step: np.ndarray) -> np.ndarray:
        """float64[N]: energy of bands int64[N] before steps int64[N]."""
        return np.asarray(np.interp(step + self.offset[band], self.place, self.energy))

    def quantiles(self, band: np.ndarray, first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
        """float64[N, count]: steps that share out the energy between first and last of each band evenly."""
        begin, end = (np.interp(step + self.offset[band], self.place, self.total) for step in (first, last))
        wanted = begin[:, None] + (end - begin)[:, None] * ((np.arange(count) + 0.5) / count)
        return np.asarray(np.interp(wanted, self.total, self.place) - self.offset[band][:, None])


def crossings(envelope: Envelope, band: int, settings: BurstSettings) -> tuple[Profile, Runs]:
    """Where band number `band` crosses its levels, and the runs above each of them."""
    power = envelope.power
    cuts, floor = levels(power, settings)
    rank = np.zeros(len(power), np.uint8)  # how many levels a value is above
    for cut in cuts:
        rank += power > cut
    begins = np.concatenate([[0], np.flatnonzero(rank[1:] != rank[:-1]) + 1])
    energy = np.concatenate([[0.0], np.cumsum(np.add.reduceat(power, begins), dtype=np.float64)])
    place = np.append(begins, len(power))
    lit = np.zeros((len(cuts), len(begins) + 2), bool)
    lit[:, 1:-1] = rank[begins] > np.arange(len(cuts))[:, None]
    edges = lit[:, 1:] != lit[:, :-1]
    edges[edges.sum(axis=1) > 2 * settings.most_runs] = False
    level, at = np.nonzero(edges)
    level, first, last = level[::2], at[::2], at[1::2]
    runs = Runs(place[first], place[last], band * MOST_LEVELS + level, energy[first], energy[last])
    return Profile(place, energy, cuts, floor), runs


def together(parts: list[Runs]) -> Runs:
    """The runs of all bands."""
    return Runs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Runs)))
