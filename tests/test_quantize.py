"""The trunk in 8 bits: much the same map from integer arithmetic, and an engine that runs it says so."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine.engine import Engine
from engine.errors import UnavailableError
from engine.heads import fused_shape
from engine.sessions.open import open_session
from export.quantize import int8_graph
from export.to_onnx import trunk_graph
from network.detector import detector, split
from network.shared import Fuse

from .toy_store import add_head, image, toy_store, trunk

INPUT = (128, 192)


def images(count: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shown = rng.random((1024, 1024), np.float32) * 0.3
        left, top = rng.integers(0, 700, 2)
        shown[top : top + 200, left : left + 300] += 0.6
        yield shown


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    """A trunk of random weights and the same in 8 bits."""
    torch.manual_seed(0)
    tensors, _ = split(detector().state_dict())
    plain = trunk_graph(tensors, Fuse().eval(), INPUT)
    return plain, int8_graph(plain, images(6, seed=1), INPUT)


def test_the_map_is_much_the_same_on_images_it_was_not_calibrated_on(pair: tuple[bytes, bytes]) -> None:
    plain, quantised = (open_session(graph, threads=1) for graph in pair)
    for shown in images(3, seed=2):
        fed = {"image": shown[None, None]}
        first, second = plain.run(fed)["fused"], quantised.run(fed)["fused"]
        assert first.shape == second.shape == fused_shape(INPUT)["fused"]
        assert np.abs(first - second).mean() < 0.15 * first.mean()
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.97
    for session in (plain, quantised):
        session.close()


def test_its_convolutions_are_between_integers_and_it_is_a_quarter_in_size(pair: tuple[bytes, bytes]) -> None:
    model = onnx.load_model_from_string(pair[1])
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    inputs = Counter(made_by.get(node.input[0]) for node in model.graph.node if node.op_type == "Conv")
    assert inputs["DequantizeLinear"] >= sum(inputs.values()) - 1
    weights = sum(i.ByteSize() for i in model.graph.initializer)
    assert weights < 0.3 * 4 * sum(int(np.prod(i.dims)) for i in model.graph.initializer)


def test_an_engine_runs_the_precision_it_was_asked_for_and_says_so(tmp_path: Path) -> None:
    plain, both = toy_store(tmp_path / "plain"), toy_store(tmp_path / "both", {"trunk.int8.onnx": trunk()})
    for store in (plain, both):
        add_head(store, "bright", 200)
    with pytest.raises(UnavailableError, match="holds no trunk in int8; take float32"):
        Engine.open(plain.path, precision="int8")
    shown = image([(1, 2)])
    for precision in ("float32", "int8"):
        with Engine.open(both.path, precision=precision) as engine:
            assert engine.ran_on["precision"] == precision
            assert len(engine.detect_image(shown)) == 1
