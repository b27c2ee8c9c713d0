"""Where text goes: data to standard output, everything else to standard error."""

from rich.console import Console

# names of files and signals are printed as they are: no [markup], no :emoji:
progress_console = Console(stderr=True, markup=False, emoji=False, highlight=False)
data_console = Console(markup=False, emoji=False, highlight=False)


def say(text: str) -> None:
    progress_console.print(text, style="dim", soft_wrap=True)


def complain(error: Exception) -> None:
    progress_console.print(" ".join(f"g20: {error}".splitlines()), style="red", soft_wrap=True)
