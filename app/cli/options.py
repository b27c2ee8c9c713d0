"""Options shared by several commands: model store, device, runtime and precision.

`Device`, `Runtime` and `Precision` take their defaults from the environment; an option on the command line wins.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from engine.sessions.choice import AUTO, FLOAT32
from engine.store.finding import locate

from .output import say

DEVICE: Final = AUTO
RUNTIME: Final = AUTO
PRECISION: Final = FLOAT32

Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="The model store, or the name of an installed pack; without it ./models, $HYDRA_MODELS or the one pack.",
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute; see `g20 devices`.", envvar="HYDRA_DEVICE")]
Runtime = Annotated[
    str,
    typer.Option(
        help="auto: the fastest that `g20 bench` measured here, else onnxruntime; or onnxruntime, openvino; on a GPU "
        "tensorrt, tensorrt_rtx, onnxruntime.",
        envvar="HYDRA_RUNTIME",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="Of the backbone: float32, int8 (CPU), float16 (GPU). Not float32: faster, finds slightly other things.",
        envvar="HYDRA_PRECISION",
    ),
]


def located(given: Path | None) -> Path:
    """Model store to use; its path is printed to standard error, unless it was given."""
    found = locate(given)
    if given is None:
        say(f"models: {found.path.absolute()} ({found.origin})")
    return found.path
