"""The floor of a capture on a GPU, on paper: arithmetic and bytes of each stage, the least time on three GPUs.

    python -m benchmarks.floor [--models models] [--heads 12] [--json FILE]

Counted from the release's graphs and the contract, not measured. A stage takes at least its operations at the GPU's
peak or its bytes at its bandwidth, whichever is longer; predicted is that at the shares of both that programs
commonly reach.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import numpy_helper, shape_inference
from rich.console import Console
from rich.table import Table

from engine.contract import IMAGE_SIZE, Contract
from engine.devices.kernels.regions import RADIX_PASSES, TABLE_BITS, passes_of_an_image
from engine.heads import COMPACT, FUSED, PROPOSALS, VECTOR, fused_shape
from engine.regions import MOST_CANDIDATES
from engine.snapshot import capacity_for
from engine.store.registry import Store
from engine.store.release import BackboneRelease
from network.shared import FINE, FINE_POOLS, GEOMETRY, POOL, SAMPLING, WIDE

ARITHMETIC_SHARE: Final = 0.5  # of the peak that convolutions and products reach: an assumption
BANDWIDTH_SHARE: Final = 0.8  # of the memory's and the link's: an assumption
LAUNCHES_MS: Final = 0.1  # of CUDA graphs and copies, four of each a capture: an assumption


@dataclass(frozen=True)
class Gpu:
    """Peaks as the maker states them: 16 bits added in 32 on tensor cores without sparsity, 32 bits, memory, link."""

    name: str
    half_tflops: float
    single_tflops: float
    memory_gb_s: float
    link_gb_s: float


GPUS: Final = (
    Gpu("H100 SXM", 989.0, 66.9, 3350.0, 64.0),
    Gpu("RTX 4070", 58.3, 29.1, 504.0, 32.0),
    Gpu("AGX Orin 64 GB", 42.5, 5.3, 204.8, 204.8),  # memory is shared with the host, so the link is the memory
)


@dataclass(frozen=True)
class Stage:
    name: str
    operations: float  # multiply-adds count as two
    megabytes: float
    is_half: bool = False
    over_link: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    release = Store(options.models).release()
    found = stages(release, options.heads)
    Console(width=120).print(table(found), summary(found), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(figures(found), indent=2) + "\n")


def stages(release: BackboneRelease, heads: int) -> list[Stage]:
    contract, size = release.contract, release.input_size
    ports = 4 * PROPOSALS * (4 + VECTOR)
    return [
        Stage("upload", 0, 8 * contract.capture_samples / 1e6, over_link=True),
        *_front_end(contract),
        _trunk(release.file("trunk.onnx").read_bytes()),
        *_regions(),
        _shared(size, ports),
        _heads(heads, ports),
        Stage("results to the host", 0, 4 * capacity_for(heads) * PROPOSALS * 5 / 1e6, over_link=True),
    ]


def _front_end(contract: Contract) -> list[Stage]:
    spectrum = 8 * contract.frames * contract.n_fft / 1e6
    kept = 4 * contract.frames * 2 * contract.image_size / 1e6
    samples, image = 8 * contract.capture_samples / 1e6, 4 * contract.image_size**2 / 1e6
    butterflies = 5 * contract.n_fft * math.log2(contract.n_fft) * contract.frames
    return [
        Stage("loudest sample, window", 4 * contract.frames * contract.n_fft, 2 * samples + spectrum),
        Stage("FFT", butterflies, 2 * spectrum),
        Stage("decibels, peak", 10 * contract.frames * contract.n_fft, spectrum + kept),
        Stage("image", 30 * contract.image_size**2, kept + image),
    ]


def _trunk(graph: bytes) -> Stage:
    """Convolutions in 16 bits: each reads its input and weights and writes its output."""
    model = shape_inference.infer_shapes(onnx.load_model_from_string(graph), data_prop=True)
    ports = (*model.graph.value_info, *model.graph.output, *model.graph.input)
    shapes = {port.name: [size.dim_value for size in port.type.tensor_type.shape.dim] for port in ports}
    kernels = {i.name.removesuffix(".f16"): numpy_helper.to_array(i).shape for i in model.graph.initializer}
    operations = values = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            kernel, output = kernels[node.input[1]], shapes[node.output[0]]
            operations += 2 * math.prod(kernel) * math.prod(output[2:])
            values += math.prod(kernel) + math.prod(shapes[node.input[0]]) + math.prod(output)
    return Stage("trunk", operations, 2 * values / 1e6, is_half=True)


def _regions() -> list[Stage]:
    """Every look reads its picture twice, to count runs and to write them. The table of boxes is emptied, ranked, and
    gone over once for each digit of the last box that is wanted, and once more for those before it."""
    passes, size = passes_of_an_image(), IMAGE_SIZE
    pixels = int(passes[:, 1].sum()) * size
    words = -(-MOST_CANDIDATES // 32)
    return [
        Stage("regions: levels, patches", 8 * pixels, 2 * 4 * pixels / 1e6),
        Stage("regions: the best", 0, (1 << TABLE_BITS) * (8 + 8 + 4 + (RADIX_PASSES + 1) * (8 + 4)) / 1e6),
        Stage("regions: overlaps", 20 * 32 * words * MOST_CANDIDATES, 4 * words * MOST_CANDIDATES / 1e6),
    ]


def _shared(size: tuple[int, int], ports: int) -> Stage:
    pooled = FUSED * POOL * POOL + GEOMETRY + FINE
    products = PROPOSALS * (pooled * WIDE + WIDE * (VECTOR - WIDE) + VECTOR * 4)
    points = FUSED * (POOL * SAMPLING) ** 2 + sum(2 * rows * columns * SAMPLING**2 for rows, columns in FINE_POOLS)
    weights = pooled * WIDE + WIDE * (VECTOR - WIDE)
    read = math.prod(fused_shape(size)["fused"]) + 4 * PROPOSALS * points + PROPOSALS * pooled + weights
    return Stage("shared layers", 2 * products + 8 * PROPOSALS * points, (4 * read + ports) / 1e6)


def _heads(heads: int, ports: int) -> Stage:
    places = capacity_for(heads)
    values = sum(math.prod(shape) for shape in COMPACT.values())
    products = PROPOSALS * math.prod(COMPACT["hidden.weight"]) + PROPOSALS * math.prod(COMPACT["out.weight"])
    return Stage(f"{heads} heads", 2 * places * products, (4 * places * (values + PROPOSALS * 64 * 2) + ports) / 1e6)


def floor_ms(stage: Stage, gpu: Gpu, arithmetic: float = 1.0, bandwidth: float = 1.0) -> tuple[float, str]:
    """The least time, and what binds: operations, memory or link."""
    peak = (gpu.half_tflops if stage.is_half else gpu.single_tflops) * arithmetic
    rate = (gpu.link_gb_s if stage.over_link else gpu.memory_gb_s) * bandwidth
    by_operations, by_bytes = stage.operations / peak / 1e9, stage.megabytes / rate
    if by_operations >= by_bytes:
        return by_operations, "arithmetic"
    return by_bytes, "link" if stage.over_link else "memory"


def figures(found: list[Stage]) -> dict[str, Any]:
    return {
        gpu.name: {
            "floor_ms": {stage.name: round(floor_ms(stage, gpu)[0], 4) for stage in found},
            "predicted_ms": round(predicted_ms(found, gpu), 2),
        }
        for gpu in GPUS
    }


def predicted_ms(found: list[Stage], gpu: Gpu) -> float:
    """A capture alone: all stages in a row."""
    return sum(floor_ms(stage, gpu, ARITHMETIC_SHARE, BANDWIDTH_SHARE)[0] for stage in found) + LAUNCHES_MS


def table(found: list[Stage]) -> Table:
    result = Table(title="a capture's stages: the least time by arithmetic and bytes, ms, and what binds")
    result.add_column("stage")
    for heading in ("GFLOP", "MB", *(gpu.name for gpu in GPUS)):
        result.add_column(heading, justify="right")
    for stage in found:
        cells = (f"{ms:.3f} {what}" for ms, what in (floor_ms(stage, gpu) for gpu in GPUS))
        result.add_row(stage.name, f"{stage.operations / 1e9:.2f}", f"{stage.megabytes:.1f}", *cells)
    whole = (f"{sum(floor_ms(stage, gpu)[0] for stage in found):.2f}" for gpu in GPUS)
    operations, megabytes = sum(s.operations for s in found), sum(s.megabytes for s in found)
    result.add_row("all", f"{operations / 1e9:.1f}", f"{megabytes:.0f}", *whole)
    return result


def summary(found: list[Stage]) -> Table:
    result = Table(title="predicted, not measured: p50 of a capture, ms")
    for gpu in GPUS:
        result.add_column(gpu.name, justify="right")
    result.add_row(*(f"{predicted_ms(found, gpu):.1f}" for gpu in GPUS))
    return result


if __name__ == "__main__":
    main()
