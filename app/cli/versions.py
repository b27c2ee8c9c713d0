"""g20 versions, g20 store: contents of the model store, promotion and rollback of versions, integrity checks."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from engine.store.finding import find_models
from engine.store.history import activations, is_kept
from engine.store.registry import Store

from .options import Models
from .output import data_console, number_text, say

SHOWN_METRICS = ("f1_score", "precision", "recall")
BY_HAND = "chosen on the command line"


def register(app: typer.Typer) -> None:
    app.command()(versions)
    store = typer.Typer(help="Look after the model store.", no_args_is_help=True)
    store.command()(check)
    store.command()(reset)
    app.add_typer(store, name="store")


def versions(
    signal: Annotated[str | None, typer.Argument(help="Its versions; without one, all signals.")] = None,
    models: Models = None,
    promote: Annotated[int | None, typer.Option(metavar="N", help="Make version N the active one.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Undo the last promotion.")] = False,
    pin: Annotated[int | None, typer.Option(metavar="N", help="Never remove the weights of version N.")] = None,
    unpin: Annotated[int | None, typer.Option(metavar="N", help="Undo --pin.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history (with --promote).")] = BY_HAND,
    as_json: Annotated[bool, typer.Option("--json", help="The history, or the index of all signals, as JSON.")] = False,
) -> None:
    """Show the versions of a signal's head, or move the pointer to the active one."""
    asked = sum([promote is not None, rollback, pin is not None, unpin is not None])
    if asked > 1:
        raise typer.BadParameter("choose one of --promote, --rollback, --pin and --unpin")
    if asked and signal is None:
        raise typer.BadParameter("name the signal whose versions are meant")
    changes = rollback or any(number is not None for number in (promote, pin, unpin))
    store = Store(find_models(models, to_change=changes))
    if signal is None:
        _print(store.index(), _signals_table, as_json)
        return
    before = store.history(signal)["active_version"]
    if promote is not None:
        store.promote(signal, promote, reason)
    elif rollback:
        store.rollback(signal)
    elif pin is not None:
        store.pin(signal, pin)
    elif unpin is not None:
        store.pin(signal, unpin, pinned=False)
    history = store.history(signal)
    if promote is not None or rollback:
        say(f"{signal}: version {history['active_version']} is active; it was {before or 'none'}")
    _print(history, _versions_table, as_json)


def check(
    models: Models = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without loss.")] = False,
) -> None:
    """Verify the hash of every file, and that histories, pointers and the index agree."""
    store = Store(find_models(models, to_change=repair))
    if repair:
        for problem in store.repair():
            say(f"mended: {problem.what}")
    problems = store.check()
    for problem in problems:
        typer.echo(problem.what)
    if problems:
        raise typer.Exit(1)
    say(f"{store.path}: all is well with {len(store.signals())} signals, revision {store.revision()}")


def reset(
    models: Models = None,
    backbone: Annotated[int | None, typer.Option(metavar="N", help="Also go back to backbone release N.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
) -> None:
    """Go back to the first version of every signal, as it was extracted or first trained."""
    if not yes:
        raise typer.BadParameter("this moves every signal back to its first version; say --yes to do it")
    for signal, version in Store(find_models(models, to_change=True)).reset(backbone).items():
        typer.echo(f"{signal}: version {version} is active")


def _print(document: dict[str, Any], table: Callable[[dict[str, Any]], Table], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        data_console.print(table(document))


def _signals_table(index: dict[str, Any]) -> Table:
    table = _table(f"revision {index['revision']}, backbone v{index['backbone_version']}", "signal", "active", "F1",
                   "samples", "trained", "runs")  # fmt: skip
    for name, about in index["signals"].items():
        table.add_row(
            name,
            "none" if about["active_head_version"] is None else f"v{about['active_head_version']}",
            number_text(about["f1_score"]),
            _text(about["sample_count"]),
            _time(about["last_trained"]),
            _runs(name, about),
        )
    return table


def _runs(name: str, about: dict[str, Any]) -> str:
    if about["active_head_version"] is None:
        return f"no: see g20 versions {name}"
    return "yes" if about["compatible"] else "no: see g20 store check"


def _versions_table(history: dict[str, Any]) -> Table:
    table = _table(f"{history.get('signal_name')}, newest first", "version", "state", "made", "samples", "F1", "prec.",
                   "recall", "why")  # fmt: skip
    been = {step["version"] for step in activations(history)}
    for entry in sorted(history["versions"], key=lambda entry: entry["version"], reverse=True):
        metrics = entry.get("metrics") or {}
        table.add_row(
            f"v{entry['version']}",
            _state(entry, history["active_version"], been),
            _time(entry.get("created_at")),
            _text(entry.get("sample_count")),
            *(number_text(metrics.get(name)) for name in SHOWN_METRICS),
            _text(entry.get("promotion_reason") or "not decided"),
        )
    return table


def _state(entry: dict[str, Any], active: int | None, been: set[int]) -> str:
    role = "was active" if entry["version"] in been else "candidate"
    state = "active" if entry["version"] == active else role
    return state + (", pinned" if entry.get("pinned") else "") + ("" if is_kept(entry) else ", weights removed")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("samples", "F1", "prec.", "recall") else "left")
    return table


def _time(stamp: Any) -> str:
    """A timestamp of the history, converted to UTC; other text unchanged."""
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (TypeError, ValueError, OverflowError):  # a year before 1 or after 9999 in UTC
        return _text(stamp)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
