"""Versions: promotion and rollback by what was active when, retention, reset, and what a hand may have edited."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.engine import Engine
from engine.errors import MismatchError, StoreError
from engine.store import history as histories
from engine.store import reader as reading
from engine.store.history import was_active
from engine.store.registry import Store

from .tiny_store import BACKBONE_HASH, add_backbone, add_compact, add_head, edit, overwrite, tree

OTHER_HASH = "cd" * 32


def active(store: Store, signal: str = "alpha") -> int:
    """The one version that is active, wherever that is told."""
    history = store.history(signal)
    (version,) = [entry["version"] for entry in history["versions"] if entry["is_active"]]
    index = json.loads((store.path / "registry.json").read_text())
    assert history["active_version"] == version == index["signals"][signal]["active_head_version"]
    assert store.snapshot().versions[signal] == version
    return version


def promoted(store: Store, count: int) -> Store:
    """With `count` more versions of alpha, each promoted in its turn."""
    for _ in range(count):
        version = add_compact(store, "alpha")
        store.promote("alpha", version, f"version {version} is better")
    return store


# promotion


def test_a_promoted_version_is_active_and_its_history_says_why(small: Store) -> None:
    version = add_compact(small, "alpha", "not decided")
    small.promote("alpha", version, "0.03 better", auto=True)
    assert active(small) == version == 2
    entry = small.history("alpha")["versions"][1]
    assert (entry["promotion_reason"], entry["auto_promoted"]) == ("0.03 better", True)
    assert entry["promoted_at"].endswith("+00:00")
    last = small.history("alpha")["activations"][-1]
    assert (last["sequence"], last["version"], last["reason"], last["how"]) == (2, 2, "0.03 better", "promotion")


def test_promotion_writes_the_pointer_and_the_index_and_nothing_else(small: Store) -> None:
    version = add_compact(small, "alpha")
    before = tree(small.path)
    small.promote("alpha", version, "better")
    after = tree(small.path)
    assert {name for name in after if before.get(name) != after[name]} == {"registry.json", "heads/alpha/metadata.json"}


def test_promoting_the_active_version_changes_nothing(small: Store) -> None:
    before, revision = small.history("alpha"), small.revision()
    small.promote("alpha", 1, "again")
    assert (small.history("alpha"), small.revision()) == (before, revision)


def test_r05_a_promotion_that_was_measured_against_what_is_active_no_more_is_refused(small: Store) -> None:
    """Somebody rolled back while the new version was being trained."""
    promoted(small, 1)
    version = add_compact(small, "alpha")
    small.rollback("alpha")
    with pytest.raises(StoreError, match="version 1 is active now, version 3 was measured against 2; measure it again"):
        small.promote("alpha", version, "better than 2", auto=True, against=2)
    assert active(small) == 1
    small.promote("alpha", version, "better than 1", auto=True, against=1)
    assert active(small) == 3


def test_a_refused_candidate_keeps_its_reason(small: Store) -> None:
    add_compact(small, "alpha", "F1 falls by 0.01")
    assert active(small) == 1
    entry = small.history("alpha")["versions"][1]
    assert (entry["promotion_reason"], entry["promoted_at"]) == ("F1 falls by 0.01", None)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("unknown", r"alpha has no version 9; it has 1, 2"),
        ("deleted", r"alpha.v2.manifest\.json: not there; restore"),
        ("flipped", r"weights\.safetensors: SHA-256"),
        ("no weights", r"weights\.safetensors: not a readable safetensors file"),
        ("for another backbone", rf"{OTHER_HASH}, the store has {BACKBONE_HASH}; retrain"),
    ],
)
def test_r09_a_candidate_that_cannot_run_is_never_promoted(small: Store, damage: str, told: str) -> None:
    version = add_compact(small, "alpha") if damage != "no weights" else add_broken(small)
    spoil(small, damage, version)
    before = tree(small.path)
    with pytest.raises(StoreError, match=told):
        small.promote("alpha", 9 if damage == "unknown" else version, "better")
    assert tree(small.path) == before
    assert active(small) == 1


def add_broken(store: Store) -> int:
    weights, manifest = {"weights.safetensors": b"no weights"}, json.loads(
        (store.path / "heads/alpha/v1/manifest.json").read_text()
    )  # fmt: skip
    return store.add_head("alpha", weights, {k: v for k, v in manifest.items() if k != "files"}, {})


def spoil(store: Store, damage: str, version: int) -> None:
    folder = store.path / f"heads/alpha/v{version}"
    if damage == "deleted":
        folder.rename(store.path.parent / "elsewhere")
    if damage == "flipped":
        overwrite(folder / "weights.safetensors", b"1" + (folder / "weights.safetensors").read_bytes()[1:])
    if damage == "for another backbone":
        edit(folder / "manifest.json", backbone_hash=OTHER_HASH)


def test_r09_a_candidate_that_fails_on_this_machine_leaves_the_old_one_serving(tiny: Store) -> None:
    version = add_head(tiny, "alpha", score=0.6)
    with Engine.open(tiny.path, threads=1) as engine:
        spoil(tiny, "flipped", version)
        with pytest.raises(StoreError, match="SHA-256"):
            Engine.open(tiny.path, threads=1, versions={"alpha": version})
        with pytest.raises(StoreError, match="SHA-256"):
            tiny.promote("alpha", version, "better")
        assert not engine.refresh()
        assert engine.snapshot.versions["alpha"] == 1


# rollback


def test_rollback_restores_the_version_that_was_active_before(small: Store) -> None:
    promoted(small, 1)
    add_compact(small, "alpha")  # 3: a candidate, one number below the next
    promoted(small, 1)
    assert active(small) == 4
    assert small.rollback("alpha") == active(small) == 2


def test_rolling_back_twice_goes_two_promotions_back_and_then_no_further(small: Store) -> None:
    promoted(small, 2)
    assert [small.rollback("alpha"), small.rollback("alpha")] == [2, 1]
    before = tree(small.path)
    with pytest.raises(StoreError, match="no version was active before 1; choose one by `g20 versions alpha --promote"):
        small.rollback("alpha")
    assert tree(small.path) == before
    assert active(small) == 1


def test_what_was_rolled_back_is_not_gone_back_to(small: Store) -> None:
    promoted(small, 1)
    small.rollback("alpha")  # 2 is undone
    promoted(small, 1)
    assert active(small) == 3
    assert small.rollback("alpha") == 1


def test_a_version_promoted_again_is_rolled_back_to_where_it_came_from(small: Store) -> None:
    promoted(small, 1)
    small.promote("alpha", 1, "the older one after all")
    assert was_active(small.history("alpha")) == [1, 2, 1]
    assert small.rollback("alpha") == active(small) == 2


def test_r03_a_clock_that_jumps_back_changes_no_order(small: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    years = iter(range(2040, 1990, -1))
    monkeypatch.setattr(histories, "now", lambda: f"{next(years)}-10-25T02:30:00+00:00")
    promoted(small, 2)
    assert small.history("alpha")["activations"][-1]["at"] < small.history("alpha")["activations"][1]["at"]
    assert [small.rollback("alpha"), small.rollback("alpha")] == [2, 1]


@pytest.mark.parametrize("damage", ["deleted", "flipped"])
def test_r05_rollback_to_a_version_that_is_gone_or_damaged_names_it_and_changes_nothing(
    small: Store, damage: str
) -> None:
    promoted(small, 2)
    spoil(small, damage, 2)
    before = tree(small.path)
    with pytest.raises(StoreError, match=r"alpha.v2"):
        small.rollback("alpha")
    assert tree(small.path) == before
    assert active(small) == 3


def test_r05_rollback_reads_one_head_however_many_versions_and_signals_there_are(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(small, 4)
    read: list[Path] = []
    monkeypatch.setattr(reading, "read_weights", lambda path, kind: read.append(path) or {})
    small.rollback("alpha")
    assert [path.parent.name for path in read] == ["v4"]


def test_a_history_from_before_activations_were_kept_is_gone_on_with(small: Store) -> None:
    path = small.path / "heads/alpha/metadata.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("activations", "revision")}
    overwrite(path, json.dumps(old))
    revision = small.revision()
    promoted(small, 1)
    assert small.revision() == revision + 2
    assert small.rollback("alpha") == active(small) == 1


# M03, M05: what a hand may have edited


def test_m05_a_pointer_set_back_by_hand_is_no_rollback(small: Store) -> None:
    """The same move through the log, below, is fine. Whoever rewrites the log as well is not found out: without
    signatures a store is as trustworthy as those who may write to it."""
    promoted(small, 1)
    edit(small.path / "heads/alpha/metadata.json", active_version=1)
    for use in (small.snapshot, lambda: small.rollback("alpha"), lambda: add_compact(small, "beta")):
        with pytest.raises(StoreError, match=r"active_version is 1, but what was activated last is 2: edited by hand"):
            use()
    edit(small.path / "heads/alpha/metadata.json", active_version=2)
    assert small.rollback("alpha") == active(small) == 1


@pytest.mark.parametrize(
    "log",
    [
        [{"sequence": 2, "version": 1, "how": "promotion"}],
        [{"sequence": 1, "version": 1, "how": "rollback"}],
        [{"sequence": 1, "version": 1, "how": None}],
        [{"sequence": 1, "version": 1}, {"sequence": 1, "version": 1}],
        [1], {"0": 1}, "log",
    ],
)  # fmt: skip
def test_m05_a_log_that_contradicts_itself_is_refused(small: Store, log: Any) -> None:
    edit(small.path / "heads/alpha/metadata.json", activations=log)
    with pytest.raises(StoreError, match=r"metadata\.json: the activations are no log .*; restore"):
        small.history("alpha")


# a chosen version


def test_a_snapshot_may_hold_a_candidate_beside_active_heads(small: Store) -> None:
    version = add_compact(small, "alpha")
    assert small.snapshot(None, {"alpha": version}).versions == {"alpha": 2, "beta": 1}
    assert small.snapshot(("alpha",), {"alpha": version}).versions == {"alpha": 2}
    with pytest.raises(StoreError, match="a version of beta was chosen, loaded is alpha"):
        small.snapshot(("alpha",), {"beta": 1})


def test_r11_a_new_backbone_makes_all_heads_incompatible_at_once(small: Store) -> None:
    assert not small.incompatible()
    add_backbone(small, OTHER_HASH)
    assert set(small.incompatible()) == {"alpha", "beta"}
    index = json.loads((small.path / "registry.json").read_text())
    assert [about["compatible"] for about in index["signals"].values()] == [False, False]
    for signals in (None, ("alpha",)):
        with pytest.raises(MismatchError, match=rf"made for backbone {BACKBONE_HASH}, the store has {OTHER_HASH}"):
            small.snapshot(signals)
    assert add_compact(small, "alpha", backbone_hash=OTHER_HASH) == 2
    small.promote("alpha", 2, "retrained")
    assert set(small.incompatible()) == {"beta"}
    with pytest.raises(MismatchError, match="retrain"):
        small.rollback("alpha")
    assert small.history("alpha")["active_version"] == 2
