"""Console output: data to standard output, messages and progress to standard error."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINE_EVERY_S: Final = 5.0  # between two lines of progress where there is no terminal

Item = TypeVar("Item")

# names of files and signals are printed as they are: no [markup], no :emoji:
progress_console = Console(stderr=True, markup=False, emoji=False, highlight=False)
data_console = Console(markup=False, emoji=False, highlight=False)


def say(text: str) -> None:
    progress_console.print(text, style="dim", soft_wrap=True)


def complain(error: Exception) -> None:
    progress_console.print(" ".join(f"g20: {error}".splitlines()), style="red", soft_wrap=True)


def number_text(value: Any, decimals: int = 2) -> str:
    """A number with so many decimals; None as a dash, anything else as it is."""
    if isinstance(value, int | float):
        return f"{value:.{decimals}f}"
    return "-" if value is None else str(value)


class Reporter:
    """Progress of one task on standard error: a bar on a terminal, else a line every five seconds.

    A line reads "DESCRIPTION: 35 of 120 UNIT, STATUS". Without a unit, steps are not counted. Use it in a `with` block.
    """

    def __init__(self, description: str, total: int | None = None, unit: str = "") -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._status = 0, ""
        self._said_s = monotonic()
        self._bar = progress_bar()
        self._task = self._bar.add_task(description, total=total, count=self._count("/"), status="")

    def advance(self, status: str = "") -> None:
        self.update(self._done + 1, status=status)

    def update(
        self,
        done: int | None = None,
        total: int | None = None,
        *,
        description: str | None = None,
        unit: str | None = None,
        status: str | None = None,
    ) -> None:
        """Changes what is given, and prints a line where one is due."""
        self._done = self._done if done is None else done
        self._total = self._total if total is None else total
        self._description = self._description if description is None else description
        self._unit = self._unit if unit is None else unit
        self._status = self._status if status is None else status
        self._bar.update(
            self._task,
            description=self._description,
            completed=self._done,
            total=self._total,
            count=self._count("/"),
            status=self._status,
        )
        if (
            not progress_console.is_terminal
            and self._done != self._total
            and monotonic() - self._said_s >= LINE_EVERY_S
        ):
            self._said_s = monotonic()
            count = f": {self._count(' of ')} {self._unit}" if self._unit else ""
            say(", ".join(part for part in (f"{self._description}{count}", self._status) if part))

    def pause(self) -> None:
        """Takes the bar off the terminal, so that data can be printed there."""
        self._bar.stop()

    def resume(self) -> None:
        self._bar.start()

    def __enter__(self) -> "Reporter":
        self.resume()
        return self

    def __exit__(self, *error: object) -> None:
        self.pause()

    def _count(self, of: str) -> str:
        if not self._unit:
            return ""
        return str(self._done) if self._total is None else f"{self._done}{of}{self._total}"


def progress(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    *,
    unit: str = "done",
    status: Callable[[], str] = str,
) -> Iterator[Item]:
    """`items`, with their progress as `Reporter` shows it; `status` is called after each.

    The bar is off the terminal while an item is with the caller, who may print data there.
    """
    with Reporter(description, total, unit) as reporter:
        for item in items:
            if data_console.is_terminal:
                reporter.pause()
            yield item
            reporter.advance(status())
            reporter.resume()


def progress_bar() -> Progress:
    """A bar on standard error that leaves standard output alone; nothing where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=progress_console,
        transient=True,
        redirect_stdout=False,  # to the bar's console, which is standard error
        disable=not progress_console.is_terminal,
    )
