"""Torch to ONNX: backbone and shared layers with their weights inside, the graphs of heads with weights as inputs.

All have fixed shapes at every input and output. Weights are kept in 16 bits where that loses nothing.
"""

import hashlib
import io
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save
from torch import nn

from engine.errors import GraphError
from engine.heads import (
    BATCHED,
    CELLS,
    COMPACT,
    DESCRIBED,
    DETECTIONS,
    FULL,
    IMAGE,
    REGIONS,
    batched,
    feature_shapes,
    fused_shape,
)
from engine.sessions.graphs import Shapes, check_graph, with_room
from network.backbone import Backbone
from network.compact import CompactHeads
from network.detector import BACKBONE_PREFIX
from network.heads import LEGACY_SIZE, FullHead, Size
from network.pooling import grid_align
from network.shared import Fuse, SharedLayers, Trunk

OPSET = 17
LEAST_HALVED = 1024  # values; smaller tensors stay as they are


def backbone_graph(tensors: Mapping[str, torch.Tensor], size: Size = LEGACY_SIZE) -> bytes:
    """image -> p2..p6 as a self-contained ONNX file. Its initialisers keep the state dict's names, so the
    torch backbone can be read back from it: see `backbone_tensors`."""
    # values that all differ, so that the exporter does not merge equal tensors; `bind` puts in the real ones
    template = {key: torch.rand(tensor.shape) for key, tensor in tensors.items()}
    outputs = feature_shapes(size)
    model = _export(Backbone(template, size), (torch.zeros(IMAGE["image"]),), ["image"], list(outputs), fold=False)
    bind(model, tensors)
    check_graph(model, IMAGE, outputs)
    return bytes(model.SerializeToString())


def trunk_graph(tensors: Mapping[str, torch.Tensor], fuse: Fuse, size: Size) -> bytes:
    """image -> the fused map: the backbone as far as compact heads need it, see `network.shared.Trunk`."""
    trunk = Trunk(Backbone(tensors, size).net, fuse, size)
    return _plain_graph(trunk, IMAGE, fused_shape(size))


def fuse_graph(fuse: Fuse, size: Size) -> bytes:
    """p2..p6 -> the fused map, for engines that compute the feature maps for full heads anyway."""
    return _plain_graph(fuse, feature_shapes(size), fused_shape(size))


def shared_graph(shared: SharedLayers) -> bytes:
    """regions, image, fused -> proposals, vectors: the shared layers of compact heads."""
    return _plain_graph(shared, {**REGIONS, **IMAGE, **fused_shape(shared.input_size)}, DESCRIBED)


def grid_graph(shared: SharedLayers) -> bytes:
    """Shared layers without RoIAlign, for TensorRT; see `network.pooling`."""
    twin = SharedLayers(shared.input_size, grid_align)
    twin.load_state_dict(shared.state_dict())
    return shared_graph(twin)


def _plain_graph(module: nn.Module, inputs: Shapes, outputs: Shapes) -> bytes:
    """A module with its weights inside. Inputs that the module does not use are ports of the graph all the same."""
    model = _export(
        module, tuple(torch.rand(shape) for shape in inputs.values()), list(inputs), list(outputs), fold=True
    )
    unused = inputs.keys() - {port.name for port in model.graph.input}
    ports = {port.name: port for port in model.graph.input}
    ports |= {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, inputs[name]) for name in unused}
    del model.graph.input[:]
    model.graph.input.extend(ports[name] for name in inputs)
    _fix_outputs(model, outputs)
    _halve(model)
    check_graph(model, inputs, outputs)
    return bytes(model.SerializeToString())


def compact_heads_graph() -> bytes:
    """proposals, vectors and the stacked weights -> boxes, scores; with room for one head, see `graphs.with_room`."""
    traced = 3  # so that no dimension of size 1 is taken for granted
    shapes = {**DESCRIBED, **{name: (traced, *shape) for name, shape in COMPACT.items()}}
    inputs = tuple(torch.rand(shape) for shape in shapes.values())
    model = _export(CompactHeads(), inputs, list(shapes), list(BATCHED), fold=True)
    _fix_outputs(model, BATCHED)
    data = with_room(model.SerializeToString(), 1, [*COMPACT, *BATCHED])
    check_graph(onnx.load_model_from_string(data), {**DESCRIBED, **batched(COMPACT)}, BATCHED)
    return data


