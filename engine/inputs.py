"""IQ at the engine's edge: what callers hand over, checked with numbers and brought to complex64."""

from reprlib import repr as shortened
from typing import Any

import numpy as np

from .contract import IMAGE_SIZE, Contract
from .errors import InputError
from .recordings.resampling import MAX_RATE_HZ, rate_ratio, resample_by
from .spectrogram import as_grey


def checked_iq(iq: Any) -> np.ndarray:
    """complex[n] as NumPy sees it, nothing copied: complex64 and complex128 arrays of any stride and byte order,
    lists, memory views, array-interface objects in host memory. Masked samples (`numpy.ma`) are missing: a copy has
    NaN in their place, so that the capture's data quality is "invalid".

    Raises InputError on anything whose meaning would be a guess: real numbers, integer pairs, 2-D arrays.
    """
    try:
        array = np.asarray(iq)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"iq is a {type(iq).__name__} that NumPy cannot read ({error}); move it to host memory"
        ) from error
    if array.dtype.kind not in "iufc":
        raise InputError(
            f"iq is a {type(iq).__name__} of {array.dtype}, not of numbers; hand over complex64, by "
            "numpy.from_dlpack(iq) if it is a tensor"
        )
    if array.dtype.kind != "c":
        parts = "pairs[:, 0] + 1j * pairs[:, 1]" if array.ndim == 2 else "pairs[0::2] + 1j * pairs[1::2]"
        raise InputError(f"iq is {array.dtype}, not complex; make pairs complex: ({parts}) / full_scale")
    if array.ndim != 1:
        raise InputError(f"iq has the shape {array.shape}; hand over one channel, complex[n]")
    return np.where(np.ma.getmaskarray(iq), np.nan, array) if np.ma.is_masked(iq) else array


def checked_image(image: Any) -> np.ndarray:
    """float32[1024, 1024] in 0..1 of such an image, or of one in uint8. Raises InputError on anything else."""
    if not isinstance(image, np.ndarray) or image.shape != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"image is {getattr(image, 'shape', type(image).__name__)}; hand over {IMAGE_SIZE} x {IMAGE_SIZE}"
        )
    if image.dtype == np.uint8:
        return as_grey(image)
    if image.dtype != np.float32 or not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise InputError(f"image is {image.dtype}; hand over uint8, or float32 between 0 and 1")
    return image


def checked_rate(sample_rate_hz: Any) -> float:
    rate = _number(sample_rate_hz, "sample_rate_hz")
    if not 0 < rate < MAX_RATE_HZ:
        raise InputError(f"sample_rate_hz is {rate:g}; give samples a second, above 0 and below {MAX_RATE_HZ:g}")
    return rate


def checked_center(center_freq_hz: Any) -> float | None:
    return None if center_freq_hz is None else _number(center_freq_hz, "center_freq_hz")


def checked_threshold(threshold: Any) -> float:
    value = _number(threshold, "threshold")
    if not 0 <= value <= 1:
        raise InputError(f"threshold is {value:g}; scores lie between 0 and 1")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # a whole number of more than 308 digits
            number = np.inf
        if np.isfinite(number):
            return number
        value = number
    raise InputError(f"{name} is {shortened(value)}; give a finite number{' of hertz' if 'hz' in name else ''}")


def to_capture(iq: np.ndarray, sample_rate_hz: float, contract: Contract) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """complex[n] at any rate as one capture: complex64[capture_samples], the seconds of it that are signal,
    and notes on what was done.

    Raises InputError on fewer samples than one STFT frame or more than a capture.
    """
    duration_s = len(iq) / sample_rate_hz
    if duration_s > contract.capture_s * (1 + 1e-6):
        raise InputError(
            f"iq has {len(iq)} samples, {duration_s:g} s; one capture is {contract.capture_s:g} s: cut it, or use "
            "Engine.stream"
        )
    # both checks come before the copy, which could otherwise be of any size
    ratio = rate_ratio(sample_rate_hz, contract.sample_rate_hz)
    _check_length(len(iq) * float(ratio), contract)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and the capture's data quality is then invalid
        iq = np.ascontiguousarray(iq, dtype=np.complex64)
    notes: tuple[str, ...] = ()
    if ratio != 1:
        iq = resample_by(iq, ratio)
        notes = (f"resampled {sample_rate_hz / 1e6:g} MS/s -> {contract.sample_rate_hz / 1e6:g} MS/s",)
    iq = iq[: contract.capture_samples]
    if len(iq) < contract.capture_samples:
        padded = np.zeros(contract.capture_samples, np.complex64)
        padded[: len(iq)] = iq
        notes = (*notes, f"padded with silence: {duration_s:g} s of {contract.capture_s:g} s is signal")
        iq = padded
    return iq, min(duration_s, contract.capture_s), notes


def _check_length(samples: float, contract: Contract) -> None:
    if samples < contract.n_fft:
        raise InputError(
            f"iq has {int(samples)} samples at {contract.sample_rate_hz / 1e6:g} MS/s; the front end needs at "
            f"least {contract.n_fft}: hand over a longer capture"
        )
