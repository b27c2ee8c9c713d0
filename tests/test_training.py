"""Training the backbone and its proposer: runs resume, crops hold their boxes, cells answer for the right box."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from engine.errors import HydraError
from engine.sessions.open import open_session
from export.to_onnx import backbone_graph, fuse_graph, shared_graph, stored_tensors, trunk_graph
from network.coding import decode_boxes, encode_boxes
from network.detector import freeze_norms
from network.shared import INPUT_SIZE, SharedLayers
from training.backbone import shared
from training.backbone import train as backbone
from training.backbone.crops import SceneImages, Shape
from training.backbone.losses import BACKGROUND_IOU, SAMPLED, sampled_boxes, shared_losses
from training.backbone.release import parts
from training.backbone.train import BackboneSettings, ManyTypes, begin, rate_at, train
from training.head.views import PLAIN, View, augment_boxes, augment_image, draw_views

SMALL = Shape(128, 128, 2)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of bright rectangles in each contract's folder, two labels."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for contract in ("wideband", "ism"):
        (folder / contract / "train").mkdir(parents=True)
        for seed in range(3):
            image = rng.integers(60, 90, (1024, 1024), dtype=np.uint8)
            boxes = np.array([[100, 200, 400, 420], [600, 500, 800, 900]], np.float32) + rng.integers(0, 60)
            for x_min, y_min, x_max, y_max in boxes.astype(int):
                image[y_min:y_max, x_min:x_max] = 200
            path = folder / contract / "train" / f"{seed:06d}.npz"
            np.savez(path, image=image, boxes=boxes, labels=np.array(["a", "b"]))
    return folder


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "SHAPES", {"wideband": ((SMALL, 1.0),), "ism": ((SMALL, 1.0),)})


def test_a_run_goes_on_where_it_stopped(scenes: Path, tmp_path: Path) -> None:
    for steps in (2, 3):
        train(scenes, tmp_path, BackboneSettings(steps=steps, save_every=1))
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 3


def test_a_run_may_begin_with_the_weights_of_a_release(scenes: Path, tmp_path: Path) -> None:
    train(scenes, tmp_path / "first", BackboneSettings(steps=1))
    tensors, fuse, shared = parts(tmp_path / "first")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "backbone.onnx").write_bytes(backbone_graph(tensors, INPUT_SIZE))
    (tmp_path / "v1" / "fuse.onnx").write_bytes(fuse_graph(fuse, INPUT_SIZE))
    (tmp_path / "v1" / "shared.onnx").write_bytes(shared_graph(shared))
    model = ManyTypes(2)
    begin(model, tmp_path / "v1")
    for stored, part in ((fuse.state_dict(), model.fuse), (shared.state_dict(), model.shared)):
        assert all(torch.equal(value, part.state_dict()[name]) for name, value in stored.items())
    frozen = freeze_norms(model.state_dict())
    assert all(torch.equal(value, frozen[name]) for name, value in tensors.items())


@pytest.fixture(scope="module")
def release(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `training.backbone.shared` reads of a release."""
    folder = tmp_path_factory.mktemp("release")
    torch.manual_seed(0)
    torch.save({"model": ManyTypes(2).state_dict()}, folder / "last.pt")
    tensors, fuse, layers = parts(folder)
    (folder / "backbone.onnx").write_bytes(backbone_graph(tensors, INPUT_SIZE))
    (folder / "fuse.onnx").write_bytes(fuse_graph(fuse, INPUT_SIZE))
    (folder / "shared.onnx").write_bytes(shared_graph(layers))
    (folder / "trunk.onnx").write_bytes(trunk_graph(tensors, fuse, INPUT_SIZE))
    return folder


def test_shared_layers_learn_on_a_backbone_that_stays_as_it_is(scenes: Path, release: Path, tmp_path: Path) -> None:
    for epochs in (1, 4):  # the second goes on from the first
        shared.train(scenes, tmp_path, release, shared.SharedLayerSettings(epochs=epochs, batch_size=16, warm_up=1), 1)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == list(range(1, 5))
    assert log[-1]["loss"] < log[0]["loss"]
    before, after = parts(release), parts(tmp_path)
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert all(torch.equal(value, after[1].state_dict()[name]) for name, value in before[1].state_dict().items())
    assert not torch.equal(before[2].wide.weight, after[2].wide.weight)


