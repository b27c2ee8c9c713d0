"""g20 bench: detection time on this machine by number of heads, and real-time capability."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .options import DEVICE, PRECISION, RUNTIME, Device, Models, Precision, Runtime, located
from .output import Reporter, data_console, say

if TYPE_CHECKING:
    from app.bench.report import BenchReport


def register(app: typer.Typer) -> None:
    app.command()(bench)


def bench(
    models: Models = None,
    signals: Annotated[str, typer.Option(help="Numbers of heads, separated by commas.")] = "1,6,12,48",
    frames: Annotated[int, typer.Option(min=1, help="Captures timed for each.")] = 60,
    device: Device = DEVICE,
    runtime: Runtime = RUNTIME,
    precision: Precision = PRECISION,
    threads: Annotated[int, typer.Option(min=0, help="Of the runtime; 0: all cores.")] = 0,
    budget_ms: Annotated[float | None, typer.Option(help="Exit with status 1 where p95 is above.")] = None,
    compare: Annotated[Path | None, typer.Option(help="An earlier --json: exit with status 1 if slower.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document in place of the table.")] = False,
) -> None:
    """Time detection on made captures, results checked, and say whether it is real time.

    With --runtime auto, the runtimes installed are timed, and the fastest is what auto means from then on, on this
    machine, in this precision; a run that is not to be trusted changes nothing.
    """
    from app.bench.report import BenchReport, read_report
    from engine.store.registry import Store

    counts = _counts(signals)
    earlier = read_report(compare) if compare else None
    store = Store(located(models))
    with Reporter("preparing", len(counts) * frames, "frames") as reporter:
        report = BenchReport.measure(
            store, counts, frames, (device, runtime, precision, threads), reporter.advance,
            lambda phase: reporter.update(description=phase),
        )  # fmt: skip
    verdicts = report.against(earlier) if earlier else []
    if as_json:
        typer.echo(json.dumps(report.as_json(verdicts), indent=2, allow_nan=False))
    else:
        for table in (_choices(report), _table(report), _stages(report)):
            if table is not None:
                data_console.print(table)
    for line in (*report.lines(), *(verdict.text for verdict in verdicts)):
        say(line) if as_json else data_console.print(line, soft_wrap=True)
    over = [run for run in report.runs if budget_ms is not None and run["total_ms"]["p95"] > budget_ms]
    for run in over:
        say(
            f"budget missed: p95 with {run['signals']} heads is {run['total_ms']['p95']:.1f} ms, above {budget_ms:g} ms"
        )
    if over or any(verdict.slower for verdict in verdicts) or report.wrong:
        raise typer.Exit(1)


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--signals {text!r} is not a list of numbers separated by commas") from error
    if not counts or min(counts) < 1 or max(counts) > 1000:
        raise typer.BadParameter(f"--signals {text!r}: give numbers from 1 to 1000")
    return counts


def _choices(report: "BenchReport") -> Table | None:
    if not report.choices:
        return None
    table = Table(title="runtimes that `auto` chooses from, ms for the trunk alone", title_justify="left")
    for heading in ("runtime", "precision", "ms", ""):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for choice in report.choices:
        table.add_row(
            choice["runtime"], choice["precision"], f"{choice['ms']:.1f}", "chosen" if choice["chosen"] else ""
        )
    return table


def _table(report: "BenchReport") -> Table:
    from app.bench.report import real_time

    table = Table(title=report.title, title_justify="left")
    for heading in ("heads", "p50 ms", "p90", "p95", "p99", "max", "captures/s", "real time"):
        table.add_column(heading, justify="right")
    for run in report.runs:
        total = run["total_ms"]
        walls = (f"{total[name]:.1f}" for name in ("p50", "p90", "p95", "p99", "max"))
        table.add_row(str(run["signals"]), *walls, f"{run['captures_per_s']:.2f}", real_time(run))
    table.caption = "ran on " + ", ".join(report.runs[0]["ran_on"].values())
    return table


def _stages(report: "BenchReport") -> Table:
    stages = list(report.runs[0]["stages_ms"])
    table = Table(title="stages, median ms", title_justify="left")
    for heading in ("heads", *stages):
        table.add_column(heading.replace("_", " "), justify="right")
    for run in report.runs:
        table.add_row(
            str(run["signals"]), *(f"{run['stages_ms'][s]['p50']:.1f}" for s in stages if s in run["stages_ms"])
        )
    return table
