"""Runs of an envelope above several levels, as run-length code: nothing after this looks at single samples."""

from dataclasses import dataclass, fields

import numpy as np

from .envelopes import Envelope, levels
from .settings import BurstSettings


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
    """An envelope as piecewise constant function: where it crosses a level, and the energy until there."""

    place: np.ndarray  # int64[P], from 0 to the envelope's length
    energy: np.ndarray  # float64[P]
    levels: np.ndarray  # float32[L], ascending
    floor: float


MOST_LEVELS = 16


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
    return Runs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Runs)))