def test_shared_layers_see_what_the_engine_shows_them(scenes: Path, release: Path, tmp_path: Path) -> None:
    """From what was kept of a scene the same vectors come as the release's graph gives."""
    scene = scenes / "wideband" / "train" / "000001.npz"
    shared.cache_roi_features(scene, tmp_path, release)
    data = shared.load_roi_dataset(tmp_path, ["a", "b"])
    assert {0, 1, 2} <= set(data.types.tolist())
    layers = SharedLayers()
    stored = stored_tensors((release / "shared.onnx").read_bytes())
    layers.load_state_dict({name: stored[name] for name in layers.state_dict()})
    vectors, _ = layers.embed_regions(data.features.float(), data.boxes)
    with np.load(scene) as sample:
        rng = np.random.default_rng(1)
        levels = (
            sample["image"].astype(np.float32) / 255 * rng.uniform(*shared.GAIN) + rng.uniform(*shared.LIFT)
        ).clip(0, 1)
    grey = np.round(levels * 255).astype(np.uint8).astype(np.float32) / np.float32(255)
    trunk, graph = (open_session((release / f"{name}.onnx").read_bytes()) for name in ("trunk", "shared"))
    padded = np.zeros((512, 4), np.float32)
    padded[: len(data.boxes)] = data.boxes.numpy() * np.array([1024 / 768, 2, 1024 / 768, 2], np.float32)
    found = graph.run({"regions": padded, "image": grey[None, None], **trunk.run({"image": grey[None, None]})})
    assert np.abs(found["vectors"][: len(vectors)] - vectors.detach().numpy()).max() < 0.02  # kept in 16 bits


def test_of_a_label_left_out_nothing_is_learnt(scenes: Path, release: Path, tmp_path: Path) -> None:
    shared.cache_roi_features(scenes / "ism" / "train" / "000002.npz", tmp_path, release)
    whole, part = shared.load_roi_dataset(tmp_path, ["a", "b"]), shared.load_roi_dataset(tmp_path, ["b"])
    assert 0 < len(part.types) < len(whole.types)
    assert (part.types == 1).sum() < (whole.types == 2).sum()  # nothing, among regions that touch an `a`
    assert (part.types == 0).sum() == (whole.types == 1).sum() > 0


def test_a_loss_that_is_no_number_stops_the_run(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backbone.shared_losses

    def broken(*arguments: Any) -> dict[str, torch.Tensor]:
        return {name: loss * float("nan") for name, loss in real(*arguments).items()}

    monkeypatch.setattr(backbone, "shared_losses", broken)
    with pytest.raises(HydraError, match=r"loss of step 0 is nan; .*smaller --learning-rate"):
        train(scenes, tmp_path / "run", BackboneSettings(steps=2))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_crops_hold_their_boxes(scenes: Path) -> None:
    images = SceneImages(scenes / "wideband" / "train", ["a", "b"])
    rng = np.random.default_rng(2)
    for _ in range(20):
        pixels, targets = images.batch(SMALL, rng)
        assert pixels.shape == (2, 1, 128, 128)
        assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
        for truths, labels, regions in targets:
            assert len(truths) == len(labels)
            for boxes in (truths, regions):
                assert (boxes >= 0).all() and (boxes <= 128).all()
                assert (boxes[:, 2:] - boxes[:, :2] > 0).all()


def test_the_rate_warms_up_holds_and_falls_to_nothing() -> None:
    settings = BackboneSettings(steps=1000, warm_up=50, decay_share=0.3)
    rates = [rate_at(step, settings) for step in range(1001)]
    assert all(before <= after for before, after in pairwise(rates[:50]))
    assert set(rates[50:700]) == {1.0}
    assert all(before >= after for before, after in pairwise(rates[700:]))
    assert rates[-1] == 0


def test_near_and_far_regions_are_learnt_from_and_not_too_many() -> None:
    torch.manual_seed(0)
    truth = torch.tensor([[10.0, 10, 60, 40]])
    regions = torch.cat([truth + 1, torch.rand(300, 4) * 20 + torch.tensor([70.0, 70, 95, 95])])
    boxes = sampled_boxes(regions, truth, (128, 128))
    overlap = box_iou(boxes, truth)[:, 0]
    assert len(boxes) == SAMPLED
    assert (overlap > 0.5).any() and (overlap < BACKGROUND_IOU).any()
    assert len(sampled_boxes(regions, truth[:0], (128, 128))) == SAMPLED


def test_a_region_between_signal_and_nothing_is_not_asked_which_it_is() -> None:
    truth, number = torch.tensor([[0.0, 0, 100, 100]]), torch.tensor([1])
    half = torch.tensor([[0.0, 0, 100, 40]])  # an overlap of 0.4
    for wrong in (torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.0, 0, 9]])):
        losses = shared_losses(
            torch.cat([wrong, torch.tensor([[0.0, 50, 0]])]),
            torch.cat([half, truth]),
            [torch.cat([half, truth])],
            [(truth, number)],
        )
        assert float(losses["type"]) < 1e-3
        assert float(losses["edges"]) > 0


