"""Training job, from samples to a version in the store: train, export, certify, evaluate, publish, promote.

Publishing is tried before training: lock, rights, disk space. Nothing of the store changes before the exported head has
been read back, certified and measured; then the version appears, active or as a candidate, in one step. The training
state is kept until then, so a training whose publishing failed is not trained again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.numpy import save

from engine.errors import InputError, MismatchError, StoreError
from engine.heads import Head
from engine.loading import Loader
from engine.snapshot import stack
from engine.store.registry import Store
from engine.store.release import BackboneRelease
from engine.store.weights import read_weights
from export.certificate import Certificate, Found, certify
from export.to_onnx import tensors_hash
from network.compact import compact_heads

from .evaluation.measuring import Measurement, measure
from .evaluation.promotion import Decision, decide
from .head.features import Describer, read_bank
from .head.loop import PRESETS, Cancelled, Epoch, Prepared, Trained, train_head
from .samples.sample import Sample
from .samples.splits import Split
from .samples.store import SampleStore

CERTIFIED_IMAGES = 8  # of the validation set
CERTIFIED_BOXES = 100  # of an image, the likeliest
ROOM_BYTES = 1 << 20  # of the store's disk; a compact head takes about 100 kB, its history and manifest less


@dataclass(frozen=True)
class Published:
    """Result of a training job: metrics before and after on the same validation samples, and the promotion decision."""

    signal: str
    version: int
    decision: Decision
    before: Measurement | None  # of the version that was active
    after: Measurement
    split: Split
    trained: Trained
    active: int | None  # the version that is active now


class CertificateError(StoreError):
    """An exported head does not find what the trained one finds; publishing it again would fail again."""


JobEvent = Prepared | Epoch | Cancelled | Published


def train_signal(
    signal: str,
    samples: SampleStore,
    store: Store,
    *,
    preset: str = "balanced",
    notes: str = "",
    same_as: Sequence[str] = (),
    allow_one_recording: bool = False,
    seed: int = 42,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[JobEvent]:
    """Trains a compact head for `signal` on the store's backbone and publishes it; events up to `Published`, or to
    `Cancelled`, after which nothing is saved and nothing promoted.

    `same_as`: labels of the negative feature bank that are the same kind of signal and must not serve as negatives.
    Raises InputError on too few or unfit samples, MismatchError on samples of another front end, StoreError when
    this signal is being trained already or the store cannot be written, before training where that shows by then. When
    publishing failed, a call with the same samples and settings publishes without training again.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is not known; choose one of {', '.join(PRESETS)}")
    release = store.release()
    store.probe(ROOM_BYTES)
    work = samples.path / "jobs" / signal
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(f"{signal} is being trained by another process; wait for it, or cancel it") from error
    try:
        split = samples.current_split(signal, allow_shared_source=allow_one_recording)
        train = [_fitting(samples.get(signal, name), release) for name in split.train_samples]
        validation = [_fitting(samples.get(signal, name), release) for name in split.val_samples]
        bank = read_bank(release)
        unknown = sorted(set(same_as) - set(bank))
        if unknown:
            raise InputError(
                f"--same-as {unknown[0]}: the bank has {', '.join(filter(None, sorted(bank))) or 'nothing'}"
            )
        others = {label: rows for label, rows in bank.items() if label not in (signal, *same_as)}
        state = work / "state.pt"
        with Describer(release, samples.path / "cache") as describer:
            for event in train_head(
                train, validation, describer, PRESETS[preset], bank=others, seed=seed, state=state, cancelled=cancelled
            ):
                if isinstance(event, Trained):
                    with _removed_when_done(state):
                        published = _publish(signal, event, train, validation, split, describer, store, preset, notes)
                    yield published
                    return
                yield event
                if isinstance(event, Cancelled):
                    state.unlink(missing_ok=True)
                    return
    finally:
        lock.release()


@contextmanager
def _removed_when_done(state: Path) -> Iterator[None]:
    """Removes a training state after publishing, or after a failure that the same weights would meet again."""
    try:
        yield
    except CertificateError:
        state.unlink(missing_ok=True)
        raise
    state.unlink(missing_ok=True)


