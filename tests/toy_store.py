"""A store on which a compact head can be trained in a second: a region's vector is how bright the block around its
middle is, of the image's 16 x 16 blocks. A signal is a block of one brightness."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper
from safetensors.numpy import save

from engine.contract import IMAGE_SIZE, Contract
from engine.heads import COMPACT, DESCRIBED, FUSED, IMAGE, REGIONS, VECTOR, feature_shapes, fused_shape
from engine.store.registry import Store
from export.to_onnx import compact_heads_graph
from training.head.features import BANK, bank_file
from training.samples.sample import Box
from training.samples.store import SampleStore

from .tiny_store import CONTRACT, graph_bytes

BLOCKS: Final = 16  # a side
BLOCK_PX: Final = IMAGE_SIZE // BLOCKS
INPUT: Final = (64, 64)  # so that p2 has 16 x 16 cells
FEATURES: Final = feature_shapes(INPUT)
MAP: Final = fused_shape(INPUT)
BACKBONE_HASH: Final = "cd" * 32
FLOOR: Final = 60  # of an image without signals
RAMPS: Final = np.linspace(0.2, 0.95, 128, dtype=np.float32)  # a vector tells how far brightness is above each
BRIGHT, FAINT = 200, 130  # the signal, and another one

Place = tuple[int, int]  # column and row of a block


def toy_store(path: Path, more: Mapping[str, bytes] | None = None, **changes: Any) -> Store:
    """A store without heads. `more`: files of the release beside the usual ones."""
    store = Store(path)
    files = {
        "backbone.onnx": _backbone(),
        "trunk.onnx": trunk(),
        "fuse.onnx": _fuse(),
        "shared.onnx": _shared(),
        "compact.onnx": _compact(),
        BANK: bank_file({"": _vectors(FLOOR, 50), "faint": _vectors(FAINT, 50)}),
        **(more or {}),
    }
    manifest = {"backbone_hash": BACKBONE_HASH, "contract": CONTRACT.as_json(), "input_size": list(INPUT), **changes}
    store.add_backbone(files, manifest, {"source": "tests"})
    return store


def image(bright: Sequence[Place], faint: Sequence[Place] = (), seed: int = 0) -> np.ndarray:
    """uint8[1024, 1024] with blocks of two brightnesses. Blocks that touch are one region: places should not."""
    pixels = np.random.default_rng(seed).integers(FLOOR - 10, FLOOR + 10, (IMAGE_SIZE, IMAGE_SIZE)).astype(np.uint8)
    for places, level in ((bright, BRIGHT), (faint, FAINT)):
        for x, y in places:
            pixels[y * BLOCK_PX : (y + 1) * BLOCK_PX, x * BLOCK_PX : (x + 1) * BLOCK_PX] = level
    return pixels


def boxes(places: Sequence[Place], label: str) -> list[Box]:
    return [Box(x * BLOCK_PX, y * BLOCK_PX, (x + 1) * BLOCK_PX, (y + 1) * BLOCK_PX, label) for x, y in places]


def add_samples(store: SampleStore, signal: str = "bright", count: int = 6, seed: int = 0, own: str = "bright") -> None:
    """`count` samples, each of a recording of its own, with two blocks of the signal and one of another."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        columns, rows = rng.permutation(BLOCKS // 2)[:3], rng.permutation(BLOCKS // 2)[:3]
        places = [(2 * int(x), 2 * int(y)) for x, y in zip(columns, rows, strict=True)]
        mine, other = (places[:2], places[2:]) if own == "bright" else (places[2:], places[:2])
        shown = image(places[:2], places[2:], seed + number)
        labelled = boxes(mine, signal) + boxes(other, "foreign")
        store.add(signal, shown, labelled, contract=CONTRACT, source_capture=f"recording {seed + number}")


