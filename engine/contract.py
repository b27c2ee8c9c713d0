"""The front-end contract: how IQ becomes an image. Locked, hashed, stored with every backbone and head.

A head is only valid for images made exactly as those it was trained on, so all settings that shape the
image are one frozen object with one hash; an artefact with another hash is refused.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from .errors import MismatchError

N_FFT: Final = 4096  # points; locked
HOP: Final = 2048  # samples; locked
RANGE_DB: Final = 80.0  # the capture's maximum is 1, this far below it is 0; locked
IMAGE_SIZE: Final = 1024  # rows and columns of the image
LEGACY_INPUT_SIZE: Final = 800  # rows and columns of a legacy network's input; a backbone release may name others
POWER_FLOOR: Final = 1e-12  # added to |X|^2 before the logarithm


@dataclass(frozen=True)
class Contract:
    """All that decides how a capture becomes an image. Rates in Hz, durations in seconds."""

    sample_rate_hz: float = 20e6
    capture_s: float = 0.2
    n_fft: int = N_FFT
    hop: int = HOP
    window: str = "hann_periodic"
    range_db: float = RANGE_DB
    power_floor: float = POWER_FLOOR
    image_size: int = IMAGE_SIZE
    axes: str = "time_right,frequency_up"

    @property
    def capture_samples(self) -> int:
        return round(self.sample_rate_hz * self.capture_s)

    @property
    def frames(self) -> int:
        """STFT frames of one capture."""
        return (self.capture_samples - self.n_fft) // self.hop + 1

    @property
    def resolution_s(self) -> float:
        """Seconds that an edge in time is known to: an STFT frame or an image column, whichever is longer."""
        return max(1, self.frames / self.image_size) * self.hop / self.sample_rate_hz

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the settings as canonical JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "hash": self.hash}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Contract":
        """Read a stored contract; raises MismatchError on an unknown key or a hash that does not fit."""
        settings = {key: value for key, value in values.items() if key != "hash"}
        try:
            contract = cls(**settings)
        except TypeError as error:
            raise MismatchError(f"front-end contract has keys this version does not know: {error}") from error
        if values.get("hash", contract.hash) != contract.hash:
            raise MismatchError(
                f"front-end contract says hash {values['hash']} but its settings hash to {contract.hash}; "
                "the file was edited: restore it"
            )
        return contract


WIDEBAND: Final = Contract()
ISM: Final = Contract(sample_rate_hz=2e6)
CONTRACTS: Final = {"wideband": WIDEBAND, "ism": ISM}
