"""How the cost of a capture grows, and how far each stage is from the least that this machine could do it in.

    python -m benchmarks.growth [--models models] [--repeats 9] [--json FILE] [--plot FILE.png]

- heads: 1 to 96, everything after the front end
- sample rate: 2 to 100 MS/s, the front end on 200 ms of samples
- input size: the trunk at other sizes than the release's, with its weights
- cores: all of it on one core and on all
- floor: multiply-adds of the trunk (counted in its graph) at the rate of a large matrix product in float32, NumPy's or
  torch's, whichever is faster; bytes that the front end must read and write at the rate of a copy of 256 MB; both
  measured in the same run
- beside the front end, the usual way to the same image: torch.stft, decibels, resize
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper, shape_inference
from rich.console import Console
from rich.table import Table

from app.bench.timing import captures, opened, with_heads
from engine.contract import WIDEBAND
from engine.devices.machine import cores, describe_cpu
from engine.devices.open import open_device
from engine.engine import Engine
from engine.loading import Loader
from engine.recordings.open import open_recording
from engine.recordings.writing import write_sigmf
from engine.sessions.open import open_session
from engine.spectrogram import levels, to_image
from engine.store.registry import Store
from export.to_onnx import backbone_tensors, stored_tensors, trunk_graph
from network.shared import Fuse

from .peers import image_of

HEADS: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
RATES_MHZ: Final = (2, 5, 10, 20, 50, 100)
SIZES: Final = ((256, 384), (384, 576), (512, 768), (640, 960), (800, 800))
STREAMED: Final = 6  # times three captures
COPY_BYTES: Final = 1 << 28
PRODUCT: Final = 2048  # rows and columns of the matrix product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    figures = measure(Store(options.models), options.repeats)
    Console().print(*tables(figures), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.plot:
        draw(figures, options.plot)


def measure(store: Store, repeats: int) -> dict[str, Any]:
    def median_ms(work: Callable[[], object]) -> float:
        walls = []
        for _ in range(repeats + 2):
            started = time.perf_counter()
            work()
            walls.append((time.perf_counter() - started) * 1e3)
        return round(float(np.median(walls[2:])), 2)

    machine = _machine(median_ms)
    release = store.release()
    iq = captures(release.contract)["dense"]
    heads = []
    for count in HEADS:
        with opened(with_heads(store.snapshot(), count), Loader(release)) as engine:
            stages: dict[str, list[float]] = {}
            for _ in range(repeats + 2):
                for stage, ms in engine.detect(iq, sample_rate_hz=release.contract.sample_rate_hz).timings_ms.items():
                    stages.setdefault(stage, []).append(ms)
        medians = {stage: round(float(np.median(walls[2:])), 2) for stage, walls in stages.items()}
        heads.append({"number_of_heads": count, **medians})
    rates = [{"mega_samples_per_s": rate, **_front_end(rate, machine, median_ms)} for rate in RATES_MHZ]
    sizes = [_trunk(store, size, machine, median_ms) for size in SIZES]
    by_cores = []
    for threads in sorted({1, cores()}):
        device = open_device("tracing" if threads == 1 else "cpu")  # the tracing device works block by block
        loader = Loader(release, threads=threads, device=device)
        with opened(with_heads(store.snapshot(), 12), loader) as engine:
            detect = partial(engine.detect, iq, sample_rate_hz=release.contract.sample_rate_hz)
            streamed = _streamed_ms(engine, np.concatenate(list(captures(release.contract).values())))
            by_cores.append({"cores": threads, "ms": median_ms(detect), "ms_a_capture_in_a_stream": streamed})
    return {"machine": machine, "heads": heads, "rates": rates, "sizes": sizes, "cores": by_cores}


def _streamed_ms(engine: Engine, iq: np.ndarray) -> float:
    """Milliseconds a capture in a recording of many, the next one drawn while the network looks at this one."""
    with TemporaryDirectory() as folder:
        rate_hz = engine.contract.sample_rate_hz
        meta = write_sigmf(Path(folder) / "iq", np.tile(iq / 64, STREAMED), sample_rate_hz=rate_hz, datatype="ci8")
        results = engine.stream(open_recording(meta))
        next(results)
        started = time.perf_counter()
        count = sum(1 for _ in results)
        return round((time.perf_counter() - started) * 1e3 / count, 2)


def _machine(median_ms: Callable[[Callable[[], object]], float]) -> dict[str, Any]:
    matrix = np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32)
    source, target = np.zeros(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    product_ms = min(median_ms(lambda: matrix @ matrix), median_ms(partial(torch.mm, *[torch.from_numpy(matrix)] * 2)))
    copy_ms = median_ms(lambda: np.copyto(target, source))
    return {
        "cpu": describe_cpu(),
        "giga_macs_per_s": round(PRODUCT**3 / product_ms / 1e6, 1),
        "giga_bytes_per_s": round(2 * COPY_BYTES / copy_ms / 1e6, 1),  # read and written
    }


def _front_end(rate_mhz: int, machine: dict[str, Any], median_ms: Callable[..., float]) -> dict[str, float]:
    contract = replace(WIDEBAND, sample_rate_hz=rate_mhz * 1e6)
    rng = np.random.default_rng(0)
    iq = rng.standard_normal(2 * contract.capture_samples, dtype=np.float32).view(np.complex64)
    device = open_device("cpu")
    found = median_ms(lambda: to_image(levels(iq, contract, np, device.spread), contract, np, device.spread))
    moved = iq.nbytes + 2 * 4 * contract.frames * 2 * contract.image_size + 4 * contract.image_size**2
    usual = median_ms(lambda: image_of(iq, contract))
    return {
        "ms": found,
        "torch_ms": usual,
        "share_of_torch": round(found / usual, 2),
        "floor_ms": round(moved / machine["giga_bytes_per_s"] / 1e6, 2),
    }


def _trunk(
    store: Store, size: tuple[int, int], machine: dict[str, Any], median_ms: Callable[..., float]
) -> dict[str, Any]:
    release = store.release()
    fuse = Fuse().eval().requires_grad_(False)
    fuse.load_state_dict(stored_tensors(release.file("fuse.onnx").read_bytes()))
    graph = trunk_graph(backbone_tensors(release.file("backbone.onnx").read_bytes()), fuse, size)
    session = open_session(graph, "onnxruntime", cores())
    image = torch.rand(1, 1, 1024, 1024).numpy()
    ms = median_ms(lambda: session.run({"image": image}))
    session.close()
    macs = multiply_adds(graph)
    return {
        "rows": size[0],
        "columns": size[1],
        "giga_macs": round(macs / 1e9, 2),
        "ms": ms,
        "floor_ms": round(macs / machine["giga_macs_per_s"] / 1e6, 2),
    }


def multiply_adds(graph: bytes) -> int:
    """Multiply-adds of all convolutions of a graph."""
    model = shape_inference.infer_shapes(onnx.load_model_from_string(graph), data_prop=True)
    shapes = {
        port.name: [size.dim_value for size in port.type.tensor_type.shape.dim]
        for port in (*model.graph.value_info, *model.graph.output)
    }
    kernels = {i.name.removesuffix(".f16"): numpy_helper.to_array(i).shape for i in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(kernels[node.input[1]])) * int(np.prod(shapes[node.output[0]][2:]))
    return total


def tables(figures: dict[str, Any]) -> Sequence[Table]:
    machine = figures["machine"]
    found = []
    for key, title in (
        ("heads", "by number of heads, median ms of each stage"),
        ("rates", "front end by sample rate, 200 ms captures; the floor is memory traffic"),
        ("sizes", "trunk by input size, ONNX Runtime float32; the floor is arithmetic"),
        ("cores", "12 heads by cores"),
    ):
        rows = figures[key]
        table = Table(title=f"{title}; {machine['cpu']}", title_justify="left")
        columns = list(rows[0])
        for name in columns:
            table.add_column(name.replace("_", " "), justify="right")
        if "floor_ms" in columns:
            table.add_column("times the floor", justify="right")
        for row in rows:
            ratio = [f"{row['ms'] / row['floor_ms']:.1f}"] if "floor_ms" in row else []
            table.add_row(*(f"{row[name]:g}" for name in columns), *ratio)
        found.append(table)
    found[
        0
    ].caption = f"{machine['giga_macs_per_s']} GMAC/s in a matrix product, {machine['giga_bytes_per_s']} GB/s in a copy"
    return found


def draw(figures: dict[str, Any], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    stages = [name for name in figures["heads"][0] if name != "number_of_heads"]
    counts = [row["number_of_heads"] for row in figures["heads"]]
    axes[0].stackplot(counts, [[row[s] for row in figures["heads"]] for s in stages], labels=stages)
    axes[0].set(xlabel="heads", ylabel="ms a capture", title="heads")
    axes[0].legend(fontsize="x-small", loc="lower right")
    for axis, key, across, name in (
        (axes[1], "rates", "mega_samples_per_s", "sample rate, MS/s"),
        (axes[2], "sizes", "giga_macs", "trunk, 10^9 multiply-adds"),
    ):
        places = [row[across] for row in figures[key]]
        axis.plot(places, [row["ms"] for row in figures[key]], "o-", label="measured")
        axis.plot(places, [row["floor_ms"] for row in figures[key]], "--", label="floor")
        axis.set(xlabel=name, ylabel="ms a capture", ylim=(0, None), title=name.split(",")[0])
        axis.legend()
    figure.suptitle(figures["machine"]["cpu"])
    figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main()
