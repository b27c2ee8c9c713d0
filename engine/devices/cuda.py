"""CUDA device: arrays are CuPy's, queues are CUDA streams, a frame's steps are replayed as CUDA graphs.

Imported only when a GPU is asked for. Whether there is one is found out in an order in which nothing crashes: the
driver's library, then the driver, then CuPy, then cuFFT.
"""

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeVar

import numpy as np

from engine.errors import DeviceError, UnavailableError

from .base import Ops, Stream
from .kernels import Kernels
from .kernels.front_end import render
from .kernels.regions import regions

T = TypeVar("T")

DRIVER: Final = "libcuda.so.1"
RESIDENT: Final = 64  # mappings: the stack of compact heads, and what full heads are fed
INSTALL: Final = "pip install 'hydra-rf[gpu]'"


def missing(number: int = 0) -> str | None:
    """Reason that GPU `number` cannot be used, None where the driver finds no fault."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return f"there is no NVIDIA driver ({DRIVER} is not found); install it, or use --device cpu"
    failed = driver.cuInit(0)
    count = ctypes.c_int(0)
    if failed or driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the NVIDIA driver finds no GPU (cuInit: error {failed}); check `nvidia-smi`, or use --device cpu"
    if number >= count.value:
        return f"there are {count.value} GPUs, numbered from 0; choose one of those, or use --device cpu"
    return None


class PlannedFft:
    """FFT over the rows of an array, by cuFFT plans that are kept, one for each shape: CuPy's own cache frees them with
    its thread, and a captured graph would go on using their memory."""

    def __init__(self, xp: Any, make_plan: Callable[..., Any]) -> None:
        self._xp = xp
        self._make_plan = make_plan
        self._plans: dict[tuple[int, ...], Any] = {}

    def __call__(self, rows: Any) -> Any:
        if rows.shape not in self._plans:
            self._plans[rows.shape] = self._make_plan(rows, axes=1)
        with self._plans[rows.shape]:
            return self._xp.fft.fft(rows)


class Cuda:
    """GPU number N, as "cuda:N". Opening makes this GPU current; operations run there or raise."""

    kind = "cuda"

    def __init__(self, number: int = 0) -> None:
        """Raises UnavailableError where the GPU, CuPy or cuFFT is not here."""
        self.name = f"cuda:{number}"
        reason = missing(number)
        if reason:
            raise UnavailableError(f"device {self.name!r}: {reason}")
        try:
            import cupy
        except ImportError as error:
            raise UnavailableError(f"device {self.name!r} needs CuPy ({error}): {INSTALL}") from error
        self.xp: Any = cupy
        self.number = number
        self._streams: dict[str, _CudaStream] = {}
        self._marks: dict[str, Any] = {}
        self._staged: dict[tuple[str, str], tuple[np.ndarray, Any]] = {}
        self._resident: OrderedDict[int, tuple[Mapping[str, np.ndarray], dict[str, Any]]] = OrderedDict()
        self._replays: dict[str, _Replay] = {}
        self._capture = threading.Lock()
        cupy.cuda.Device(number).use()
        try:
            fft = PlannedFft(cupy, import_module("cupyx.scipy.fft").get_fft_plan)
            cupy.fft.fft(cupy.zeros(8, cupy.complex64))  # finds out whether what CuPy loads is here
        except Exception as error:  # CuPy has no common error type for it
            raise UnavailableError(f"device {self.name!r} does not compute ({error}): {INSTALL}") from error
        launch = Kernels(cupy)
        self.ops = Ops(
            render=partial(render, xp=cupy, launch=launch, fft=fft), regions=partial(regions, xp=cupy, launch=launch)
        )
        self._aside = cupy.cuda.Stream(non_blocking=True)  # where steps are captured
        self._weights = cupy.cuda.Stream(non_blocking=True)

    def describe(self) -> str:
        """Name and compute capability, for reports and keys."""
        about = self.xp.cuda.runtime.getDeviceProperties(self.number)
        return f"{about['name'].decode()}, sm_{about['major']}{about['minor']}"

    def peek(self, array: Any) -> None:
        return None

    def stream(self, name: str) -> "_CudaStream":
        if name not in self._streams:
            self._streams[name] = _CudaStream(name, self, self.xp.cuda.Stream(non_blocking=True), self._marks)
        return self._streams[name]

    def upload(self, array: np.ndarray, stream: Stream, name: str) -> Any:
        with self.guarded():
            pinned, target = self._staging(stream.name, name, array.shape, array.dtype)
            np.copyto(pinned, array)
            target.set(pinned, stream=self.stream(stream.name).queue)
        return target

    def download(self, array: Any, stream: Stream, name: str, part: str = "") -> np.ndarray:
        with self.guarded():
            pinned, _ = self._staging(stream.name, f"{name} {part} down", array.shape, array.dtype, both=False)
            array.get(stream=self.stream(stream.name).queue, out=pinned, blocking=False)
        return pinned

    def resident(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        key = id(arrays)
        if key not in self._resident:
            with self.guarded(), self._weights as stream:
                placed = {name: self.xp.asarray(np.ascontiguousarray(array)) for name, array in arrays.items()}
                stream.synchronize()
            self._resident[key] = (arrays, placed)  # the mapping is kept, so that its id is nobody else's
            while len(self._resident) > RESIDENT:
                self._resident.popitem(last=False)
        self._resident.move_to_end(key)
        return self._resident[key][1]

    def replayed(self, name: str, key: tuple[object, ...], step: Callable[[], T]) -> T:
        """First run with this key: `step` runs directly, which makes plans and loads kernels. Second: it is captured as
        a CUDA graph; from then on the graph is launched."""
        known = self._replays.get(name)
        if known is None or not known.is_for(key):
            self._replays[name] = _Replay(key)
            return step()
        if known.graph is None:
            self._captured(known, step)
        known.graph.launch()
        result: T = known.result
        return result

    def _captured(self, replay: "_Replay", step: Callable[[], object]) -> None:
        """Memory comes from a pool of the graph's own, which nothing else is given: each launch works on the same
        arrays."""
        cuda = self.xp.cuda
        before = cuda.get_current_stream()
        pool = cuda.MemoryPool()
        with self._capture, cuda.using_allocator(pool.malloc):
            self._aside.wait_event(before.record())
            with self._aside as stream:
                step()  # once, so that the pool holds all that the captured one asks for
                stream.synchronize()
                stream.begin_capture(cuda.runtime.streamCaptureModeRelaxed)
                try:
                    replay.result = step()
                finally:
                    replay.graph = stream.end_capture()
        replay.pool = pool

    def _staging(
        self, stream: str, name: str, shape: tuple[int, ...], dtype: np.dtype, both: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Pinned host memory and, for uploads, device memory: once for each name and stream."""
        found = self._staged.get((stream, name))
        if found is None or found[0].shape != shape or found[0].dtype != dtype:
            pinned = self.xp.cuda.alloc_pinned_memory(int(np.prod(shape)) * dtype.itemsize)
            host = np.frombuffer(pinned, dtype, int(np.prod(shape))).reshape(shape)
            found = (host, self.xp.empty(shape, dtype) if both else None)
            self._staged[stream, name] = found
        return found

    def _start_over(self) -> None:
        """After an error: what is under way ends, what was captured goes, memory is given back."""
        self._replays.clear()
        with suppress(self.xp.cuda.runtime.CUDARuntimeError):
            self.xp.cuda.runtime.deviceSynchronize()
        self.xp.get_default_memory_pool().free_all_blocks()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Errors of CUDA as errors of ours, after which the next frame has a chance."""
        cuda = self.xp.cuda
        try:
            yield
        except cuda.memory.OutOfMemoryError as error:
            self._start_over()
            raise DeviceError(f"{self.name}: out of memory ({error}); close what else uses the GPU") from error
        except cuda.runtime.CUDARuntimeError as error:
            self._start_over()
            raise DeviceError(f"{self.name}: {error}; if it comes again, start a new process") from error


@dataclass(eq=False)
class _Replay:
    key: tuple[object, ...]
    graph: Any = None
    result: Any = None
    pool: Any = None

    def is_for(self, key: tuple[object, ...]) -> bool:
        return len(key) == len(self.key) and all(a is b for a, b in zip(key, self.key, strict=True))


@dataclass(frozen=True, eq=False)
class _CudaStream:
    name: str
    device: Cuda
    queue: Any  # cupy.cuda.Stream
    marks: dict[str, Any]  # of all streams of the device

    @contextmanager
    def work(self, name: str, reads: Iterable[str], writes: Iterable[str]) -> Iterator[None]:
        with self.device.guarded(), self.device.xp.cuda.Device(self.device.number), self.queue:
            yield

    def record(self, mark: str) -> None:
        if mark not in self.marks:
            self.marks[mark] = self.device.xp.cuda.Event(disable_timing=True)
        self.marks[mark].record(self.queue)

    def wait(self, mark: str) -> None:
        self.queue.wait_event(self.marks[mark])

    def synchronise(self) -> None:
        with self.device.guarded():
            self.queue.synchronize()
