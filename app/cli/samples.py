"""g20 samples: import, list, removal and export of labelled samples."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import JustifyMethod
from rich.table import Table

from engine.errors import HydraError, StoreError
from engine.store.finding import find_models

from .options import Models
from .output import Reporter, complain, data_console, say

if TYPE_CHECKING:
    from engine.contract import Contract
    from training.samples.sample import Sample, Side
    from training.samples.store import SampleStore

Data = Annotated[Path, typer.Option("--data", help="Where samples are kept.")]
Signal = Annotated[str, typer.Argument(help="The signal that a head looks for: a-z, 0-9 and _.")]


class SideName(StrEnum):
    train = "train"
    validation = "validation"


class FormatName(StrEnum):
    coco = "coco"
    sigmf = "sigmf"


def register(app: typer.Typer) -> None:
    samples = typer.Typer(help="Labelled samples: what heads are trained on and measured by.", no_args_is_help=True)
    for name, command in (("add", add), ("list", show), ("remove", remove), ("export", export)):
        samples.command(name)(command)
    app.add_typer(samples, name="samples")


def add(
    signal: Signal,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Recordings; their SigMF annotations become boxes.")
    ] = None,
    data: Data = Path("training_data"),
    models: Models = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="START_S,STOP_S,LOW_HZ,HIGH_HZ[,LABEL]: one more object in every file; absolute hertz."),
    ] = None,
    coco: Annotated[Path | None, typer.Option(help="A COCO file, or the folder of an export, with its images.")] = None,
    side: Annotated[SideName | None, typer.Option(help="Ask for one side of the split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many windows of a file.")] = None,
    negatives: Annotated[int, typer.Option(min=0, help="And so many that do not show the signal.")] = 0,
    label: Annotated[str | None, typer.Option(help="What the files call the signal.")] = None,
    rate: Annotated[float | None, typer.Option(help="Sample rate in Hz, where the file does not say it.")] = None,
    center: Annotated[float | None, typer.Option(help="Centre frequency in Hz, likewise.")] = None,
    image_only: Annotated[
        bool, typer.Option("--image-only", help="Keep no IQ: saves disk, but there is no second look.")
    ] = False,
) -> None:
    """Keep the windows of recordings that show a signal, with boxes around all that is in them.

    A recording that is refused does not keep the others from being added; the exit status is then 1.
    """
    if bool(files) == (coco is not None):
        raise typer.BadParameter("give recordings, or --coco FILE")
    if coco is not None and (box or limit or negatives or rate is not None or center is not None or image_only):
        raise typer.BadParameter(
            "--box, --limit, --negatives, --rate, --center and --image-only are for recordings, not for --coco"
        )
    boxes = [_box(text, signal) for text in box or ()]
    from engine.recordings.open import open_recording
    from engine.store.registry import Store
    from training.samples.store import SampleStore

    store, contract = SampleStore(data), Store(find_models(models)).release().contract
    store.folder(signal)  # refuses a bad name once, not for each file
    wish: Side | None = None if side is None else ("train" if side is SideName.train else "validation")
    if coco is not None:
        from training.samples.labels import coco_in

        with Reporter(coco.name, unit="images") as reporter:
            imported = coco_in(store, signal, coco, contract=contract, side=wish, label=label, on_image=reporter.update)
        _added(coco, imported, contract)
    refused = []
    for path in files or ():
        try:
            recording = open_recording(path, sample_rate_hz=rate, center_freq_hz=center)
            for note in recording.notes:
                say(f"{path.name}: {note}")
            with Reporter(path.name, unit="windows") as reporter:
                found = store.add_recording(
                    signal, recording, contract=contract, limit=limit, negatives=negatives, side=wish,
                    boxes_physical=boxes, label=label, keep_iq=not image_only, on_window=reporter.update,
                )  # fmt: skip
        except HydraError as error:
            complain(error)
            refused.append(path)
        else:
            _added(path, found, contract)
    if refused:
        names = ", ".join(map(str, refused))
        say(f"added: {len(files or ()) - len(refused)} of {len(files or ())} recordings; not added: {names}")
        raise typer.Exit(1)


def show(
    signal: Annotated[str | None, typer.Argument(help="Only its samples; otherwise a count for each signal.")] = None,
    data: Data = Path("training_data"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per sample.")] = False,
) -> None:
    """List samples, their sides of the split and which lack IQ; a signal that has none is an error."""
    from training.samples.splits import last_split
    from training.samples.store import SampleStore

    store = SampleStore(data)
    if signal is not None:
        _check_known(store, signal)
    table = Table()
    of_signal = ("sample", "side", "own", "others", "iq", "at s", "from")
    headings = of_signal if signal else ("signal", "samples", "labelled", "no second look", "v")
    for heading in headings:
        justify: JustifyMethod = "left" if heading in ("sample", "side", "from", "signal") else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for name in store.signals() if signal is None else (signal,):
        samples, split = store.list(name), last_split(store.splits_folder(name))
        sides = split.sides if split else {}
        if as_json:
            for sample in samples:
                more = {"split": sides.get(sample.sample_id), "second_look": sample.iq_file is not None}
                typer.echo(json.dumps({**sample.as_json(), **more}))
        elif signal is None:
            labelled = sum(bool(len(sample.own_boxes)) for sample in samples)
            totals = (str(len(samples)), str(labelled), str(_without_iq(samples)))
            table.add_row(name, *totals, str(split.version) if split else "-")
        else:
            for sample in samples:
                own = len(sample.own_boxes)
                kept = sample.iq_file.dtype if sample.iq_file else "-"
                counts = (str(own), str(len(sample.boxes) - own), kept, f"{sample.time_offset_sec:.3f}")
                side = sides.get(sample.sample_id) or (f"({sample.side})" if sample.side else "-")
                table.add_row(sample.sample_id, side, *counts, sample.source_capture)
            if lacking := _without_iq(samples):
                say(
                    f"{lacking} of {len(samples)} samples keep no IQ: no second look; add their recordings again with "
                    f"`g20 samples add {name} FILE`"
                )
    if not as_json:
        data_console.print(table)


def remove(
    signal: Signal,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `g20 samples list SIGNAL` has them.")],
    data: Data = Path("training_data"),
) -> None:
    """Take samples away; the others stay on their sides of the split."""
    from training.samples.store import SampleStore

    store = SampleStore(data)
    for sample_id in ids:
        store.remove(signal, sample_id)
    typer.echo(f"{signal}: {len(ids)} removed, {len(store.list(signal))} left")


def export(
    signal: Signal,
    folder: Annotated[Path, typer.Argument(help="Where to; it is made.")],
    data: Data = Path("training_data"),
    form: Annotated[
        FormatName, typer.Option("--format", help="COCO with images, or SigMF metadata.")
    ] = FormatName.coco,
) -> None:
    """Write the labels of a signal's samples for other tools."""
    from training.samples.labels import coco_out, sigmf_write
    from training.samples.store import SampleStore

    samples = SampleStore(data).list(signal)
    if not samples:
        raise StoreError(f"{data}: no samples of {signal!r}; add some with `g20 samples add {signal} FILE`")
    written = [coco_out(samples, folder)] if form == FormatName.coco else sigmf_write(samples, folder)
    for path in written:
        typer.echo(str(path))


