"""Training asked for: from samples to a version in the store, and what may go wrong on the way."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.engine import Engine
from engine.errors import InputError, MismatchError, StoreError
from engine.registry import Store
from training import head_run, jobs
from training.head_run import DivergedError
from training.jobs import Published, train_signal
from training.loop import PRESETS, Cancelled, Epoch, Prepared, Preset
from training.samples import SampleStore

from .tiny_store import tree
from .toy_store import add_samples, boxes, image, toy_store

QUICK = Preset(epochs=10, patience=3, learning_rate=1e-2, batch_size=4, views=16)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few, large steps: what is learnt here is easy."""
    monkeypatch.setitem(PRESETS, "fast", QUICK)
    monkeypatch.setattr(head_run, "STEPS_AN_EPOCH", 12)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return toy_store(tmp_path / "models")


@pytest.fixture
def samples(tmp_path: Path) -> SampleStore:
    found = SampleStore(tmp_path / "data")
    add_samples(found)
    return found


def last(events: Iterator[Any]) -> Any:
    return list(events)[-1]


def test_five_samples_make_a_head_that_finds_the_signal(store: Store, tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "data")
    add_samples(samples, count=5)
    events = list(train_signal("bright", samples, store, preset="fast"))
    assert isinstance(events[0], Prepared)
    assert any(isinstance(event, Epoch) and event.val_loss > 0 for event in events)
    done = events[-1]
    assert isinstance(done, Published)
    assert done.decision.promote
    assert done.after.report.scores.f1 >= 0.8
    with Engine.open(store.path) as engine:
        found = engine.detect_image(image([(3, 5)], [(9, 9)], seed=77))
        nothing = engine.detect_image(image([], [(9, 9)], seed=78))
    assert {detection.signal for detection in found} == {"bright"}
    assert not nothing


def test_four_samples_are_refused(store: Store, tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "data")
    add_samples(samples, count=4)
    with pytest.raises(InputError, match=r"4 .*at least 5"):
        last(train_signal("bright", samples, store))


def test_the_history_says_how_a_version_was_made(store: Store, samples: SampleStore) -> None:
    done = last(train_signal("bright", samples, store, preset="fast", notes="first try"))
    entry = store.history("bright")["versions"][0]
    assert entry["sample_count"] == 6
    assert entry["split_version"] == done.split.version
    assert entry["metrics"]["f1_score"] == done.after.report.scores.f1
    assert entry["metrics"]["val_loss"] > 0
    assert (entry["learning_rate"], entry["batch_size"]) == (QUICK.learning_rate, QUICK.batch_size)
    assert entry["notes"].startswith("first try")


def test_a_worse_retraining_is_kept_as_a_candidate_with_its_reason(store: Store, samples: SampleStore) -> None:
    first = last(train_signal("bright", samples, store, preset="fast"))
    add_wrong_labels(samples)
    second = last(train_signal("bright", samples, store, preset="fast"))
    assert not second.decision.promote
    history = store.history("bright")
    assert history["active_version"] == first.version
    assert history["versions"][1]["promotion_reason"] == second.decision.reason


def add_wrong_labels(samples: SampleStore) -> None:
    """Training samples that call the other signal by this one's name."""
    for number in range(12):
        spot = (number, 15 - number)
        samples.add(
            "bright", image([(2, 2)], [spot], seed=900 + number), boxes([spot], "bright"),
            contract=samples.list("bright")[0].contract, source_capture=f"mislabelled {number}", side="train",
        )  # fmt: skip


def test_both_versions_are_measured_on_the_same_samples(store: Store, samples: SampleStore) -> None:
    last(train_signal("bright", samples, store, preset="fast"))
    second = last(train_signal("bright", samples, store, preset="fast"))
    assert second.before is not None
    assert second.before.measured.sample_ids == second.after.measured.sample_ids == second.split.val_samples


