"""Hydra's run time: raw IQ in, signals out as boxes in seconds and hertz. No torch in here."""

from typing import TYPE_CHECKING

from .version import VERSION

__all__ = ["VERSION", "WIDEBAND", "Detection", "Engine", "HydraError", "Result", "open_recording"]

if TYPE_CHECKING:
    from .contract import WIDEBAND
    from .detection import Detection, Result
    from .engine import Engine
    from .errors import HydraError
    from .recordings.open import open_recording
else:
    _HOMES = {
        "Engine": "engine",
        "Detection": "detection",
        "Result": "detection",
        "open_recording": "recordings.open",
        "HydraError": "errors",
        "WIDEBAND": "contract",
    }

    def __getattr__(name):
        """Public names, imported when first used: `import engine` itself stays light."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
