"""One description of an image's regions: engine, head training and the negative feature bank get equal numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.describing import describe, is_region
from engine.devices.cpu import Cpu
from engine.heads import PROPOSALS
from engine.loading import Loader
from engine.pipeline import Frame, Slot, find, upload_image
from engine.regions import regions
from engine.sessions.scripted import ScriptedSession
from engine.spectrogram import as_grey
from engine.store.registry import Store
from training.backbone import release as publishing
from training.head.features import Describer

from .tiny_store import CONTRACT
from .toy_store import BLOCK_PX, add_head, boxes, image, toy_store

PLACES = [(3, 4), (9, 9), (12, 2)]
PIXELS = image(PLACES[:2], PLACES[2:])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = toy_store(tmp_path_factory.mktemp("describing") / "models")
    add_head(store, "bright", 200)
    return store


def test_head_training_gets_the_vectors_that_the_pipeline_feeds_to_heads(store: Store) -> None:
    release, snapshot, slot = store.release(), store.snapshot(), Slot(Cpu())
    network = Loader(release).network(snapshot)
    heads = ScriptedSession(("proposals", "vectors"), ("boxes", "scores"), network.heads["compact"].run)
    network, frame = replace(network, heads={"compact": heads}), Frame()
    find(upload_image(as_grey(PIXELS), slot), CONTRACT, slot, network, snapshot, 0.5, frame)
    assert len(frame.detections) == 2

    with Describer(release) as describer:
        trained_on = describer.describe(PIXELS)
    (fed,) = heads.calls
    assert (trained_on.proposals == fed["proposals"]).all()
    assert (trained_on.vectors == fed["vectors"].astype(np.float16)).all()
    assert is_region(trained_on.proposals).sum() >= len(PLACES)


def test_the_bank_is_filled_with_the_vectors_that_head_training_gets(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = store.release()
    labelled = boxes(PLACES[:2], "bright") + boxes(PLACES[2:], "faint")
    edges = np.array([(b.x_min, b.y_min, b.x_max, b.y_max) for b in labelled])
    np.savez(tmp_path / "0.npz", image=PIXELS, boxes=edges, labels=np.array([b.label for b in labelled]))
    monkeypatch.setattr(publishing, "CERTIFIED", 0)
    monkeypatch.setattr(publishing, "Backbone", lambda *layers: None)
    monkeypatch.setattr(publishing, "certify", lambda *runs: None)
    files = {name: release.file(name).read_bytes() for name in ("trunk.onnx", "shared.onnx")}
    _, bank = publishing._certificate_and_bank(files, {}, None, None, [tmp_path / "0.npz"])  # type: ignore[arg-type]

    with Describer(release) as describer:
        trained_on = {vector.tobytes() for vector in describer.describe(PIXELS).vectors}
    assert set(bank) >= {"bright", "faint"}
    assert {vector.tobytes() for vectors in bank.values() for vector in vectors} <= trained_on


def test_the_backbone_with_fuse_describes_regions_as_the_trunk_does(store: Store) -> None:
    loader = Loader(store.release())
    trunk = describe(as_grey(PIXELS), regions, loader.trunk(), loader.shared())
    full = describe(as_grey(PIXELS), regions, loader.backbone(), loader.shared(), loader.fuse())
    assert set(full.features) == {"p2", "p3", "p4", "p5", "p6"}
    assert (full.vectors == trunk.vectors).all()


def test_rows_beyond_the_regions_found_are_zeros_whatever_the_shared_layers_give(store: Store) -> None:
    loader, block = Loader(store.release()), np.zeros((PROPOSALS, 4), np.float32)
    block[0] = np.array([3, 4, 4, 5]) * BLOCK_PX
    ones = {"proposals": np.ones((PROPOSALS, 4), np.float32), "vectors": np.ones((PROPOSALS, 768), np.float32)}
    shared = ScriptedSession(("regions", "image", "fused"), tuple(ones), lambda feeds: ones)
    found = describe(as_grey(PIXELS), lambda pixels: block, loader.trunk(), shared)
    for array in (found.proposals, found.vectors):
        assert (array[0] == 1).all() and not array[1:].any()
