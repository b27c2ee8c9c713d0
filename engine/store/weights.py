"""Reading head weights from safetensors, checked before use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from engine.errors import StoreError
from engine.heads import (
    TENSORS,
)

from .files import unique_keys


def read_weights(path: Path, head_type: str) -> dict[str, np.ndarray]:
    """A head's tensors as float32. Raises StoreError on damage, a wrong set of tensors, or values that are not
    finite."""
    expected = TENSORS[head_type]
    try:
        data = path.read_bytes()
        for name, dtype in _stored_types(data).items():
            if dtype not in ("F16", "F32"):
                raise StoreError(f"{path}: tensor {name!r} is {dtype}, not F16 or F32; restore this version")
        found = load(data)
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: not a readable safetensors file ({error}); restore this version") from error
    for name in sorted({*found, *expected}):
        shape = found[name].shape if name in found else "missing"
        if shape != expected.get(name):
            raise StoreError(
                f"{path}: tensor {name!r} is {shape}, a {head_type} head has {expected.get(name, 'none')}; "
                "restore this version"
            )
    for name, tensor in found.items():
        if not np.isfinite(tensor).all():
            raise StoreError(f"{path}: tensor {name!r} holds NaN or infinity; restore or retrain this version")
    return {name: np.ascontiguousarray(found[name], dtype=np.float32) for name in expected}


def _stored_types(data: bytes) -> dict[str, Any]:
    """Tensor names and their types by a safetensors header. Raises ValueError on what the format forbids and
    its reader lets through: tensors named twice, blanks before the header."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        raise ValueError("the header does not begin with {")
    header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=unique_keys)
    return {
        name: about.get("dtype") for name, about in header.items() if name != "__metadata__" and isinstance(about, dict)
    }
