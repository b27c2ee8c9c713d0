"""Extraction of a legacy checkpoint into backbone and head, verified before anything is written."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load
from torchvision.models.detection import FasterRCNN

from engine.anchors import STOCK, Anchors
from engine.contract import IMAGE_SIZE, LEGACY_INPUT_SIZE, WIDEBAND, Contract
from engine.errors import CheckpointError, MismatchError
from engine.heads import CELLS, NMS_IOU
from engine.sessions.open import open_session
from engine.store.files import sha256
from engine.store.reader import checked_name
from engine.store.registry import Store
from network.checkpoint import read_checkpoint
from network.detector import Tensors, detector, split

from .certificate import Certificate, Found, certify
from .to_onnx import backbone_graph, backbone_tensors, full_head_graph, head_file, tensors_hash

TEST_INPUTS = 20  # that produce detections
MAX_TRIES = 200
TOLERANCE = 1e-5  # boxes (pixels) and scores, whole model against the two parts
ARCHITECTURE = "torchvision FasterRCNN, resnet_fpn_backbone resnet18, FrozenBatchNorm"


@dataclass(frozen=True)
class Extracted:
    """Result of an extraction: versions and sizes of backbone and head in the store, and the comparison."""

    signal: str
    backbone_version: int
    head_version: int
    backbone_tensors: int
    backbone_values: int
    head_tensors: int
    head_values: int
    compared: int  # inputs on which both models found the same
    detections: int
    certificate: Certificate


def extract(
    checkpoint: Path,
    signal: str,
    store: Store,
    *,
    contract: Contract = WIDEBAND,
    anchors: Anchors = STOCK,
    nms_iou: float = NMS_IOU,
    notes: str = "",
    test_inputs: int = TEST_INPUTS,
    progress: Callable[[str], None] = lambda text: None,
) -> Extracted:
    """Splits `checkpoint`, checks the parts against the whole and the ONNX files against torch, then publishes.

    `test_inputs`: on so many images with detections whole, parts and ONNX files are compared.
    Raises CheckpointError (and writes nothing) when the checkpoint is not the detector, finds nothing on any
    test input, or when parts or ONNX files find something else than the whole; MismatchError when the store
    holds another backbone.
    """
    checked_name(signal)
    progress("reading the checkpoint")
    whole = read_checkpoint(checkpoint)
    backbone, head = split(whole)
    fingerprint = tensors_hash(backbone)
    _check_store(store, fingerprint, contract)
    progress("writing the ONNX graphs")
    backbone_file, graph_file, weights_file = backbone_graph(backbone), full_head_graph(), head_file(head)
    stored_head = {name: torch.from_numpy(array.astype(np.float32)) for name, array in load(weights_file).items()}
    rebuilt = {**backbone_tensors(backbone_file), **stored_head}
    original, assembled = _model(whole, anchors), _model(rebuilt, anchors)
    tested: list[tuple[np.ndarray, Found]] = []
    for image, found in islice(_productive_inputs(original), test_inputs):
        progress(f"comparing detections {len(tested) + 1}/{test_inputs}")
        _check_same(found, _detect(assembled, image), checkpoint)
        tested.append((image, found))
    if len(tested) < test_inputs:
        raise CheckpointError(
            f"{checkpoint}: found something on {len(tested)} of {MAX_TRIES} test inputs, {test_inputs} are needed; "
            "is the model trained?"
        )
    progress("certifying the ONNX files")
    run = _onnx_detector(backbone_file, graph_file, stored_head, anchors)
    runtime = "onnxruntime CPU, fp32"
    certificate = certify("torch CPU, fp32", runtime, ((found, run(image)) for image, found in tested))
    if not certificate.passed:
        raise CheckpointError(f"{checkpoint}: the ONNX files find something else than torch: {certificate}")
    progress("publishing")
    evidence = {"checkpoint": checkpoint.name, "checkpoint_sha256": sha256(checkpoint)}
    proof = json.dumps(certificate.as_json(), indent=2).encode()
    graphs = {"backbone.onnx": backbone_file, "full.onnx": graph_file, "certificate.json": proof}
    backbone_version = _publish_backbone(store, graphs, fingerprint, contract, evidence, notes)
    manifest = {
        "head_type": "full",
        "backbone_hash": fingerprint,
        "head_hash": tensors_hash(head),
        "contract": contract.as_json(),
        "anchors": anchors.as_json(),
        "nms_iou": nms_iou,
        **evidence,
    }
    files = {"weights.safetensors": weights_file, "certificate.json": proof}
    version = store.add_head(signal, files, manifest, {"notes": notes})
    _keep_checkpoint(checkpoint, store, signal, version)
    return Extracted(
        signal=signal,
        backbone_version=backbone_version,
        head_version=version,
        backbone_tensors=len(backbone),
        backbone_values=sum(t.numel() for t in backbone.values()),
        head_tensors=len(head),
        head_values=sum(t.numel() for t in head.values()),
        compared=len(tested),
        detections=sum(len(found.scores) for _, found in tested),
        certificate=certificate,
    )


def _check_store(store: Store, fingerprint: str, contract: Contract) -> None:
    if not (store.path / "backbone" / "metadata.json").is_file():
        return
    release = store.release()
    if (release.backbone_hash, release.contract.hash) != (fingerprint, contract.hash):
        raise MismatchError(
            f"{store.path} holds backbone {release.backbone_hash} with contract {release.contract.hash}; the "
            f"checkpoint has backbone {fingerprint}, contract {contract.hash}: extract it into another --models"
        )


def _publish_backbone(
    store: Store,
    files: dict[str, bytes],
    fingerprint: str,
    contract: Contract,
    evidence: dict[str, str],
    notes: str,
) -> int:
    if (store.path / "backbone" / "metadata.json").is_file():
        return store.release().version
    info = {
        "source": evidence["checkpoint"],
        "architecture": ARCHITECTURE,
        "input_size": LEGACY_INPUT_SIZE,
        "feature_channels": 256,
        "original_model_hash": evidence["checkpoint_sha256"],
        "notes": notes,
    }
    return store.add_backbone(files, {"backbone_hash": fingerprint, "contract": contract.as_json(), **evidence}, info)


def _keep_checkpoint(checkpoint: Path, store: Store, signal: str, version: int) -> None:
    """Keeps the original in legacy/: a hard link where the file system allows, so that it takes no space twice."""
    kept = store.path / "legacy" / f"{signal}_v{version}.pth"
    kept.parent.mkdir(exist_ok=True)
    try:
        kept.hardlink_to(checkpoint)
    except OSError:
        kept.write_bytes(checkpoint.read_bytes())


def _model(state: Tensors, anchors: Anchors) -> FasterRCNN:
    model = detector(2, anchors)
    model.load_state_dict(state)
    return model.eval()


def _detect(model: FasterRCNN, image: np.ndarray) -> Found:
    with torch.inference_mode():
        found = model([torch.from_numpy(image).expand(3, -1, -1)])[0]
    return Found(found["boxes"].numpy(), found["scores"].numpy())


def _productive_inputs(model: FasterRCNN) -> Iterator[tuple[np.ndarray, Found]]:
    """Seeded images on which the model finds something, with what it finds: noise with bright rectangles of
    all sizes, as signals in a spectrogram."""
    for seed in range(MAX_TRIES):
        image = rectangles(seed)
        found = _detect(model, image)
        if len(found.scores):
            yield image, found


def rectangles(seed: int, count: int = 24) -> np.ndarray:
    """float32[1024, 1024] in 0..1."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0.35, 0.05, (IMAGE_SIZE, IMAGE_SIZE))
    for height, width in np.exp(rng.uniform(np.log(4), np.log(700), (count, 2))).astype(int):
        top, left = rng.integers(0, IMAGE_SIZE - height + 1), rng.integers(0, IMAGE_SIZE - width + 1)
        image[top : top + height, left : left + width] += rng.uniform(0.1, 0.4)
    return image.clip(0, 1).astype(np.float32)


def _check_same(whole: Found, parts: Found, checkpoint: Path) -> None:
    if len(whole.scores) != len(parts.scores):
        raise CheckpointError(
            f"{checkpoint}: the two parts find {len(parts.scores)} boxes where the whole model finds "
            f"{len(whole.scores)}; nothing was written"
        )
    step = max(np.abs(whole.boxes - parts.boxes).max(), np.abs(whole.scores - parts.scores).max())
    if not step <= TOLERANCE:
        raise CheckpointError(f"{checkpoint}: the two parts differ from the whole by {step:g}; nothing was written")


def _onnx_detector(
    backbone_file: bytes, graph_file: bytes, head: Tensors, anchors: Anchors
) -> Callable[[np.ndarray], Found]:
    backbone, heads = open_session(backbone_file), open_session(graph_file)
    feeds = {name: tensor.numpy() for name, tensor in head.items()} | dict.fromkeys(CELLS, anchors.cells())

    def run(image: np.ndarray) -> Found:
        found = heads.run({**backbone.run({"image": image[None, None]}), **feeds})
        real = found["scores"] > 0
        return Found(found["boxes"][real], found["scores"][real])

    return run
