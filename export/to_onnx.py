"""Torch to ONNX: the backbone with its weights inside, and the graph of full heads with weights as inputs.

Both have fixed shapes at every input and output. Weights are kept in 16 bits where that loses nothing.
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
from engine.graphs import check_graph
from engine.heads import CELLS, DETECTIONS, FEATURES, FULL, IMAGE
from network.backbone import Backbone
from network.detector import BACKBONE_PREFIX
from network.heads import FullHead

OPSET = 17


def backbone_graph(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """image -> p2..p6 as a self-contained ONNX file. Its initialisers keep the state dict's names, so the
    torch backbone can be read back from it: see `backbone_tensors`."""
    # values that all differ, so that the exporter does not merge equal tensors; `bind` puts in the real ones
    template = {key: torch.rand(tensor.shape) for key, tensor in tensors.items()}
    model = _export(Backbone(template), (torch.zeros(IMAGE["image"]),), ["image"], list(FEATURES), fold=False)
    bind(model, tensors)
    check_graph(model, IMAGE, FEATURES)
    return model.SerializeToString()


def full_head_graph() -> bytes:
    """p2..p6, anchor cells and 14 weights -> boxes, scores: one graph for every full head."""
    shapes = {**FEATURES, **CELLS, **FULL}
    inputs = tuple(torch.rand(shape) for shape in shapes.values())
    model = _export(FullHead(), inputs, list(shapes), list(DETECTIONS), fold=True)
    for port in model.graph.output:  # the padding makes the shapes fixed, which the exporter cannot see
        port.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, DETECTIONS[port.name]))
    check_graph(model, shapes, DETECTIONS)
    return model.SerializeToString()


def _export(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], names: list[str], outputs: list[str], fold: bool
) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's notes on constants, which are meant
        torch.onnx.export(
            module.eval(),
            inputs,
            file,
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
            graph.initializer.append(numpy_helper.from_array(stored, f"{name}.f16"))
            widen = helper.make_node("Cast", [f"{name}.f16"], [name], f"{name}.widen", to=TensorProto.FLOAT)
            graph.node.insert(0, widen)
        else:
            graph.initializer.append(numpy_helper.from_array(stored, name))


def backbone_tensors(graph: bytes) -> dict[str, torch.Tensor]:
    """The state dict that `backbone_graph` put into a graph, as float32."""
    model = onnx.load_model_from_string(graph)
    arrays = {i.name.removesuffix(".f16"): numpy_helper.to_array(i) for i in model.graph.initializer}
    return {
        name: torch.from_numpy(array.astype(np.float32))
        for name, array in arrays.items()
        if name.startswith(BACKBONE_PREFIX)
    }


def head_file(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A head's tensors as a safetensors file."""
    return save({name: smallest_exact(tensor) for name, tensor in tensors.items()})


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
