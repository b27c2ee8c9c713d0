"""Publishing after training: tried before, done in one step, and repeated without training again when it failed."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from app.cli.main import app
from engine.errors import StoreError
from engine.store import files, locking
from engine.store.locking import LOCK_NAME
from engine.store.registry import Store
from training import jobs
from training.head import trainer as head_run
from training.head.loop import PRESETS, Epoch, Preset, Trained
from training.jobs import Published, train_signal
from training.samples.store import SampleStore

from .faults import Faults
from .tiny_store import tree
from .toy_store import BRIGHT, FAINT, add_head, add_samples, head_weights, toy_store

NOTHING = 5  # a brightness that no image has


class Trainer:
    """Stands in for `train_head`: the weights are given, the number of trainings is counted."""

    def __init__(self) -> None:
        self.level, self.trainings = BRIGHT, 0

    def __call__(self, *arguments: Any, state: Path, **options: Any) -> Iterator[Trained]:
        if not state.exists():
            self.trainings += 1
            state.write_bytes(b"trained")
        weights = {name: w.astype(np.float16).astype(np.float32) for name, w in head_weights(self.level).items()}
        yield Trained(weights, 1, 1, early_stopped=False, train_loss=1.0, val_loss=1.0, elapsed_sec=0.0)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    stub = Trainer()
    monkeypatch.setattr(jobs, "train_head", stub)
    monkeypatch.setattr(locking, "LOCK_WAIT_S", 0.05)
    return stub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return toy_store(tmp_path / "models")


@pytest.fixture
def samples(tmp_path: Path) -> SampleStore:
    found = SampleStore(tmp_path / "data")
    add_samples(found)
    return found


def train(samples: SampleStore, store: Store, **options: Any) -> Published:
    (published,) = train_signal("bright", samples, store, **options)
    assert isinstance(published, Published)
    return published


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# before training


def test_a_store_that_another_process_writes_is_refused_before_training(
    trainer: Trainer, samples: SampleStore, store: Store
) -> None:
    with FileLock(store.path / LOCK_NAME), pytest.raises(StoreError, match="another process has been writing"):
        train(samples, store)
    assert trainer.trainings == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_store_that_cannot_be_written_is_refused_before_training(
    trainer: Trainer, samples: SampleStore, store: Store, number: int
) -> None:
    def fail(folder: Path, size: int) -> None:
        with Faults(1, lambda: OSError(number, os.strerror(number)), lasting=True):
            files.probe(folder, size)

    before = tree(store.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.store.registry.probe", fail)
        with pytest.raises(StoreError, match=rf"models: cannot be written \({os.strerror(number)}\); check space"):
            train(samples, store)
    assert (trainer.trainings, tree(store.path)) == (0, before)


def test_a_damaged_store_is_refused_before_training(trainer: Trainer, samples: SampleStore, store: Store) -> None:
    add_head(store, "faint", FAINT)
    (store.path / "heads/faint/metadata.json").unlink()
    with pytest.raises(StoreError, match=r"faint/metadata\.json: not there"):
        train(samples, store)
    assert trainer.trainings == 0


def test_probing_leaves_nothing_behind(store: Store) -> None:
    before = tree(store.path)
    store.probe(1 << 16)
    assert tree(store.path) == before


# publishing that fails


@pytest.mark.parametrize("at", [1, 3, 6, 9, 12])
@pytest.mark.parametrize("first", [True, False])
def test_a_disk_full_while_publishing_costs_no_second_training(
    trainer: Trainer, samples: SampleStore, store: Store, monkeypatch: pytest.MonkeyPatch, at: int, first: bool
) -> None:
    if not first:
        add_head(store, "bright", NOTHING)
    real, before = Store.add_head, tree(store.path)

    def failing(self: Store, *arguments: Any, **options: Any) -> int:
        with Faults(at, disk_full, lasting=True):
            return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_head", failing)
        with pytest.raises(StoreError, match="No space left on device"):
            train(samples, store)
    assert {name: at for name, at in tree(store.path).items() if "/v2/" not in name and ".new-" not in name} == before
    done = train(samples, store)
    assert trainer.trainings == 1
    assert done.decision.promote and store.history("bright")["active_version"] == done.version
    assert not (samples.path / "jobs/bright/state.pt").exists()


def test_a_lock_held_while_publishing_costs_no_second_training(
    trainer: Trainer, samples: SampleStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.add_head

    def locked(self: Store, *arguments: Any, **options: Any) -> int:
        with FileLock(self.path / LOCK_NAME):
            return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_head", locked)
        with pytest.raises(StoreError, match="another process has been writing"):
            train(samples, store)
    assert train(samples, store).version == 1
    assert trainer.trainings == 1


def test_a_promotion_while_training_publishes_nothing_and_is_measured_anew(
    trainer: Trainer, samples: SampleStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_head(store, "bright", NOTHING)
    real = jobs.decide

    def overtaken(*arguments: Any, **options: Any) -> Any:
        store.promote("bright", add_head(store, "bright", FAINT), "by hand")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "decide", overtaken)
        with pytest.raises(StoreError, match="version 2 is active now, the new version was measured against 1"):
            train(samples, store)
    assert len(store.history("bright")["versions"]) == 2
    done = train(samples, store)
    assert (trainer.trainings, done.version, store.history("bright")["versions"][2]["parent_version"]) == (1, 3, 2)


def test_a_failed_certificate_removes_the_training_state(
    trainer: Trainer, samples: SampleStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = jobs.compact_heads
    monkeypatch.setattr(jobs, "compact_heads", lambda p, v, w: (real(p, v, w)[0] + 200, real(p, v, w)[1]))
    with pytest.raises(StoreError, match="finds something else than torch"):
        train(samples, store)
    assert not (samples.path / "jobs/bright/state.pt").exists()


def test_a_finished_training_is_resumed_without_another_epoch(
    samples: SampleStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training loop itself, of one epoch of two steps."""
    monkeypatch.setitem(PRESETS, "fast", Preset(epochs=1, patience=1, learning_rate=1e-3, batch_size=4, views=4))
    monkeypatch.setattr(head_run, "STEPS_AN_EPOCH", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_head", _unable)
        with pytest.raises(StoreError, match="no room"):
            list(train_signal("bright", samples, store, preset="fast"))
    events = list(train_signal("bright", samples, store, preset="fast"))
    assert not any(isinstance(event, Epoch) for event in events)
    assert isinstance(events[-1], Published)


def _unable(*arguments: Any, **options: Any) -> int:
    raise StoreError("no room")


def test_a_training_state_that_cannot_be_kept_does_not_end_training(
    samples: SampleStore, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(PRESETS, "fast", Preset(epochs=1, patience=1, learning_rate=1e-3, batch_size=4, views=4))
    monkeypatch.setattr(head_run, "STEPS_AN_EPOCH", 2)
    monkeypatch.setattr(head_run.torch, "save", _full)
    assert isinstance(list(train_signal("bright", samples, store, preset="fast"))[-1], Published)
    assert "the training state cannot be kept" in caplog.text


def _full(*arguments: Any) -> None:
    raise disk_full()


# what is decided


def test_a_first_version_that_finds_nothing_is_a_candidate_and_no_version_is_active(
    trainer: Trainer, samples: SampleStore, store: Store
) -> None:
    trainer.level = NOTHING
    done = train(samples, store)
    history = store.history("bright")
    assert (done.version, done.active, history["active_version"], history["activations"]) == (1, None, None, [])
    assert "it finds nothing, F1 0.0000" in history["versions"][0]["promotion_reason"]
    assert store.snapshot().versions == {}
    assert not store.check()
    with pytest.raises(StoreError, match="bright: no version is active, there are only candidates"):
        store.snapshot(("bright",))


def test_a_good_version_after_a_first_that_found_nothing_becomes_active(
    trainer: Trainer, samples: SampleStore, store: Store
) -> None:
    trainer.level = NOTHING
    train(samples, store)
    trainer.level = BRIGHT
    assert train(samples, store).active == 2
    assert store.snapshot().versions == {"bright": 2}
    with pytest.raises(StoreError, match="no version was active before 2"):
        store.rollback("bright")
    assert store.reset() == {"bright": 2}


def test_the_same_head_again_is_no_promotion(trainer: Trainer, samples: SampleStore, store: Store) -> None:
    train(samples, store)
    again = train(samples, store)
    assert not again.decision.promote
    assert "it finds exactly what the active version finds" in again.decision.reason
    assert store.history("bright")["active_version"] == 1


@pytest.mark.parametrize(("level", "code"), [(BRIGHT, 0), (NOTHING, 1)])
def test_g20_train_ends_with_1_when_no_version_is_active(
    trainer: Trainer, samples: SampleStore, store: Store, level: int, code: int
) -> None:
    trainer.level = level
    words = ["train", "bright", "--data", str(samples.path), "--models", str(store.path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code
    assert ("no version is active" in done.stderr) is (code == 1)


@pytest.mark.parametrize(
    "use", [lambda store: store.rollback("bright"), lambda store: store.head("bright", store.release())]
)
def test_a_signal_without_an_active_version_says_how_to_choose_one(
    trainer: Trainer, samples: SampleStore, store: Store, use: Callable[[Store], object]
) -> None:
    trainer.level = NOTHING
    train(samples, store)
    with pytest.raises(StoreError, match="`g20 versions bright --promote N`"):
        use(store)
    store.promote("bright", 1, "by hand")
    assert store.snapshot().versions == {"bright": 1}
