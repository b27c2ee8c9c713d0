"""The model store: versions appear whole, stay as they are, and bear numbers and names of their own."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.engine import Engine
from engine.errors import StoreError
from engine.store import folders
from engine.store.files import new_folder
from engine.store.reader import checked_name
from engine.store.registry import Store

from .tiny_store import add_head, publish, tree

# publishing


def test_the_first_version_is_promoted(tiny: Store) -> None:
    assert publish(tiny, "gamma") == 1
    history = tiny.history("gamma")
    assert history["active_version"] == 1
    assert [(v["is_active"], v["promotion_reason"]) for v in history["versions"]] == [(True, "first version")]


def test_a_later_version_is_a_candidate_and_the_active_one_stays(tiny: Store) -> None:
    assert add_head(tiny, "alpha", score=0.6) == 2
    history = tiny.history("alpha")
    assert history["active_version"] == 1
    assert [(v["version"], v["is_active"]) for v in history["versions"]] == [(1, True), (2, False)]
    assert tiny.snapshot().versions == {"alpha": 1, "beta": 1}


def test_a_named_version_can_be_read_beside_the_active_one(tiny: Store) -> None:
    add_head(tiny, "alpha", score=0.6)
    assert [tiny.head("alpha", tiny.release(), version).version for version in (None, 1, 2)] == [1, 1, 2]


def test_version_numbers_are_never_used_again(tiny: Store) -> None:
    assert [publish(tiny, "alpha"), publish(tiny, "alpha")] == [2, 3]
    shutil.rmtree(tiny.path / "heads/alpha/v3")
    assert publish(tiny, "alpha") == 4  # the history remembers
    (tiny.path / "heads/alpha/v9").mkdir()  # published, but a crash came before the history
    assert publish(tiny, "alpha") == 10


def test_published_versions_never_change(tiny: Store) -> None:
    before = tree(tiny.path / "heads/alpha/v1")
    publish(tiny, "alpha")
    assert tree(tiny.path / "heads/alpha/v1") == before
    with (
        pytest.raises(StoreError, match=r"versions never change, publish the next number"),
        new_folder(tiny.path / "heads/alpha/v1"),
    ):
        raise AssertionError("a folder that exists was opened for filling")


@pytest.mark.parametrize("signal", ["alpha", "gamma"])
def test_a_version_that_fails_while_it_is_filled_leaves_nothing(
    tiny: Store, signal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(tiny.path)
    monkeypatch.setattr(folders, "sha256", _disk_full)
    with pytest.raises(StoreError, match=r"(v2|gamma): cannot be written \(No space left on device\); check space"):
        publish(tiny, signal)
    assert tree(tiny.path) == before
    assert not list(tiny.path.rglob(".new-*"))
    assert tiny.signals() == ("alpha", "beta")


def _disk_full(path: Path) -> str:
    raise OSError(28, "No space left on device")


def test_what_a_killed_process_leaves_is_no_version(tiny: Store) -> None:
    shutil.copytree(tiny.path / "heads/alpha/v1", tiny.path / "heads/alpha/.new-x1")
    assert publish(tiny, "alpha") == 2
    assert [v["version"] for v in tiny.history("alpha")["versions"]] == [1, 2]
    (tiny.path / "heads/.new-y").mkdir()
    assert tiny.signals() == ("alpha", "beta")


def test_every_change_writes_the_index_anew_one_revision_up(tiny: Store) -> None:
    before = tiny.revision()
    publish(tiny, "gamma")
    index = json.loads((tiny.path / "registry.json").read_text())
    assert index["revision"] == tiny.revision() == before + 1
    assert (index["backbone_version"], set(index["signals"])) == (1, {"alpha", "beta", "gamma"})
    assert (index["signals"]["gamma"]["active_head_version"], index["signals"]["gamma"]["head_path"]) == (
        1, "heads/gamma/v1",
    )  # fmt: skip


def test_a_running_engine_picks_up_a_new_head(tiny: Store) -> None:
    with Engine.open(tiny.path, threads=1) as engine:
        assert not engine.refresh()
        add_head(tiny, "gamma")
        assert engine.snapshot.versions == {"alpha": 1, "beta": 1}
        assert engine.refresh()
        assert engine.snapshot.versions == {"alpha": 1, "beta": 1, "gamma": 1}
        assert engine.snapshot.revision == tiny.revision()


def test_a_refresh_that_fails_keeps_the_heads_that_run(tiny: Store) -> None:
    with Engine.open(tiny.path, threads=1) as engine:
        publish(tiny, "gamma")  # its weights are no safetensors file
        for _ in range(2):
            with pytest.raises(StoreError, match=r"gamma.v1.weights\.safetensors"):
                engine.refresh()
        assert engine.snapshot.versions == {"alpha": 1, "beta": 1}


# names


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/b", "a\\b", "%2e%2e%252f", "a\0", "\0", "аlpha", "ａlpha", "CON", "Alpha", "ALPHA", "a" * 65,
        "x" * 300, "", " ", "alpha ", "alpha\n", ".", "..", ".hidden", "-rf", "a-b", "a.b", "ß",
        "ı", "²", "alpha/", "/etc", "~",
    ],
)  # fmt: skip
def test_names_outside_the_alphabet_are_refused_everywhere(tiny: Store, name: str) -> None:
    release, before = tiny.release(), tree(tiny.path)
    for use in (
        lambda: tiny.history(name), lambda: tiny.head(name, release), lambda: tiny.head(name, release, 1),
        lambda: publish(tiny, name), lambda: tiny.snapshot((name,)),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=r"use 1 to 64 of a-z, 0-9 and _"):
            use()
    assert tree(tiny.path) == before


@pytest.mark.parametrize("name", [None, 3, b"alpha", ["alpha"]])
def test_names_that_are_no_text_are_refused(name: Any) -> None:
    with pytest.raises(StoreError, match="use 1 to 64"):
        checked_name(name)


@pytest.mark.parametrize("name", ["a", "_", "0", "a" * 64, "__proto__", "con", "metadata"])
def test_odd_names_inside_the_alphabet_are_ordinary(tiny: Store, name: str) -> None:
    publish(tiny, name)
    assert name in tiny.signals()
    assert tiny.history(name)["signal_name"] == name
    assert json.loads((tiny.path / "registry.json").read_text())["signals"][name]["active_head_version"] == 1


def test_folders_of_other_names_are_no_signals(tiny: Store) -> None:
    for name in ("Alpha", "a b", ".trash", "x" * 65):
        shutil.copytree(tiny.path / "heads/alpha", tiny.path / "heads" / name, copy_function=os.link)
    assert tiny.signals() == ("alpha", "beta")


def test_a_signal_that_is_not_here_is_refused_with_those_that_are(tiny: Store) -> None:
    with pytest.raises(StoreError, match="no signal 'gamma'; it has alpha, beta"):
        tiny.snapshot(("alpha", "gamma"))
