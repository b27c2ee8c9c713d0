"""Checks of what files and callers give: rates, frequencies, sizes; RecordingError names the file and the remedy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import RecordingError

from .resampling import MAX_RATE_HZ


@dataclass(frozen=True)
class Overrides:
    """Caller's sample rate and centre frequency, which take precedence over the file's; None: the file's."""

    sample_rate_hz: float | None = None
    center_freq_hz: float | None = None


def checked_rate(path: Path, value: object, source: str) -> float:
    """`value` as a sample rate in Hz; raises RecordingError unless it is above 0 and below 1 THz."""
    rate = checked_number(path, value, source)
    if not 0 < rate < MAX_RATE_HZ:
        raise RecordingError(
            f"{path}: {source} is {value!r} Hz, not above 0 and below {MAX_RATE_HZ:g}; give the true one with --rate"
        )
    return rate


def checked_number(path: Path, value: object, source: str) -> float:
    """`value` as a finite float; raises RecordingError on anything else, booleans and text included."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if np.isfinite(number):
            return number
    shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
    option = "--center" if "centre" in source or "frequency" in source else "--rate"
    raise RecordingError(
        f"{path}: {source} is {shown}, not a finite number; correct it, or give the true one with {option}"
    )


def checked_samples(path: Path, dtype: np.dtype[Any], offset: int, n_bytes: int) -> npt.NDArray[Any]:
    """`n_bytes` of `path` from `offset` mapped as `dtype`[n, 2]; RecordingError unless n is whole and above 0."""
    sample_bytes = 2 * dtype.itemsize
    count, left_over = divmod(n_bytes, sample_bytes)
    if n_bytes <= 0:
        raise RecordingError(f"{path}: holds no IQ samples; record or copy it again")
    if left_over:
        raise RecordingError(
            f"{path}: {n_bytes} bytes of IQ are no whole number of {sample_bytes}-byte samples; it is truncated "
            f"or of another type: copy it again, or drop the last {left_over} bytes"
        )
    return np.memmap(path, dtype, mode="r", offset=offset, shape=(count, 2))
