"""Stand-ins for CuPy and TensorRT, for what Hydra does around them: who waits for whom, what is captured and when, what
becomes of errors. They compute with NumPy, at once. They prove nothing about a GPU: `tests/test_gpu.py` asks one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from engine.devices.kernels import SOURCES, source

from .emulated import on_cpu


class FakeArray(np.ndarray):
    """NumPy's, with what CuPy's has besides."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def set(self, array: np.ndarray, stream: Any) -> None:
        stream.log.append("set")
        self[...] = array

    def get(self, stream: Any, out: np.ndarray, blocking: bool) -> np.ndarray:
        assert not blocking
        stream.log.append("get")
        out[...] = self
        return out


def fake(array: Any) -> Any:
    return np.asarray(array).view(FakeArray)


class OutOfMemory(Exception):
    pass


class CudaFailure(RuntimeError):
    pass


class FakeStream:
    current: "FakeStream"

    def __init__(self, non_blocking: bool = False) -> None:
        self.log: list[Any] = []
        self.capturing = False
        self.ptr = id(self)
        self._before: list[FakeStream] = []

    def __enter__(self) -> "FakeStream":
        self._before.append(FakeStream.current)
        FakeStream.current = self
        return self

    def __exit__(self, *error: object) -> None:
        FakeStream.current = self._before.pop()

    def record(self) -> "FakeEvent":
        event = FakeEvent()
        event.record(self)
        return event

    def wait_event(self, event: "FakeEvent") -> None:
        assert event.recorded, "waits for an event that nobody has recorded"
        self.log.append(("wait", event))

    def synchronize(self) -> None:
        assert not self.capturing, "a stream that is captured cannot be waited for"
        self.log.append("synchronize")

    def begin_capture(self, mode: int) -> None:
        assert mode == 2 and not self.capturing
        self.capturing = True

    def end_capture(self) -> "FakeGraph":
        assert self.capturing
        self.capturing = False
        return FakeGraph()


class FakeEvent:
    def __init__(self, disable_timing: bool = False) -> None:
        self.recorded = False

    def record(self, stream: FakeStream) -> None:
        self.recorded = True
        stream.log.append(("record", self))


class FakeGraph:
    def __init__(self) -> None:
        self.launches: list[FakeStream] = []

    def launch(self) -> None:
        self.launches.append(FakeStream.current)


@contextmanager
def _anything(*_: object) -> Iterator[None]:
    yield


def fake_cupy() -> Any:
    """A module with what `engine.devices.cuda` and the front end use of CuPy. `fails`: raised once, by the next
    allocation."""
    FakeStream.current = FakeStream()
    module: Any = ModuleType("cupy")
    module.fails, module.freed = None, 0

    def checked(make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            error, module.fails = module.fails, None
            if error is not None:
                raise error
            return fake(make(*given, **options))

        return call

    def free_all_blocks() -> None:
        module.freed += 1

    class RawModule:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            assert code in map(source, SOURCES)

        def get_function(self, kernel: str) -> Callable[..., None]:
            return lambda grid, block, arguments: on_cpu(kernel, grid, *block, *arguments)

    module.RawModule = RawModule
    names = (
        "float32", "float64", "complex64", "int32", "int64", "uint32", "maximum", "minimum", "clip", "log", "log10",
        "concatenate", "cumsum", "where", "floor",
    )  # fmt: skip
    for name in names:
        setattr(module, name, getattr(np, name))
    module.asarray, module.zeros, module.empty, module.full = (
        checked(function) for function in (np.asarray, np.zeros, np.empty, np.full)
    )
    module.stack = lambda arrays: fake(np.stack(arrays))
    module.ascontiguousarray = lambda array: fake(np.ascontiguousarray(array))
    module.lib = np.lib
    module.fft = SimpleNamespace(fft=np.fft.fft)
    module.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=free_all_blocks)
    about = {"name": b"Fake", "major": 8, "minor": 6}
    module.cuda = SimpleNamespace(
        Stream=FakeStream,
        Event=FakeEvent,
        Device=lambda number: FakeDevice(),
        MemoryPool=lambda: SimpleNamespace(malloc=None),
        using_allocator=_anything,
        get_current_stream=lambda: FakeStream.current,
        alloc_pinned_memory=lambda size: bytearray(size),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemory),
        runtime=SimpleNamespace(
            CUDARuntimeError=CudaFailure,
            streamCaptureModeRelaxed=2,
            getDeviceProperties=lambda number: about,
            driverGetVersion=lambda: 13000,
            deviceSynchronize=lambda: None,
        ),
    )
    return module


class FakeDevice:
    def use(self) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


class FakeTrt:
    """TensorRT as far as a session looks at it: a plan is b"plan", which doubles its input."""

    __version__ = "10.99"
    __name__ = "tensorrt"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")

    def __init__(self) -> None:
        self.loads = [True]  # of each attempt to load a plan, whether it works; the last one counts for all further
        self.runs = True  # whether work is taken
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []

        class ILogger:
            ERROR, INTERNAL_ERROR = "error", "internal error"

        self.ILogger = ILogger

    def Runtime(self, logger: Any) -> Any:
        def load(plan: bytes) -> Any:
            works = self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]
            if not works:
                logger.log("error", "another version's plan")
            return self._engine() if works else None

        return SimpleNamespace(deserialize_cuda_engine=load)

    def _engine(self) -> Any:
        ports = {"x": ("in", (4,)), "y": ("out", (4,))}
        names = list(ports)

        def execute(stream: int) -> bool:
            self.streams.append(stream)
            return self.runs

        context = SimpleNamespace(set_tensor_address=self.addresses.__setitem__, execute_async_v3=execute)
        return SimpleNamespace(
            num_io_tensors=len(ports),
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda name: ports[name][0],
            get_tensor_shape=lambda name: ports[name][1],
            create_execution_context=lambda: context,
        )
