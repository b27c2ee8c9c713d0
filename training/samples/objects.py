"""Validation of annotated objects that become boxes: those of the file and those given by the user."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from engine.contract import Contract
from engine.errors import InputError
from engine.recordings.annotation import Annotation
from engine.recordings.recording import Recording

MIN_BINS: Final = 2  # of the STFT: the least bandwidth of a box
ROUNDING: Final = 1e-6  # relative: a box of exactly the least size is kept

Physical = tuple[float, float, float, float, str]  # start_s, stop_s, low_hz, high_hz, label


def objects_of(
    recording: Recording, given: Iterable[Physical], contract: Contract, signal: str, label: str | None
) -> list[Annotation]:
    """Annotations of the file and boxes `given`, the latter clipped to the recording; `label` is renamed to `signal`.

    Raises InputError, naming file, label and times, on a given box without area in the recording, and on one, given
    or of the signal, that is shorter than an image column or narrower than two STFT bins. Smaller annotations of
    other signals are kept.
    """
    annotated = [_renamed(found, signal, label) for found in recording.annotations]
    boxes = [
        _clipped(Annotation(name, start_s, stop_s, low_hz, high_hz), recording)
        for start_s, stop_s, low_hz, high_hz, name in given
    ]
    boxes = [_renamed(found, signal, label) for found in boxes]
    for found in (*(found for found in annotated if found.label == signal), *boxes):
        _check_size(found, recording, contract)
    return [*annotated, *boxes]


def _clipped(box: Annotation, recording: Recording) -> Annotation:
    centre, half = recording.center_freq_hz or 0.0, recording.sample_rate_hz / 2
    clipped = replace(
        box,
        start_s=max(box.start_s, 0.0),
        stop_s=min(box.stop_s, recording.duration_s),
        low_hz=max(box.low_hz, centre - half),
        high_hz=min(box.high_hz, centre + half),
    )
    ordered = box.start_s < box.stop_s and box.low_hz < box.high_hz  # False on NaN, which max and min may drop
    if not (ordered and clipped.start_s < clipped.stop_s and clipped.low_hz < clipped.high_hz):
        raise InputError(
            f"{_named(box, recording)} has no area in it: it spans 0 to {recording.duration_s:g} s, "
            f"{centre - half:g} to {centre + half:g} Hz"
        )
    return clipped


def _check_size(found: Annotation, recording: Recording, contract: Contract) -> None:
    column_s = contract.frames * contract.hop / contract.image_size / contract.sample_rate_hz
    least_hz = MIN_BINS * contract.sample_rate_hz / contract.n_fft
    long, wide = found.stop_s - found.start_s, found.high_hz - found.low_hz
    if long < column_s * (1 - ROUNDING) or wide < least_hz * (1 - ROUNDING):
        raise InputError(
            f"{_named(found, recording)} is {long * 1e3:.3g} ms by {wide:.3g} Hz: a head resolves no less than "
            f"{column_s * 1e3:.3g} ms (one image column) by {least_hz:.3g} Hz ({MIN_BINS} STFT bins); enlarge the box, "
            "or give it another label"
        )


def _named(box: Annotation, recording: Recording) -> str:
    times, band = f"{box.start_s:g} to {box.stop_s:g} s", f"{box.low_hz:g} to {box.high_hz:g} Hz"
    return f"{recording.path}: box {box.label!r:.80}, {times}, {band}"


def _renamed(found: Annotation, signal: str, label: str | None) -> Annotation:
    return replace(found, label=signal) if label is not None and found.label == label else found
