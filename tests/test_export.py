"""A checkpoint's way into the store: what is published computes what the checkpoint computed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from app.cli.main import app
from engine.anchors import STOCK
from engine.boxes import corners, physical, to_physical
from engine.contract import WIDEBAND
from engine.engine import Engine
from engine.errors import CheckpointError, MismatchError
from engine.sessions.graphs import read_graph
from engine.sessions.open import open_session
from engine.spectrogram import spectrogram
from engine.store.registry import Store
from export import legacy
from export.certificate import Found, certify
from export.legacy import Extracted, extract
from export.to_onnx import backbone_tensors, smallest_exact
from network.detector import Tensors, detector, split

SCORE_STEP = 1e-3  # torch and ONNX Runtime sum in another order
BOX_STEP_PX = 0.5
INPUTS = 1  # that are compared, where a test is not about their number


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector whose last layers are turned up, so that its detections are few and distinct."""
    torch.manual_seed(5)
    state = detector().state_dict()
    for key, gain in (("rpn.head.cls_logits", 8.0), ("roi_heads.box_predictor.cls_score", 12.0)):
        state[f"{key}.weight"] *= gain
    path = tmp_path_factory.mktemp("checkpoint") / "legacy.pth"
    torch.save(state, path)
    return path


@pytest.fixture(autouse=True, scope="module")
def traced_once() -> Iterator[None]:
    """The same tensors give the same graph: it is traced once for all tests."""
    graphs: dict[str, bytes] = {}
    real = legacy.backbone_graph

    def backbone_graph(backbone: Tensors) -> bytes:
        key = legacy.tensors_hash(backbone)
        return graphs[key] if key in graphs else graphs.setdefault(key, real(backbone))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legacy, "backbone_graph", backbone_graph)
        patch.setattr(legacy, "full_head_graph", cache(legacy.full_head_graph))
        yield


@pytest.fixture(scope="module")
def extracted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Extracted]:
    """A store with the checkpoint's two parts, compared on few inputs."""
    models = tmp_path_factory.mktemp("store") / "models"
    return models, extract(checkpoint, "beacon", Store(models), test_inputs=INPUTS)


