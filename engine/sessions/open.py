"""Picking a runtime by name, for the kind of device that it is to run on. You get what you asked for, or an error."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from engine.devices.base import Device
from engine.devices.cpu import Cpu
from engine.errors import UnavailableError

from .base import Session

CPU: Final = "cpu"  # kinds of device
GPU: Final = "cuda"


def _ort(graph: bytes, threads: int, device: Device) -> Session:
    from .ort import OrtSession

    return OrtSession(graph, threads)


def _ov(graph: bytes, threads: int, device: Device) -> Session:
    try:
        from .ov import OvSession
    except ImportError as error:
        raise UnavailableError(
            f"runtime 'openvino' is not installed ({error}): pip install 'hydra-rf[openvino]'"
        ) from error
    return OvSession(graph, threads)


def _ort_cuda(graph: bytes, threads: int, device: Any) -> Session:
    from .ort_cuda import OrtCudaSession

    return OrtCudaSession(graph, device)


def _trt(graph: bytes, threads: int, device: Any) -> Session:
    from .trt import TrtSession

    return TrtSession(graph, device, "tensorrt")


def _trt_rtx(graph: bytes, threads: int, device: Any) -> Session:
    from .trt import TrtSession

    return TrtSession(graph, device, "tensorrt_rtx")


Open = Callable[[bytes, int, Device], Session]
RUNTIMES: Final[dict[str, dict[str, Open]]] = {  # by kind of device, the first one installed is what `auto` means
    CPU: {"onnxruntime": _ort, "openvino": _ov},
    GPU: {"tensorrt": _trt, "tensorrt_rtx": _trt_rtx, "onnxruntime": _ort_cuda},
}
PACKAGES: Final = {
    CPU: {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)},
    GPU: {
        "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13"),
        "onnxruntime": ("onnxruntime-gpu",),
    },
}


def open_session(graph: bytes, runtime: str = "auto", threads: int = 0, device: Device | None = None) -> Session:
    """A checked graph (see `graphs.read_graph`) loaded into a runtime; `auto` is ONNX Runtime. Without a device, on the
    CPU."""
    device = device or Cpu()
    name = known_runtime("onnxruntime" if runtime == "auto" else runtime, device.kind)
    return RUNTIMES[device.kind][name](graph, threads, device)


def known_runtime(name: str, kind: str = CPU) -> str:
    if name not in RUNTIMES[kind]:
        elsewhere = [other for other in RUNTIMES if name in RUNTIMES[other]]
        what = f"runs on {elsewhere[0]} only" if elsewhere else "is not known"
        raise UnavailableError(f"runtime {name!r} {what}; choose one of auto, {', '.join(RUNTIMES[kind])}")
    return name


def installed(kind: str = CPU) -> dict[str, str]:
    """Runtimes for a kind of device that are here, and their versions."""
    found = {name: _version(packages) for name, packages in PACKAGES[kind].items()}
    return {name: number for name, number in found.items() if number}


def _version(packages: tuple[str, ...]) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""
