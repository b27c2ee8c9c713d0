"""Bundle of one head for other runtimes: ONNX graphs with the weights inside, and a description of the chain."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from engine.errors import StoreError, UnavailableError
from engine.heads import BATCHED, DESCRIBED, DETECTIONS, Head, feature_shapes
from engine.sessions.graphs import check_graph
from engine.store.files import new_folder, write_json
from engine.store.registry import Store
from engine.store.release import BackboneRelease

STEPS = {
    "compact": "image float32[1, 1, 1024, 1024] -> trunk.onnx -> fused; with image and regions float32[512, 4] "
    "(engine.regions) -> shared.onnx -> proposals, vectors -> head.onnx -> boxes, scores; then NMS",
    "full": "image float32[1, 1, 1024, 1024] -> backbone.onnx -> p2..p6 -> head.onnx -> boxes, scores",
}
FILES = {"compact": ("trunk.onnx", "shared.onnx"), "full": ("backbone.onnx",)}


def export_head(store: Store, signal: str, target: Path, version: int | None = None) -> dict[str, Any]:
    """Writes head.onnx, the graphs before it (FILES) and bundle.json into a new folder.

    Returns the content of bundle.json. Raises StoreError when the folder exists or the store lacks the version,
    UnavailableError on a typed head.
    """
    release = store.release()
    head = store.head(signal, release, version)
    if head.head_type not in STEPS:
        raise UnavailableError(
            f"{signal} v{head.version} is a {head.head_type} head, which has no graph of its own and runs in the "
            f"engine only; {' and '.join(STEPS)} heads are exported"
        )
    about = {
        "signal": signal,
        "version": head.version,
        "head_type": head.head_type,
        "backbone_hash": release.backbone_hash,
        "contract": release.contract.as_json(),
        "input_size": list(release.input_size),
        "nms_iou": head.nms_iou,
        "steps": STEPS[head.head_type],
    }
    if target.exists():
        raise StoreError(f"{target}: exists; give a folder that is not there yet")
    with new_folder(target) as folder:
        for name in FILES[head.head_type]:
            (folder / name).write_bytes(release.file(name).read_bytes())
        (folder / "head.onnx").write_bytes(head_graph(head, release))
        write_json(folder / "bundle.json", about)
    return about


def head_graph(head: Head, release: BackboneRelease) -> bytes:
    """The graph of a head's type with this head's weights in place of inputs."""
    model = onnx.load_model_from_string(release.file(f"{head.head_type}.onnx").read_bytes())
    compact = head.head_type == "compact"
    weights = {name: array[None] if compact else array for name, array in head.feeds.items()}
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    for port in [port for port in model.graph.input if port.name in weights]:
        model.graph.input.remove(port)
    left = DESCRIBED if compact else feature_shapes(release.input_size)
    check_graph(model, left, BATCHED if compact else DETECTIONS)
    return bytes(model.SerializeToString())
