"""Devices by name: `cpu`, `cuda:0`, and `tracing` for tests."""

from collections.abc import Callable
from typing import Final

from engine.errors import UnavailableError

from .base import Device
from .cpu import Cpu
from .tracing import TracingDevice


def _cuda(number: int) -> Device:
    from .cuda import Cuda

    return Cuda(number)


DEVICES: Final[dict[str, Callable[[], Device]]] = {"cpu": Cpu, "tracing": TracingDevice}


CUDA: Final = "cuda:"  # and the number of a GPU


def open_device(name: str = "auto") -> Device:
    """A device by name; `auto` is the CPU. Raises UnavailableError on one that is not here."""
    chosen = "cpu" if name == "auto" else name
    number = chosen.removeprefix(CUDA)
    if chosen.startswith(CUDA) and number.isdecimal():
        return _cuda(int(number))
    if chosen not in DEVICES:
        raise UnavailableError(
            f"device {name!r} is not available; choose one of auto, {', '.join(DEVICES)}, {CUDA}0, {CUDA}1 ..."
        )
    return DEVICES[chosen]()
