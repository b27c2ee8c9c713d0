"""A GPU asked for: what is said where there is none, and what is done around one, on stand-ins (fake_gpu). G01-G04."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.anchors import STOCK
from engine.devices.cuda import Cuda, missing
from engine.devices.open import open_device
from engine.engine import Engine
from engine.errors import DeviceError, UnavailableError
from engine.heads import Head
from engine.pipeline import Frame, Network, Slot, find, front_end
from engine.sessions.choice import chosen
from engine.sessions.open import open_session
from engine.sessions.scripted import ScriptedSession
from engine.snapshot import Snapshot
from engine.spectrogram import spectrogram

from .fake_gpu import CudaFailure, FakeStream, OutOfMemory, fake
from .scripted import SHORT, burst
from .toy_store import add_head, toy_store

ROOT = Path(__file__).parents[1]
HERE = missing() is None
without_gpu = pytest.mark.skipif(HERE, reason="there is a GPU here")


# no GPU


@without_gpu
def test_g01_a_gpu_that_is_not_here_is_refused_and_nothing_runs_elsewhere_instead(tmp_path: Path) -> None:
    store = toy_store(tmp_path / "models")
    add_head(store, "bright", 200)
    with pytest.raises(UnavailableError, match=r"device 'cuda:0': .*use --device cpu"):
        Engine.open(store.path, device="cuda:0")


def driver(folder: Path, code: str) -> None:
    """A driver's library of our own, in place of NVIDIA's: it says what `code` says, and no more."""
    folder.mkdir()
    (folder / "shim.c").write_text(code)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "shim.c"], check=True)


SHIMS = {
    "no device": ("int cuInit(unsigned f) { return 100; }", "finds no GPU (cuInit: error 100)"),
    "an old driver": ("int cuInit(unsigned f) { return 803; }", "finds no GPU (cuInit: error 803)"),
    "none left": (
        "int cuInit(unsigned f) { return 0; } int cuDeviceGetCount(int *n) { *n = 0; return 0; }",
        "there are 0 GPUs",
    ),
}


@without_gpu
@pytest.mark.parametrize("shim", SHIMS)
def test_g01_a_driver_without_a_gpu_is_told_from_no_driver(tmp_path: Path, shim: str) -> None:
    code, said = SHIMS[shim]
    driver(tmp_path / "lib", code)
    ask = "from engine.devices.open import open_device\nopen_device('cuda:0')"
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True,
        env={"LD_LIBRARY_PATH": str(tmp_path / "lib"), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert "UnavailableError" in done.stderr.splitlines()[-1] and said in done.stderr.splitlines()[-1]


@without_gpu
def test_a_gpu_without_its_driver_is_named_by_the_first_thing_that_is_missing() -> None:
    assert "libcuda.so.1 is not found" in str(missing())


def test_runtimes_of_one_kind_of_device_are_refused_on_the_other() -> None:
    with pytest.raises(UnavailableError, match="runtime 'tensorrt' runs on cuda only; choose one of auto, onnxruntime"):
        open_session(b"", "tensorrt")
    with pytest.raises(UnavailableError, match="runtime 'openvino' runs on cpu only; choose one of auto, tensorrt"):
        chosen("openvino", "float32", "ab", kind="cuda")
    with pytest.raises(UnavailableError, match="precision 'int8' is not known on cuda; choose one of float32, float16"):
        chosen("auto", "int8", "ab", kind="cuda")


def test_auto_on_a_gpu_is_the_first_runtime_installed_in_the_precision_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.sessions.choice.installed", lambda kind: {"tensorrt_rtx": "1.7", "onnxruntime": "1.32"})
    for precision in ("float32", "float16"):
        assert vars(chosen("auto", precision, "ab", kind="cuda")) == {"runtime": "tensorrt_rtx", "precision": precision}
    assert chosen("onnxruntime", "float32", "ab", kind="cuda").runtime == "onnxruntime"
    monkeypatch.setattr("engine.sessions.choice.installed", lambda kind: {})
    with pytest.raises(UnavailableError, match="no runtime for a GPU is installed: pip install"):
        chosen("auto", "float32", "ab", kind="cuda")


# around a GPU


def test_a_gpu_without_cupy_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.devices.cuda.missing", lambda number: None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UnavailableError, match=r"'cuda:3' needs CuPy .*pip install 'hydra-rf\[gpu\]'"):
        open_device("cuda:3")


def test_a_gpu_whose_libraries_do_not_load_is_refused_when_it_is_opened(cupy: Any) -> None:
    def broken(array: Any) -> Any:
        raise RuntimeError("libcufft.so.12 not found")

    cupy.fft.fft = broken
    with pytest.raises(UnavailableError, match=r"does not compute \(libcufft.so.12 not found\): pip install"):
        Cuda()


def test_the_front_end_draws_the_same_image_and_waits_for_nothing(gpu: Cuda) -> None:
    slot, iq = Slot(gpu), burst()
    for _ in range(4):  # as it is, captured, played back
        frame = Frame()
        drawn = front_end(iq, SHORT, slot, frame)
        assert drawn is not None and drawn.stats.tolist()[1] == 1
        assert abs(drawn.image - spectrogram(iq, SHORT)).max() < 1e-4
    for name in ("upload 0", "compute", "download 0"):
        assert "synchronize" not in gpu.stream(name).queue.log


LEVELS = [(np.nan, "invalid"), (np.inf, "invalid"), (0.0, "silent"), (1.0, "ok")]


@pytest.mark.parametrize(("level", "quality"), LEVELS)
def test_what_is_not_worth_looking_at_is_told_after_the_one_wait(gpu: Cuda, level: float, quality: str) -> None:
    iq, found = np.zeros(SHORT.capture_samples, np.complex64), {"boxes": np.zeros((1, 4)), "scores": np.ones(1)}
    iq[1000:1400] = level
    backbone = ScriptedSession(("image",), ("p2",), lambda feeds: {"p2": feeds["image"]})
    heads = ScriptedSession(("p2",), ("boxes", "scores"), lambda feeds: {n: fake(a) for n, a in found.items()})
    found["boxes"][0] = 10, 10, 20, 20
    head = Head("radar", 1, "full", STOCK, {}, 0.5)
    snapshot, network, slot, frame = (
        Snapshot(1, 1, "ab", (head,)),
        Network(backbone, {"full": heads}),
        Slot(gpu),
        Frame(),
    )
    with np.errstate(all="ignore"):
        drawn = front_end(iq, SHORT, slot, frame)
        assert drawn is not None
        find(drawn, SHORT, slot, network, snapshot, 0.5, frame)
    assert frame.quality == quality
    assert len(frame.detections) == (quality == "ok")
    assert gpu.stream("download 0").queue.log.count("synchronize") == 1


def test_a_step_is_played_back_from_the_third_time_on(gpu: Cuda) -> None:
    owner, calls = object(), []

    def step() -> list[int]:
        calls.append(FakeStream.current)
        return [len(calls)]

    with gpu.stream("compute").work("step", (), ()):
        first = gpu.replayed("step", (owner,), step)
        assert calls == [gpu.stream("compute").queue]  # as it is, in its own stream
        second = gpu.replayed("step", (owner,), step)
        assert len(calls) == 3  # once to warm up, once captured, both aside
        assert calls[1] is calls[2] is not calls[0]
        third = gpu.replayed("step", (owner,), step)
        assert len(calls) == 3
    assert first == [1] and second is third and third == [3]
    graph = gpu._replays["step"].graph
    assert graph.launches == [gpu.stream("compute").queue] * 2


def test_a_step_with_other_owners_is_captured_anew(gpu: Cuda) -> None:
    owners = [(object(), object()) for _ in range(2)]
    with gpu.stream("compute").work("step", (), ()):
        for _ in range(3):
            gpu.replayed("step", owners[0], lambda: "first")
        assert gpu.replayed("step", owners[1], lambda: "second") == "second"
        assert gpu.replayed("step", owners[0], lambda: "third") == "third"


def test_a_capture_that_fails_is_ended_and_the_next_frame_tries_again(gpu: Cuda) -> None:
    owner, calls = object(), []

    def step() -> str:
        calls.append(1)
        if len(calls) == 3:  # the captured one
            raise CudaFailure("cudaErrorStreamCaptureInvalidated")
        return "done"

    def frame() -> str:
        with gpu.stream("compute").work("step", (), ()):
            return gpu.replayed("step", (owner,), step)

    assert frame() == "done"
    with pytest.raises(DeviceError, match=r"cuda:0: cudaErrorStreamCaptureInvalidated; if it comes again, start a new"):
        frame()
    assert not gpu._aside.capturing
    assert [frame() for _ in range(3)] == ["done"] * 3


def test_g03_memory_that_runs_out_fails_one_frame_and_not_the_next(gpu: Cuda, cupy: Any) -> None:
    slot, iq = Slot(gpu), burst()
    cupy.fails = OutOfMemory("out of memory allocating 62 MB")
    with pytest.raises(DeviceError, match=r"cuda:0: out of memory .*close what else uses the GPU"):
        front_end(iq, SHORT, slot, Frame())
    assert cupy.freed == 1
    assert front_end(iq, SHORT, slot, Frame()) is not None


def test_uploads_and_downloads_use_the_same_memory_each_time(gpu: Cuda) -> None:
    stream = gpu.stream("upload 0")
    first = gpu.upload(np.arange(4.0), stream, "a")
    assert gpu.upload(np.ones(4), stream, "a") is first and (first == 1).all()
    assert gpu.upload(np.ones(4), stream, "b") is not first
    assert gpu.upload(np.ones(4), gpu.stream("upload 1"), "a") is not first
    down = gpu.download(first, stream, "a")
    assert (down == 1).all() and gpu.download(first, stream, "a") is down
    assert gpu.upload(np.ones(5), stream, "a").shape == (5,)  # another length is other memory


def test_weights_are_uploaded_once_as_long_as_they_are_the_same(gpu: Cuda) -> None:
    stacked = {"weight": np.ones((3, 2), np.float32)}
    placed = gpu.resident(stacked)
    assert gpu.resident(stacked) is placed
    assert gpu.resident(dict(stacked)) is not placed
    for _ in range(100):
        gpu.resident({"weight": np.zeros(1)})
    assert len(gpu._resident) <= 64


def test_a_wait_is_for_the_mark_of_another_stream(gpu: Cuda) -> None:
    first, second = gpu.stream("a"), gpu.stream("b")
    assert gpu.stream("a") is first
    first.record("done")
    second.wait("done")
    event = first.queue.log[-1][1]
    assert second.queue.log == [("wait", event)]


@without_gpu
def test_the_script_for_a_gpu_says_that_there_is_none_and_does_nothing() -> None:
    done = subprocess.run([sys.executable, "scripts/gpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "nothing was run: there is no NVIDIA driver" in done.stderr
