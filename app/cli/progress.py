"""Progress bars on standard error, drawn only where that is a terminal."""

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from .output import progress_console


def progress_bar(*more: ProgressColumn) -> Progress:
    """Description, bar and count, followed by `more` columns; erased at the end."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        *more,
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    )
