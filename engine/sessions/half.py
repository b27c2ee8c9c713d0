"""Conversion of the trunk to float16 for GPUs: weights and feature maps; inputs and outputs stay in float32.

Made from the graph in float32 when it is loaded, and not kept in a release, where it would weigh 23 MB.
Casts are nodes of the graph: a strongly typed runtime computes in the types it reads there.
"""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from engine.errors import GraphError
from engine.heads import IMAGE, fused_shape

from .graphs import check_graph

KEPT: Final = ("Resize",)  # of these only the first input is a map; scales stay in float32


def half_graph(trunk: bytes, size: tuple[int, int]) -> bytes:
    """image -> fused, as `trunk` computes it, from the first convolution to the last in 16 bits."""
    with tempfile.TemporaryDirectory() as folder:
        simplify(trunk, Path(folder) / "plain.onnx")
        model = onnx.load(Path(folder) / "plain.onnx")
    graph = model.graph
    first = next(place for place, node in enumerate(graph.node) if node.op_type == "Conv")
    inside = list(graph.node)[first:]
    fed = graph.node[first].input[0]
    result = graph.output[0].name
    names = {name for node in inside for name in (node.input[:1] if node.op_type in KEPT else node.input)}
    for initializer in graph.initializer:
        if initializer.name in names and initializer.data_type == TensorProto.FLOAT:
            initializer.CopyFrom(_halved(initializer))
    for node in inside:
        node.input[:] = [f"{name}.half" if name == fed else name for name in node.input]
        node.output[:] = [f"{name}.half" if name == result else name for name in node.output]
    into = helper.make_node("Cast", [fed], [f"{fed}.half"], "into_half", to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", [f"{result}.half"], [result], "out_of_half", to=TensorProto.FLOAT)
    del graph.value_info[:]
    nodes = [*list(graph.node)[:first], into, *inside, back]
    del graph.node[:]
    graph.node.extend(nodes)
    check_graph(model, IMAGE, fused_shape(size))
    return bytes(model.SerializeToString())


def simplify(graph: bytes, target: Path) -> None:
    """Writes the graph with constants folded and norms merged into convolutions, in standard operators."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)
    for imported in [domain for domain in model.opset_import if domain.domain]:
        model.opset_import.remove(imported)  # those that the runtime knows, none of them used
    onnx.save(model, target)


def _halved(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise GraphError(f"{tensor.name!r} holds values that 16 bits cannot hold; use the trunk in float32")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)
