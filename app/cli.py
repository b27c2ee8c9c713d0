"""g20: the command line. Data goes to standard output, everything else to standard error."""

import io
import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine import VERSION
from engine.detection import Detection, Result, as_json_line, as_sigmf, stitch
from engine.device import describe_cpu
from engine.engine import DEFAULT_THRESHOLD, Engine
from engine.errors import HydraError, UnavailableError
from engine.finding import locate
from engine.recording import Recording, open_recording

from . import bench_commands, sample_commands, training_commands, version_commands
from .consoles import complain, data_console, progress_console, say
from .matching import matched_table

app = typer.Typer(help="Find radio signals in IQ recordings.", no_args_is_help=True, pretty_exceptions_enable=False)
for commands in (bench_commands, sample_commands, training_commands, version_commands):
    commands.register(app)

Models = Annotated[Path, typer.Option("--models", help="The model store.")]
FoundModels = Annotated[
    Path | None, typer.Option("--models", help="The model store, or the name of an installed pack.")
]


class ContractName(StrEnum):
    wideband = "wideband"
    ism = "ism"


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"g20 {VERSION}")
        raise typer.Exit


@app.command()
def detect(
    files: Annotated[list[Path], typer.Argument(help="Recordings: SigMF, RFCAP, WAV, .cf32 .cs16 .cs8 .cu8 .iq")],
    models: FoundModels = None,
    signals: Annotated[str | None, typer.Option(help="Only these signals, separated by commas.")] = None,
    threshold: Annotated[float, typer.Option(help="Least score of a detection, 0 to 1.")] = DEFAULT_THRESHOLD,
    rate: Annotated[float | None, typer.Option(help="Sample rate in Hz, where the file does not say it.")] = None,
    center: Annotated[float | None, typer.Option(help="Centre frequency in Hz, likewise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per detection.")] = False,
    sigmf: Annotated[bool, typer.Option("--sigmf", help="SigMF annotations, one document per file.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the spectrogram with boxes to this PNG.")] = None,
    match: Annotated[bool, typer.Option("--match", help="Compare with the recording's own annotations.")] = False,
    device: Annotated[str, typer.Option(help="Where to compute; see `g20 devices`.")] = "auto",
    arbitrate: Annotated[
        bool, typer.Option("--arbitrate", help="Of several heads on one burst keep the best.")
    ] = False,
) -> None:
    """Find signals in recordings and print them."""
    if as_json and sigmf:
        raise typer.BadParameter("choose one of --json and --sigmf")
    if plot is not None and len(files) > 1:
        raise typer.BadParameter(f"--plot draws one recording, {len(files)} were given")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise typer.BadParameter(f"--plot {plot}: there is no folder {plot.absolute().parent}")
    wanted = None if signals is None else [name.strip() for name in signals.split(",") if name.strip()]
    if wanted == []:
        raise typer.BadParameter(f"--signals {signals!r} names no signal")
    if plot is not None:
        _check_plotting()
    failed = False
    with Engine.open(
        _located(models), signals=wanted, device=device, threshold=threshold, arbitrate=arbitrate
    ) as engine:
        for path in files:
            try:
                recording = open_recording(path, sample_rate_hz=rate, center_freq_hz=center)
                started = time.perf_counter()
                results = _results(engine, recording)
                wall_s = time.perf_counter() - started
            except HydraError as error:
                complain(error)
                failed = True
                continue
            found = stitch(results)
            _print(path, recording, found, results, wall_s, as_json, sigmf)
            if match:
                console = progress_console if as_json or sigmf else data_console
                console.print(matched_table(recording, found, engine.snapshot.versions))
            if plot is not None:
                _plot(plot, engine, recording, found)
    if failed:
        raise typer.Exit(1)


def _located(given: Path | None) -> Path:
    """The store to use; which one goes to standard error, unless it was given."""
    found = locate(given)
    if given is None:
        say(f"models: {found.path.absolute()} ({found.origin})")
    return found.path


def _check_plotting() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UnavailableError(f"--plot needs Matplotlib ({error}): pip install 'hydra-rf[plot]'") from error


def _results(engine: Engine, recording: Recording) -> list[Result]:
    captures = recording.n_captures(engine.contract)
    results = []
    with _bar() as bar:
        task = bar.add_task(recording.path.name, total=captures)
        for result in engine.stream(recording):
            results.append(result)
            bar.advance(task)
    for note in dict.fromkeys([*recording.notes, *(note for result in results for note in result.notes)]):
        say(f"{recording.path.name}: {note}")
    for result in results:
        if result.data_quality != "ok":
            say(f"{recording.path.name}: at {result.start_s:g} s the data are {result.data_quality}")
    return results


