"""Printing of detections as they are found: JSON lines, CSV, or a table of fixed widths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import typer

from engine.detection import Detection
from engine.recordings.detections import FIELDS, as_csv_row, as_json_line, csv_row
from engine.recordings.recording import Recording

from .output import data_console

HEADINGS = ("score", "start ms", "stop ms", "low", "high", "head")
WIDTHS = (5, 12, 12, 12, 12, 4)


class Lines(Protocol):
    """Writes detections to standard output, each as soon as it is given."""

    def begin(self, path: Path, recording: Recording) -> None: ...

    def write(self, path: Path, detection: Detection) -> None: ...


class JsonLines:
    def begin(self, path: Path, recording: Recording) -> None:
        pass

    def write(self, path: Path, detection: Detection) -> None:
        typer.echo(as_json_line(detection, str(path)))


class CsvLines:
    """One heading for all files."""

    def __init__(self) -> None:
        typer.echo(csv_row(FIELDS), nl=False)

    def begin(self, path: Path, recording: Recording) -> None:
        pass

    def write(self, path: Path, detection: Detection) -> None:
        typer.echo(as_csv_row(detection, str(path)), nl=False)


class TableLines:
    """A heading per file, rows in columns as wide as the longest of `signals`."""

    def __init__(self, signals: Sequence[str]) -> None:
        self._width = max(map(len, ("signal", *signals)))

    def begin(self, path: Path, recording: Recording) -> None:
        unit = "MHz" if recording.center_freq_hz is not None else "MHz from centre"
        data_console.print(f"{path}  ({recording.duration_s:g} s, low and high in {unit})", soft_wrap=True)
        data_console.print(self._row("signal", HEADINGS), soft_wrap=True)

    def write(self, path: Path, detection: Detection) -> None:
        d = detection
        numbers = (d.start_s * 1e3, 2), (d.stop_s * 1e3, 2), (d.low_hz / 1e6, 4), (d.high_hz / 1e6, 4)
        cells = (f"{number:.{places}f}" for number, places in numbers)
        row = self._row(d.signal, (f"{d.score:.2f}", *cells, f"v{d.version}"))
        data_console.print(row, soft_wrap=True)

    def _row(self, signal: str, cells: Sequence[str]) -> str:
        return "  ".join([signal.ljust(self._width), *(c.rjust(w) for c, w in zip(cells, WIDTHS, strict=True))])


class NoLines:
    """Prints nothing, for formats written at the end of a recording."""

    def begin(self, path: Path, recording: Recording) -> None:
        pass

    def write(self, path: Path, detection: Detection) -> None:
        pass
