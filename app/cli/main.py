"""g20: the command line. Data goes to standard output, everything else to standard error."""

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from engine import VERSION
from engine.devices.machine import describe_cpu
from engine.errors import HydraError, UnavailableError

from . import (
    bench as bench_commands,
)
from . import (
    detect as detecting,
)
from . import (
    samples as sample_commands,
)
from . import (
    training as training_commands,
)
from . import (
    versions as version_commands,
)
from .output import Reporter, complain, data_console

app = typer.Typer(help="Find radio signals in IQ recordings.", no_args_is_help=True, pretty_exceptions_enable=False)
for commands in (detecting, bench_commands, sample_commands, training_commands, version_commands):
    commands.register(app)


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
def extract(
    checkpoint: Annotated[Path, typer.Argument(help="A legacy checkpoint: the state dict of one detector.")],
    signal: Annotated[str, typer.Option(help="What its head looks for: a-z, 0-9 and _.")],
    models: Annotated[Path, typer.Option("--models", help="The model store to make or add to.")] = Path("models"),
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
    from engine.store.registry import Store

    sizes = (int(size) if size.is_integer() else size for size in _numbers(anchor_sizes))
    anchors = Anchors(tuple(sizes), _numbers(anchor_ratios))
    with Reporter("extracting") as reporter:
        done = run_extract(
            checkpoint,
            signal,
            Store(models),
            contract=CONTRACTS[contract],
            anchors=anchors,
            nms_iou=nms_iou,
            notes=notes,
            progress=lambda text: reporter.update(description=text),
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
    """List the devices and runtimes for detection, and the reason where a GPU cannot be used."""
    from engine.devices.cuda import missing
    from engine.sessions.open import CPU, GPU, installed

    table = Table()
    for heading in ("device", "what", "runtimes"):
        table.add_column(heading)
    runtimes = {kind: "\n".join(f"{name} {number}" for name, number in installed(kind).items()) for kind in (CPU, GPU)}
    table.add_row("cpu", describe_cpu(), runtimes[CPU])
    table.add_row("cuda:0", missing() or "a GPU", runtimes[GPU])
    data_console.print(table)


def main() -> None:
    """Runs the command line: 0 done, 1 something in the input was refused, 2 wrong use, 130 Ctrl-C."""
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
