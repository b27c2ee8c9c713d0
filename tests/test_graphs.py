"""ONNX graphs from outside: what is dangerous is refused by name before a runtime sees it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from engine.errors import GraphError
from engine.sessions import graphs
from engine.sessions.graphs import read_graph
from engine.sessions.open import open_session

SHAPES = {"x": (1, 4)}, {"y": (1, 4)}


def sum_graph() -> onnx.ModelProto:
    """y = x + w, the smallest graph with a weight."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"], "add")],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4))],
        [numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def written(folder: Path, model: onnx.ModelProto | bytes) -> Path:
    path = folder / "graph.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def test_a_harmless_graph_is_handed_on_unchanged_and_runs(tmp_path: Path) -> None:
    data = sum_graph().SerializeToString()
    assert read_graph(written(tmp_path, data), *SHAPES) == data
    session = open_session(data, "onnxruntime", threads=1)
    assert (session.inputs, session.outputs) == (("x",), ("y",))
    assert session.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[1, 2, 3, 4]]
    session.close()


# attacks: each takes a harmless graph and spoils it


def external(location: str) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)

    return spoil


def add_node(*args: object, **attributes: object) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node.append(helper.make_node(*args, **attributes))


def constant(tensor: TensorProto) -> Callable[[onnx.ModelProto], None]:
    return add_node("Constant", [], ["c"], "constant", value=tensor)


def hidden_external() -> TensorProto:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def sparse() -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "i"), [4])


def nested(depth: int) -> onnx.GraphProto:
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4))]
    node = helper.make_node("Identity", ["x"], ["y"])
    for _ in range(depth):
        graph = helper.make_graph([node], "inner", [], output)
        node = helper.make_node("If", ["b"], ["y"], then_branch=graph, else_branch=graph)
    return helper.make_graph([node], "outer", [], output)


def add_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Again", ["a"], ["b"], domain="own")]  # calls itself
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], body, opsets))


def sparse_list(model: onnx.ModelProto) -> None:
    attribute = AttributeProto(name="list", type=AttributeProto.SPARSE_TENSORS)
    attribute.sparse_tensors.append(sparse())
    model.graph.node[0].attribute.append(attribute)


def own_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[0].domain = "com.example"


def cycle(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Add", ["x", "z"], ["y"]))
    model.graph.node.append(helper.make_node("Identity", ["y"], ["z"]))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**31, np.int64), "trips"))
    model.graph.node.append(helper.make_node("Loop", ["trips", "", "x"], ["z"], "loop", body=body))


def port(kind: str, shape: tuple[int | str | None, ...] | None, name: str = "", dtype: int = TensorProto.FLOAT):  # type: ignore[no-untyped-def]
    def spoil(model: onnx.ModelProto) -> None:
        ports = getattr(model.graph, kind)
        info = helper.make_tensor_value_info(name or ports[0].name, dtype, shape)
        ports[0].CopyFrom(info)

    return spoil


def put(**fields: int) -> Callable[[onnx.ModelProto], None]:
    return lambda model: [setattr(model, name, value) for name, value in fields.items()] and None


def opset(version: int) -> Callable[[onnx.ModelProto], None]:
    return lambda model: setattr(model.opset_import[0], "version", version)


def dims(*sizes: int) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(sizes)

    return spoil