def _without_iq(samples: "list[Sample]") -> int:
    return sum(sample.iq_file is None for sample in samples)


def _check_known(store: "SampleStore", signal: str) -> None:
    store.folder(signal)  # refuses a bad name
    known = store.signals()
    if signal not in known:
        there = f"there are samples of {', '.join(known)}" if known else "there are none of any signal"
        raise StoreError(
            f"{store.path}: no samples of {signal!r}; {there}: add some with `g20 samples add {signal} FILE`"
        )


def _added(path: Path, samples: "list[Sample]", contract: "Contract") -> None:
    own = sum(len(sample.own_boxes) for sample in samples)
    others = sum(len(sample.boxes) for sample in samples) - own
    windows = f"{len(samples)} windows of {contract.capture_s * 1e3:g} ms"
    typer.echo(
        f"{path.name}: {windows}, boxes: {own} of the signal, {others} of other labelled signals in these windows"
    )


def _box(text: str, signal: str) -> tuple[float, float, float, float, str]:
    numbers, name = text.split(",")[:4], ",".join(text.split(",")[4:]).strip()
    try:
        start_s, stop_s, low_hz, high_hz = map(float, numbers)
    except ValueError as error:
        raise typer.BadParameter(f"--box {text!r} is not START_S,STOP_S,LOW_HZ,HIGH_HZ[,LABEL]") from error
    return start_s, stop_s, low_hz, high_hz, name or signal