def test_training_one_head_changes_no_byte_of_backbone_or_other_heads(store: Store, samples: SampleStore) -> None:
    add_samples(samples, "faint", own="faint", seed=50)
    last(train_signal("faint", samples, store, preset="fast"))
    shown = image([(1, 1)], [(8, 4), (12, 12)], seed=5)
    with Engine.open(store.path, signals=["faint"]) as engine:
        before = engine.detect_image(shown)
    files = {name: at for name, at in tree(store.path).items() if name.startswith(("backbone/v1", "heads/faint/v1"))}
    last(train_signal("bright", samples, store, preset="fast"))
    after_files = tree(store.path)
    assert {name: after_files[name] for name in files} == files
    with Engine.open(store.path, signals=["faint"]) as engine:
        assert engine.detect_image(shown) == before
    with Engine.open(store.path, arbitrate=False) as engine:
        assert tuple(d for d in engine.detect_image(shown) if d.signal == "faint") == before


def test_the_same_samples_and_seed_give_the_same_head(tmp_path: Path, samples: SampleStore) -> None:
    def weights(name: str) -> str:
        store = toy_store(tmp_path / name)
        last(train_signal("bright", samples, store, preset="fast"))
        return hashlib.sha256((store.path / "heads/bright/v1/weights.safetensors").read_bytes()).hexdigest()

    assert weights("one") == weights("two")


@pytest.mark.parametrize("after", [0, 3, 30, 70])
def test_a_cancelled_training_saves_and_promotes_nothing(store: Store, samples: SampleStore, after: int) -> None:
    asked = iter(range(10_000))
    before = tree(store.path)
    event = last(train_signal("bright", samples, store, preset="fast", cancelled=lambda: next(asked) >= after))
    assert isinstance(event, Cancelled)
    assert tree(store.path) == before
    assert next(asked) == after + 1  # it was asked once more and stopped at that
    assert not (samples.path / "jobs" / "bright" / "state.pt").exists()


def test_a_killed_training_goes_on_where_it_was(samples: SampleStore, tmp_path: Path) -> None:
    other = toy_store(tmp_path / "other")
    for event in train_signal("bright", samples, other, preset="fast"):
        if isinstance(event, Epoch) and event.epoch == 2:
            break  # the generator is dropped here, as a kill would leave it: state and lock on disk
    rest = [e for e in train_signal("bright", samples, other, preset="fast") if isinstance(e, Epoch)]
    assert rest[0].epoch in (2, 3)
    assert other.history("bright")["active_version"] == 1


def test_a_loss_that_is_no_number_stops_and_leaves_the_old_version(
    store: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    last(train_signal("bright", samples, store, preset="fast"))
    before = tree(store.path)
    real = head_run.head_loss
    monkeypatch.setattr(head_run, "head_loss", lambda *given: real(*given) * float("nan"))
    with pytest.raises(DivergedError, match="loss of step 0 is nan"):
        last(train_signal("bright", samples, store, preset="fast"))
    assert tree(store.path) == before


def test_an_export_that_fails_its_certificate_makes_no_version(
    store: Store, samples: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(store.path)
    real = jobs.compact_heads
    monkeypatch.setattr(jobs, "compact_heads", lambda p, v, w: (real(p, v, w)[0] + 200, real(p, v, w)[1]))
    with pytest.raises(StoreError, match="finds something else than torch"):
        last(train_signal("bright", samples, store, preset="fast"))
    assert tree(store.path) == before


def test_two_trainings_of_one_signal_do_not_run_at_once(store: Store, samples: SampleStore) -> None:
    first = train_signal("bright", samples, store, preset="fast")
    next(first)
    with pytest.raises(StoreError, match="being trained by another process"):
        next(train_signal("bright", samples, store, preset="fast"))
    assert isinstance(last(first), Published)


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


def test_the_exported_weights_survive_sixteen_bits(store: Store, samples: SampleStore) -> None:
    last(train_signal("bright", samples, store, preset="fast"))
    head = store.head("bright", store.release())
    assert all(np.array_equal(w, w.astype(np.float16).astype(np.float32)) for w in head.weights.values())
    assert (store.path / "heads/bright/v1/weights.safetensors").stat().st_size < 200_000
