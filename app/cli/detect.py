"""g20 detect: the signals in recordings, printed while they are found."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from typing import Annotated

import typer

from engine.detection import Detection, Result
from engine.engine import DEFAULT_THRESHOLD, Engine
from engine.errors import HydraError, UnavailableError
from engine.recordings.detections import as_sigmf
from engine.recordings.open import open_recording
from engine.recordings.recording import Recording
from engine.stitching import Stitcher

from .engines import Engines
from .interrupts import stop_on
from .lines import CsvLines, JsonLines, Lines, NoLines, TableLines
from .matching import matched_table
from .options import DEVICE, PRECISION, RUNTIME, Device, Models, Precision, Runtime
from .output import complain, data_console, progress, progress_console, say

INTERRUPTED = 128 + SIGINT


def register(app: typer.Typer) -> None:
    app.command()(detect)


def detect(
    files: Annotated[list[Path], typer.Argument(help="Recordings: SigMF, RFCAP, WAV, .cf32 .cs16 .cs8 .cu8 .iq")],
    models: Models = None,
    signals: Annotated[str | None, typer.Option(help="Only these signals, separated by commas.")] = None,
    threshold: Annotated[float, typer.Option(help="Least score of a detection, 0 to 1.")] = DEFAULT_THRESHOLD,
    rate: Annotated[float | None, typer.Option(help="Sample rate in Hz, where the file does not say it.")] = None,
    center: Annotated[float | None, typer.Option(help="Centre frequency in Hz, likewise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per detection.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row of CSV per detection, after a heading.")] = False,
    sigmf: Annotated[bool, typer.Option("--sigmf", help="SigMF annotations, one document per file.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the spectrogram with boxes to this PNG.")] = None,
    match: Annotated[bool, typer.Option("--match", help="Compare with the recording's own annotations.")] = False,
    device: Device = DEVICE,
    runtime: Runtime = RUNTIME,
    precision: Precision = PRECISION,
    all_heads: Annotated[
        bool, typer.Option("--all-heads", help="Every head's detections, also where several claim one burst.")
    ] = False,
) -> None:
    """Find signals in recordings and print each as soon as it is over. Ctrl-C stops, and keeps what was found."""
    if as_json + as_csv + sigmf > 1:
        raise typer.BadParameter("choose one of --json, --csv and --sigmf")
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
    with (
        Engines(
            models,
            wanted,
            threshold=threshold,
            arbitrate=not all_heads,
            device=device,
            runtime=runtime,
            precision=precision,
        ) as engines,
        stop_on(SIGINT) as stop,
    ):
        lines = _lines(engines, as_json=as_json, as_csv=as_csv, sigmf=sigmf)
        for path in files:
            try:
                recording = open_recording(path, sample_rate_hz=rate, center_freq_hz=center)
                engine = engines.of(recording)
                run = _Run(path, recording, lines, keeps=sigmf or match or plot is not None)
                run.detect(engine, stop)
            except HydraError as error:
                complain(error)
                failed = True
            else:
                _finish(run, engine, sigmf=sigmf, match=match, plot=plot, machine_readable=as_json or as_csv or sigmf)
            if stop.is_set():
                raise typer.Exit(INTERRUPTED)
    if failed:
        raise typer.Exit(1)


def _lines(engines: Engines, *, as_json: bool, as_csv: bool, sigmf: bool) -> Lines:
    if as_json:
        return JsonLines()
    if as_csv:
        return CsvLines()
    return NoLines() if sigmf else TableLines(engines.signals)


@dataclass
class _Run:
    """Detection in one recording. Prints every detection when it is finished, every note when it first comes up."""

    path: Path
    recording: Recording
    lines: Lines
    keeps: bool  # the detections, for what is written at the end
    found: list[Detection] = field(default_factory=list)
    count: int = 0
    captures: int = 0
    bad: Counter[str] = field(default_factory=Counter)  # captures by data quality, where that is not "ok"
    stop_s: float = 0.0  # of the newest capture
    ran_on: str = "nothing"
    said: set[str] = field(default_factory=set)

    def detect(self, engine: Engine, stop: threading.Event) -> None:
        """Goes through the recording, or as far as it gets before `stop` is set or Ctrl-C pressed twice.

        What was found until then is printed, also when an error ends it.
        """
        started, stitcher = time.perf_counter(), Stitcher()
        total = self.recording.n_captures(engine.contract)
        self._say(*self.recording.notes)
        self.lines.begin(self.path, self.recording)
        results = engine.stream(self.recording)
        try:
            for result in progress(results, self.recording.path.name, total, unit="captures", status=self._status):
                self._take(result)
                self._print(stitcher.add(result))
                if stop.is_set():
                    break
        except KeyboardInterrupt:
            stop.set()
        finally:
            self._print(stitcher.close())
        self._summarize(time.perf_counter() - started, stop.is_set())

    def _take(self, result: Result) -> None:
        self.captures += 1
        self.stop_s, self.ran_on = result.stop_s, ", ".join(result.ran_on.values())
        self._say(*result.notes)
        if result.data_quality != "ok":
            if result.data_quality not in self.bad:
                self._say(f"at {result.start_s:g} s the data are {result.data_quality}")
            self.bad[result.data_quality] += 1

    def _say(self, *notes: str) -> None:
        for note in notes:
            if note not in self.said:
                self.said.add(note)
                say(f"{self.recording.path.name}: {note}")

    def _print(self, finished: Iterable[Detection]) -> None:
        for detection in finished:
            self.count += 1
            self.lines.write(self.path, detection)
            if self.keeps:
                self.found.append(detection)

    def _status(self) -> str:
        return f"{self.count} detections"

    def _summarize(self, wall_s: float, interrupted: bool) -> None:
        bad = "".join(f", {quality}: {count}" for quality, count in self.bad.items())
        ended = f", interrupted at {self.stop_s:g} s" if interrupted else ""
        say(
            f"{self.path.name}: detections: {self.count}, captures: {self.captures}{bad}, "
            f"{wall_s * 1e3:.0f} ms on {self.ran_on}{ended}"
        )


def _finish(run: _Run, engine: Engine, *, sigmf: bool, match: bool, plot: Path | None, machine_readable: bool) -> None:
    """Writes what needs all detections; the comparison goes to standard error if the data are machine-readable."""
    found = sorted(run.found, key=lambda d: (d.start_s, d.low_hz, d.signal))
    if sigmf:
        typer.echo(json.dumps(as_sigmf(found, run.recording), indent=2))
    if match:
        console = progress_console if machine_readable else data_console
        console.print(matched_table(run.recording, found, engine.snapshot.versions))
    if plot is not None:
        _plot(plot, engine, run.recording, found)


def _check_plotting() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UnavailableError(f"--plot needs Matplotlib ({error}): pip install 'hydra-rf[plot]'") from error


def _plot(target: Path, engine: Engine, recording: Recording, found: list[Detection]) -> None:
    from .plot import draw

    try:
        draw(target, engine.contract, recording, found)
    except OSError as error:
        raise UnavailableError(f"--plot {target}: cannot be written ({error.strerror or error})") from error
    say(f"wrote {target}")
