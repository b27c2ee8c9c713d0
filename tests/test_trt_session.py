"""A TensorRT session on stand-ins (fake_gpu): which stream it runs on, what becomes of failures and of plans. G06."""

from pathlib import Path

import numpy as np
import pytest

from engine.devices.cuda import Cuda
from engine.errors import DeviceError, GraphError
from engine.sessions import trt as trt_sessions
from engine.sessions.plans import PlanCache
from engine.sessions.trt import TrtSession

from .fake_gpu import FakeTrt


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, gpu: Cuda) -> FakeTrt:
    module = FakeTrt()
    monkeypatch.setattr(trt_sessions, "flavour", lambda name: module)
    monkeypatch.setattr(trt_sessions, "build", lambda graph, *_, **__: b"plan")
    return module


def session(gpu: Cuda, folder: Path) -> TrtSession:
    return TrtSession(b"graph", gpu, "tensorrt", PlanCache(folder / "plans"))


def test_a_plan_runs_on_the_stream_whose_work_is_under_way(trt: FakeTrt, gpu: Cuda, tmp_path: Path) -> None:
    made = session(gpu, tmp_path)
    assert (made.inputs, made.outputs, made.runtime) == (("x",), ("y",), "tensorrt 10.99 CUDA")
    fed = gpu.xp.zeros(4, np.float32)
    with gpu.stream("compute").work("graph", (), ()):
        found = made.run({"x": fed, "more": fed})
    assert found["y"].shape == (4,)
    assert trt.addresses == {"x": fed.data.ptr, "y": found["y"].data.ptr}
    assert trt.streams == [gpu.stream("compute").queue.ptr]


def test_a_graph_that_fails_on_the_gpu_is_an_error(trt: FakeTrt, gpu: Cuda, tmp_path: Path) -> None:
    made = session(gpu, tmp_path)
    trt.runs = False
    with pytest.raises(DeviceError, match=r"cuda:0: tensorrt 10.99 CUDA fails in the graph"):
        made.run({"x": gpu.xp.zeros(4, np.float32)})


def test_g06_a_plan_that_does_not_load_is_built_anew_once(trt: FakeTrt, gpu: Cuda, tmp_path: Path) -> None:
    trt.loads = [False, True]
    assert session(gpu, tmp_path).inputs == ("x",)
    trt.loads = [False]
    with pytest.raises(GraphError, match="does not load the plan it has built: another version's plan"):
        session(gpu, tmp_path)
