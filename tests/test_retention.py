"""What a store keeps, what it finds wrong with itself and mends, and the way back to the beginning."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.engine import Engine
from engine.errors import StoreError
from engine.store import registry
from engine.store.history import is_kept
from engine.store.registry import Store

from .recordings import noise
from .test_versions import OTHER_HASH, active, promoted
from .tiny_store import (
    CONTRACT,
    add_backbone,
    add_compact,
    add_head,
    copy_store,
    decide_on,
    edit,
    overwrite,
    publish,
    tree,
)


def kept(store: Store, signal: str = "alpha") -> list[int]:
    """Versions whose weights are there, as the folder and the history tell alike."""
    there = sorted(int(path.name[1:]) for path in (store.path / "heads" / signal).glob("v*"))
    told = [entry["version"] for entry in store.history(signal)["versions"] if is_kept(entry)]
    assert there == told
    return there


def candidates(store: Store, count: int, reason: str | None = "not better") -> None:
    for _ in range(count):
        add_compact(store, "alpha", reason)


# retention


def test_r04_the_last_five_and_the_first_keep_their_weights_and_all_keep_their_history(small: Store) -> None:
    promoted(small, 8)
    assert kept(small) == [1, 5, 6, 7, 8, 9]
    history = small.history("alpha")
    assert [entry["version"] for entry in history["versions"]] == list(range(1, 10))
    assert history["versions"][2]["promotion_reason"] == "version 3 is better"
    assert history["versions"][2]["weights_removed_at"].endswith("+00:00")
    assert [step["version"] for step in history["activations"]] == list(range(1, 10))
    assert not small.check()


def test_r04_failed_candidates_evict_neither_the_active_version_nor_the_one_before(small: Store) -> None:
    promoted(small, 2)
    candidates(small, 12)
    assert kept(small) == [1, 2, 3, 11, 12, 13, 14, 15]
    assert active(small) == 3
    assert small.rollback("alpha") == active(small) == 2


def test_r04_a_pinned_version_stays_until_it_is_let_go(small: Store) -> None:
    candidates(small, 1)
    small.pin("alpha", 2)
    candidates(small, 6)
    assert 2 in kept(small)
    small.pin("alpha", 2, pinned=False)
    candidates(small, 1)
    assert 2 not in kept(small)


def test_r04_a_candidate_that_nobody_decided_on_is_under_test_and_stays(small: Store) -> None:
    candidates(small, 1, None)
    candidates(small, 6)
    assert 2 in kept(small)
    decide_on(small, "alpha", 2, "too slow")
    candidates(small, 1)
    assert kept(small) == [1, 5, 6, 7, 8, 9]


def test_r04_a_live_engine_goes_on_with_a_version_whose_weights_went(tiny: Store) -> None:
    """Weights are in memory from `open` on, so nothing on the disk is in use once it has returned."""
    version = add_head(tiny, "alpha", score=0.625)
    decide_on(tiny, "alpha", version, "not better")
    iq = noise(CONTRACT.capture_samples)
    with Engine.open(tiny.path, threads=1, versions={"alpha": version}) as engine:
        before = engine.detect(iq, sample_rate_hz=CONTRACT.sample_rate_hz)
        for _ in range(6):
            publish(tiny, "alpha", "not better")
        assert version not in kept(tiny)
        after = engine.detect(iq, sample_rate_hz=CONTRACT.sample_rate_hz)
    assert after.detections == before.detections and [d.score for d in after if d.signal == "alpha"] == [0.625]


def test_r04_a_reader_that_a_removal_overtakes_reads_again(small: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted(small, 1)
    reader, read = Store(small.path), Store.head

    def overtaken(self: Store, *arguments: object) -> object:
        monkeypatch.setattr(Store, "head", read)
        promoted(small, 1)
        raise StoreError("heads/alpha/v2: not there")

    monkeypatch.setattr(Store, "head", overtaken)
    snapshot = reader.snapshot()
    assert (snapshot.versions["alpha"], snapshot.revision) == (3, small.revision())


def test_a_version_whose_weights_went_is_neither_promoted_nor_gone_back_to(small: Store) -> None:
    promoted(small, 7)
    assert 3 not in kept(small)
    with pytest.raises(StoreError, match=r"alpha: the weights of version 3 were removed by retention at 20.*choose"):
        small.promote("alpha", 3, "it was good")
    for version in (7, 6, 5, 4):
        assert small.rollback("alpha") == version
    with pytest.raises(StoreError, match="the weights of version 3 were removed"):
        small.rollback("alpha")
    assert active(small) == 4


def test_a_removal_that_fails_undoes_nothing_and_is_finished_by_repair(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates(small, 5)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "remove", _read_only)
        assert add_compact(small, "alpha") == 7
    (problem,) = small.check()
    assert problem.repairable and "v2: retention has not finished" in problem.what
    assert small.repair() == [problem]
    assert kept(small) == [1, 3, 4, 5, 6, 7]
    assert not small.check()


def _read_only(path: Path) -> None:
    raise StoreError(f"{path}: cannot be written (Read-only file system)")


# check and repair


@pytest.mark.parametrize("use", [Store.repair, Store.reset, lambda store: store.promote("alpha", 1, "better")])
def test_a_folder_that_is_no_store_stays_as_it_is(tmp_path: Path, use: Callable[[Store], object]) -> None:
    with pytest.raises(StoreError, match=r"no backbone here|no signal 'alpha'"):
        use(Store(tmp_path / "nothing"))
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_well_has_no_problems(small: Store, tiny: Store) -> None:
    before = tree(small.path)
    promoted(small, 0)
    assert (small.check(), small.repair(), tiny.check()) == ([], [], [])
    assert tree(small.path) == before


@pytest.mark.parametrize("index", ["behind", "truncated", "missing", "edited"])
def test_the_index_is_made_anew_from_the_metadata(small: Store, index: str) -> None:
    path = small.path / "registry.json"
    before = path.read_bytes()
    promoted(small, 1)
    if index == "edited":
        edit(path, revision=9)
    elif index == "missing":
        path.unlink()
    else:
        overwrite(path, before if index == "behind" else before[:50])
    revision = Store.revision(small) if index != "truncated" else None
    (problem,) = small.check()
    assert problem.repairable and problem.path == path
    assert small.repair() == [problem]
    assert not small.check()
    assert active(small) == 2
    assert revision in (None, small.revision())


def test_a_running_engine_is_told_of_a_change_that_the_index_has_missed(small: Store) -> None:
    before, revision = (small.path / "registry.json").read_bytes(), small.revision()
    promoted(small, 1)
    overwrite(small.path / "registry.json", before)
    assert small.revision() > revision
    assert small.snapshot().versions["alpha"] == 2


def test_an_index_of_another_schema_is_told_and_not_repaired(small: Store) -> None:
    edit(small.path / "registry.json", schema=2)
    (small.path / "heads/.new-k1ll").write_text("")
    before = tree(small.path)
    problem, _ = small.check()
    assert "schema 2, this version reads 1; update" in problem.what
    assert small.repair() == []
    assert tree(small.path) == before


def test_what_killed_writers_left_is_removed_and_nothing_else(small: Store) -> None:
    before = tree(small.path)
    shutil.copytree(small.path / "heads/alpha/v1", small.path / "heads/alpha/.new-k1ll")
    (small.path / "backbone/.new-metadata").write_text("{")
    (small.path / "heads/beta/.new-link").symlink_to(small.path / "backbone")
    assert {problem.path.name for problem in small.repair()} == {".new-k1ll", ".new-metadata", ".new-link"}
    assert tree(small.path) == before
    assert not small.check()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("heads/alpha/v2/weights.safetensors", "SHA-256"),
        ("heads/alpha/v2/manifest.json", "manifest.json: cannot be read as JSON"),
        ("heads/alpha/metadata.json", "metadata.json: cannot be read as JSON"),
        ("backbone/v1/compact.onnx", "SHA-256"),
        ("backbone/v1/manifest.json", "manifest.json: cannot be read as JSON"),
    ],
)
def test_damage_that_loses_something_is_told_and_left_alone(small: Store, file: str, told: str) -> None:
    candidates(small, 1)
    overwrite(small.path / file, b"?")
    before = tree(small.path)
    found = small.check()
    assert any(told in problem.what and "restore" in problem.what for problem in found)
    assert not any(problem.repairable for problem in found)
    assert small.repair() == []
    assert tree(small.path) == before


def test_check_tells_of_versions_that_are_missing_in_no_history_or_for_another_backbone(small: Store) -> None:
    candidates(small, 1)
    shutil.rmtree(small.path / "heads/alpha/v2")
    shutil.copytree(small.path / "heads/beta/v1", small.path / "heads/beta/v7")
    add_backbone(small, OTHER_HASH)
    (small.path / "heads/beta/metadata.json").rename(small.path / "heads/lost.json")
    told = " ".join(problem.what for problem in small.check())
    missing = ("alpha/v2/manifest.json: not there", "beta: in no history, metadata.json is missing")
    assert all(part in told for part in (*missing, f"the store has {OTHER_HASH}; retrain"))
    (small.path / "heads/lost.json").rename(small.path / "heads/beta/metadata.json")
    assert "beta/v7: in no history" in " ".join(problem.what for problem in small.check())


# reset


def test_r11_reset_goes_back_to_the_first_version_of_every_signal(small: Store) -> None:
    promoted(small, 8)
    assert small.reset() == {"alpha": 1, "beta": 1}
    assert (active(small), active(small, "beta")) == (1, 1)
    assert not small.check()
    assert small.rollback("alpha") == active(small) == 9  # nothing is lost by it


def test_r11_reset_to_a_backbone_brings_that_and_its_heads_back(small: Store) -> None:
    add_backbone(small, OTHER_HASH)
    for signal in ("alpha", "beta"):
        small.promote(signal, add_compact(small, signal, backbone_hash=OTHER_HASH), "retrained")
    assert small.reset() == {"alpha": 2, "beta": 2}  # the first on the backbone in force
    assert small.reset(backbone=1) == {"alpha": 1, "beta": 1}
    assert small.release().version == 1
    metadata = json.loads((small.path / "backbone/metadata.json").read_text())
    assert (metadata["source"], [entry["version"] for entry in metadata["earlier"]]) == ("ab" * 32, [2])
    assert small.snapshot().versions == {"alpha": 1, "beta": 1}
    assert small.reset(backbone=2) == {"alpha": 2, "beta": 2}
    assert not small.check()


@pytest.mark.parametrize("what", ["gone", "damaged", "for another backbone", "no such backbone"])
def test_reset_is_refused_whole_when_one_signal_cannot_go_back(small: Store, what: str) -> None:
    promoted(small, 1)
    folder = small.path / "heads/beta/v1"
    if what == "gone":
        shutil.rmtree(folder)
    elif what == "damaged":
        overwrite(folder / "weights.safetensors", b"?")
    elif what == "for another backbone":
        edit(folder / "manifest.json", backbone_hash=OTHER_HASH)
    before = tree(small.path)
    with pytest.raises(StoreError, match=r"backbone.v9" if what == "no such backbone" else "beta"):
        small.reset(9 if what == "no such backbone" else None)
    assert tree(small.path) == before
    assert small.history("alpha")["active_version"] == 2


def test_a_copy_of_a_store_is_a_store(small: Store, tmp_path: Path) -> None:
    promoted(small, 1)
    copy = copy_store(small.path, tmp_path / "copy")
    assert (copy.check(), copy.revision(), copy.rollback("alpha")) == ([], small.revision(), 1)
    assert active(small) == 2
