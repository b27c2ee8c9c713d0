"""Hydra: detection of radio signals in raw IQ, as boxes in seconds and hertz.

with hydra_rf.Engine.open() as engine:
    for detection in engine.detect(iq, sample_rate_hz=20e6, center_freq_hz=2.44e9):
        ...

The public names are those of `engine`, imported when first used.
"""

from typing import TYPE_CHECKING

__all__ = ["VERSION", "WIDEBAND", "Detection", "Engine", "HydraError", "Result", "open_recording"]

if TYPE_CHECKING:
    from engine import VERSION, WIDEBAND, Detection, Engine, HydraError, Result, open_recording
else:
    import engine as _engine

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(_engine, name)
