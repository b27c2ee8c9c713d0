"""Constants of the second look: two-layer networks of the fit, and the metric in which types are told apart.

One safetensors file of a backbone release for each front-end contract. Written by `training.backbone.second_look`.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engine.errors import StoreError
from engine.heads import EMBEDDED, VECTOR
from engine.heads import ZOOM_VALUES as VALUES

from .geometry import BOX_VALUES, PROFILE_VALUES
from .settings import LookSettings

STAGES: Final = {  # inputs of the networks that tell how well a box fits
    "first": VECTOR + BOX_VALUES,
    "second": VECTOR + VALUES + PROFILE_VALUES + BOX_VALUES,
}
MOST_BYTES: Final = 1 << 26
LEAST_DEVIATION: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Fit:
    """A two-layer network (ReLU) from standardised inputs to the logit of a box fitting whatever is in it."""

    mean: np.ndarray  # float32[inputs]
    deviation: np.ndarray  # float32[inputs]
    hidden_weight: np.ndarray  # float32[inputs, hidden]
    hidden_bias: np.ndarray  # float32[hidden]
    out_weight: np.ndarray  # float32[hidden]
    out_bias: np.ndarray  # float32[1]

    def logits(self, values: np.ndarray, clip: float) -> np.ndarray:
        """float32[N] of float32[N, inputs]."""
        scaled = ((values - self.mean) / self.deviation).clip(-clip, clip)
        hidden = np.maximum(scaled @ self.hidden_weight + self.hidden_bias, 0)
        return np.asarray(hidden @ self.out_weight + self.out_bias[0], np.float32)


@dataclass(frozen=True, eq=False)
class LookModel:
    """Constants of the second look for one contract."""

    settings: LookSettings
    contract_hash: str
    fits: dict[str, Fit]  # by stage
    mean: np.ndarray  # float32[EMBEDDED]
    deviation: np.ndarray  # float32[EMBEDDED]
    whitening: np.ndarray  # float32[EMBEDDED, EMBEDDED]: one covariance of all types becomes the identity
    centre: np.ndarray  # float32[EMBEDDED]
    hash: str = ""  # SHA-256 of the file

    def embed(self, vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
        """float32[N, EMBEDDED]: picture vectors float32[N, VECTOR] and zoom values float32[N, VALUES] in the common
        metric."""
        clip = self.settings.clip
        scaled = ((np.concatenate([vectors, values], axis=1) - self.mean) / self.deviation).clip(-clip, clip)
        scaled[:, :VECTOR] *= self.settings.picture_weight
        return np.asarray((scaled - self.centre) @ self.whitening, np.float32)

    def as_bytes(self) -> bytes:
        """The file's bytes; large arrays in 16 bits."""
        arrays = {"mean": self.mean, "deviation": self.deviation, "centre": self.centre}
        arrays |= {"whitening": self.whitening.astype(np.float16)}
        for stage, fit in self.fits.items():
            arrays |= {f"{stage}.{name}": np.ascontiguousarray(array) for name, array in vars(fit).items()}
        about = {"settings": self.settings.as_json(), "contract": self.contract_hash}
        return bytes(save(arrays, metadata={"look": json.dumps(about, sort_keys=True)}))


def read_look(data: bytes, name: str) -> LookModel:
    """A model from a file's bytes; `name` stands in messages. Raises StoreError on damage or values that are not
    finite, MismatchError on settings of another version."""
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes, at most {MOST_BYTES}")
        about = _about(data)
        arrays = {key: array.astype(np.float32) for key, array in load(data).items()}
        fits = {stage: _fit(arrays, stage) for stage in STAGES}
        shapes = {
            "mean": (EMBEDDED,),
            "deviation": (EMBEDDED,),
            "centre": (EMBEDDED,),
            "whitening": (EMBEDDED, EMBEDDED),
        }
        for key, shape in shapes.items():
            _check(key, arrays[key], shape)
        settings, contract_hash = LookSettings.from_json(about["settings"]), str(about["contract"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{name}: not a readable second look ({error}); restore the release from a copy") from error
    found = {key: arrays[key] for key in shapes}
    return LookModel(settings, contract_hash, fits, **found, hash=hashlib.sha256(data).hexdigest())


def _about(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about: dict[str, Any] = json.loads(header["__metadata__"]["look"])
    return about


def _fit(arrays: dict[str, np.ndarray], stage: str) -> Fit:
    inputs, hidden = STAGES[stage], len(arrays[f"{stage}.hidden_bias"])
    shapes = {
        "mean": (inputs,),
        "deviation": (inputs,),
        "hidden_weight": (inputs, hidden),
        "hidden_bias": (hidden,),
        "out_weight": (hidden,),
        "out_bias": (1,),
    }
    for name, shape in shapes.items():
        _check(f"{stage}.{name}", arrays[f"{stage}.{name}"], shape)
    return Fit(**{name: arrays[f"{stage}.{name}"] for name in shapes})


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} is {array.shape} or not finite, expected {shape} of finite numbers")
