"""Hydra beside the ways a dozen signals are detected today, on the same captures, in the same run.

    python -m benchmarks.peers [--models models] [--signals 12] [--rounds 3] [--only hydra,eager,...] [--json FILE]

    eager       a torchvision Faster R-CNN per signal, one after another, in PyTorch
    compiled    the same through torch.compile, one of them as often as there are signals
    onnxruntime the same, each exported to ONNX, in ONNX Runtime
    openvino    the same ONNX files in OpenVINO
    original    one backbone pass and a full head per signal, one after another, in PyTorch: how Hydra began
    hydra       this engine with its compact heads, as `auto` runs it, in float32; hydra_int8: likewise in 8 bits;
                hydra_plain: ONNX Runtime in float32

The peers' networks have random weights, for nobody has trained twelve of them: their time is measured, their F1 is not.
All get their image from `torch.stft` once a capture, which is generous to those that would compute it per signal. Peers
take turns, so that what slows the machine slows all.
"""

import argparse
import gc
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from app.bench.timing import captures, opened, with_heads
from engine.anchors import STOCK
from engine.contract import Contract
from engine.devices.machine import describe_cpu
from engine.heads import FULL
from engine.loading import Loader
from engine.store.registry import Store
from network.backbone import Backbone
from network.detector import detector, split
from network.heads import FullHead

log = logging.getLogger(__name__)

PEERS: Final = ("hydra", "hydra_int8", "hydra_plain", "original", "openvino", "onnxruntime", "compiled", "eager")
OPSET: Final = 17
TURN_S: Final = 1.0  # captures follow each other for as long, so that the quick do not always start from a cold cache

