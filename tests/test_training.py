"""Training: steps resume, a frozen backbone stays frozen, and measures count as they say."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import HydraError
from network.checkpoint import read_checkpoint
from network.detector import split
from training import crops, detector
from training.crops import SceneImages, Shape
from training.detector import Settings, legacy_checkpoint, rate_at, train
from training.metrics import Judged, score

SMALL = Shape(96, 96, 2, 128)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of bright rectangles in each contract's folder, two labels."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for contract in ("wideband", "ism"):
        (folder / contract / "train").mkdir(parents=True)
        for seed in range(4):
            image = rng.integers(60, 90, (1024, 1024), dtype=np.uint8)
            boxes = np.array([[100, 200, 400, 420], [600, 500, 800, 900]], np.float32) + rng.integers(0, 60)
            for x_min, y_min, x_max, y_max in boxes.astype(int):
                image[y_min:y_max, x_min:x_max] = 200
            np.savez(
                folder / contract / "train" / f"{seed:06d}.npz", image=image, boxes=boxes, labels=np.array(["a", "b"])
            )
    return folder


@pytest.fixture(scope="module")
def many(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A many-class run of two steps on small crops."""
    run = tmp_path_factory.mktemp("runs") / "many"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "SHAPES", {"wideband": ((SMALL, 1.0),), "ism": ((SMALL, 1.0),)})
        train(scenes, run, ["a", "b"], Settings(steps=2, save_every=1))
    return run


def test_a_run_goes_on_where_it_stopped(scenes: Path, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "SHAPES", {"wideband": ((SMALL, 1.0),), "ism": ((SMALL, 1.0),)})
    train(scenes, many, ["a", "b"], Settings(steps=3, save_every=1))
    steps = [json.loads(line)["step"] for line in (many / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert torch.load(many / "last.pt", weights_only=True)["step"] == 3


def test_a_head_is_trained_without_moving_the_backbone(
    scenes: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "HEAD_SHAPES", {"wideband": ((SMALL, 1.0),)})
    train(scenes, tmp_path / "b", ["b"], Settings(steps=2, save_every=1), many)
    legacy_checkpoint(tmp_path / "b", tmp_path / "b.pth")
    before = torch.load(many / "last.pt", weights_only=True)["model"]
    after = torch.load(tmp_path / "b" / "last.pt", weights_only=True)["model"]
    frozen = [key for key in after if key.startswith("backbone.")]
    assert len(frozen) == 116
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    assert not torch.equal(before["roi_heads.box_head.fc6.weight"], after["roi_heads.box_head.fc6.weight"])
    backbone, head = split(read_checkpoint(tmp_path / "b.pth"))  # as anyone's checkpoint
    assert (len(backbone), len(head)) == (116, 14)
    wide = [value for value in {**backbone, **head}.values() if value.ndim > 1]
    assert all(torch.equal(value.half().float(), value) for value in wide)


def test_a_loss_that_is_no_number_stops_the_run(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "SHAPES", {"wideband": ((SMALL, 1.0),)})
    real = detector.build

    def broken(*arguments: Any) -> torch.nn.Module:
        model = real(*arguments)
        torch.nn.init.constant_(model.rpn.head.cls_logits.bias, float("nan"))
        return model

    monkeypatch.setattr(detector, "build", broken)
    with pytest.raises(HydraError, match=r"loss of step 0 is nan; .*smaller --learning-rate"):
        train(scenes, tmp_path / "run", ["a", "b"], Settings(steps=2))
    assert not (tmp_path / "run" / "last.pt").exists()


def test_crops_hold_their_boxes(scenes: Path) -> None:
    images = SceneImages(scenes / "wideband" / "train", ["a", "b"])
    rng = np.random.default_rng(2)
    for _ in range(20):
        pixels, targets = images.batch(SMALL, rng)
        assert all(
            image.shape == (3, 96, 96) and 0 <= float(image.min()) <= float(image.max()) <= 1 for image in pixels
        )
        for target in targets:
            boxes = target["boxes"]
            assert len(boxes) == len(target["labels"])
            assert (boxes >= 0).all() and (boxes <= 96).all()
            assert (boxes[:, 2:] - boxes[:, :2] > 1).all()


def test_unwanted_labels_are_background(scenes: Path) -> None:
    images = SceneImages(scenes / "wideband" / "train", ["b"])
    assert all(numbers.tolist() == [1] for _, _, numbers in images.items)


def test_thin_labels_are_widened_around_their_middle() -> None:
    wide = crops._at_least(np.array([[10.0, 0, 10.5, 50]]), 2.0)
    assert wide.tolist() == [[9.25, 0, 11.25, 50]]


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    settings = Settings(steps=100, warm_up=10, decay_share=0.3)
    rates = [rate_at(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[50] == 1.0 and rates[100] == 0.0
    assert all(a >= b for a, b in pairwise(rates[50:]))


def box(x: float) -> list[float]:
    return [x, 0.0, x + 10.0, 10.0]


def test_each_truth_counts_once() -> None:
    found = np.array([box(0), box(1), box(100)])
    result = score([Judged(np.array([box(0), box(50)]), found, np.array([0.9, 0.8, 0.7]))])
    assert (result.truths, result.found, result.hits) == (2, 3, 1)
    assert result.precision == pytest.approx(1 / 3) and result.recall == 0.5
    assert result.f1 == pytest.approx(2 / 5)
    assert result.average_precision == pytest.approx(0.5)


def test_low_scores_count_for_ap_alone() -> None:
    result = score([Judged(np.array([box(0)]), np.array([box(0)]), np.array([0.3]))])
    assert (result.found, result.hits) == (0, 0)
    assert result.average_precision == pytest.approx(1.0)


def test_ap_is_the_area_under_monotonic_precision() -> None:
    truth = np.array([box(0), box(50), box(100)])
    found = np.array([box(0), box(200), box(50)])  # right, wrong, right
    result = score([Judged(truth, found, np.array([0.9, 0.8, 0.7]))])
    assert result.average_precision == pytest.approx((1.0 + 2 / 3) / 3)


def test_nothing_to_find_has_no_recall() -> None:
    result = score([Judged(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))])
    assert np.isnan(result.recall) and np.isnan(result.f1) and np.isnan(result.average_precision)
