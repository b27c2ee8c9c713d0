"""Legacy checkpoints, read safely: plain tensors only, and exactly those of the detector."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from engine.errors import CheckpointError

from .detector import Tensors, detector

MAX_BYTES = 2 << 30  # unpacked; the detector has 113 MB


def read_checkpoint(path: Path) -> Tensors:
    """A state dict of the two-class detector, float32. Nothing in the file is executed.

    Raises CheckpointError naming file, key and remedy on anything but exactly the expected tensors.
    """
    state = _load(path)
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, not a state dict; save model.state_dict()")
    expected = detector().state_dict()
    unknown, missing = set(map(str, state)) - set(expected), set(expected) - set(state)
    if unknown or missing:
        raise CheckpointError(f"{path}: {_difference(unknown, missing)}; {_remedy(state)}")
    for key, like in expected.items():
        value = state[key]
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
            raise CheckpointError(f"{path}: {key} is a {type(value).__name__}, not a dense tensor; {_remedy(state)}")
        if value.shape != like.shape:
            raise CheckpointError(
                f"{path}: {key} is {list(value.shape)}, expected {list(like.shape)}; {_remedy(state)}"
            )
        if value.dtype not in (torch.float16, torch.bfloat16, torch.float32):
            raise CheckpointError(f"{path}: {key} is {value.dtype}; save the model's weights as float32")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinity; the training that made it diverged")
    return {key: state[key].to(torch.float32) for key in expected}


def _load(path: Path) -> Any:
    try:
        unpacked = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > MAX_BYTES:
            raise CheckpointError(
                f"{path}: unpacks to {unpacked} bytes, at most {MAX_BYTES} are read; save model.state_dict() alone"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols and old storages, which are no one's concern here
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); check name and rights") from error
    except Exception as error:  # a damaged pickle ends in errors of any type
        raise CheckpointError(
            f"{path}: not a checkpoint of plain tensors ({_reason(error)}); save model.state_dict() and nothing else"
        ) from error


def _reason(error: Exception) -> str:
    """First line of an error about the file itself, without advice on unsafe loading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    specific = [line for line in lines if "weights_only" not in line]
    return (specific or lines or [type(error).__name__])[0][:160]


def _difference(unknown: set[str], missing: set[str]) -> str:
    parts = []
    for word, keys in (("unknown", unknown), ("missing", missing)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            parts.append(f"{word} key {min(keys)!r}{more}")
    return ", ".join(parts)


def _remedy(state: dict[Any, Any]) -> str:
    if all(str(key).startswith("module.") for key in state):
        return "saved from DataParallel: save model.module.state_dict()"
    if any(isinstance(value, dict) for value in state.values()):
        return "the state dict lies deeper in this file: save it alone"
    if any(str(key).endswith("num_batches_tracked") for key in state):
        return "trained with BatchNorm2d: freeze the norms first (network.detector.freeze_norms)"
    return "only torchvision's fasterrcnn with resnet18-FPN and 2 classes can be extracted"
