"""Operating points of typed heads from candidates of recordings that took no part in their training."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.typed import log_product

from .look_table import Table
from .look_types import OF_TYPE, family

SLOPE: Final = 0.15  # of the type's logit
OFFSET_SHARES: Final = (1e-2, 3e-2)  # of nothing and of other types above the offset of the type's logit
SHARES: Final = (1e-3, 1e-2)  # of nothing and of other types above the threshold
NEVER: Final = 30.0  # no negative at all: the log of a product is at most 0


@dataclass(frozen=True)
class Rates:
    """Shares of candidates, by recording, that may be above an operating point."""

    nothing: float = SHARES[0]
    others: float = SHARES[1]


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The least of values float[N] with no more than `share` of the weight float[N] above it; -inf where N is 0."""
    if not len(values):
        return -np.inf
    order = np.argsort(-values, kind="stable")
    above = np.concatenate([[0.0], np.cumsum(weight[order])])[:-1]  # at the first of equal values
    within = above <= share * weight.sum() + 1e-12
    return float(values[order][np.flatnonzero(within)[-1]])


def threshold(values: np.ndarray, source: np.ndarray, nothing: np.ndarray, others: np.ndarray, rates: Rates) -> float:
    """The least value that at most so many negatives exceed; recordings count alike.

    values: float[N]; source: int64[N]; nothing, others: bool[N], the negatives of both kinds.
    """
    found = [-np.inf]
    for rows, share in ((nothing, rates.nothing), (others, rates.others)):
        count = np.bincount(source[rows], minlength=1)
        found.append(weighted_quantile(values[rows], 1 / count[source[rows]], share))
    return max(found)


def operating(
    label: str, types: np.ndarray, fit: np.ndarray, rows: Table, counted: np.ndarray, rates: Rates | None = None
) -> np.ndarray:
    """float32[3], offset, slope and threshold of a head.

    types: float[N], w . x; fit: logits float[N]; counted: bool[N], candidates that a detector would describe, of
    recordings that take part.
    """
    counted = counted & ~rows.ignored
    nothing = counted & rows.asked & (rows.overlap == 0)
    others = counted & (rows.overlap > 0) & ~np.isin(rows.owner, family(label))
    whole = others & (rows.overlap >= OF_TYPE)
    offset = threshold(types, rows.source, nothing, whole, Rates(*OFFSET_SHARES))
    offset = offset if np.isfinite(offset) else 0.0
    product = log_product(types, np.array(offset), np.array(SLOPE), fit)
    least = threshold(product, rows.source, nothing, others, rates or Rates())
    return np.array([offset, SLOPE, least if np.isfinite(least) else -NEVER], np.float32)
