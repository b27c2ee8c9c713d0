"""g20 versions and g20 store."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.cli import versions as version_commands
from engine.errors import StoreError
from engine.store.registry import Store

from .tiny_store import add_compact, edit, overwrite, tree

Run = Callable[..., Any]  # of what CliRunner.invoke returns


@pytest.fixture
def g20(small: Store, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The commands of this module, on a store of two signals."""
    app = typer.Typer()
    version_commands.register(app)
    monkeypatch.setattr(version_commands.data_console, "width", 160)

    def run(*words: object) -> Any:
        return CliRunner().invoke(app, [*map(str, words), "--models", str(small.path)])

    return run


def rows(done: Any) -> list[list[str]]:
    return [line.replace("│", " ").split() for line in done.stdout.splitlines()]


def test_versions_lists_all_signals(g20: Run, small: Store) -> None:
    edit(small.path / "heads/beta/metadata.json", versions=[
        {**small.history("beta")["versions"][0], "created_at": "2026-03-01T01:30:00+02:00", "sample_count": 7,
         "metrics": {"f1_score": 0.914}}
    ])  # fmt: skip
    done = g20("versions")
    assert done.exit_code == 0
    assert f"revision {small.revision()}, backbone v1" in done.stdout
    assert ["beta", "v1", "0.91", "7", "2026-02-28", "23:30", "UTC", "yes"] in rows(done)  # UTC, whatever was written
    assert any(row[:4] == ["alpha", "v1", "-", "-"] for row in rows(done))


def test_versions_of_a_signal_say_what_is_active_and_why(g20: Run, small: Store) -> None:
    add_compact(small, "alpha", "F1 falls by 0.01")
    small.pin("alpha", 2)
    small.promote("alpha", add_compact(small, "alpha"), "0.03 better")
    add_compact(small, "alpha", None)
    told = {row[0]: " ".join(row[1:]) for row in rows(g20("versions", "alpha")) if row and row[0].startswith("v")}
    assert told["v4"].startswith("candidate") and told["v4"].endswith("not decided")
    assert told["v3"].startswith("active") and told["v3"].endswith("0.03 better")
    assert told["v2"].startswith("candidate, pinned") and told["v2"].endswith("F1 falls by 0.01")
    assert told["v1"].startswith("was active") and told["v1"].endswith("not better")


def test_promote_and_rollback_move_the_pointer_and_say_so(g20: Run, small: Store) -> None:
    add_compact(small, "alpha")
    done = g20("versions", "alpha", "--promote", 2, "--reason", "the customer's choice")
    assert (done.exit_code, small.snapshot().versions["alpha"]) == (0, 2)
    assert "alpha: version 2 is active; it was 1" in done.stderr
    assert small.history("alpha")["versions"][1]["promotion_reason"] == "the customer's choice"
    done = g20("versions", "alpha", "--rollback")
    assert (done.exit_code, small.snapshot().versions["alpha"]) == (0, 1)
    assert "alpha: version 1 is active; it was 2" in done.stderr


def test_json_is_the_history_or_the_index(g20: Run, small: Store) -> None:
    assert json.loads(g20("versions", "alpha", "--json").stdout) == small.history("alpha")
    index = json.loads(g20("versions", "--json").stdout)
    assert {name: about["active_head_version"] for name, about in index["signals"].items()} == {"alpha": 1, "beta": 1}
    add_compact(small, "alpha")
    assert json.loads(g20("versions", "alpha", "--promote", 2, "--json").stdout)["active_version"] == 2


def test_pin_and_unpin_are_kept(g20: Run, small: Store) -> None:
    for words, pinned in ((("--pin", 1), True), (("--unpin", 1), False)):
        assert g20("versions", "alpha", *words).exit_code == 0
        assert small.history("alpha")["versions"][0]["pinned"] is pinned


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("versions", "--promote", 1), "name the signal"),
        (("versions", "--rollback"), "name the signal"),
        (("versions", "alpha", "--promote", 1, "--rollback"), "choose one of --promote, --rollback"),
        (("store", "reset"), "say --yes to do it"),
    ],
)
def test_wrong_use_changes_nothing(g20: Run, small: Store, words: tuple[Any, ...], told: str) -> None:
    before = tree(small.path)
    done = g20(*words)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert tree(small.path) == before


@pytest.mark.parametrize("words", [("alpha", "--rollback"), ("alpha", "--promote", 9), ("gamma",), ("../x",)])
def test_a_refusal_of_the_store_is_passed_on(g20: Run, words: tuple[Any, ...]) -> None:
    assert isinstance(g20("versions", *words).exception, StoreError)  # which `g20` prints as one line, and ends with 1


def test_check_tells_what_is_wrong_and_repair_mends_what_can_be(g20: Run, small: Store) -> None:
    done = g20("store", "check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "all is well with 2 signals" in done.stderr
    overwrite(small.path / "registry.json", "{")
    add_broken = small.path / "heads/beta/v1/weights.safetensors"
    overwrite(add_broken, b"?")
    done = g20("store", "check")
    assert done.exit_code == 1
    assert ["registry.json" in line or "SHA-256" in line for line in done.stdout.splitlines()] == [True, True]
    done = g20("store", "check", "--repair")
    assert done.exit_code == 1
    assert "mended:" in done.stderr and "SHA-256" in done.stdout and "registry.json" not in done.stdout


def test_reset_goes_back_to_the_first_versions(g20: Run, small: Store) -> None:
    small.promote("alpha", add_compact(small, "alpha"), "better")
    done = g20("store", "reset", "--yes")
    assert (done.exit_code, done.stdout) == (0, "alpha: version 1 is active\nbeta: version 1 is active\n")
    assert small.snapshot().versions == {"alpha": 1, "beta": 1}
    assert isinstance(g20("store", "reset", "--yes", "--backbone", 5).exception, StoreError)