def _print(
    path: Path,
    recording: Recording,
    found: list[Detection],
    results: list[Result],
    wall_s: float,
    as_json: bool,
    sigmf: bool,
) -> None:
    if as_json:
        for detection in found:
            typer.echo(as_json_line(detection, str(path)))
    elif sigmf:
        typer.echo(json.dumps(as_sigmf(found, recording), indent=2))
    else:
        data_console.print(_table(path, recording, found))
    ran = ", ".join(results[0].ran_on.values()) if results else "nothing"
    say(f"{path.name}: detections: {len(found)}, captures: {len(results)}, {wall_s * 1e3:.0f} ms on {ran}")


def _table(path: Path, recording: Recording, found: list[Detection]) -> Table:
    unit = "MHz" if recording.center_freq_hz is not None else "MHz from centre"
    table = Table(title=str(path), title_justify="left")
    for heading in ("signal", "score", "start ms", "stop ms", f"low {unit}", f"high {unit}", "head"):
        table.add_column(heading, justify="left" if heading == "signal" else "right")
    for d in found:
        times = (f"{d.start_s * 1e3:.2f}", f"{d.stop_s * 1e3:.2f}")
        table.add_row(
            d.signal, f"{d.score:.2f}", *times, f"{d.low_hz / 1e6:.4f}", f"{d.high_hz / 1e6:.4f}", f"v{d.version}"
        )
    return table


def _plot(target: Path, engine: Engine, recording: Recording, found: list[Detection]) -> None:
    from .plot import draw

    try:
        draw(target, engine.contract, recording, found)
    except OSError as error:
        raise UnavailableError(f"--plot {target}: cannot be written ({error.strerror or error})") from error
    say(f"wrote {target}")


@app.command()
def extract(
    checkpoint: Annotated[Path, typer.Argument(help="A legacy checkpoint: the state dict of one detector.")],
    signal: Annotated[str, typer.Option(help="What its head looks for: a-z, 0-9 and _.")],
    models: Models = Path("models"),
    contract: Annotated[ContractName, typer.Option(help="The front end it was trained with.")] = ContractName.wideband,
    anchor_sizes: Annotated[str, typer.Option(help="Per level, in network pixels.")] = "32,64,128,256,512",
    anchor_ratios: Annotated[str, typer.Option(help="Height over width.")] = "0.5,1,2",
    nms_iou: Annotated[float, typer.Option(min=0.01, max=0.5, help="Most overlap of two detections.")] = 0.5,
    notes: Annotated[str, typer.Option(help="Kept in the version's history.")] = "",
) -> None:
    """Split a legacy checkpoint into the store's backbone and a head, and prove that nothing was lost."""
    try:
        from export.legacy import extract as run_extract
    except ImportError as error:
        raise UnavailableError(f"extract needs torch ({error}): pip install 'hydra-rf[train]'") from error
    from engine.anchors import Anchors
    from engine.contract import CONTRACTS
    from engine.registry import Store

    sizes = (int(size) if size.is_integer() else size for size in _numbers(anchor_sizes))
    anchors = Anchors(tuple(sizes), _numbers(anchor_ratios))
    with _bar() as bar:
        task = bar.add_task("extracting", total=None)
        done = run_extract(
            checkpoint,
            signal,
            Store(models),
            contract=CONTRACTS[contract],
            anchors=anchors,
            nms_iou=nms_iou,
            notes=notes,
            progress=lambda text: bar.update(task, description=text),
        )
    typer.echo(f"backbone v{done.backbone_version}: {done.backbone_tensors} tensors, {done.backbone_values:,} values")
    typer.echo(f"head {done.signal} v{done.head_version}: {done.head_tensors} tensors, {done.head_values:,} values")
    typer.echo(f"whole model and parts agree on {done.detections} detections in {done.compared} inputs")
    proof = done.certificate
    typer.echo(
        f"ONNX and torch: {proof.matched} of {proof.detections} detections matched, "
        f"boxes within {proof.max_box_step_px:.2g} px, scores within {proof.max_score_step:.2g}"
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers separated by commas") from error


@app.command()
def devices() -> None:
    """What detection can run on here, and why not on a GPU where it cannot."""
    from engine.cuda import missing
    from engine.sessions.open import CPU, GPU, installed

    table = Table()
    for heading in ("device", "what", "runtimes"):
        table.add_column(heading)
    runtimes = {kind: "\n".join(f"{name} {number}" for name, number in installed(kind).items()) for kind in (CPU, GPU)}
    table.add_row("cpu", describe_cpu(), runtimes[CPU])
    table.add_row("cuda:0", missing() or "a GPU", runtimes[GPU])
    data_console.print(table)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    )


def main() -> None:
    """Runs the command line: 0 done, 1 something in the input was refused, 2 wrong use."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold what its encoding has not
    try:
        app()
    except HydraError as error:
        complain(error)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        complain(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
