"""The front end on a GPU: cuFFT, and two kernels of our own that touch the spectrum once.

`front_end.cu` is compiled when it is first used, for the GPU that is there. Written out in array functions, as
`engine.spectrogram` is, the same work reads and writes some six times as many bytes.
"""

from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from engine.contract import Contract
from engine.spectrogram import LOUD, analysis, resize_taps

THREADS: Final = 256  # of a block, as in the source
OPTIONS: Final = ("--std=c++17",)  # no fast mathematics: the CPU's results within rounding


def source() -> str:
    return (files(__package__) / "front_end.cu").read_text()


@lru_cache(maxsize=4)
def _kernels(xp: Any, number: int) -> tuple[Any, Any]:
    """Of GPU `number`: compiled code belongs to one."""
    module = xp.RawModule(code=source(), options=OPTIONS)
    return module.get_function("decibels"), module.get_function("pixels")


def draw(samples: Any, contract: Contract, xp: Any, number: int) -> tuple[Any, Any]:
    """As `spectrogram.draw`, on complex64[n] of a GPU."""
    decibels, pixels = _kernels(xp, number)
    n_fft, size = contract.n_fft, contract.image_size
    parts = samples.view(xp.float32)
    loudest = xp.maximum(parts.max(), -parts.min())
    window, bins = analysis(contract, xp)
    segments = xp.lib.stride_tricks.sliding_window_view(samples, n_fft)[:: contract.hop]
    spectrum = xp.fft.fft(segments * (window * (LOUD / xp.maximum(loudest, LOUD))))  # complex64[frames, n_fft]
    frames = len(spectrum)
    decibel, peaks = xp.empty((frames, len(bins)), xp.float32), xp.empty(frames, xp.float32)
    floor = np.float32(contract.power_floor)
    decibels((frames,), (THREADS,), (spectrum, bins, decibel, peaks, np.int32(n_fft), np.int32(len(bins)), floor))
    peak = peaks.max()
    top_db = (10 * xp.log10(peak.astype(xp.float64) + contract.power_floor)).astype(xp.float32)
    image = xp.empty((size, size), xp.float32)
    grid = (-(-size // THREADS), size)
    taps = resize_taps(contract, frames, xp)
    pixels(grid, (THREADS,), (decibel, top_db, *taps, image, np.int32(size), np.float32(1 / contract.range_db)))
    return image, xp.stack([loudest, (peak > contract.power_floor).astype(xp.float32)])
