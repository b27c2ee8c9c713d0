"""Second looks and typed heads whose answers are known, for stores of tests."""

from typing import Any

import numpy as np
from safetensors.numpy import save

from engine.contract import Contract
from engine.heads import EMBEDDED
from engine.second_look.model import STAGES, Fit, LookModel
from engine.second_look.settings import LookSettings
from engine.store.registry import Store
from engine.store.release import LOOK

SURE = 8.0  # logit


def look_model(contract: Contract, fit: float = SURE, **settings: Any) -> LookModel:
    """A second look for which every box fits by the same logit."""
    fits = {stage: _constant(inputs, fit) for stage, inputs in STAGES.items()}
    zeros, ones, identity = np.zeros(EMBEDDED, np.float32), np.ones(EMBEDDED, np.float32), np.eye(EMBEDDED)
    return LookModel(LookSettings(**settings), contract.hash, fits, zeros, ones, identity.astype(np.float32), zeros)


def add_typed(
    store: Store, signal: str, offset: float = -SURE, weight: np.ndarray | None = None, **changes: Any
) -> int:
    """Publishes a typed head of type logit `weight` (none: 0 for all) less `offset`."""
    weight = np.zeros(EMBEDDED, np.float32) if weight is None else weight
    operating = np.array([offset, 1.0, np.log(0.25)], np.float32)
    release = store.release()
    manifest = {"head_type": "typed", "backbone_hash": release.backbone_hash, "contract": release.contract.as_json()}
    manifest |= {"look_hash": release.hash_of(LOOK), **changes}
    return store.add_head(
        signal, {"weights.safetensors": save({"weight": weight, "operating": operating})}, manifest, {}
    )


def _constant(inputs: int, logit: float) -> Fit:
    zeros = np.zeros(inputs, np.float32)
    hidden = np.zeros((inputs, 1), np.float32)
    return Fit(zeros, zeros + 1, hidden, np.zeros(1, np.float32), np.ones(1, np.float32), np.float32([logit]))
