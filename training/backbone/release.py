"""Publishing of a finished backbone run as a release in a store.

    python -m training.backbone.release RUN MODELS --scenes SCENES --contract wideband

Weights are rounded to 16 bits first, so that what is certified is what is stored; graphs are exported and
compared with torch on rendered scenes; and the negative feature bank is filled: vectors of training scenes, by label.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tqdm import tqdm

from engine.boxes import iou
from engine.contract import CONTRACTS
from engine.describing import describe, is_region
from engine.errors import HydraError
from engine.regions import regions
from engine.sessions.open import open_session
from engine.spectrogram import as_grey
from engine.store.registry import Store
from export.certificate import Certificate, Found, certify
from export.quantize import int8_graph
from export.to_onnx import (
    backbone_graph,
    compact_heads_graph,
    full_head_graph,
    fuse_graph,
    grid_graph,
    shared_graph,
    tensors_hash,
    trunk_graph,
)
from network.backbone import Backbone
from network.detector import BACKBONE_PREFIX, Tensors, freeze_norms
from network.shared import INPUT_SIZE, Fuse, SharedLayers
from training.head.features import BACKGROUND, BANK, bank_file

ARCHITECTURE: Final = "torchvision resnet_fpn_backbone resnet18, FrozenBatchNorm, and shared layers of compact heads"
CERTIFIED: Final = 12  # scenes
CALIBRATED: Final = 24  # scenes of each contract, for the trunk in 8 bits
BANK_SCENES: Final = 160
BANK_EACH: Final = 60  # vectors of a label
BANK_BACKGROUND: Final = 1200
BANK_IOU: Final = 0.6  # a proposal of at least this IoU has its truth's label
BANK_BACKGROUND_IOU: Final = 0.15  # and of at most this, it is background


def parts(run: Path) -> tuple[Tensors, Fuse, SharedLayers]:
    """Backbone tensors (under the names of a legacy checkpoint) and the layers on top of a run, as they are stored."""
    state = freeze_norms(torch.load(run / "last.pt", weights_only=True)["model"])
    rounded = {key: value.half().float() if value.ndim > 1 else value for key, value in state.items()}
    backbone = {key: value for key, value in rounded.items() if key.startswith(BACKBONE_PREFIX)}
    fuse, shared = Fuse(), SharedLayers(INPUT_SIZE)
    for prefix, part in (("fuse.", fuse), ("shared.", shared)):
        part.load_state_dict({k.removeprefix(prefix): v for k, v in rounded.items() if k.startswith(prefix)})
        part.eval().requires_grad_(False)
    return backbone, fuse, shared


def publish(run: Path, store: Store, scenes: Path, contract_name: str, notes: str) -> int:
    """Writes, certifies and publishes a release; returns its version. Raises HydraError where ONNX and torch differ."""
    contract = CONTRACTS[contract_name]
    tensors, fuse, shared = parts(run)
    files = {
        "backbone.onnx": backbone_graph(tensors, INPUT_SIZE),
        "fuse.onnx": fuse_graph(fuse, INPUT_SIZE),
        "trunk.onnx": trunk_graph(tensors, fuse, INPUT_SIZE),
        "shared.onnx": shared_graph(shared),
        "shared.grid.onnx": grid_graph(shared),
        "compact.onnx": compact_heads_graph(),
        "full.onnx": full_head_graph(INPUT_SIZE),
    }
    paths = sorted((scenes / contract_name / "train").glob("[0-9]*.npz"))
    files["trunk.int8.onnx"] = int8_graph(files["trunk.onnx"], _calibration(scenes), INPUT_SIZE)
    certificate, bank = _certificate_and_bank(files, tensors, fuse, shared, paths)
    if not certificate.passed:
        raise HydraError(f"{run}: the ONNX files find something else than torch: {certificate}; nothing was written")
    files["certificate.json"] = json.dumps(certificate.as_json(), indent=2).encode()
    files[BANK] = bank_file(bank)
    layers = {f"fuse.{k}": v for k, v in fuse.state_dict().items()}
    layers |= {f"shared.{k}": v for k, v in shared.state_dict().items()}
    fingerprint = tensors_hash({**tensors, **layers})
    manifest = {"backbone_hash": fingerprint, "contract": contract.as_json(), "input_size": list(INPUT_SIZE)}
    info = {
        "source": run.name,
        "architecture": ARCHITECTURE,
        "input_size": list(INPUT_SIZE),
        "feature_channels": 256,
        "original_model_hash": hashlib.sha256((run / "last.pt").read_bytes()).hexdigest(),
        "notes": notes,
    }
    return store.add_backbone(files, manifest, info)


def _calibration(scenes: Path) -> Iterator[np.ndarray]:
    """float32[1024, 1024] in 0..1, of both contracts, so that every store's trunk is the same file."""
    for name in sorted(CONTRACTS):
        for path in sorted((scenes / name / "train").glob("[0-9]*.npz"))[-CALIBRATED:]:
            with np.load(path, allow_pickle=False) as stored:
                yield as_grey(stored["image"])


