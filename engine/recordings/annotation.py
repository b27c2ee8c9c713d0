"""A labelled rectangle in time and frequency, read from a file, made by a generator or given by a user."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Annotation:
    """A labelled rectangle.

    Seconds count from the start of the recording or capture it belongs to. Hertz are absolute, or relative to the
    centre of the band where the centre frequency is not known and in composed scenes.
    """

    label: str
    start_s: float
    stop_s: float
    low_hz: float
    high_hz: float
    comment: str = ""
    snr_db: float | None = None  # power of the signal over the noise in its band, where known