def _fitting(sample: Sample, release: BackboneRelease) -> Sample:
    if sample.contract.hash != release.contract.hash:
        raise MismatchError(
            f"sample {sample.sample_id} was made with front-end contract {sample.contract.hash}, the store has "
            f"{release.contract.hash}; remove it, or train with the --models it was made for"
        )
    return sample


def _publish(
    signal: str,
    trained: Trained,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    split: Split,
    describer: Describer,
    store: Store,
    preset: str,
    notes: str,
) -> Published:
    release = describer.release
    weights_file = save({name: array.astype(np.float16) for name, array in trained.weights.items()})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(weights_file)
        candidate = Head(signal, 0, "compact", None, read_weights(path, "compact"))
    certificate = certify_head(candidate, validation[:CERTIFIED_IMAGES], describer)
    if not certificate.passed:
        raise CertificateError(
            f"{signal}: the exported head finds something else than torch: {certificate}; nothing was saved"
        )
    previous = store.history(signal)["active_version"] if signal in store.signals() else None
    fits = previous is not None and signal not in store.incompatible()  # a head of another backbone is no rival
    active = store.head(signal, release) if fits else None
    measured = measure(release, [head for head in (active, candidate) if head], validation)
    after, before = measured[0], measured[active.version] if active else None
    sources = ({s.source_key for s in train}, {s.source_key for s in validation})
    shared_allowed = bool(sources[0] & sources[1]) and "independent" in split.notes
    decision = decide(
        before.measured if before else None,
        after.measured,
        train_sources=set() if shared_allowed else sources[0],
        val_sources=sources[1],
    )
    manifest = {
        "head_type": "compact",
        "backbone_hash": release.backbone_hash,
        "head_hash": tensors_hash({name: torch.from_numpy(array) for name, array in candidate.weights.items()}),
        "contract": release.contract.as_json(),
        "metrics": after.as_json(),
    }
    chosen = PRESETS[preset]
    info = {
        "sample_count": len(train) + len(validation),
        "split_version": split.version,
        "epochs_trained": trained.epochs_trained,
        "early_stopped": trained.early_stopped,
        "best_epoch": trained.best_epoch,
        "metrics": {**after.operating_point(), "val_loss": trained.val_loss, "train_loss": trained.train_loss},
        "training_time_sec": round(trained.elapsed_sec, 2),
        "learning_rate": chosen.learning_rate,
        "batch_size": chosen.batch_size,
        "parent_version": active.version if active else None,
        "promotion_reason": decision.reason,
        "notes": " ".join(filter(None, [notes, split.notes])),
    }
    files = {
        "weights.safetensors": weights_file,
        "certificate.json": json.dumps(certificate.as_json(), indent=2).encode(),
    }
    version = store.add_head(signal, files, manifest, info, promote=decision.promote, against=previous)
    return Published(
        signal, version, decision, before, after, split, trained, version if decision.promote else previous
    )


def certify_head(head: Head, samples: Sequence[Sample], describer: Describer) -> Certificate:
    """Certificate of a head: torch against the exported graph, on the backbone features of samples."""
    stacked = stack([head])
    session = Loader(describer.release).compact(stacked.capacity)
    weights = {name: torch.from_numpy(array[None]) for name, array in head.weights.items()}
    pairs = []
    try:
        for sample in samples:
            described = describer.describe(sample.image())
            vectors = described.vectors.astype(np.float32)
            with torch.no_grad():
                boxes, scores = compact_heads(torch.from_numpy(described.proposals), torch.from_numpy(vectors), weights)
            found = session.run({"proposals": described.proposals, "vectors": vectors, **stacked.weights})
            pairs.append((_found(boxes[0].numpy(), scores[0].numpy()), _found(found["boxes"][0], found["scores"][0])))
    finally:
        session.close()
    return certify("torch CPU, fp32", session.runtime, pairs)


def _found(boxes: np.ndarray, scores: np.ndarray) -> Found:
    likeliest = np.argsort(-scores, kind="stable")[:CERTIFIED_BOXES]
    return Found(boxes[likeliest], scores[likeliest])
