"""What `auto` means for runtime and precision: what was measured to be fastest on this machine, and remembered.

`g20 bench` measures. Where nothing was measured for this release, machine and set of runtimes, `auto` is ONNX Runtime
in float32: an engine never spends its first seconds on finding out. On a GPU it is the first runtime that is installed,
TensorRT before others, with the trunk in 16 bits.
"""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from .device import describe_cpu
from .errors import UnavailableError
from .sessions.open import CPU, GPU, RUNTIMES, installed, known_runtime

log = logging.getLogger(__name__)

AUTO: Final = "auto"
PRECISIONS: Final = {CPU: ("float32", "int8"), GPU: ("float16", "float32")}  # of the trunk, by kind of device


@dataclass(frozen=True)
class Choice:
    runtime: str
    precision: str


PLAIN: Final = Choice("onnxruntime", "float32")


def chosen(runtime: str, precision: str, backbone_hash: str, folder: Path | None = None, kind: str = CPU) -> Choice:
    """What was asked for, with what was measured in place of `auto`. Raises UnavailableError on unknown names."""
    if precision not in (AUTO, *PRECISIONS[kind]):
        raise UnavailableError(
            f"precision {precision!r} is not known on {kind}; choose one of auto, {', '.join(PRECISIONS[kind])}"
        )
    if runtime != AUTO:
        known_runtime(runtime, kind)
    if kind == GPU:
        return _on_gpu(runtime, precision)
    best = _read(folder).get(_key(backbone_hash), PLAIN) if AUTO in (runtime, precision) else PLAIN
    if runtime not in (AUTO, best.runtime) or precision not in (AUTO, best.precision):
        best = PLAIN  # the fastest pair is not what was asked for, so it says nothing about the half left open
    return Choice(best.runtime if runtime == AUTO else runtime, best.precision if precision == AUTO else precision)


def _on_gpu(runtime: str, precision: str) -> Choice:
    here = list(installed(GPU))
    if runtime == AUTO and not here:
        raise UnavailableError("no runtime for a GPU is installed: pip install 'hydra-rf[gpu]'")
    return Choice(here[0] if runtime == AUTO else runtime, PRECISIONS[GPU][0] if precision == AUTO else precision)


def remember(best: Choice, backbone_hash: str, folder: Path | None = None) -> None:
    """Keeps what was measured for this release on this machine."""
    path = _path(folder)
    known = {key: asdict(choice) for key, choice in _read(folder).items()} | {_key(backbone_hash): asdict(best)}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(known, indent=2))
    aside.replace(path)


def _key(backbone_hash: str) -> str:
    versions = " ".join(f"{name} {version}" for name, version in installed().items())
    return hashlib.sha256(f"{backbone_hash} {describe_cpu()} {versions}".encode()).hexdigest()[:32]


def _read(folder: Path | None) -> dict[str, Choice]:
    """All that is remembered; nothing where the file is missing or damaged, for it can be measured again."""
    try:
        found = {key: Choice(**entry) for key, entry in json.loads(_path(folder).read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s: cannot be read (%s); `g20 bench` writes it anew", _path(folder), error)
        return {}
    return {k: c for k, c in found.items() if c.runtime in RUNTIMES[CPU] and c.precision in PRECISIONS[CPU]}


def _path(folder: Path | None) -> Path:
    return (folder or user_cache_path("hydra-rf")) / "choices.json"
