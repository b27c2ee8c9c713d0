"""Training of types: the whitened metric of one contract, and one-vs-rest logistic regression in it.

A candidate is of a type from IoU 0.45 on. Others, nothing, and pieces of others are what each type is told from.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from engine.heads import VECTOR
from engine.second_look.model import LookModel
from engine.second_look.settings import LookSettings

from .look_table import Table

OF_TYPE: Final = 0.45  # IoU
NOTHING: Final = ""
UNASKED: Final = "?"
PIECE: Final = "~"  # before the label of the signal that a candidate is a piece of
MOST: Final = {"whole": 80, "nothing": 60, "piece": 40}  # rows of a recording and label
SHRINKAGE: Final = 0.3
PIECE_WEIGHT: Final = 0.5  # of all pieces of a type against its whole signals
POSITIVE_SHARE: Final = 0.25
SCALE: Final = 10.0  # the metric's values are this much too large for the optimiser
DECAY: Final = 1e-3
STEPS: Final = 60
FAMILIES: Final = (
    ("ook_remote", "ook_sensor", "garage_ook", "x10_ook", "ook_led_remote"),
    ("fsk_ism", "fsk_meter", "tpms_fsk", "fsk_doorbell"),
)


def family(label: str) -> tuple[str, ...]:
    """Labels that are not told from each other, the label's own included."""
    return next((each for each in FAMILIES if label in each), (label,))


def classes(rows: Table, seed: int = 0) -> np.ndarray:
    """str[N]: a label, PIECE and a label, NOTHING or UNASKED; so many of each recording at most."""
    rng = np.random.default_rng([17, seed])
    whole = ~rows.ignored & (rows.overlap >= OF_TYPE)
    piece = rows.asked & (rows.overlap > 0) & ~whole
    nothing = rows.asked & (rows.overlap == 0)
    pieces = np.char.add(PIECE, rows.owner.astype("U24"))
    found = np.select([whole, piece, nothing], [rows.owner, pieces, np.full(len(rows), NOTHING)], UNASKED)
    found = np.where(rows.scene, UNASKED, found).astype("U25")
    for source in np.unique(rows.source):
        mine = np.flatnonzero(rows.source == source)
        for name in set(found[mine]) - {UNASKED}:
            kind = "nothing" if name == NOTHING else "piece" if name.startswith(PIECE) else "whole"
            same = rng.permutation(mine[found[mine] == name])
            found[same[MOST[kind] :]] = UNASKED
    return found


def weights(names: np.ndarray, source: np.ndarray) -> np.ndarray:
    """float64[N] of rows: recordings of a class alike, classes alike, pieces less, nothing more; UNASKED 0."""
    found = np.zeros(len(names))
    types = {name for name in names if name not in (NOTHING, UNASKED) and not name.startswith(PIECE)}
    for name in set(names) - {UNASKED}:
        share = max(3.0, len(types) / 3) if name == NOTHING else PIECE_WEIGHT if name.startswith(PIECE) else 1.0
        sources = np.unique(source[names == name])
        for each in sources:
            rows = (names == name) & (source == each)
            found[rows] = share / rows.sum() / len(sources)
    return found


def metric(
    vectors: np.ndarray, zoomed: np.ndarray, names: np.ndarray, source: np.ndarray, contract_hash: str
) -> LookModel:
    """A model without fits, in whose metric the covariance of rows within classes becomes the identity."""
    settings = LookSettings()
    parts = [np.asarray(part, np.float32) for part in (vectors, zoomed)]
    mean = np.concatenate([part.mean(axis=0) for part in parts])
    least = (0.01 * float(parts[0].std()) + 1e-6, 0.01)
    deviation = np.concatenate([part.std(axis=0) + np.float32(add) for part, add in zip(parts, least, strict=True)])
    scaled = ((np.concatenate(parts, axis=1) - mean) / deviation).clip(-settings.clip, settings.clip)
    scaled[:, :VECTOR] *= settings.picture_weight
    weight = weights(names, source)
    covariance, total = np.zeros((scaled.shape[1],) * 2), 0.0
    for name in sorted(set(names) - {UNASKED}):
        rows = np.flatnonzero(names == name)
        if len(rows) < 2 or name.startswith(PIECE):
            continue
        share = (weight[rows] / weight[rows].sum())[:, None]
        apart = scaled[rows] - (share * scaled[rows]).sum(axis=0)
        trust = 40.0 if name == NOTHING else np.sqrt(min(len(rows), 400))
        covariance += trust * ((apart * share).T @ apart)
        total += trust
    covariance /= max(total, 1.0)
    level = np.trace(covariance) / len(covariance)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    values, directions = np.linalg.eigh(covariance)
    whitening = np.asarray(directions / np.sqrt(np.maximum(values, 1e-6)), np.float16).astype(np.float32)
    centre = np.asarray(scaled.mean(axis=0), np.float32)
    return LookModel(settings, contract_hash, {}, mean.astype(np.float32), deviation, whitening, centre)


def train_types(
    embedded: np.ndarray, names: np.ndarray, source: np.ndarray, labels: Sequence[str], families: bool = True
) -> np.ndarray:
    """float32[len(labels), EMBEDDED], weights of types' logits less a constant. embedded: float32[N, EMBEDDED]; names:
    `classes`. With `families`, members of a family and their pieces are no negatives of each other."""
    weight = weights(names, source)
    rows = np.flatnonzero(weight > 0)
    embedded, names, weight = embedded[rows] / SCALE, names[rows], weight[rows] / weight.sum()
    wanted = np.stack([names == label for label in labels], axis=1)
    unasked = np.stack([np.isin(names, _spared(label, families)) for label in labels], axis=1)
    share = np.maximum((wanted * weight[:, None]).sum(axis=0), 1e-12)
    counted = np.where(unasked, 0.0, weight[:, None] * np.where(wanted, POSITIVE_SHARE / share, 1.0))
    x, y, w = (torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in (embedded, wanted, counted))
    slope = torch.zeros(x.shape[1], len(labels), requires_grad=True)
    constant = torch.zeros(len(labels), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [slope, constant], lr=1, max_iter=STEPS, history_size=8, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = x @ slope + constant
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, w, reduction="sum")
        loss = loss + DECAY * (slope**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(slope.detach().numpy().T / np.float32(SCALE))


def _spared(label: str, families: bool) -> list[str]:
    """Classes that a type is not told from."""
    others = [each for each in family(label) if each != label] if families else []
    return [*others, *(PIECE + each for each in others), PIECE + label]
