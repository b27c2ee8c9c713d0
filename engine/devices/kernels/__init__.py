"""CUDA kernels of the front end and of region proposals, compiled at first use for the GPU at hand. Written in array
functions alone the same work would read and write many times the bytes."""

from importlib.resources import files
from typing import Any, Final

OPTIONS: Final = ("--std=c++17", "--fmad=false")  # the CPU's results: no fused operations, no fast mathematics


def source(name: str) -> str:
    """The text of a source, with what all of them share."""
    return "\n".join((files(__package__) / part).read_text() for part in ("common.cuh", name))


SOURCES: Final = {
    "front_end.cu": ("decibels", "pixels"),
    "patches.cu": ("quantiles", "count_runs", "write_runs", "join_runs", "gather_boxes", "insert_boxes"),
    "ranking.cu": ("standing_out", "histogram", "choose", "gather_best", "order_best", "alike", "keep"),
}


class Kernels:
    """All kernels of a GPU, launched on the stream that is current."""

    def __init__(self, xp: Any) -> None:
        self._functions = {
            name: module.get_function(name)
            for file, names in SOURCES.items()
            for module in [xp.RawModule(code=source(file), options=OPTIONS)]
            for name in names
        }

    def __call__(self, kernel: str, grid: tuple[int, int], threads: int, *arguments: Any) -> None:
        self._functions[kernel](grid, (threads,), arguments)
