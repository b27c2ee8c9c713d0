"""A signal whose history or folder is gone: an error, never a signal that is silently not detected."""

import shutil

import pytest

from engine.engine import Engine
from engine.errors import StoreError
from engine.store.registry import Store

from .tiny_store import publish, tree


@pytest.mark.parametrize("index", ["as it was", "missing"])
def test_a_signal_whose_history_is_gone_is_an_error_that_names_the_file(tiny: Store, index: str) -> None:
    (tiny.path / "heads/alpha/metadata.json").unlink()
    if index == "missing":
        (tiny.path / "registry.json").unlink()
    before = tree(tiny.path)
    told = r"heads/alpha/metadata\.json: not there, though .*; restore it from a copy, or give the signal up"
    for use in (
        tiny.signals,
        tiny.snapshot,
        tiny.revision,
        lambda: tiny.history("alpha"),
        lambda: Engine.open(tiny.path),
    ):
        with pytest.raises(StoreError, match=told):
            use()
    for signal in ("alpha", "beta"):
        with pytest.raises(StoreError, match=told):
            publish(tiny, signal)
    assert tree(tiny.path) == before
    assert any("heads/alpha: in no history" in problem.what for problem in tiny.check())


def test_a_signal_whose_whole_folder_is_gone_is_an_error_until_it_is_given_up(tiny: Store) -> None:
    shutil.rmtree(tiny.path / "heads/alpha")
    with pytest.raises(
        StoreError, match=r"alpha/metadata\.json: not there, though registry\.json names alpha; .*--repair"
    ):
        tiny.snapshot()
    (problem,) = tiny.repair()
    assert "registry.json: names alpha, no longer in heads/" in problem.what
    assert tiny.snapshot().versions == {"beta": 1}


def test_a_signal_folder_without_versions_is_no_signal(tiny: Store) -> None:
    (tiny.path / "heads/gamma/.new-k1ll").mkdir(parents=True)
    assert tiny.snapshot().versions == {"alpha": 1, "beta": 1}
    assert publish(tiny, "gamma") == 1
    assert tiny.signals() == ("alpha", "beta", "gamma")


def test_a_signal_folder_that_holds_something_else_is_not_published_into(tiny: Store) -> None:
    (tiny.path / "heads/gamma").mkdir()
    (tiny.path / "heads/gamma/notes.txt").write_text("mine")
    before = tree(tiny.path)
    with pytest.raises(StoreError, match=r"heads/gamma: holds notes\.txt and no metadata\.json; move it away"):
        publish(tiny, "gamma")
    assert tree(tiny.path) == before