def head_weights(level: int) -> dict[str, np.ndarray]:
    """Tensors of `engine.heads.COMPACT` that know their signal by a brightness of `level`."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in COMPACT.items()}
    # a triangle around the level: 5 at its top, 0 where it is 20 steps of brightness away
    weights["hidden.weight"][0, :3] = 255 / 20
    weights["hidden.bias"][0, :3] = np.array([-(level - 20) / 20, -level / 20, -(level + 20) / 20])
    weights["out.weight"][:3, 0] = np.array([10, -20, 10])
    weights["out.bias"][0, 0] = -5
    return weights


def add_head(store: Store, signal: str, level: int, contract: Contract = CONTRACT) -> int:
    """Publishes a head that knows its signal by a brightness of `level`."""
    manifest = {"head_type": "compact", "backbone_hash": BACKBONE_HASH, "contract": contract.as_json()}
    return store.add_head(signal, {"weights.safetensors": save(head_weights(level))}, manifest, {})


def _vectors(level: int, count: int) -> np.ndarray:
    vectors = np.zeros((count, VECTOR), np.float16)
    vectors[:, 0] = level / 255
    vectors[:, 1 : 1 + len(RAMPS)] = (level / 255 - RAMPS).clip(0)
    vectors[:, 1 + len(RAMPS) : 3 + len(RAMPS)] = 0.25  # one block wide and high
    return vectors


@cache
def _backbone() -> bytes:
    """image -> its blocks' brightness on every channel of p2; the maximum on p3..p6."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["blocks"], kernel_shape=[BLOCK_PX] * 2, strides=[BLOCK_PX] * 2),
        helper.make_node("Expand", ["blocks", "p2.shape"], ["p2"]),
        helper.make_node("GlobalMaxPool", ["image"], ["most"]),
        *(helper.make_node("Expand", ["most", f"{name}.shape"], [name]) for name in list(FEATURES)[1:]),
    ]
    return graph_bytes(nodes, {f"{k}.shape": np.array(v, np.int64) for k, v in FEATURES.items()}, IMAGE, FEATURES)


@cache
def trunk() -> bytes:
    """image -> its blocks' brightness on every channel of the fused map."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["blocks"], kernel_shape=[BLOCK_PX] * 2, strides=[BLOCK_PX] * 2),
        helper.make_node("Expand", ["blocks", "shape"], ["fused"]),
    ]
    return graph_bytes(nodes, {"shape": np.array(MAP["fused"], np.int64)}, IMAGE, MAP)


@cache
def _fuse() -> bytes:
    """p2..p6 -> the first channels of p2."""
    names = {"zero": np.array([0]), "some": np.array([FUSED]), "axis": np.array([1])}
    return graph_bytes([helper.make_node("Slice", ["p2", *names], ["fused"])], names, FEATURES, MAP)


@cache
def _shared() -> bytes:
    """Regions as they are; their vectors: how bright the map is at their middle, plain and above RAMPS, and size."""
    constants = {
        "half": np.array([[0.5, 0], [0, 0.5], [0.5, 0], [0, 0.5]], np.float32) / BLOCK_PX,  # box to middle, in cells
        "zero": np.array([0]),
        "one": np.array([1]),
        "axis": np.array([1]),
        "last": np.array(BLOCKS - 1, np.int64),
        "plane": np.array([BLOCKS, BLOCKS]),
        "swap": np.array([1, 0]),
        "ones": np.ones((1, len(RAMPS)), np.float32),
        "ramps": RAMPS[None],
        "sides": np.array([[-1, 0], [0, -1], [1, 0], [0, 1]], np.float32) / (4 * BLOCK_PX),
        "pads": np.array([0, 0, 0, VECTOR - 3 - len(RAMPS)]),
    }
    nodes = [
        helper.make_node("Identity", ["regions"], ["proposals"]),
        helper.make_node("Slice", ["fused", "zero", "one", "axis"], ["first"]),
        helper.make_node("Reshape", ["first", "plane"], ["rows"]),
        helper.make_node("MatMul", ["regions", "half"], ["middle"]),
        helper.make_node("Cast", ["middle"], ["cell"], to=TensorProto.INT64),
        helper.make_node("Min", ["cell", "last"], ["inside"]),
        helper.make_node("Gather", ["inside", "swap"], ["row_column"], axis=1),
        helper.make_node("GatherND", ["rows", "row_column"], ["level"]),
        helper.make_node("Unsqueeze", ["level", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "ones"], ["copies"]),
        helper.make_node("Sub", ["copies", "ramps"], ["above"]),
        helper.make_node("Relu", ["above"], ["steps"]),
        helper.make_node("MatMul", ["regions", "sides"], ["size"]),
        helper.make_node("Concat", ["column", "steps", "size"], ["some"], axis=1),
        helper.make_node("Pad", ["some", "pads"], ["vectors"]),
    ]
    return graph_bytes(nodes, constants, {**REGIONS, **IMAGE, **MAP}, DESCRIBED)


@cache
def _compact() -> bytes:
    return compact_heads_graph()