def test_refinement_and_its_inverse_agree() -> None:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 500, (50, 2))
    boxes, targets = (
        torch.from_numpy(np.hstack([corner, corner + rng.uniform(15, 150, (50, 2))]).astype(np.float32))
        for _ in range(2)
    )
    assert torch.allclose(decode_boxes(boxes, encode_boxes(boxes, targets)), targets, atol=1e-2)


def test_views_follow_from_their_seed_and_begin_with_the_plain_one() -> None:
    assert draw_views(6, 4) == draw_views(6, 4)
    assert draw_views(6, 4) != draw_views(6, 5)
    assert draw_views(6, 4)[0] == PLAIN
    image = np.random.default_rng(0).integers(0, 255, (1024, 1024)).astype(np.uint8)
    assert augment_image(image, PLAIN) is image
    view = View(100, 200, -2.0, -30.0, 7)
    assert np.array_equal(augment_image(image, view), augment_image(image, view))


def test_shared_layers_stop_at_a_loss_that_is_no_number(
    scenes: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "ProcessPoolExecutor", lambda processes, context: ThreadPoolExecutor(processes))
    monkeypatch.setattr(shared, "edges_loss", lambda boxes, refined, truths: refined.sum() * float("nan"))
    with pytest.raises(HydraError, match=r"loss of epoch 1 is nan; .*smaller --learning-rate"):
        shared.train(scenes, tmp_path, release, shared.SharedLayerSettings(epochs=1, batch_size=16), 1)
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("right, down", [(0, 0), (30, 500), (900, 10), (1000, 1000)])
def test_boxes_move_with_the_image(right: int, down: int) -> None:
    image = np.zeros((1024, 1024), np.uint8)
    image[100:300, 50:150] = 200
    view = View(right, down)
    shown, boxes = augment_image(image, view), augment_boxes(np.array([[50, 100, 150, 300]], np.float32), view)
    covered = np.zeros_like(shown, bool)
    for x_min, y_min, x_max, y_max in boxes.astype(int):
        covered[y_min:y_max, x_min:x_max] = True
    assert not (covered & (shown == 0)).any()
    assert covered.sum() >= 0.5 * (shown > 0).sum()  # pieces too small to be told are left out


def test_noise_raises_the_floor_and_leaves_what_is_far_above() -> None:
    image = np.full((1024, 1024), 100, np.uint8)
    image[:, :400] = 250
    shown = augment_image(image, View(noise_db=6.0, seed=1)).astype(float)
    assert shown[:, 500:].mean() > 112
    assert abs(shown[:, :350].mean() - 250) < 3