def extract_command(checkpoint: Path, models: Path) -> str:
    result = CliRunner().invoke(app, ["extract", str(checkpoint), "--signal", "beacon", "--models", str(models)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_extract_prints_tensors_and_values_of_both_parts(
    extracted: tuple[Path, Extracted], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "extract", lambda *given, **options: extracted[1])
    printed = extract_command(checkpoint, tmp_path / "models")
    assert "116 tensors, 13,793,216 values" in printed
    assert "14 tensors, 14,499,865 values" in printed
    assert f"in {INPUTS} inputs" in printed


@pytest.mark.slow
def test_the_extract_command_compares_twenty_inputs(checkpoint: Path, tmp_path: Path) -> None:
    printed = extract_command(checkpoint, tmp_path / "models")
    assert "116 tensors, 13,793,216 values" in printed
    assert "14 tensors, 14,499,865 values" in printed
    assert "in 20 inputs" in printed
    for folder in ("heads/beacon/v1", "backbone/v1"):
        proof = json.loads((tmp_path / "models" / folder / "certificate.json").read_text())
        assert proof["passed"] and proof["images"] == 20 and proof["detections"] > 0


def test_the_parts_hold_every_value_of_the_checkpoint(extracted: tuple[Path, Extracted], checkpoint: Path) -> None:
    models, _ = extracted
    whole = torch.load(checkpoint, weights_only=True)
    stored = backbone_tensors((models / "backbone/v1/backbone.onnx").read_bytes())
    stored |= {k: torch.from_numpy(v) for k, v in load_file(models / "heads/beacon/v1/weights.safetensors").items()}
    assert set(stored) == set(whole)
    assert all(torch.equal(stored[key].float(), whole[key]) for key in whole)


def test_the_backbone_file_stands_alone(extracted: tuple[Path, Extracted]) -> None:
    model = onnx.load_model_from_string((extracted[0] / "backbone/v1/backbone.onnx").read_bytes())
    named = {i.name.removesuffix(".f16") for i in model.graph.initializer}
    assert sum(name.startswith("backbone.") for name in named) == 116
    assert [port.name for port in model.graph.input] == ["image"]


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.slow)])
def test_the_engine_finds_what_the_whole_model_finds(
    extracted: tuple[Path, Extracted], checkpoint: Path, seed: int
) -> None:
    model = detector()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    model.eval()
    rng = np.random.default_rng(seed)
    n = WIDEBAND.capture_samples
    iq = rng.standard_normal((n, 2), dtype=np.float32).view(np.complex64)[:, 0]
    iq[n // 4 : n // 2] += 4 * np.exp(2j * np.pi * rng.uniform(-0.4, 0.4) * np.arange(n // 4)).astype(np.complex64)
    with Engine.open(extracted[0], threshold=0.05) as engine:
        ours = engine.detect(iq, sample_rate_hz=20e6)
    image = torch.from_numpy(spectrogram(iq, WIDEBAND)).expand(3, -1, -1)
    with torch.inference_mode():
        theirs = model([image])[0]
    assert len(theirs["scores"]) > 0
    assert len(ours) == len(theirs["scores"])
    boxes = corners(physical(ours))
    expected = corners(to_physical(theirs["boxes"].numpy(), WIDEBAND))
    pixel = np.tile([WIDEBAND.capture_s / 1024, WIDEBAND.sample_rate_hz / 1024], 2)
    reference = Found(expected / pixel, theirs["scores"].numpy())
    proof = certify("torch", "engine", [(reference, Found(boxes / pixel, np.array([d.score for d in ours])))])
    assert proof.matched == proof.detections
    assert proof.max_score_step < SCORE_STEP
    assert proof.max_box_step_px < BOX_STEP_PX


@pytest.mark.parametrize("folder", ["heads/beacon/v1", "backbone/v1"])
def test_a_certificate_lies_beside_what_it_is_about(extracted: tuple[Path, Extracted], folder: str) -> None:
    proof = json.loads((extracted[0] / folder / "certificate.json").read_text())
    assert proof["passed"] and proof["images"] == INPUTS and proof["detections"] > 0


def test_an_empty_result_leaves_no_trace_in_the_next(extracted: tuple[Path, Extracted]) -> None:
    """E07 on the real graph: no proposal survives, then a normal run in the same session."""
    store = Store(extracted[0])
    release = store.release()
    head = store.head("beacon", release)
    session = open_session(read_graph(release.file("full.onnx")))
    rng = np.random.default_rng(3)
    sides = zip(("p2", "p3", "p4", "p5", "p6"), (200, 100, 50, 25, 13), strict=True)
    features = {name: rng.standard_normal((1, 256, side, side), dtype=np.float32) for name, side in sides}
    before = session.run({**features, **head.feeds})
    nothing = dict(head.feeds)
    nothing["roi_heads.box_predictor.cls_score.bias"] = np.array([80, -80], np.float32)
    nothing["rpn.head.bbox_pred.bias"] = np.full(12, -1e4, np.float32)  # boxes of no size
    empty = session.run({**features, **nothing})
    assert (empty["scores"] == 0).all()
    after = session.run({**features, **head.feeds})
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_second_head_of_the_same_backbone_leaves_the_first_alone(
    extracted: tuple[Path, Extracted], checkpoint: Path, tmp_path: Path
) -> None:
    first = {p: p.read_bytes() for p in (extracted[0] / "heads/beacon").rglob("*") if p.is_file()}
    state = torch.load(checkpoint, weights_only=True)
    state["roi_heads.box_predictor.cls_score.bias"] += torch.tensor([0.1, 0.0])
    torch.save(state, tmp_path / "other.pth")
    done = extract(tmp_path / "other.pth", "other", Store(extracted[0]), test_inputs=1)
    assert (done.backbone_version, done.head_version) == (1, 1)
    assert all(path.read_bytes() == data for path, data in first.items())
    with Engine.open(extracted[0]) as engine:
        assert engine.snapshot.versions == {"beacon": 1, "other": 1}


def test_another_backbone_is_refused_with_both_hashes(
    extracted: tuple[Path, Extracted], checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["backbone.body.conv1.weight"] += 1e-3
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(MismatchError) as refused:
        extract(tmp_path / "other.pth", "third", Store(extracted[0]))
    assert Store(extracted[0]).release().backbone_hash in str(refused.value)
    assert legacy.tensors_hash(split(state)[0]) in str(refused.value)


@pytest.mark.parametrize("broken", ["parts", "graphs"])
def test_what_finds_something_else_is_never_written(
    broken: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "parts":
        real = legacy.head_file

        def damaged(head: dict[str, torch.Tensor]) -> bytes:
            return real({key: value * 1.01 for key, value in head.items()})

        monkeypatch.setattr(legacy, "head_file", damaged)
    else:
        certificate = certify(
            "torch", "nothing", [(Found(np.ones((1, 4)), np.ones(1)), Found(np.ones((0, 4)), np.ones(0)))]
        )
        monkeypatch.setattr(legacy, "certify", lambda *_: certificate)
    with pytest.raises(CheckpointError):
        extract(checkpoint, "beacon", Store(tmp_path / "models"), test_inputs=1)
    assert not (tmp_path / "models").exists()


def test_a_model_that_finds_nothing_proves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "MAX_TRIES", 1)
    state = torch.load(checkpoint, weights_only=True)
    state["roi_heads.box_predictor.cls_score.bias"] = torch.tensor([90.0, -90.0])
    torch.save(state, tmp_path / "mute.pth")
    with pytest.raises(CheckpointError, match="is the model trained"):
        extract(tmp_path / "mute.pth", "mute", Store(tmp_path / "models"), test_inputs=1)
    assert not (tmp_path / "models").exists()


def test_weights_take_16_bits_only_where_that_is_exact() -> None:
    assert smallest_exact(torch.tensor([0.5, -2.0])).dtype == np.float16
    assert smallest_exact(torch.tensor([0.1])).dtype == np.float32
    assert smallest_exact(torch.tensor([1e6])).dtype == np.float32


def test_a_certificate_counts_what_one_side_alone_found() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float)
    both, one = Found(boxes, np.array([0.9, 0.6])), Found(boxes[:1] + 1, np.array([0.88]))
    proof = certify("a", "b", [(both, one)])
    assert (proof.matched, proof.unmatched_reference, proof.unmatched_candidate) == (1, 1, 0)
    assert proof.unmatched_max_score == pytest.approx(0.6)
    assert proof.max_box_step_px == pytest.approx(1.0)
    assert not proof.passed
    assert not replace(proof, detections=0).passed
    assert STOCK.as_json()["sizes"] == (32, 64, 128, 256, 512)
