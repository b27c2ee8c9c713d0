"""Hydra's run time: raw IQ in, signals out as boxes in seconds and hertz. No torch in here."""

from typing import Any

VERSION = "0.1.0"

__all__ = ["VERSION", "WIDEBAND", "Detection", "Engine", "HydraError", "Result", "open_recording"]

_HOMES = {
    "Engine": "engine",
    "Detection": "detection",
    "Result": "detection",
    "open_recording": "recording",
    "HydraError": "errors",
    "WIDEBAND": "contract",
}


def __getattr__(name: str) -> Any:
    """Public names, imported when first used: `import engine` itself stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