def _certificate_and_bank(
    files: dict[str, bytes], tensors: Tensors, fuse: Fuse, shared: SharedLayers, paths: Sequence[Path]
) -> tuple[Certificate, dict[str, np.ndarray]]:
    """The certificate over the first scenes, and the bank over many."""
    trunk, layers = open_session(files["trunk.onnx"]), open_session(files["shared.onnx"])
    reference = Backbone(tensors, INPUT_SIZE)
    pairs: list[tuple[Found, Found]] = []
    bank: dict[str, list[np.ndarray]] = defaultdict(list)
    for number, path in enumerate(tqdm(paths[:BANK_SCENES], desc="scenes", unit="scene")):
        with np.load(path, allow_pickle=False) as stored:
            image, boxes, labels = as_grey(stored["image"]), stored["boxes"], stored["labels"]
        described = describe(image, regions, trunk, layers)
        count = int(is_region(described.regions).sum())
        found = {"proposals": described.proposals[:count], "vectors": described.vectors[:count]}
        if number < CERTIFIED:
            with torch.no_grad():
                whole = torch.from_numpy(image)[None, None]
                ours = shared(torch.from_numpy(described.regions), whole, fuse(*reference(whole)))
            flat = np.full(count, 0.9, np.float32)  # the shared part gives no scores: every box counts
            pairs.append((Found(ours[0].numpy()[:count], flat), Found(found["proposals"], flat)))
        for label, vectors in _rows(found, boxes, labels):
            bank[label].append(vectors)
    for session in (trunk, layers):
        session.close()
    rng = np.random.default_rng(0)
    picked = {label: _some(np.concatenate(rows), label, rng) for label, rows in bank.items()}
    return certify("torch CPU, fp32", trunk.runtime, pairs), picked


def _rows(found: dict[str, np.ndarray], boxes: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Vectors of one scene by label, those without a signal under BACKGROUND."""
    vectors = found["vectors"].astype(np.float16)
    if not len(boxes):
        yield BACKGROUND, vectors[:8]
        return
    overlap = iou(found["proposals"], boxes)
    best, owner = overlap.max(axis=1), overlap.argmax(axis=1)
    for index in np.flatnonzero(best >= BANK_IOU):
        yield str(labels[owner[index]]), vectors[index : index + 1]
    yield BACKGROUND, vectors[best <= BANK_BACKGROUND_IOU][:8]  # the likeliest come first


def _some(rows: np.ndarray, label: str, rng: np.random.Generator) -> np.ndarray:
    most = BANK_BACKGROUND if label == BACKGROUND else BANK_EACH
    return rows[rng.permutation(len(rows))[:most]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder that training.backbone wrote")
    parser.add_argument("models", type=Path)
    parser.add_argument("--scenes", type=Path, required=True, help="folder that training.render wrote")
    parser.add_argument("--contract", choices=sorted(CONTRACTS), default="wideband")
    parser.add_argument("--notes", default="")
    options = parser.parse_args(arguments)
    publish(options.run, Store(options.models), options.scenes, options.contract, options.notes)


if __name__ == "__main__":
    main()
