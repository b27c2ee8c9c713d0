"""Training loop of one compact head on the frozen backbone's features of its samples.

`train_head` is an iterator of events: the command line, a server and tests consume the same one. Features come
first, computed once per view (`features.py`); after that a step takes milliseconds. A state is kept after every epoch,
so that a killed training goes on where it was.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import InputError
from training.samples.sample import Sample

from .features import Describer
from .trainer import Example, HeadTrainer
from .views import augment_boxes, augment_image, draw_views

MOST_VIEWS: Final = 16  # of one sample


@dataclass(frozen=True)
class Preset:
    """Training schedule. `views`: augmented views of all samples together, so that few samples get more views each."""

    epochs: int
    patience: int
    learning_rate: float
    batch_size: int
    views: int


PRESETS: Final = {
    "fast": Preset(15, 2, 1e-3, 8, 40),
    "balanced": Preset(30, 5, 1e-3, 4, 64),
    "quality": Preset(75, 10, 1e-3, 4, 128),
    "extreme": Preset(150, 20, 5e-4, 2, 256),
}


@dataclass(frozen=True)
class Prepared:
    """Progress: features of `done` views are computed."""

    done: int
    total: int


@dataclass(frozen=True)
class Epoch:
    epoch: int
    total_epochs: int
    train_loss: float
    val_loss: float
    f1_score: float
    precision: float
    recall: float
    is_best: bool
    elapsed_sec: float


@dataclass(frozen=True)
class Cancelled:
    """Training was cancelled: nothing was saved, nothing is promoted."""

    epoch: int


@dataclass(frozen=True)
class Trained:
    """The best head found: float32 tensors of `engine.heads.COMPACT`, rounded to 16 bits."""

    weights: Mapping[str, np.ndarray] = field(repr=False)
    epochs_trained: int
    best_epoch: int
    early_stopped: bool
    train_loss: float
    val_loss: float
    elapsed_sec: float


Event = Prepared | Epoch | Cancelled | Trained


def train_head(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    describer: Describer,
    preset: Preset,
    *,
    bank: Mapping[str, np.ndarray] | None = None,
    seed: int = 42,
    state: Path | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Events up to `Trained`, or to `Cancelled` once `cancelled()` is true (asked before every view and step).

    `bank`: negative feature bank, vectors of other signals and background. `state`: a checkpoint file; a run with the
    same samples, preset, bank and backbone goes on from it, also when it was done; the caller removes it once the head
    is published. Raises InputError without samples on either side, DivergedError on a loss that is no number.
    """
    started = time.monotonic()
    if not train or not validation:
        raise InputError(f"{len(train)} samples to train on, {len(validation)} to validate on; both sides need some")
    examples: list[Example] = []
    checks: list[Example] = []
    each = views_each(preset, len(train))
    plan = [(sample, number, examples) for sample in train for number in range(each)]
    plan += [(sample, 0, checks) for sample in validation]
    for done, (sample, number, side) in enumerate(plan):
        if cancelled():
            yield Cancelled(0)
            return
        side.append(example(sample, number, each, describer))
        yield Prepared(done + 1, len(plan))
    trainer = HeadTrainer(examples, bank or {}, preset.learning_rate, preset.batch_size, seed)
    key = _key([*train, *validation], preset, seed, describer.release.backbone_hash, bank or {})
    trainer.resume(state, key)
    while trainer.epoch < preset.epochs and trainer.stale < preset.patience:
        losses = []
        for loss in trainer.steps():
            losses.append(loss)
            if cancelled():
                yield Cancelled(trainer.epoch)
                return
        trainer.epoch += 1
        scores, val_loss = trainer.validate(checks)
        train_loss = float(np.mean(losses))
        is_best = trainer.keep_if_best(scores.f1, train_loss, val_loss)
        elapsed = time.monotonic() - started
        f1, precision, recall = map(_number, (scores.f1, scores.precision, scores.recall))
        yield Epoch(trainer.epoch, preset.epochs, train_loss, val_loss, f1, precision, recall, is_best, elapsed)
        trainer.save(state, key)
    yield Trained(
        weights=trainer.exported(checks),
        epochs_trained=trainer.epoch,
        best_epoch=trainer.best.epoch,
        early_stopped=trainer.epoch < preset.epochs,
        train_loss=trainer.best.train_loss,
        val_loss=trainer.best.val_loss,
        elapsed_sec=time.monotonic() - started,
    )


def views_each(preset: Preset, samples: int) -> int:
    """Number of views of each sample, the unchanged one included."""
    return max(1, min(MOST_VIEWS, preset.views // samples))


def example(sample: Sample, number: int, views: int, describer: Describer) -> Example:
    """Features of view `number` of a sample; the views are seeded by the sample's id."""
    view = draw_views(views, int(sample.sample_id[:8], 16))[number]
    described = describer.describe(augment_image(sample.image(), view))
    own, ignored = (augment_boxes(boxes, view) for boxes in (sample.own_boxes, sample.ignored_boxes))
    return Example(described, own, ignored)


def _key(
    samples: Sequence[Sample], preset: Preset, seed: int, backbone_hash: str, bank: Mapping[str, np.ndarray]
) -> str:
    """Key of a checkpoint: SHA-256 of samples, preset, seed, backbone and labels of the bank."""
    parts = [*sorted(sample.sample_id for sample in samples), repr(preset), str(seed), backbone_hash, *sorted(bank)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _number(share: float) -> float:
    return 0.0 if np.isnan(share) else float(share)