Run = Callable[[np.ndarray], object]  # what is timed: IQ in, detections out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--signals", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PEERS), help="some of the peers, separated by commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    figures = measure(Store(options.models), options.signals, options.rounds, options.only.split(","))
    Console().print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(store: Store, signals: int, rounds: int, names: Sequence[str]) -> dict[str, Any]:
    """Milliseconds a capture by peer, all rounds; the first round warms up and is not counted."""
    contract = store.release().contract
    iqs = list(captures(contract).values())
    makers: dict[str, Callable[[], Run]] = {
        "hydra": lambda: _hydra(store, signals, "auto", "float32"),
        "hydra_int8": lambda: _hydra(store, signals, "auto", "int8"),
        "hydra_plain": lambda: _hydra(store, signals, "onnxruntime", "float32"),
        "original": lambda: _original(contract, signals),
        "eager": lambda: _eager(contract, signals),
        "compiled": lambda: _compiled(contract, signals),
        "onnxruntime": lambda: _exported(contract, signals, "onnxruntime"),
        "openvino": lambda: _exported(contract, signals, "openvino"),
    }
    walls: dict[str, list[float]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    runs: dict[str, Run] = {}
    for name in names:
        try:
            runs[name] = makers[name]()
            runs[name](iqs[0])
            log.info("%s is loaded", name)
        except Exception as error:  # a peer that cannot run here is said so and left out
            failed[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            runs.pop(name, None)
            gc.collect()
    for turn in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            while time.perf_counter() - begun < TURN_S:
                started = time.perf_counter()
                run(iqs[turn % len(iqs)])
                walls[name].append((time.perf_counter() - started) * 1e3)
            log.info("round %d, %s: %.0f ms", turn + 1, name, walls[name][-1])
    return {
        "machine": describe_cpu(),
        "signals": signals,
        "capture_ms": contract.capture_s * 1e3,
        "torch": torch.__version__,
        "walls_ms": {name: [round(ms, 1) for ms in walls[name]] for name in runs},
        "failed": failed,
    }


def _hydra(store: Store, signals: int, runtime: str, precision: str) -> Run:
    release = store.release()
    engine = opened(with_heads(store.snapshot(), signals), Loader(release, runtime, 0, precision))
    return lambda iq: engine.detect(iq, sample_rate_hz=release.contract.sample_rate_hz)


def _original(contract: Contract, signals: int) -> Run:
    tensors, head_tensors = split(detector().state_dict())
    backbone, head = Backbone(tensors), FullHead()
    cells = torch.from_numpy(STOCK.cells())
    heads = [tuple(head_tensors[name].clone() for name in FULL) for _ in range(signals)]

    def run(iq: np.ndarray) -> object:
        with torch.inference_mode():
            features = backbone(image_of(iq, contract)[None, None])
            return [head(*features, cells, *weights) for weights in heads]

    return run


def _eager(contract: Contract, signals: int) -> Run:
    models = [detector().eval() for _ in range(signals)]
    return lambda iq: _one_after_another(models, iq, contract)


def _compiled(contract: Contract, signals: int) -> Run:
    model = detector().eval()
    model.backbone = torch.compile(model.backbone)
    model.roi_heads.box_head = torch.compile(model.roi_heads.box_head, dynamic=True)
    # the same one so many times: compiling takes minutes each, and 113 MB of weights do not stay in a cache anyway
    return lambda iq: _one_after_another([model] * signals, iq, contract)


def _one_after_another(models: Sequence[torch.nn.Module], iq: np.ndarray, contract: Contract) -> object:
    with torch.inference_mode():
        image = image_of(iq, contract).expand(3, -1, -1)
        return [model([image]) for model in models]


def _exported(contract: Contract, signals: int, runtime: str) -> Run:
    graph = _onnx()  # the same weights in every session, each with a copy of its own
    sessions = [_session(graph, runtime) for _ in range(signals)]

    def run(iq: np.ndarray) -> object:
        image = image_of(iq, contract).expand(3, -1, -1).numpy()
        return [session(image) for session in sessions]

    return run


def _onnx() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        image = torch.rand(3, 1024, 1024)
        torch.onnx.export(
            detector().eval(), ([image],), file, opset_version=OPSET, dynamo=False, input_names=["image"],
            output_names=["boxes", "labels", "scores"],
        )  # fmt: skip
    return file.getvalue()


def _session(graph: bytes, runtime: str) -> Run:
    if runtime == "openvino":
        import openvino

        core = openvino.Core()
        model = core.compile_model(core.read_model(graph), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        return lambda image: model(image)
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})


def image_of(iq: np.ndarray, contract: Contract) -> torch.Tensor:
    """The image as it is usually made: `torch.stft`, decibels, resize. float32[1024, 1024]."""
    window = torch.hann_window(contract.n_fft, periodic=True)
    spectrum = torch.stft(
        torch.from_numpy(iq), contract.n_fft, contract.hop, window=window, center=False, onesided=False,
        return_complex=True,
    )  # fmt: skip
    decibel = 10 * torch.log10(spectrum.abs() ** 2 + contract.power_floor)
    grey = torch.fft.fftshift(((decibel - decibel.max()) / contract.range_db + 1).clamp(0, 1), dim=0)
    size = (contract.image_size, contract.image_size)
    return torch.nn.functional.interpolate(grey[None, None], size=size, mode="bilinear")[0, 0].flip(0)


def table(figures: dict[str, Any]) -> Table:
    medians = {name: float(np.median(walls)) for name, walls in figures["walls_ms"].items()}
    fastest = medians.get("hydra") or min(medians.values())
    found = Table(title=f"{figures['signals']} signals, captures of {figures['capture_ms']:g} ms, {figures['machine']}")
    for heading in ("way", "median ms", "least", "most", "times Hydra's"):
        found.add_column(heading, justify="left" if heading == "way" else "right")
    for name, walls in figures["walls_ms"].items():
        found.add_row(
            name, *(f"{ms:,.0f}" for ms in (medians[name], min(walls), max(walls))), f"{medians[name] / fastest:.1f}"
        )
    for name, reason in figures["failed"].items():
        found.add_row(name, "-", "-", "-", f"did not run: {reason}"[:60])
    return found


if __name__ == "__main__":
    main()
