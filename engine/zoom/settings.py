"""Settings of the zoom: what a box is cut to and described by. Vectors are only comparable under equal settings."""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ZoomSettings:
    """Times in microseconds and frequencies in hertz as if every capture were of `reference_rate_hz`: a slower one is
    described as the same samples played faster."""

    boxes: int = 32  # described in one capture, at most
    dense_boxes: int = 64  # in a dense band
    reference_rate_hz: float = 20e6
    oversampling: float = 2.0  # samples a second of a cut, in bandwidths
    pass_width: float = 1.2  # of the cut's filter, in bandwidths
    roll_off: float = 0.15  # of its edges
    most_samples: int = 16_384
    most_wide_samples: int = 32_768  # of a box wider than 1,024 bins
    wide_bins: int = 1_024
    least_bins: float = 3.0
    active: float = 0.4  # of the strong part: where a cut's active part begins and ends
    lag_us: float = 620.0  # longest delay of the autocorrelation
    lags: int = 12_000
    prefixes_us: tuple[float, ...] = (0.5, 0.8, 1.0, 1.6, 2.0, 3.2, 4.0, 16.0, 33.333, 66.667)  # useful symbol lengths
    line_points: int = 8_192  # of the spectra in which lines are found
    chirp_delays: tuple[float, ...] = (2.0, 8.0, 32.0)  # in 1 / bandwidth
    chirp_points: tuple[int, ...] = (256, 2_048)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the settings as canonical JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
