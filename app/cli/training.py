"""g20 train, g20 export: samples to a version in the store, and a version to files that run elsewhere."""

from enum import StrEnum
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engine.errors import UnavailableError
from engine.store.finding import find_models

from .interrupts import stop_on
from .options import Models
from .output import Reporter, data_console, number_text, say

if TYPE_CHECKING:
    from training.head.loop import Epoch
    from training.jobs import Published


class PresetName(StrEnum):
    fast = "fast"
    balanced = "balanced"
    quality = "quality"
    extreme = "extreme"


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.command()(export)


def export(
    signal: Annotated[str, typer.Argument(help="The signal whose head is wanted.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the files.")],
    models: Models = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="Another version than the active one.")] = None,
) -> None:
    """Write a head as ONNX files with its weights inside, to run elsewhere. (Training exports by itself.)"""
    from engine.store.registry import Store
    from export.bundle import export_head

    about = export_head(Store(find_models(models)), signal, folder, version)
    say(f"wrote {about['signal']} v{about['version']} ({about['head_type']}) to {folder}")


def train(
    signal: Annotated[str, typer.Argument(help="The signal to train a head for; its samples come from --data.")],
    data: Annotated[Path, typer.Option("--data", help="Where samples are kept.")] = Path("training_data"),
    models: Models = None,
    preset: Annotated[PresetName, typer.Option(help="How long to train.")] = PresetName.balanced,
    notes: Annotated[str, typer.Option(help="Kept in the version's history.")] = "",
    same_as: Annotated[
        list[str] | None, typer.Option("--same-as", help="A label the backbone knows that is the same kind of signal.")
    ] = None,
    allow_one_recording: Annotated[
        bool, typer.Option("--allow-one-recording", help="Validate on the recording trained on, and say so.")
    ] = False,
) -> None:
    """Train a head from samples, export it, measure it, and promote it if it is better. Ends with 1 when it is kept as
    a candidate and no other version is active."""
    try:
        from training.jobs import train_signal
    except ImportError as error:
        raise UnavailableError(f"train needs torch ({error}): pip install 'hydra-rf[train]'") from error
    from engine.store.registry import Store
    from training.head.loop import Cancelled, Epoch, Prepared
    from training.jobs import Published
    from training.samples.store import SampleStore

    with stop_on(SIGINT, SIGTERM) as stop, Reporter(f"{signal}: features", unit="views") as reporter:
        events = train_signal(
            signal,
            SampleStore(data),
            Store(find_models(models, to_change=True)),
            preset=preset,
            notes=notes,
            same_as=same_as or (),
            allow_one_recording=allow_one_recording,
            cancelled=stop.is_set,
        )
        for event in events:
            if isinstance(event, Prepared):
                reporter.update(event.done, event.total)
            elif isinstance(event, Epoch):
                reporter.update(
                    event.epoch,
                    event.total_epochs,
                    description=f"{signal}: training",
                    unit="epochs",
                    status=_live(event),
                )
            elif isinstance(event, Cancelled):
                say(f"{signal}: cancelled; nothing was saved and nothing promoted")
                raise typer.Exit(1)
            elif isinstance(event, Published):
                reporter.pause()
                data_console.print(_before_and_after(event))
                if not event.decision.promote and event.active is None:
                    say(f"{signal}: no version is active, so it is not detected; see `g20 versions {signal}`")
                    raise typer.Exit(1)


def _live(event: "Epoch") -> str:
    best = " best" if event.is_best else ""
    return f"loss {event.train_loss:.3f}/{event.val_loss:.3f} F1 {event.f1_score:.3f}{best}"


def _before_and_after(done: "Published") -> Table:
    verdict = "promoted" if done.decision.promote else "kept as a candidate"
    table = Table(title=f"{done.signal} v{done.version}: {verdict}", title_justify="left", caption_justify="left")
    for heading in ("on the same validation samples", "before", "after"):
        table.add_column(heading, justify="left" if heading.startswith("on") else "right")
    before = done.before.report.as_json() if done.before else {}
    after = done.after.report.as_json()
    for name, key in (("F1", "f1"), ("precision", "precision"), ("recall", "recall"), ("AP50", "ap50")):
        table.add_row(name, number_text(before.get(key), 3), number_text(after[key], 3))
    table.add_row("objects found / there", _counts(before), _counts(after))
    trained = done.trained
    table.add_row("epochs, best", "", f"{trained.epochs_trained}, {trained.best_epoch}")
    table.add_row("seconds of training", "", f"{trained.elapsed_sec:.1f}")
    train, validation = len(done.split.train_samples), len(done.split.val_samples)
    table.add_row("samples, for validation", "", f"{train + validation}, {validation}")
    table.caption = done.decision.reason
    return table


def _counts(report: dict[str, Any]) -> str:
    return f"{report['hits']} / {report['truths']}" if report else "-"
