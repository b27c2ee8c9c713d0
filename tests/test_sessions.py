"""Runtimes: what was asked for runs, or an error says so; no graph, however damaged, takes the process down."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from engine.errors import GraphError, HydraError, UnavailableError
from engine.heads import BATCHED, CELLS, COMPACT, DESCRIBED, DETECTIONS, FEATURES, FULL, batched
from engine.sessions.graphs import read_graph
from engine.sessions.open import open_session
from engine.sessions.scripted import ScriptedSession
from export.to_onnx import compact_heads_graph

from .test_graphs import SHAPES, sum_graph, written
from .tiny_store import graph_bytes, head_graph_bytes

CASES = 250  # of each graph
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "ran"), [("auto", "onnxruntime"), ("onnxruntime",) * 2, ("openvino",) * 2])
def test_a_graph_runs_where_it_was_asked_to(name: str, ran: str) -> None:
    session = open_session(sum_graph().SerializeToString(), name, threads=1)
    first = session.run({"x": np.ones((1, 4), np.float32)})["y"]
    session.run({"x": np.zeros((1, 4), np.float32)})
    assert first.tolist() == [[1, 2, 3, 4]]  # the caller's own: the next run left it as it was
    assert session.inputs == ("x",) and session.outputs == ("y",)
    assert session.runtime.startswith(f"{ran} ") and session.runtime.endswith(" CPU")
    session.close()


def test_both_runtimes_give_the_same_of_the_heads_graph_by_the_same_names() -> None:
    rng = np.random.default_rng(0)
    shapes = {**DESCRIBED, **batched(COMPACT)}
    feeds = {name: (rng.random(shape) * 0.1).astype(np.float32) for name, shape in shapes.items()}
    sessions = [open_session(compact_heads_graph(), name, threads=1) for name in ("onnxruntime", "openvino")]
    plain, other = (session.run(feeds) for session in sessions)
    assert set(plain) == set(other) == set(BATCHED)
    assert all(np.abs(plain[name] - other[name]).max() < 1e-3 for name in plain)
    for session in sessions:
        session.close()


def test_a_runtime_that_is_not_installed_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "engine.sessions.ov", raising=False)
    with pytest.raises(UnavailableError, match=r"'openvino' is not installed .*pip install 'hydra-rf\[openvino\]'"):
        open_session(sum_graph().SerializeToString(), "openvino")


@pytest.mark.parametrize("data", [b"", b"no graph", sum_graph().SerializeToString()[:-20]])
def test_a_graph_that_openvino_refuses_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(GraphError, match="OpenVINO refuses the graph"):
        open_session(data, "openvino", threads=1)


@pytest.mark.parametrize("name", ["", "ONNXRuntime", "cpu"])
def test_a_runtime_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UnavailableError, match=rf"runtime {name!r} is not known; choose one of auto, onnxr"):
        open_session(b"", name)


@pytest.mark.parametrize("data", [b"", b"no graph", sum_graph().SerializeToString()[:-20]])
def test_a_graph_that_the_runtime_refuses_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(GraphError, match=r"ONNX Runtime refuses the graph: .*; use a graph that `g20 extract` wrote"):
        open_session(data, threads=1)


def test_a_graph_that_fails_while_it_runs_is_an_error_of_ours() -> None:
    pick = [helper.make_node("Gather", ["x", "at"], ["y"])]
    data = graph_bytes(pick, {"at": np.array([9])}, {"x": (4,)}, {"y": (1,)})
    with pytest.raises(GraphError, match=r"ONNX Runtime fails in the graph: .*; use a graph that"):
        open_session(data, threads=1).run({"x": np.zeros(4, np.float32)})


def test_a_scripted_session_answers_as_told_and_keeps_its_calls() -> None:
    session = ScriptedSession(("x",), ("y",), lambda feeds: {"y": feeds["x"] + 1})
    for value in (1.0, 2.0):
        assert session.run({"x": np.array([value])})["y"].tolist() == [value + 1]
    assert [feeds["x"].tolist() for feeds in session.calls] == [[1], [2]]
    assert not session.closed
    session.close()
    assert session.closed


def test_damaged_graphs_are_refused_or_open_and_never_crash(tmp_path: Path) -> None:
    """Byte changes at random, in a process of their own: a crash there would be one of a detector here."""
    program = "import sys; from tests.test_sessions import mutate; mutate(sys.argv[1], int(sys.argv[2]))"
    child = [sys.executable, "-W", "error", "-c", program, str(tmp_path), str(CASES)]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == 2 * CASES
    assert set(outcomes) == {"GraphError", "opened"}  # and both happen, so that both are tested


def mutate(folder: str, cases: int) -> None:
    """Runs in the child: tells how often each outcome came about."""
    rng = random.Random(5)
    head = head_graph_bytes(), ({**FEATURES, **CELLS, **FULL}, DETECTIONS)
    outcomes: dict[str, int] = {}
    for good, shapes in [(sum_graph().SerializeToString(), SHAPES), head] * cases:
        path = written(Path(folder), mutant(good, rng))
        try:
            open_session(read_graph(path, *shapes), threads=1).close()
            outcome = "opened"
        except HydraError as error:
            outcome = type(error).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    sys.stdout.write(json.dumps(outcomes))


def mutant(good: bytes, rng: random.Random) -> bytes:
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case _:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(data)


def test_a_signal_after_a_runtime_is_closed_is_handled_and_ends_nothing() -> None:
    """In a process of its own: an alternate signal stack that the runtime left behind would end it."""
    code = """
import signal
from engine.engine import Engine
from tests.scripted import noise
with Engine.open("models", runtime="openvino", signals=["gsm"]) as engine:
    engine.detect(noise(400_000), sample_rate_hz=20e6)
signal.signal(signal.SIGINT, lambda number, frame: print("handled"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