def full_head_graph(size: Size = LEGACY_SIZE) -> bytes:
    """p2..p6, anchor cells and 14 weights -> boxes, scores: one graph for every full head."""
    shapes = {**feature_shapes(size), **CELLS, **FULL}
    inputs = tuple(torch.rand(shape) for shape in shapes.values())
    model = _export(FullHead(size), inputs, list(shapes), list(DETECTIONS), fold=True)
    _fix_outputs(model, DETECTIONS)
    check_graph(model, shapes, DETECTIONS)
    return bytes(model.SerializeToString())


def _fix_outputs(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Padding makes the shapes fixed, which the exporter cannot see."""
    for port in model.graph.output:
        port.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, shapes[port.name]))


def _halve(model: onnx.ModelProto) -> None:
    """Keeps large initialisers in 16 bits where that loses nothing, in place."""
    for initializer in list(model.graph.initializer):
        array = numpy_helper.to_array(initializer)
        if array.dtype != np.float32 or array.size < LEAST_HALVED:
            continue
        half = smallest_exact(torch.from_numpy(array.copy()))
        if half.dtype == np.float16:
            model.graph.initializer.remove(initializer)
            _add_half(model, initializer.name, half)


def _add_half(model: onnx.ModelProto, name: str, half: np.ndarray) -> None:
    model.graph.initializer.append(numpy_helper.from_array(half, f"{name}.f16"))
    model.graph.node.insert(0, helper.make_node("Cast", [f"{name}.f16"], [name], f"{name}.widen", to=TensorProto.FLOAT))


def _export(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], names: list[str], outputs: list[str], fold: bool
) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's notes on constants, which are meant
        torch.onnx.export(
            module.eval(),
            inputs,
            file,  # type: ignore[arg-type]  # the tracing exporter writes to buffers
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=fold,
        )
    return onnx.load_model_from_string(file.getvalue())


def bind(model: onnx.ModelProto, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replaces the initialisers of an exported Backbone by `tensors`, under the state dict's names, in place."""
    graph = model.graph
    names = {i.name: i.name.replace("net.", BACKBONE_PREFIX, 1) for i in graph.initializer if i.name.startswith("net.")}
    if set(names.values()) != set(tensors):
        raise GraphError(f"the exporter kept {len(names)} of {len(tensors)} tensors apart; nothing was written")
    for initializer in [i for i in graph.initializer if i.name in names]:
        graph.initializer.remove(initializer)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    for name, tensor in tensors.items():
        stored = smallest_exact(tensor)
        if stored.dtype == np.float16:
            _add_half(model, name, stored)
        else:
            graph.initializer.append(numpy_helper.from_array(stored, name))


def backbone_tensors(graph: bytes) -> dict[str, torch.Tensor]:
    """The state dict that `backbone_graph` put into a graph, as float32."""
    return {name: tensor for name, tensor in _tensors(graph).items() if name.startswith(BACKBONE_PREFIX)}


def stored_tensors(graph: bytes) -> dict[str, torch.Tensor]:
    """The state dict of the layers that `fuse_graph` or `shared_graph` wrote, as float32."""
    return _tensors(graph)


def _tensors(graph: bytes) -> dict[str, torch.Tensor]:
    model = onnx.load_model_from_string(graph)
    arrays = {i.name.removesuffix(".f16"): numpy_helper.to_array(i) for i in model.graph.initializer}
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def head_file(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A head's tensors as a safetensors file."""
    return bytes(save({name: smallest_exact(tensor) for name, tensor in tensors.items()}))


def smallest_exact(tensor: torch.Tensor) -> np.ndarray:
    """The tensor in float16 where every value survives that exactly, else in float32."""
    full = np.ascontiguousarray(tensor.detach().to(torch.float32).numpy())
    with np.errstate(over="ignore"):
        half = full.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), full) else full


def tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) of names, shapes and float32 values: the same for every way of storing them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(np.ascontiguousarray(tensors[name].detach().to(torch.float32).numpy()).tobytes())
    return digest.hexdigest()
