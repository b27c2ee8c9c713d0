"""Graphs for TensorRT, built ahead of time by TensorRT-RTX, which needs no GPU for that: what it would refuse on a
machine with one is refused here. Nothing of this ran on a GPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from engine.errors import GraphError
from engine.heads import BATCHED, COMPACT
from engine.sessions.graphs import with_room
from engine.sessions.half import half_graph
from engine.sessions.open import open_session
from engine.sessions.trt import build, flavour, parsed
from engine.store.registry import Store
from export.quantize import int8_graph
from export.to_onnx import compact_heads_graph, full_head_graph, grid_graph, shared_graph, trunk_graph
from network.detector import detector, split
from network.shared import Fuse, SharedLayers

trt: Any = flavour("tensorrt_rtx")

INPUT = (128, 192)
TARGETS = ("SM80", "SM86", "SM89", "SM120")  # A100, RTX 30, RTX 40, RTX 50
HALF = {"CONVOLUTION", "POOLING", "RESIZE", "ACTIVATION"}  # kinds of layer that work on maps


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    """What a GPU runs, with random weights: the same graphs that a release holds or a loader makes."""
    torch.manual_seed(0)
    trunk = trunk_graph(split(detector().state_dict())[0], Fuse().eval(), INPUT)
    images = (np.random.default_rng(k).random((1024, 1024), np.float32) for k in range(3))
    return {
        "trunk": trunk,
        "trunk, float16": half_graph(trunk, INPUT),
        "trunk, int8": int8_graph(trunk, images, INPUT, symmetric=True),
        "shared": grid_graph(SharedLayers(INPUT).eval()),
        "compact": compact_heads_graph(),
        "compact, 48 heads": with_room(compact_heads_graph(), 48, [*COMPACT, *BATCHED]),
    }


NAMES = ("trunk", "trunk, float16", "trunk, int8", "shared", "compact", "compact, 48 heads")


@pytest.mark.parametrize("name", NAMES)
def test_every_graph_becomes_a_plan_for_four_generations_of_gpus(graphs: dict[str, bytes], name: str) -> None:
    steps: list[tuple[str, int, int]] = []
    plan = build(graphs[name], trt, capabilities=TARGETS, progress=lambda *step: steps.append(step))
    assert len(plan) > 1000
    assert steps, "a build tells how far it is"


def test_the_shipped_graphs_become_plans() -> None:
    for models in ("models", "models-ism"):
        release = Store(models).release()
        trunk = half_graph(release.file("trunk.onnx").read_bytes(), release.input_size)
        for graph in (trunk, release.file("shared.grid.onnx").read_bytes(), release.file("compact.onnx").read_bytes()):
            assert build(graph, trt, capabilities=["SM89"])


@pytest.mark.parametrize("name", NAMES)
def test_all_shapes_are_fixed_and_nothing_waits_for_a_value(graphs: dict[str, bytes], name: str) -> None:
    """So that a CUDA graph can hold the whole of it."""
    for layer in layers(graphs[name]):
        assert layer.type.name not in {"NMS", "NON_ZERO", "CONDITION", "LOOP_OUTPUT", "PLUGIN_V2", "PLUGIN_V3", "IF"}
        for place in range(layer.num_outputs):
            assert min(layer.get_output(place).shape, default=1) >= 1, layer.name


def test_maps_are_halves_and_what_comes_before_and_after_is_not(graphs: dict[str, bytes]) -> None:
    found = list(layers(graphs["trunk, float16"]))
    convolutions = [layer for layer in found if layer.type.name == "CONVOLUTION"]
    assert len(convolutions) > 20
    assert {layer.get_output(0).dtype for layer in convolutions} == {trt.DataType.HALF}
    casts = [place for place, layer in enumerate(found) if layer.type.name == "CAST"]
    first, last = casts[0], casts[-1]
    before = {layer.get_output(0).dtype for layer in found[:first] if layer.num_outputs}
    assert trt.DataType.HALF not in before
    maps = [layer for layer in found[first + 1 : last] if layer.type.name in HALF]
    assert {layer.get_output(0).dtype for layer in maps} == {trt.DataType.HALF}
    assert found[last].get_output(0).dtype == trt.DataType.FLOAT


def test_boxes_and_scores_are_never_halves(graphs: dict[str, bytes]) -> None:
    for name in ("shared", "compact"):
        for layer in layers(graphs[name]):
            for place in range(layer.num_outputs):
                assert layer.get_output(place).dtype != trt.DataType.HALF, layer.name


def test_in_16_bits_the_map_is_the_same_to_a_thousandth(graphs: dict[str, bytes]) -> None:
    """On a CPU, which rounds to 16 bits between operators and adds in 32: kinder than a GPU may be."""
    image = np.random.default_rng(5).random((1, 1, 1024, 1024), np.float32)
    plain, half = (open_session(graphs[n], threads=1).run({"image": image})["fused"] for n in NAMES[:2])
    assert abs(plain - half).mean() < 1e-3 * abs(plain).mean()
    assert abs(plain - half).max() < 5e-3 * abs(plain).max()


def test_weights_that_16_bits_cannot_hold_are_refused() -> None:
    torch.manual_seed(0)
    fuse = Fuse().eval().requires_grad_(False)
    fuse.fine.bias.fill_(1e5)
    with pytest.raises(GraphError, match="16 bits cannot hold; use the trunk in float32"):
        half_graph(trunk_graph(split(detector().state_dict())[0], fuse, INPUT), INPUT)


REFUSED = {
    "RoIAlign, a plugin": lambda: shared_graph(SharedLayers(INPUT).eval()),
    "NMS and NonZero": lambda: full_head_graph(INPUT),
    "TopK of more than 3840": lambda: top_k(4000),
    "mixed types": lambda: mixed(),
    "no graph": lambda: b"nothing",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_tensorrt_cannot_run_is_refused_here_and_not_on_the_gpu(what: str) -> None:
    with pytest.raises(GraphError, match=r"tensorrt_rtx .* does not (take|build) the graph: \S"):
        build(REFUSED[what](), trt, capabilities=["SM89"])


def test_what_tensorrt_can_sort_is_built() -> None:
    assert build(top_k(3000), trt, capabilities=["SM89"])


def layers(graph: bytes) -> Iterator[Any]:
    told = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(told)
    network = parsed(graph, trt, builder, told)
    for place in range(network.num_layers):
        yield network.get_layer(place)


def port(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def top_k(count: int) -> bytes:
    node = helper.make_node("TopK", ["x", "k"], ["y", "at"], axis=0)
    kept = helper.make_tensor("k", TensorProto.INT64, [1], [count])
    ports = [port("x", TensorProto.FLOAT, 8000)], [port("y", TensorProto.FLOAT, count)]
    graph = helper.make_graph([node], "top", *ports, [kept])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def mixed() -> bytes:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    ports = [port("a", TensorProto.FLOAT16, 8, 8), port("b", TensorProto.FLOAT, 8, 8)]
    graph = helper.make_graph([node], "mixed", ports, [port("y", TensorProto.FLOAT, 8, 8)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
