"""Console output: data to standard output, messages and progress to standard error."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final, TypeVar

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


def progress(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    *,
    unit: str = "done",
    status: Callable[[], str] = str,
) -> Iterator[Item]:
    """`items`, with their progress on standard error: a bar on a terminal, else a line every five seconds.

    The line reads "DESCRIPTION: 35 of 120 UNIT, STATUS"; `status` is called for what else has come about. The bar is
    away while an item is with the caller, where data may be printed on the same terminal.
    """
    if progress_console.is_terminal:
        return _with_bar(items, description, total, status)
    return _with_lines(items, description, total, unit, status)


def _with_lines(
    items: Iterable[Item], description: str, total: int | None, unit: str, status: Callable[[], str]
) -> Iterator[Item]:
    said_s = monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if monotonic() - said_s >= LINE_EVERY_S and done != total:
            said_s = monotonic()
            count = f"{done} {unit}" if total is None else f"{done} of {total} {unit}"
            say(", ".join(part for part in (f"{description}: {count}", status()) if part))


def _with_bar(items: Iterable[Item], description: str, total: int | None, status: Callable[[], str]) -> Iterator[Item]:
    bar = progress_bar()
    task = bar.add_task(description, total=total, status="")
    try:
        bar.start()
        for item in items:
            if data_console.is_terminal:
                bar.stop()
            yield item
            bar.update(task, advance=1, status=status())
            bar.start()
    finally:
        bar.stop()


def progress_bar() -> Progress:
    """A bar on standard error that leaves standard output alone; nothing where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=progress_console,
        transient=True,
        redirect_stdout=False,  # to the bar's console, which is standard error
        disable=not progress_console.is_terminal,
    )
