"""What `g20 store check --repair` removes: what killed writers left, and nothing that a history refers to."""

import shutil

import pytest

from engine.errors import StoreError
from engine.store import locking
from engine.store.registry import Store

from .test_retention import candidates


@pytest.mark.parametrize("missing", ["manifest.json", "weights.safetensors"])
def test_half_a_version_that_no_history_knows_is_removed_and_a_whole_one_stays(small: Store, missing: str) -> None:
    for version in (7, 8):
        shutil.copytree(small.path / "heads/alpha/v1", small.path / f"heads/alpha/v{version}")
    (small.path / "heads/alpha/v7" / missing).unlink()
    (problem,) = small.repair()
    assert "heads/alpha/v7: in no history, and files of it are missing; repair removes it" in problem.what
    assert {path.name for path in (small.path / "heads/alpha").iterdir()} == {"metadata.json", "v1", "v8"}


def test_half_a_version_that_the_history_knows_is_never_removed(small: Store) -> None:
    candidates(small, 1)
    (small.path / "heads/alpha/v2/weights.safetensors").unlink()
    assert small.repair() == []
    assert (small.path / "heads/alpha/v2/manifest.json").is_file()


def test_repair_waits_for_a_writer_and_leaves_what_it_is_writing(small: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "LOCK_WAIT_S", 0.05)
    (small.path / "heads/alpha/.new-w0rk").mkdir()
    with locking.writer_lock(small.path), pytest.raises(StoreError, match="another process has been writing"):
        small.repair()
    assert (small.path / "heads/alpha/.new-w0rk").is_dir()
