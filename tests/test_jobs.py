"""Training asked for: from samples to a version in the store, and what may go wrong on the way.

One training is run in full (`first`); what only publishes starts from a copy of it, with `train_head` replaced.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from engine.engine import Engine
from engine.errors import InputError, MismatchError, StoreError
from engine.store.registry import Store
from training import jobs
from training.head import trainer as head_run
from training.head.loop import PRESETS, Cancelled, Epoch, Prepared, Preset
from training.head.trainer import DivergedError
from training.jobs import Published, train_signal
from training.samples.store import SampleStore

from .tiny_store import tree
from .toy_store import FAINT, add_head, add_samples, head_weights, image, toy_store

QUICK = Preset(epochs=6, patience=3, learning_rate=1e-2, batch_size=2, views=8)
SHOWN = image([(1, 1)], [(8, 4), (12, 12)], seed=5)  # one block of `bright`, two of `faint`


@dataclass(frozen=True)
class First:
    """The first training of `bright`, in a store that has a head for `faint`."""

    store: Store
    samples: SampleStore
    events: list[Any]
    files_before: Mapping[str, Any]
    faint_before: tuple[Any, ...]  # detections in SHOWN

    @property
    def done(self) -> Published:
        assert isinstance(self.events[-1], Published)
        return self.events[-1]


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Few, large steps: what is learnt here is easy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "fast", QUICK)
        patch.setattr(head_run, "STEPS_AN_EPOCH", 8)
        yield


@pytest.fixture(scope="module")
def first(quick: None, tmp_path_factory: pytest.TempPathFactory) -> First:
    """A training in full, of five samples; for reading only."""
    folder = tmp_path_factory.mktemp("first")
    store, samples = toy_store(folder / "models"), SampleStore(folder / "data")
    add_head(store, "faint", FAINT)
    add_samples(samples, count=5)
    files, faint = tree(store.path), found(store, ["faint"])
    return First(store, samples, list(train_signal("bright", samples, store, preset="fast")), files, faint)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return toy_store(tmp_path / "models")


@pytest.fixture
def samples(first: First, tmp_path: Path) -> SampleStore:
    """The samples of the first training, and what was computed of them."""
    shutil.copytree(first.samples.path, tmp_path / "data")
    return SampleStore(tmp_path / "data")


@pytest.fixture
def trained(first: First, tmp_path: Path) -> Store:
    """A store of its own in which `bright` has its first version."""
    shutil.copytree(first.store.path, tmp_path / "trained")
    return Store(tmp_path / "trained")


def last(events: Iterator[Any]) -> Any:
    return list(events)[-1]


def found(store: Store, signals: list[str], pixels: np.ndarray = SHOWN) -> tuple[Any, ...]:
    with Engine.open(store.path, signals=signals, arbitrate=False) as engine:
        return engine.detect_image(pixels)


def train_to(monkeypatch: pytest.MonkeyPatch, first: First, **changes: Any) -> None:
    """From here on a training ends at once, with what the first one reached but for `changes`."""
    events = [Prepared(1, 1), replace(first.done.trained, **changes)]
    monkeypatch.setattr(jobs, "train_head", lambda *given, **settings: iter(events))


def test_five_samples_make_a_head_that_finds_the_signal(first: First) -> None:
    assert isinstance(first.events[0], Prepared)
    assert any(isinstance(event, Epoch) and event.val_loss > 0 for event in first.events)
    assert len(first.samples.list("bright")) == 5
    assert first.done.decision.promote
    assert first.done.after.report.scores.f1 >= 0.8
    shown, silent = (image(bright, [(9, 9)], seed=77 + len(bright)) for bright in ([(3, 5)], []))
    assert {detection.signal for detection in found(first.store, ["bright"], shown)} == {"bright"}
    assert not found(first.store, ["bright"], silent)


def test_four_samples_are_refused(store: Store, tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "data")
    add_samples(samples, count=4)
    with pytest.raises(InputError, match=r"4 .*at least 5"):
        last(train_signal("bright", samples, store))


def test_the_history_says_how_a_version_was_made(
    first: First, trained: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = first.store.history("bright")["versions"][0]
    assert entry["sample_count"] == 5
    assert entry["split_version"] == first.done.split.version
    assert entry["metrics"]["f1_score"] == first.done.after.report.scores.f1
    assert entry["metrics"]["val_loss"] > 0
    assert (entry["learning_rate"], entry["batch_size"]) == (QUICK.learning_rate, QUICK.batch_size)
    train_to(monkeypatch, first)
    last(train_signal("bright", samples, trained, preset="fast", notes="second try"))
    assert trained.history("bright")["versions"][1]["notes"].startswith("second try")


def test_the_train_command_prints_what_was_decided(
    first: First, store: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_to(monkeypatch, first)
    folders = ["--data", str(samples.path), "--models", str(store.path)]
    result = CliRunner().invoke(app, ["train", "bright", "--preset", "fast", *folders])
    assert result.exit_code == 0, result.output
    assert "bright v1: promoted" in result.stdout
    assert store.history("bright")["active_version"] == 1


def test_a_worse_retraining_is_kept_as_a_candidate_with_its_reason(
    first: First, trained: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_to(monkeypatch, first, weights=head_weights(FAINT))  # it finds the other signal
    second = last(train_signal("bright", samples, trained, preset="fast"))
    assert not second.decision.promote
    history = trained.history("bright")
    assert history["active_version"] == first.done.version
    assert history["versions"][1]["promotion_reason"] == second.decision.reason


def test_both_versions_are_measured_on_the_same_samples(
    first: First, trained: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_to(monkeypatch, first)
    second = last(train_signal("bright", samples, trained, preset="fast"))
    assert second.before is not None
    assert second.before.measured.sample_ids == second.after.measured.sample_ids == second.split.val_samples


def test_training_one_head_changes_no_byte_of_backbone_or_other_heads(first: First) -> None:
    kept = {name: at for name, at in first.files_before.items() if name.startswith(("backbone/v1", "heads/faint/v1"))}
    after = tree(first.store.path)
    assert kept and {name: after[name] for name in kept} == kept
    assert first.faint_before == found(first.store, ["faint"])
    together = found(first.store, ["bright", "faint"])
    assert tuple(d for d in together if d.signal == "faint") == first.faint_before != ()


def test_the_same_samples_and_seed_give_the_same_head(first: First, store: Store, samples: SampleStore) -> None:
    last(train_signal("bright", samples, store, preset="fast"))
    files = [s.path / "heads/bright/v1/weights.safetensors" for s in (first.store, store)]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1


@pytest.mark.parametrize("after", [0, 3, 20, 45])
def test_a_cancelled_training_saves_and_promotes_nothing(store: Store, samples: SampleStore, after: int) -> None:
    asked = iter(range(10_000))
    before = tree(store.path)
    event = last(train_signal("bright", samples, store, preset="fast", cancelled=lambda: next(asked) >= after))
    assert isinstance(event, Cancelled)
    assert tree(store.path) == before
    assert next(asked) == after + 1  # it was asked once more and stopped at that
    assert not (samples.path / "jobs" / "bright" / "state.pt").exists()


def test_a_killed_training_goes_on_where_it_was(samples: SampleStore, store: Store) -> None:
    for event in train_signal("bright", samples, store, preset="fast"):
        if isinstance(event, Epoch) and event.epoch == 2:
            break  # the generator is dropped here, as a kill would leave it: state and lock on disk
    rest = [e for e in train_signal("bright", samples, store, preset="fast") if isinstance(e, Epoch)]
    assert rest[0].epoch in (2, 3)
    assert store.history("bright")["active_version"] == 1


def test_a_loss_that_is_no_number_stops_and_leaves_the_old_version(
    trained: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(trained.path)
    real = head_run.head_loss
    monkeypatch.setattr(head_run, "head_loss", lambda *given: real(*given) * float("nan"))
    with pytest.raises(DivergedError, match="loss of step 0 is nan"):
        last(train_signal("bright", samples, trained, preset="fast"))
    assert tree(trained.path) == before


def test_an_export_that_fails_its_certificate_makes_no_version(
    first: First, store: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(store.path)
    train_to(monkeypatch, first)
    real = jobs.compact_heads
    monkeypatch.setattr(jobs, "compact_heads", lambda p, v, w: (real(p, v, w)[0] + 200, real(p, v, w)[1]))
    with pytest.raises(StoreError, match="finds something else than torch"):
        last(train_signal("bright", samples, store, preset="fast"))
    assert tree(store.path) == before


def test_two_trainings_of_one_signal_do_not_run_at_once(
    first: First, store: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_to(monkeypatch, first)
    one = train_signal("bright", samples, store, preset="fast")
    next(one)
    with pytest.raises(StoreError, match="being trained by another process"):
        next(train_signal("bright", samples, store, preset="fast"))
    assert isinstance(last(one), Published)


def test_samples_of_another_front_end_are_refused(samples: SampleStore, tmp_path: Path) -> None:
    from engine.contract import ISM

    with pytest.raises(MismatchError, match="front-end contract"):
        last(train_signal("bright", samples, toy_store(tmp_path / "ism", contract=ISM.as_json())))


def test_a_label_that_the_bank_does_not_have_is_refused(store: Store, samples: SampleStore) -> None:
    with pytest.raises(InputError, match="--same-as nothing: the bank has faint"):
        last(train_signal("bright", samples, store, same_as=["nothing"]))


def test_an_unknown_preset_is_refused(store: Store, samples: SampleStore) -> None:
    with pytest.raises(InputError, match="choose one of fast, balanced, quality, extreme"):
        last(train_signal("bright", samples, store, preset="slow"))


def test_the_exported_weights_survive_sixteen_bits(first: First) -> None:
    head = first.store.head("bright", first.store.release())
    assert all(np.array_equal(w, w.astype(np.float16).astype(np.float32)) for w in head.weights.values())
    assert (first.store.path / "heads/bright/v1/weights.safetensors").stat().st_size < 200_000
