"""A model store whose graphs have the names and shapes of the real ones and compute almost nothing.

Its heads say the box that stands in their biases, on every image that is not silent, so that a test chooses
what each version finds: see `head_bytes`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from engine.anchors import STOCK
from engine.contract import Contract
from engine.heads import CELLS, COMPACT, DETECTIONS, FEATURES, FULL, IMAGE, MAX_DETECTIONS
from engine.store.registry import Store

CONTRACT: Final = Contract(sample_rate_hz=1e6, capture_s=0.05)  # 50,000 samples, 23 frames: quick
BACKBONE_HASH: Final = "ab" * 32
SCORE_BIAS: Final = "roi_heads.box_predictor.cls_score.bias"
BOX_BIAS: Final = "roi_heads.box_predictor.bbox_pred.bias"
# signal: score and box on the 1024 x 1024 image
SAYS: Final = {"alpha": (0.9, (256, 128, 512, 256)), "beta": (0.75, (600, 700, 900, 800))}

Box = tuple[float, float, float, float]


def build_store(path: Path, says: Mapping[str, tuple[float, Box]] = SAYS) -> Store:
    """A store with one backbone and, per signal, one version."""
    store = Store(path)
    files = {"backbone.onnx": backbone_bytes(), "full.onnx": head_graph_bytes()}
    store.add_backbone(files, {"backbone_hash": BACKBONE_HASH, "contract": CONTRACT.as_json()}, {"source": "tests"})
    for signal, (score, box) in says.items():
        add_head(store, signal, score, box)
    return store


def copy_store(source: Path, target: Path) -> Store:
    """A store of its own; weights and graphs are hard links, so replace them by `overwrite`, never in place."""
    shutil.copytree(source, target, copy_function=_link_or_copy)
    return Store(target)


def overwrite(path: Path, data: bytes | str) -> None:
    """New content for a file that may be a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def edit(path: Path, **changes: Any) -> None:
    """Other values for some keys of a JSON file."""
    overwrite(path, json.dumps({**json.loads(path.read_text()), **changes}))


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file under a folder with what tells whether it was written or replaced."""
    found = {str(path.relative_to(folder)): path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: (at.st_ino, at.st_size, at.st_mtime_ns) for name, at in found.items()}


def publish(store: Store, signal: str, reason: str | None = None) -> int:
    """A version for the history's sake: its weights are not even a safetensors file."""
    return store.add_head(signal, {"weights.safetensors": b"no weights"}, head_manifest(), {"promotion_reason": reason})


def decide_on(store: Store, signal: str, version: int, reason: str) -> None:
    """Writes into the history why a version is not promoted."""
    path = store.path / "heads" / signal / "metadata.json"
    entries = json.loads(path.read_text())["versions"]
    edit(path, versions=[{**e, "promotion_reason": reason} if e["version"] == version else e for e in entries])


def add_head(store: Store, signal: str, score: float = 0.9, box: Box = (256, 128, 512, 256), **changes: Any) -> int:
    """Publishes a version that says one box; `changes` go to its manifest."""
    return store.add_head(signal, {"weights.safetensors": head_bytes(score, box)}, head_manifest(**changes), {})


def head_manifest(**changes: Any) -> dict[str, Any]:
    manifest = {"head_type": "full", "backbone_hash": BACKBONE_HASH, "contract": CONTRACT.as_json()}
    return {**manifest, "anchors": STOCK.as_json(), **changes}


def head_bytes(score: float, box: Box) -> bytes:
    """A full head's weights, all zero but for the score and the box (image pixels) that it says."""
    tensors = {name: np.zeros(shape, np.float16) for name, shape in FULL.items()}
    tensors[SCORE_BIAS] = np.array([0, score], np.float32)
    tensors[BOX_BIAS] = np.array([0, 0, 0, 0, *box], np.float32)
    return save(tensors)


def small_store(path: Path) -> Store:
    """A store of two signals with compact heads, 100 kB each, whose graphs are no graphs: for histories and files."""
    store = Store(path)
    add_backbone(store)
    for signal in ("alpha", "beta"):
        add_compact(store, signal)
    return store


def add_backbone(store: Store, backbone_hash: str = BACKBONE_HASH) -> int:
    files = {"backbone.onnx": b"no graph", "compact.onnx": b"no graph"}
    manifest = {"backbone_hash": backbone_hash, "contract": CONTRACT.as_json()}
    return store.add_backbone(files, manifest, {"source": backbone_hash})


def add_compact(
    store: Store, signal: str, reason: str | None = "not better", info: Mapping[str, Any] | None = None, **changes: Any
) -> int:
    """Publishes a version that is decided on, unless `reason` is None; `changes` go to its manifest."""
    manifest = head_manifest(head_type="compact", **changes)
    known = {"promotion_reason": reason, **(info or {})}
    return store.add_head(signal, {"weights.safetensors": compact_bytes()}, manifest, known)


@cache
def compact_bytes() -> bytes:
    return save({name: np.zeros(shape, np.float16) for name, shape in COMPACT.items()})


@cache
def backbone_bytes() -> bytes:
    """image -> p2..p6, each filled with the image's maximum."""
    nodes = [helper.make_node("GlobalMaxPool", ["image"], ["most"])]
    nodes += [helper.make_node("Expand", ["most", f"{name}.shape"], [name]) for name in FEATURES]
    constants = {f"{name}.shape": np.array(shape, np.int64) for name, shape in FEATURES.items()}
    return graph_bytes(nodes, constants, IMAGE, FEATURES)


@cache
def head_graph_bytes() -> bytes:
    """All that a full head takes -> its first row is what the biases say, the other 99 are padding."""
    first = np.zeros((MAX_DETECTIONS, 1), np.float32)
    first[0] = 1
    constants = {
        "first": first,
        "last": np.array([1]),
        "from": np.array([4]),
        "to": np.array([8]),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Slice", [SCORE_BIAS, "last", "to", "axis"], ["score"]),
        helper.make_node("Slice", [BOX_BIAS, "from", "to", "axis"], ["box"]),
        helper.make_node("ReduceMax", ["p6"], ["most"], keepdims=0),
        helper.make_node("Sign", ["most"], ["lit"]),
        helper.make_node("Mul", ["score", "lit"], ["said"]),
        helper.make_node("Mul", ["first", "said"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["scores"]),
        helper.make_node("Mul", ["first", "box"], ["boxes"]),
    ]
    return graph_bytes(nodes, constants, {**FEATURES, **CELLS, **FULL}, DETECTIONS)


def graph_bytes(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
) -> bytes:
    """A float32 graph of opset 17."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith((".safetensors", ".onnx")):
        os.link(source, target)
    else:
        shutil.copyfile(source, target)
