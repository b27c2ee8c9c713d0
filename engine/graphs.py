"""Reading ONNX graphs that may come from outside: everything dangerous is refused before a runtime sees a byte.

Refused are external data (it names files to read), sparse initialisers, custom domains, control flow and
functions (they hide work), unknown opsets, dynamic or absurd shapes, and names other than those expected.
"""

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from .errors import GraphError

MAX_BYTES: Final = 1 << 30
MAX_NODES: Final = 20_000
MAX_VALUES: Final = 1 << 31  # of one input, output or initialiser
OPSETS: Final = range(13, 23)
IR_VERSIONS: Final = range(4, 12)
CONTROL_FLOW: Final = frozenset({"If", "Loop", "Scan", "SequenceMap"})

Shapes = Mapping[str, tuple[int, ...]]


def read_graph(path: Path, inputs: Shapes | None = None, outputs: Shapes | None = None) -> bytes:
    """The bytes of a graph that is safe to hand to a runtime.

    `inputs` and `outputs`: the names and shapes expected, all of them and no others.
    Raises GraphError naming the file and what is wrong with it.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise GraphError(f"{path}: {size} bytes; a graph has at most {MAX_BYTES}: this is not one of ours")
        data = path.read_bytes()
    except OSError as error:
        raise GraphError(f"{path}: cannot be read ({error.strerror}); extract the checkpoint again") from error
    try:
        check_graph(onnx.load_model_from_string(data), inputs, outputs)
    except DecodeError as error:
        raise GraphError(f"{path}: not an ONNX file, or cut short; extract the checkpoint again") from error
    except GraphError as error:
        raise GraphError(f"{path}: {error}; use a graph that `g20 extract` wrote") from error
    return data


def check_graph(model: onnx.ModelProto, inputs: Shapes | None = None, outputs: Shapes | None = None) -> None:
    """Raises GraphError on anything that a graph of ours does not hold; see the module's text."""
    _check_versions(model)
    graph = model.graph
    if not 0 < len(graph.node) <= MAX_NODES:
        raise GraphError(f"{len(graph.node)} nodes, not 1 to {MAX_NODES}")
    if len(graph.sparse_initializer):
        raise GraphError("a sparse initialiser")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(f"node {node.name!r} is of the custom domain {node.domain!r}")
        if node.op_type in CONTROL_FLOW:
            raise GraphError(f"node {node.name!r} is control flow ({node.op_type})")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor"):
                raise GraphError(f"node {node.name!r} holds a graph or a sparse tensor")
            _check_tensor(attribute.t)
            for tensor in attribute.tensors:
                _check_tensor(tensor)
    for tensor in graph.initializer:
        _check_tensor(tensor)
    _check_ports("input", _shapes(graph.input), inputs)
    _check_ports("output", _shapes(graph.output), outputs)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise GraphError(f"invalid: {str(error).splitlines()[0]}") from error


def _check_versions(model: onnx.ModelProto) -> None:
    if model.ir_version not in IR_VERSIONS:
        raise GraphError(f"IR version {model.ir_version}, not {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}")
    domains = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    if set(domains) != {"ai.onnx"}:
        raise GraphError(f"operator domains {sorted(domains)}, not only ai.onnx")
    if domains["ai.onnx"] not in OPSETS:
        raise GraphError(f"opset {domains['ai.onnx']}, not {OPSETS.start} to {OPSETS.stop - 1}")
    if len(model.functions) or len(model.training_info):
        raise GraphError("functions or training information")


def _check_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
        raise GraphError(f"tensor {tensor.name!r} has external data")
    if any(size < 0 for size in tensor.dims) or prod(tensor.dims) > MAX_VALUES:
        raise GraphError(f"tensor {tensor.name!r} has the shape {list(tensor.dims)}")


def _shapes(ports: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int, ...]]:
    found = {}
    for port in ports:
        sizes = port.type.tensor_type.shape.dim
        shape = tuple(size.dim_value for size in sizes)
        if not port.type.HasField("tensor_type") or any(size < 1 for size in shape) or prod(shape) > MAX_VALUES:
            raise GraphError(f"{port.name!r} has no fixed shape of sizes above 0")
        found[port.name] = shape
    return found


def _check_ports(kind: str, found: Shapes, expected: Shapes | None) -> None:
    if expected is not None and dict(found) != dict(expected):
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        name = wrong[0]
        raise GraphError(f"{kind} {name!r} is {found.get(name, 'missing')}, expected {expected.get(name, 'none')}")
