"""Typed heads: one signal type each, a linear discriminant of described candidates, combined with how well a box fits.

The score is the product of two probabilities, that the type is the head's and that the box fits, mapped so that 0.5
is the head's operating point.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from .second_look import Described
from .second_look.model import EMBEDDED

TYPED: Final = {
    "weight": (EMBEDDED,),  # of the candidate's values in the common metric
    "operating": (3,),  # offset and slope of the type's logit; threshold of the log of the product
}
MOST_LOGIT: Final = 60.0


@dataclass(frozen=True, eq=False)
class TypedStack:
    """The typed heads of one contract, stacked."""

    weight: np.ndarray  # float32[H, EMBEDDED]
    operating: np.ndarray  # float32[H, 3]


def scores(found: Described, stack: TypedStack) -> np.ndarray:
    """float32[H, S] in 0..1 of S described candidates; 0.5 is each head's operating point."""
    offset, slope, threshold = (stack.operating[:, k : k + 1].astype(np.float64) for k in range(3))
    log_score = log_product(stack.weight @ found.embedded.T, offset, slope, found.fit)
    return np.asarray(1 / (1 + np.exp(-(log_score - threshold).clip(-MOST_LOGIT, MOST_LOGIT))), np.float32)


def log_product(types: np.ndarray, offset: np.ndarray, slope: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """float64[..., S]: log of the probability of the type times that of the fit. types: [..., S]; fit: logits [S]."""
    return np.asarray(log_sigmoid(slope * (types - offset)) + log_sigmoid(fit))


def log_sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(-np.logaddexp(0, -np.asarray(values, np.float64)))
