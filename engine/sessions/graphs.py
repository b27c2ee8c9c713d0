"""Reading ONNX graphs that may come from outside: everything dangerous is refused before a runtime sees a byte.

Refused are external data (it names files to read), sparse initialisers, custom domains, control flow and
functions (they hide work), unknown opsets, dynamic or absurd shapes, inputs and outputs of another type than
float32, and names other than those expected.
"""

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from engine.errors import GraphError

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
    except (DecodeError, UnicodeDecodeError) as error:  # names are decoded when they are looked at
        raise GraphError(f"{path}: not an ONNX file, or damaged; extract the checkpoint again") from error
    except GraphError as error:
        raise GraphError(f"{path}: {error}; use a graph that `g20 extract` wrote") from error
    return data


def with_room(data: bytes, capacity: int, ports: Iterable[str]) -> bytes:
    """The graph of compact heads with room for `capacity` of them: the first size of `ports`, inputs and outputs,
    is another. Its operators take any number."""
    model = onnx.load_model_from_string(data)
    wanted = set(ports)
    for port in (*model.graph.input, *model.graph.output):
        if port.name in wanted:
            port.type.tensor_type.shape.dim[0].dim_value = capacity
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


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
            inner = attribute.graphs or attribute.sparse_tensors
            if inner or attribute.HasField("g") or attribute.HasField("sparse_tensor"):
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
        raise GraphError(f"invalid: {(str(error).splitlines() or ['no reason given'])[0]}") from error


def _check_versions(model: onnx.ModelProto) -> None:
    if model.ir_version not in IR_VERSIONS:
        raise GraphError(f"IR version {model.ir_version}, not {IR_VERSIONS.start} to {IR_VERSIONS.stop - 1}")
    domains = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    if set(domains) != {"ai.onnx"}:
        raise GraphError(f"operator domains {sorted(map(str, domains))}, not only ai.onnx")
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
    """Names and shapes of a graph's inputs or outputs, which are float32 of fixed shape, all of them."""
    found: dict[str, tuple[int, ...]] = {}
    for port in ports:
        if not isinstance(port.name, str):
            raise GraphError(f"the name {port.name!r} is not UTF-8")
        sizes = port.type.tensor_type.shape.dim
        shape = tuple(size.dim_value for size in sizes)
        if not port.type.HasField("tensor_type") or any(size < 1 for size in shape) or prod(shape) > MAX_VALUES:
            raise GraphError(f"{port.name!r} has no fixed shape of sizes above 0")
        if port.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise GraphError(f"{port.name!r} is not float32")
        if port.name in found:
            raise GraphError(f"{port.name!r} stands twice")
        found[port.name] = shape
    return found


def _check_ports(kind: str, found: Shapes, expected: Shapes | None) -> None:
    if expected is not None and dict(found) != dict(expected):
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        name = wrong[0]
        raise GraphError(f"{kind} {name!r} is {found.get(name, 'missing')}, expected {expected.get(name, 'none')}")
