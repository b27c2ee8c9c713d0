"""Optimisation of a compact head: weights, steps, validation, early stopping and checkpoints."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from engine.boxes import nms
from engine.errors import HydraError
from engine.heads import COMPACT, HIDDEN, MAX_DETECTIONS, NMS_IOU, VECTOR
from network.coding import decode_boxes
from network.compact import raw
from training.evaluation.matching import MIN_SCORE, ImageResult, score
from training.evaluation.report import Scores

from .features import Described
from .loss import head_loss

STEPS_AN_EPOCH: Final = 40  # at least; few samples are repeated
WEIGHT_DECAY: Final = 1e-2
CLIP_NORM: Final = 5.0
WARM_UP_STEPS: Final = 20
DROPOUT: Final = 0.1  # of a vector's values
BANK_ROWS: Final = 256  # of the negative feature bank, in every step
LEAST_SCORE: Final = 0.05  # of a detection in validation
LEAST_TRUTHS: Final = 10  # of the validation set, for it alone to set the operating point
THRESHOLDS: Final = np.linspace(0.25, 0.75, 51)  # that the operating point is chosen from

log = logging.getLogger(__name__)
Weights = dict[str, torch.Tensor]


class DivergedError(HydraError):
    """The loss became NaN or infinite: training stopped, nothing was saved."""


@dataclass(frozen=True)
class Example:
    """Features and boxes of one view of one sample."""

    described: Described
    own: np.ndarray  # float32[M, 4] boxes of the signal, image pixels
    ignored: np.ndarray  # float32[L, 4]


@dataclass(frozen=True)
class Best:
    weights: Weights
    epoch: int
    f1: float
    train_loss: float
    val_loss: float


class HeadTrainer:
    """AdamW training of one head. Vectors are standardised (zero mean, unit deviation); `exported` folds that back."""

    def __init__(
        self,
        examples: Sequence[Example],
        bank: Mapping[str, np.ndarray],
        learning_rate: float,
        batch_size: int,
        seed: int,
    ) -> None:
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.examples, self.batch_size, self.learning_rate = examples, batch_size, learning_rate
        rows = [vectors for vectors in bank.values() if len(vectors)]
        self.bank = np.concatenate(rows) if rows else np.zeros((0, VECTOR), np.float16)
        sampled = np.concatenate([example.described.vectors for example in examples[:64]]).astype(np.float32)
        self.mean, self.std = torch.from_numpy(sampled.mean(0)), torch.from_numpy(sampled.std(0) + 0.1)
        self.weights: Weights = {
            "hidden.weight": torch.randn(VECTOR, HIDDEN) * (2 / VECTOR) ** 0.5,
            "hidden.bias": torch.zeros(1, HIDDEN),
            "out.weight": torch.randn(HIDDEN, 5) * torch.tensor([HIDDEN**-0.5, *[1e-3] * 4]),
            "out.bias": torch.tensor([[-3.0, 0.0, 0.0, 0.0, 0.0]]),
        }
        for weight in self.weights.values():
            weight.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
        self.step_number = self.epoch = self.stale = 0
        self.best = Best({}, 0, -1.0, float("nan"), float("nan"))

    def steps(self) -> Iterator[float]:
        """One epoch: the loss of each step, after it was taken. Raises DivergedError on one that is no number."""
        count = max(STEPS_AN_EPOCH, -(-len(self.examples) // self.batch_size))
        rounds = -(-count * self.batch_size // len(self.examples))
        order = np.concatenate([self.rng.permutation(len(self.examples)) for _ in range(rounds)])
        for number in range(count):
            picked = [self.examples[i] for i in order[number * self.batch_size : (number + 1) * self.batch_size]]
            loss = self._loss(picked, dropout=True)
            if not torch.isfinite(loss):
                raise DivergedError(
                    f"the loss of step {self.step_number} is {float(loss.detach())}; nothing was saved and the active "
                    "version is as it was: train with a lower learning rate, or look at the samples"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * min(1.0, (self.step_number + 1) / WARM_UP_STEPS)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(list(self.weights.values()), CLIP_NORM)
            self.optimizer.step()
            self.step_number += 1
            yield float(loss.detach())

    def _loss(self, examples: Sequence[Example], dropout: bool = False) -> torch.Tensor:
        proposals = torch.from_numpy(np.stack([example.described.proposals for example in examples]))
        vectors = np.stack([example.described.vectors for example in examples])
        logits, deltas = self._raw(self.weights, vectors, dropout)
        truths = [(torch.from_numpy(example.own), torch.from_numpy(example.ignored)) for example in examples]
        loss = head_loss(logits, decode_boxes(proposals, deltas), truths)
        if dropout and len(self.bank):
            rows = self.rng.integers(len(self.bank), size=BANK_ROWS)
            others, _ = self._raw(self.weights, self.bank[rows], dropout)
            loss = loss + functional.binary_cross_entropy_with_logits(others, torch.zeros_like(others))
        return loss

    def _raw(self, weights: Weights, vectors: np.ndarray, dropout: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        normal = (torch.from_numpy(vectors.astype(np.float32)) - self.mean) / self.std
        return raw(functional.dropout(normal, DROPOUT, dropout), weights)

    def validate(self, checks: Sequence[Example]) -> tuple[Scores, float]:
        """Validation scores and loss of the current weights."""
        with torch.no_grad():
            found = [self._detect(self.weights, check) for check in checks]
            loss = float(np.mean([float(self._loss([check])) for check in checks]))
        return score([ImageResult(c.own, *pair, c.ignored) for c, pair in zip(checks, found, strict=True)]), loss

    def _detect(self, weights: Weights, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """Boxes float32[F, 4] and scores float32[F] after NMS, as in the engine."""
        with torch.no_grad():
            logits, deltas = self._raw(weights, example.described.vectors)
            boxes = decode_boxes(torch.from_numpy(example.described.proposals), deltas).numpy()
        scores = torch.sigmoid(logits).numpy()
        likely = np.flatnonzero(scores >= LEAST_SCORE)
        kept = likely[nms(boxes[likely], scores[likely], NMS_IOU)[:MAX_DETECTIONS]]
        return boxes[kept], scores[kept]

    def keep_if_best(self, f1: float, train_loss: float, val_loss: float) -> bool:
        """Keeps the weights if F1 rose, or stayed with a lower loss."""
        f1 = 0.0 if np.isnan(f1) else f1
        better = f1 > self.best.f1 or (f1 == self.best.f1 and val_loss < self.best.val_loss)
        self.stale = 0 if better or self.best.f1 <= 0 else self.stale + 1  # nothing found yet: go on
        if better:
            weights = {name: weight.detach().clone() for name, weight in self.weights.items()}
            self.best = Best(weights, self.epoch, f1, train_loss, val_loss)
        return better

    def exported(self, checks: Sequence[Example]) -> dict[str, np.ndarray]:
        """The best weights as float32 that 16 bits hold exactly, with the best operating point at a score of 0.5."""
        weights = dict(self.best.weights)
        point = self._operating_point(weights, checks)
        shift = torch.tensor([[float(np.log(point / (1 - point))), 0.0, 0.0, 0.0, 0.0]])
        folded = weights["hidden.weight"] / self.std[:, None]
        weights["hidden.bias"] = weights["hidden.bias"] - self.mean[None] @ folded
        weights |= {"hidden.weight": folded, "out.bias": weights["out.bias"] - shift}
        return {name: weights[name].half().float().numpy() for name in COMPACT}

    def _operating_point(self, weights: Weights, checks: Sequence[Example]) -> float:
        """Operating point: median of the score thresholds whose F1 is within 0.003 of the best."""
        judged = list(checks)
        if sum(len(check.own) for check in checks) < LEAST_TRUTHS:
            judged += self.examples[:64]
        found = [(example, *self._detect(weights, example)) for example in judged]
        f1 = np.array(
            [
                # scores moved so that `score`, which counts from MIN_SCORE on, counts from this threshold on
                score([ImageResult(e.own, boxes, scores + (MIN_SCORE - t), e.ignored) for e, boxes, scores in found]).f1
                for t in THRESHOLDS
            ]
        )
        if np.isnan(f1).all():
            return MIN_SCORE
        return float(np.median(THRESHOLDS[f1 >= np.nanmax(f1) - 0.003]))

    def save(self, path: Path | None, key: str) -> None:
        """Writes a checkpoint for `resume`, in one step."""
        if path is None:
            return
        state: dict[str, Any] = {
            "key": key,
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "counts": [self.step_number, self.epoch, self.stale],
            "best": vars(self.best),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)  # noqa: PTH105
        except (OSError, RuntimeError):  # torch reports a full disk as RuntimeError
            log.warning("%s: the training state cannot be kept; a killed training begins again", path, exc_info=True)

    def resume(self, path: Path | None, key: str) -> None:
        """Restores the checkpoint of the same training, if there is one."""
        if path is None or not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
        except Exception:  # cut short by a crash: begin again
            path.unlink()
            return
        if state["key"] != key:
            return
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_number, self.epoch, self.stale = state["counts"]
        self.best = Best(**state["best"])
