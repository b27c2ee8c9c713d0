"""Promotion rule: a pure decision, with its reason, on replacing the active version of a head by a new one.

The first version of a signal is promoted from an F1 of 0.30 on. After that both are measured on the same validation
samples: an F1 of 0.95 and more is promoted if it is not below the active one's, a lower one if it rises by at least
0.02; one that finds exactly the same is not. The reason states how sure the difference is: a paired bootstrap over the
samples, and that they are too few where its interval holds 0.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

LEAST_FIRST_F1: Final = 0.30  # below it misses and false positives outnumber true positives by more than 14 to 3
ROUNDING: Final = 1e-9  # 0.82 - 0.80 is a little less than 0.02 in binary


@dataclass(frozen=True, eq=False)
class Measured:
    """One version on a validation set, at score 0.5 and IoU 0.5."""

    f1: float
    precision: float
    recall: float
    per_image: np.ndarray  # int64[n, 3]: truths, predictions, true positives
    sample_ids: tuple[str, ...]  # of the n images, in the same order
    detections: frozenset[tuple[str | int, ...]] | None = None  # sample and box of each, whole pixels; None: not known

    def __post_init__(self) -> None:
        if self.per_image.shape != (len(self.sample_ids), 3):
            raise ValueError(f"per_image is {self.per_image.shape} for {len(self.sample_ids)} samples, not n x 3")

    @property
    def truths(self) -> int:
        return int(self.per_image[:, 0].sum())


@dataclass(frozen=True)
class Policy:
    good_f1: float = 0.95  # from here on it is enough not to be worse
    least_rise: float = 0.02  # of F1, below that
    least_first: float = LEAST_FIRST_F1  # of a version when none is active: a poor head is worse than a missing one
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Decision:
    promote: bool
    reason: str


def decide(
    active: Measured | None,
    candidate: Measured,
    policy: Policy = Policy(),
    *,
    train_sources: Collection[str] = (),
    val_sources: Collection[str] = (),
) -> Decision:
    """Decision on replacing `active` (None: no version yet) by `candidate`. Its reason never contains NaN or infinity.

    `train_sources` and `val_sources` name the recordings that the samples of each side come from; a recording on
    both sides leaks into validation, and the candidate is refused, even a first version.
    """
    shared = sorted({*train_sources} & {*val_sources})
    if shared:
        return _refused(f"{shared[0]} stands in training and in validation; split by recording and train again")
    if active is None:
        return _first(candidate, policy)
    if active.sample_ids != candidate.sample_ids:
        return _refused("the two were measured on different validation samples; measure both on the current ones")
    if not np.array_equal(active.per_image[:, 0], candidate.per_image[:, 0]):
        return _refused("labels changed between the two measurements; measure both again")
    if not candidate.truths:
        return _refused(_standing(candidate))
    for name, version in (("new", candidate), ("active", active)):
        if not 0 <= version.f1 <= 1:
            return _refused(f"the {name} version's F1 is {_in_words(version.f1)}; look at its outputs")
    if candidate.detections is not None and candidate.detections == active.detections:
        return _refused(f"it finds exactly what the active version finds, {_standing(candidate)}")
    return _compared(active, candidate, policy)


def _first(candidate: Measured, policy: Policy) -> Decision:
    if not candidate.truths:
        return _refused(_standing(candidate))
    if not 0 <= candidate.f1 <= 1:
        return _refused(f"the new version's F1 is {_in_words(candidate.f1)}; look at its outputs")
    if candidate.f1 < policy.least_first - ROUNDING:
        what = "it finds nothing, " if not candidate.f1 else ""
        return _refused(
            f"{what}{_standing(candidate)}; a first version needs {policy.least_first:.2f}: "
            "check the labels, or add samples"
        )
    return Decision(True, f"first version, {_standing(candidate)}")


def _compared(active: Measured, candidate: Measured, policy: Policy) -> Decision:
    rise = candidate.f1 - active.f1
    if candidate.f1 >= policy.good_f1 - ROUNDING:
        promote = rise >= -ROUNDING
        rule = f"{policy.good_f1:g} is reached, and it is {'not ' if promote else ''}below the active version"
    else:
        promote = rise >= policy.least_rise - ROUNDING
        rule = f"a rise of {policy.least_rise:g} is asked for below {policy.good_f1:g}"
    figures = f"F1 {candidate.f1:.4f} after {active.f1:.4f}, {rise:+.4f}"
    low, high = f1_interval(active, candidate, policy)
    known = not (math.isnan(low) or math.isnan(high))
    interval = f"{policy.confidence:.0%} interval {low:+.3f} to {high:+.3f}" if known else "no interval"
    sure = f"{interval} over {len(candidate.sample_ids)} samples, {candidate.truths} objects"
    if not (low > 0 or high < 0):
        sure += ", too small to tell the two apart"
    return Decision(promote, f"{'promoted' if promote else 'kept as a candidate'}: {figures} ({sure}); {rule}")


def f1_interval(active: Measured, candidate: Measured, policy: Policy = Policy()) -> tuple[float, float]:
    """Confidence interval (low, high) of the rise of F1 from `active` to `candidate`: paired bootstrap over images.

    Both versions are scored on the same resampled images, so differences in difficulty cancel. NaN for fewer than two
    images. Percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    count = len(candidate.sample_ids)
    if count < 2:
        return math.nan, math.nan
    draws = np.random.default_rng(policy.seed).multinomial(count, np.full(count, 1 / count), policy.resamples)
    rises = _f1(draws @ candidate.per_image) - _f1(draws @ active.per_image)
    rises = rises[np.isfinite(rises)]  # resamples without truths and predictions have no F1
    if not len(rises):
        return math.nan, math.nan
    tail = (1 - policy.confidence) / 2
    low, high = np.quantile(rises, [tail, 1 - tail])
    return float(low), float(high)


def _f1(sums: np.ndarray) -> np.ndarray:
    """float64[R] of sums int64[R, 3] (truths, predictions, true positives); NaN without truths and predictions."""
    total = sums[:, 0] + sums[:, 1]
    f1: np.ndarray = np.divide(2.0 * sums[:, 2], total, out=np.full(len(sums), math.nan), where=total > 0)
    return f1


def _standing(version: Measured) -> str:
    if not version.truths:
        return "nothing to measure it by: the validation samples hold none of this signal; label some"
    return f"F1 {version.f1:.4f} on {len(version.sample_ids)} samples, {version.truths} objects"


def _in_words(f1: float) -> str:
    if math.isnan(f1):
        return "not a number"
    return "infinite" if math.isinf(f1) else f"{f1:g}, not 0 to 1"


def _refused(reason: str) -> Decision:
    return Decision(False, f"kept as a candidate: {reason}")
