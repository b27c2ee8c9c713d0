"""Opening a recording: the reader is chosen by suffix or by the first bytes."""

from pathlib import Path

from engine.errors import RecordingError

from .checks import Overrides, checked_number, checked_rate
from .formats import READERS
from .recording import Recording
from .writing import RFCAP_MAGIC


def open_recording(
    path: str | Path, *, sample_rate_hz: float | None = None, center_freq_hz: float | None = None
) -> Recording:
    """Open a file of IQ: SigMF pair (either name) or archive, RFCAP, WAV, or raw samples.

    RFCAP is known by its first bytes, all others by their ending; `.iq` and `.fc32` are read as `.cf32`.
    Raw files take rate and centre from names such as `g001_433.92M_250k.cu8`. The two arguments, in Hz, outweigh
    file and name. Raises RecordingError, naming the file, on what cannot be read as it claims.
    """
    path = Path(path)
    rate, centre = sample_rate_hz, center_freq_hz
    overrides = Overrides(
        None if rate is None else checked_rate(path, rate, "the sample rate given"),
        None if centre is None else checked_number(path, centre, "the centre frequency given"),
    )
    suffix = path.suffix.lower()
    try:
        if path.exists() and not path.is_file():
            raise RecordingError(f"{path}: is not a file; name the recording itself")
        if not suffix.startswith(".sigmf"):
            suffix = _suffix_by_content(path) or suffix
        if suffix not in READERS:
            raise RecordingError(
                f"{path}: unknown ending {path.suffix!r}; rename the file to one of {', '.join(READERS)}"
            )
        return READERS[suffix](path, overrides)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}; check name and rights") from error


def _suffix_by_content(path: Path) -> str | None:
    with path.open("rb") as file:
        return ".rfcap" if file.read(len(RFCAP_MAGIC)) == RFCAP_MAGIC else None
