"""Rows of described candidates, one table for each contract, and their folds by recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engine.second_look import choose

from .look_data import Looked, Seen, Source

FITTING: Final = 0.5  # IoU
EACH_TRUTH: Final = (4, 3, 5)  # candidates looked at for training: the best, others that fit, pieces
MOST_EXTRA: Final = 90  # of a capture
RANDOM: Final = 8


@dataclass(frozen=True, eq=False)
class Table:
    """N candidates of several sources."""

    source: np.ndarray  # int64[N], index of `names`
    capture: np.ndarray  # int64[N], number of the capture in all sources
    candidate: np.ndarray  # int64[N], of the capture
    boxes: np.ndarray  # float64[N, 4]
    vectors: np.ndarray  # float16[N, VECTOR]
    values: np.ndarray  # float32[N, BOX_VALUES]
    zoomed: np.ndarray  # float16[N, VALUES]
    profiles: np.ndarray  # float16[N, PROFILE_VALUES]
    overlap: np.ndarray  # float64[N], IoU with the truth of a type
    owner: np.ndarray  # str[N], label of that truth, "" for none
    ignored: np.ndarray  # bool[N]
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def scene(self) -> np.ndarray:
        """bool[N]: of a generated scene."""
        return np.asarray(np.array([each.kind == "scene" for each in self.sources], bool)[self.source])

    @property
    def asked(self) -> np.ndarray:
        """bool[N]: rows that tell what fits and what does not."""
        complete = np.array([each.complete for each in self.sources], bool)[self.source]
        return np.asarray(~self.ignored & (complete | (self.overlap > 0)))


def table(sources: Sequence[Source], looked: Mapping[str, Sequence[Looked]] | None, rng: np.random.Generator) -> Table:
    """Rows of what was looked at; with `looked` None a sample of all candidates, without zoom values and profiles."""
    columns: dict[str, list[Any]] = {name: [] for name in Table.__dataclass_fields__ if name != "sources"}
    number = 0
    for index, source in enumerate(sources):
        for place, seen in enumerate(source.captures):
            look = looked[source.name][place] if looked else None
            rows = look.chosen if look else _sample(seen, rng)
            columns["source"].append(np.full(len(rows), index))
            columns["capture"].append(np.full(len(rows), number))
            columns["candidate"].append(rows)
            for name in ("boxes", "vectors", "values", "owner", "ignored"):
                columns[name].append(getattr(seen, name)[rows])
            columns["overlap"].append(seen.best_iou[rows])
            columns["zoomed"].append(look.zoomed if look else np.zeros((len(rows), 0), np.float16))
            columns["profiles"].append(look.profiles if look else np.zeros((len(rows), 0), np.float16))
            number += 1
    return Table(**{name: np.concatenate(parts) for name, parts in columns.items()}, sources=tuple(sources))


def _sample(seen: Seen, rng: np.random.Generator, good: int = 70, poor: int = 60) -> np.ndarray:
    near = seen.best_iou > 0.3
    picked = [rng.permutation(np.flatnonzero(near))[:good], rng.permutation(np.flatnonzero(~near))[:poor]]
    return np.concatenate(picked)


def worth_a_look(seen: Seen, logits: Sequence[np.ndarray], places: int, most_iou: float, seed: int) -> np.ndarray:
    """int64[S]: candidates that first fits (logits float[K] each) choose, and others for training: the best of each
    truth, some that fit it, pieces of it, and some at random."""
    rng = np.random.default_rng([13, seed])
    picked = [choose(seen.boxes, each, most_iou, places) for each in logits if len(each)]
    extra: list[np.ndarray] = []
    best, fitting, pieces = EACH_TRUTH
    for truth in range(seen.overlap.shape[1]):
        mine = seen.overlap[:, truth]
        good = np.flatnonzero(mine >= FITTING)
        extra += [good[np.argsort(-mine[good])][:best], rng.permutation(good)[:fitting]]
        extra.append(rng.permutation(np.flatnonzero((mine > 0) & (mine < FITTING)))[:pieces])
    some = rng.permutation(np.concatenate([np.zeros(0, np.int64), *extra]))[:MOST_EXTRA]
    random = rng.permutation(len(seen.boxes))[:RANDOM]
    return np.unique(np.concatenate([*picked, some, random]).astype(np.int64))


def folds(sources: Sequence[Source], count: int, seed: int = 0) -> np.ndarray:
    """int64[len(sources)]: folds that parallel_map each label's recordings; -1, in no fold, for generated scenes."""
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[int]] = {}
    for index, source in enumerate(sources):
        if source.kind != "scene":
            groups.setdefault((source.contract, min(source.labels, default="")), []).append(index)
    found, place = np.full(len(sources), -1), 0
    for _, members in sorted(groups.items()):
        for index in rng.permutation(members):
            found[index] = place % count
            place += 1
    return found
