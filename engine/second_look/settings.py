"""Settings of the second look: how many candidates are described from the IQ, and which detections suppress others."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import MismatchError
from engine.zoom.settings import ZoomSettings


@dataclass(frozen=True)
class LookSettings:
    """IoU and shares from 0 to 1. Equal settings give comparable vectors; their hash is stored with what was fitted."""

    places: int = 64  # candidates described from the IQ in one capture, at most
    choose_iou: float = 0.6  # no two of them overlap by more
    suppress_iou: float = 0.5  # of two detections of one signal
    suppress_share: float = 0.8  # of the smaller of two detections inside the other
    clip: float = 6.0  # standard deviations
    picture_weight: float = 0.5  # of the picture's values against those of the IQ
    zoom: ZoomSettings = field(default_factory=ZoomSettings)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the settings as canonical JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "LookSettings":
        """Reads stored settings. Raises MismatchError on keys that this version does not know."""
        try:
            zoom: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in dict(values.get("zoom", {})).items()
            }
            return cls(**{**values, "zoom": ZoomSettings(**zoom)})
        except (TypeError, ValueError) as error:
            raise MismatchError(f"settings of the second look that this version does not know: {error}") from error
