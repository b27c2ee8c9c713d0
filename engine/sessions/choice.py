"""Runtime that `auto` resolves to: the fastest one that `g20 bench` measured on this machine.

`auto` chooses among runtimes only. The precision of the trunk is what the caller names, float32 by default, so that
no measurement changes what detection finds beyond rounding: runtimes differ in the last digits of scores and edges.

Without a measurement for this release, precision, machine and set of installed runtimes, `auto` is ONNX Runtime: an
engine never measures while it is opened. On a GPU it is the first runtime that is installed, TensorRT before others.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from engine.atomic import replacing
from engine.devices.machine import describe_cpu
from engine.errors import UnavailableError

from .open import CPU, GPU, RUNTIMES, installed, known_runtime

log = logging.getLogger(__name__)

AUTO: Final = "auto"
FLOAT32: Final = "float32"
PRECISIONS: Final = {CPU: (FLOAT32, "int8"), GPU: (FLOAT32, "float16")}  # of the trunk, by kind of device


@dataclass(frozen=True)
class Choice:
    runtime: str
    precision: str


PLAIN: Final = Choice("onnxruntime", FLOAT32)


def chosen(runtime: str, precision: str, backbone_hash: str, folder: Path | None = None, kind: str = CPU) -> Choice:
    """The runtime asked for, `auto` resolved, in the precision asked for. Raises UnavailableError on unknown names."""
    if precision not in PRECISIONS[kind]:
        raise UnavailableError(
            f"precision {precision!r} is not known on {kind}; choose one of {', '.join(PRECISIONS[kind])}"
        )
    if runtime != AUTO:
        return Choice(known_runtime(runtime, kind), precision)
    if kind == GPU:
        return Choice(_first_on_gpu(), precision)
    return Choice(_read(folder).get(_key(backbone_hash, precision), PLAIN.runtime), precision)


def _first_on_gpu() -> str:
    here = list(installed(GPU))
    if not here:
        raise UnavailableError("no runtime for a GPU is installed: pip install 'hydra-rf[gpu]'")
    return here[0]


def remember(best: Choice, backbone_hash: str, folder: Path | None = None) -> None:
    """Stores the runtime that `auto` resolves to for this release, precision and machine."""
    path = _path(folder)
    known = _read(folder) | {_key(backbone_hash, best.precision): best.runtime}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(known, indent=2))


def _key(backbone_hash: str, precision: str) -> str:
    versions = " ".join(f"{name} {version}" for name, version in installed().items())
    return hashlib.sha256(f"{backbone_hash} {precision} {describe_cpu()} {versions}".encode()).hexdigest()[:32]


def _read(folder: Path | None) -> dict[str, str]:
    """Remembered runtimes by key; empty where the file is missing or damaged, for it can be measured again."""
    try:
        found = json.loads(_path(folder).read_text())
        return {key: runtime for key, runtime in found.items() if runtime in [*RUNTIMES[CPU]]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        log.warning("%s: cannot be read (%s); `g20 bench` writes it anew", _path(folder), error)
        return {}


def _path(folder: Path | None) -> Path:
    return (folder or user_cache_path("hydra-rf")) / "choices.json"
