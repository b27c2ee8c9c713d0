"""Picking a runtime by name. You get what you asked for, or an error."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from engine.errors import UnavailableError

from .base import Session


def _ort(graph: bytes, threads: int) -> Session:
    from .ort import OrtSession

    return OrtSession(graph, threads)


def _ov(graph: bytes, threads: int) -> Session:
    try:
        from .ov import OvSession
    except ImportError as error:
        raise UnavailableError(
            f"runtime 'openvino' is not installed ({error}): pip install 'hydra-rf[openvino]'"
        ) from error
    return OvSession(graph, threads)


RUNTIMES: Final[dict[str, Callable[[bytes, int], Session]]] = {"onnxruntime": _ort, "openvino": _ov}


def open_session(graph: bytes, runtime: str = "auto", threads: int = 0) -> Session:
    """A checked graph (see `graphs.read_graph`) loaded into a runtime; `auto` is ONNX Runtime on the CPU."""
    return RUNTIMES[known_runtime("onnxruntime" if runtime == "auto" else runtime)](graph, threads)


def known_runtime(name: str) -> str:
    if name not in RUNTIMES:
        raise UnavailableError(f"runtime {name!r} is not known; choose one of auto, {', '.join(RUNTIMES)}")
    return name


def installed() -> dict[str, str]:
    """Runtimes that are here, and their versions."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
