"""Picking a runtime by name. You get what you asked for, or an error."""

from collections.abc import Callable
from typing import Final

from engine.errors import UnavailableError

from .base import Session


def _ort(graph: bytes, threads: int) -> Session:
    from .ort import OrtSession

    return OrtSession(graph, threads)


RUNTIMES: Final[dict[str, Callable[[bytes, int], Session]]] = {"onnxruntime": _ort}


def open_session(graph: bytes, runtime: str = "auto", threads: int = 0) -> Session:
    """A checked graph (see `graphs.read_graph`) loaded into a runtime; `auto` is ONNX Runtime on the CPU."""
    name = "onnxruntime" if runtime == "auto" else runtime
    if name not in RUNTIMES:
        raise UnavailableError(f"runtime {runtime!r} is not known; choose one of auto, {', '.join(RUNTIMES)}")
    return RUNTIMES[name](graph, threads)
