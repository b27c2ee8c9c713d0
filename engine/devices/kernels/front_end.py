"""The front end on a GPU: cuFFT, and two kernels (`front_end.cu`) that touch the spectrum once.

Written out in array functions, as `engine.spectrogram` is, the same work reads and writes some six times as many bytes.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from engine.contract import Contract
from engine.spectrogram import LOUD, analysis, resize_taps

THREADS: Final = 256  # of a block, as in the source


def render(
    samples: Any, contract: Contract, xp: Any, launch: Callable[..., None], fft: Callable[[Any], Any] | None = None
) -> tuple[Any, Any]:
    """Render complex64[n] as `spectrogram.render` does. fft: over rows, with a plan that outlives captured graphs."""
    n_fft, size = contract.n_fft, contract.image_size
    parts = samples.view(xp.float32)
    loudest = xp.maximum(parts.max(), -parts.min())
    window, bins = analysis(contract, xp)
    segments = xp.lib.stride_tricks.sliding_window_view(samples, n_fft)[:: contract.hop]
    spectrum = (fft or xp.fft.fft)(segments * (window * (LOUD / xp.maximum(loudest, LOUD))))
    spectrum = spectrum.astype(xp.complex64, copy=False)  # [frames, n_fft]
    frames, kept, floor = len(spectrum), np.int32(len(bins)), np.float32(contract.power_floor)
    decibel, peaks = xp.empty((frames, len(bins)), xp.float32), xp.empty(frames, xp.float32)
    launch("decibels", (frames, 1), THREADS, spectrum, bins, decibel, peaks, np.int32(n_fft), kept, floor)
    peak = peaks.max()
    top_db = (10 * xp.log10(peak.astype(xp.float64) + contract.power_floor)).astype(xp.float32).reshape(1)
    image = xp.empty((size, size), xp.float32)
    taps, per_db = resize_taps(contract, frames, xp), np.float32(1 / contract.range_db)
    launch("pixels", (-(-size // THREADS), size), THREADS, decibel, top_db, *taps, image, np.int32(size), per_db)
    return image, xp.stack([loudest, (peak > contract.power_floor).astype(xp.float32)])