ATTACKS = {
    "external data above": (external("../../etc/passwd"), "tensor 'w' has external data"),
    "external data, absolute": (external("/etc/passwd"), "tensor 'w' has external data"),
    "external data beside": (external("w.bin"), "tensor 'w' has external data"),
    "external data in a constant": (constant(hidden_external()), "tensor 't' has external data"),
    "sparse initialiser": (lambda m: m.graph.sparse_initializer.append(sparse()), "a sparse initialiser"),
    "sparse constant": (add_node("Constant", [], ["c"], "k", sparse_value=sparse()), "'k' holds a graph or a sparse"),
    "list of sparse tensors": (sparse_list, "'add' holds a graph or a sparse"),
    "custom domain": (own_domain, "operator domains .*com.example"),
    "node of a domain not imported": (lambda m: setattr(m.graph.node[0], "domain", "own"), "custom domain 'own'"),
    "opset 999": (opset(999), "opset 999, not 13 to 22"),
    "opset 1": (opset(1), "opset 1, not 13"),
    "opset -1": (opset(-1), "opset -1, not 13"),
    "IR 999": (put(ir_version=999), "IR version 999, not 4 to 11"),
    "IR 3": (put(ir_version=3), "IR version 3, not"),
    "cycle": (cycle, "invalid: "),
    "nested graphs": (lambda m: m.graph.node.extend(nested(5).node), "control flow"),
    "graph in a harmless node": (lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("g", nested(1))), "'add' holds a graph"),
    "graphs in a harmless node": (lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("g", [nested(1)])), "'add' holds a graph"),
    "recursive function": (add_function, "functions or training information"),
    "training information": (lambda m: m.training_info.add(), "functions or training information"),
    "loop of 2^31 rounds": (loop, r"'loop' is control flow \(Loop\)"),
    "scan": (add_node("Scan", ["x"], ["z"], "s"), r"'s' is control flow \(Scan\)"),
    "no nodes": (lambda m: m.graph.ClearField("node"), "0 nodes"),
    "unknown operator": (add_node("Launch", ["x"], ["z"]), "invalid: "),
    "input out of nowhere": (add_node("Identity", ["nowhere"], ["z"]), "invalid: "),
    "name written twice": (add_node("Identity", ["x"], ["y"]), "invalid: "),
    "shape of 2^32 values": (dims(1 << 16, 1 << 16), "tensor 'w' has the shape"),
    "shape that overflows": (dims(1 << 62, 1 << 62), "tensor 'w' has the shape"),
    "negative shape": (dims(-2, -2), "tensor 'w' has the shape"),
    "shape longer than its data": (dims(5), ""),
    "renamed output": (lambda m: (port("output", (1, 4), "z")(m), m.graph.node[0].output.__setitem__(0, "z")),
        r"output 'y' is missing, expected \(1, 4\)"),
    "one more output": (lambda m: m.graph.output.append(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))), "output 'x' is .*, expected none"),
    "output told twice": (lambda m: m.graph.output.append(m.graph.output[0]), "'y' stands twice"),
    "one more input": (lambda m: m.graph.input.append(
        helper.make_tensor_value_info("v", TensorProto.FLOAT, (1,))), "input 'v' is .*, expected none"),
    "input of another rank": (port("input", (4,)), r"input 'x' is \(4,\), expected \(1, 4\)"),
    "output of another rank": (port("output", (1, 4, 1)), r"output 'y' is \(1, 4, 1\)"),
    "dynamic size": (port("input", ("batch", 4)), "'x' has no fixed shape"),
    "unknown size": (port("input", (None, 4)), "'x' has no fixed shape"),
    "size 0": (port("input", (0, 4)), "'x' has no fixed shape"),
    "size -1": (port("output", (-1, 4)), "'y' has no fixed shape"),
    "size that overflows": (port("input", (1 << 62, 4)), "'x' has no fixed shape"),
    "no shape": (port("input", None), "input 'x' is"),
    "doubles": (port("input", (1, 4), dtype=TensorProto.DOUBLE), "'x' is not float32"),
    "texts": (port("output", (1, 4), dtype=TensorProto.STRING), "'y' is not float32"),
    "a sequence": (lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info(
        "x", TensorProto.FLOAT, (1, 4))), "'x' has no fixed shape"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_with_file_and_remedy(
    tmp_path: Path, spoil: Callable[[onnx.ModelProto], object], message: str
) -> None:
    model = sum_graph()
    spoil(model)
    with pytest.raises(GraphError, match=rf"graph.onnx: .*{message}.*; use a graph that `g20 extract` wrote"):
        read_graph(written(tmp_path, model), *SHAPES)


def test_more_nodes_than_any_graph_of_ours_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_NODES", 10)
    model = sum_graph()
    model.graph.node.extend(helper.make_node("Identity", ["x"], [f"z{n}"]) for n in range(10))
    with pytest.raises(GraphError, match=r"graph.onnx: 11 nodes, not 1 to 10; use"):
        read_graph(written(tmp_path, model), *SHAPES)


def test_a_file_larger_than_any_graph_of_ours_is_refused_unread(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    os.truncate(path, graphs.MAX_BYTES + 1)  # sparse: takes no space
    with pytest.raises(GraphError, match=rf"graph.onnx: {graphs.MAX_BYTES + 1} bytes; a graph has at most"):
        read_graph(path)


def test_graphs_nested_deeper_than_any_reader_goes_are_refused(tmp_path: Path) -> None:
    inner = b""
    for _ in range(5_000):  # attribute 5 of node 1 of the graph holds a graph (6) ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + _varint(len(inner)) + inner
    data = sum_graph().SerializeToString() + b"\x3a" + _varint(len(inner)) + inner
    with pytest.raises(GraphError, match=r"graph.onnx: .*extract"):
        read_graph(written(tmp_path, data))


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_a_graph_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = sum_graph().SerializeToString()
    for length in range(len(data)):
        with pytest.raises(GraphError, match=r"graph.onnx: .*(extract the checkpoint again|g20 extract)"):
            read_graph(written(tmp_path, data[:length]), *SHAPES)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(1000), b"\xff" * 100, b"\x80\x04\x95cos\nsystem\n."])
def test_what_is_no_graph_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(GraphError, match=r"graph.onnx: .*extract"):
        read_graph(written(tmp_path, data))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(GraphError, match=rf"{path}: cannot be read .*; extract the checkpoint again"):
            read_graph(path)


@pytest.mark.parametrize("name", [b"Add", b"x", b"y"])
def test_names_that_are_not_utf8_are_refused(tmp_path: Path, name: bytes) -> None:
    marker = bytes([len(name)]) + name  # a name stands behind its length
    data = sum_graph().SerializeToString().replace(marker, bytes([len(name)]) + b"\xff" * len(name))
    with pytest.raises(GraphError, match=r"graph.onnx: .*extract"):
        read_graph(written(tmp_path, data), *SHAPES)


@pytest.mark.parametrize("domain", [b"\xff\xff", b"own"])
def test_domains_that_are_not_ours_are_refused(tmp_path: Path, domain: bytes) -> None:
    model = sum_graph()
    model.opset_import.append(helper.make_opsetid("DOMAIN"[: len(domain)], 1))
    data = model.SerializeToString().replace(b"DOMAIN"[: len(domain)], domain)
    with pytest.raises(GraphError, match=r"graph.onnx: operator domains .*not only ai.onnx; use"):
        read_graph(written(tmp_path, data), *SHAPES)
