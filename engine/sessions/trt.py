"""TensorRT: a graph built into a plan for this GPU, once, and run from it.

Written on what TensorRT 10.3 to 11 and TensorRT-RTX have in common. Networks are strongly typed: every precision is
given in the graph. Shapes are fixed, so is every address within a CUDA graph; no plan is ever taken from elsewhere.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from engine.devices.cuda import INSTALL, Cuda
from engine.errors import DeviceError, GraphError, UnavailableError

from .base import Arrays, Session
from .plans import PlanCache, Timings

log = logging.getLogger(__name__)

WORKSPACE_BYTES: Final = 1 << 30
SCHEMA: Final = 1  # of what a plan's key holds
Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


def flavour(name: str) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`. Raises UnavailableError where it is not here."""
    try:
        return import_module(name)
    except ImportError as error:
        how = INSTALL if name == "tensorrt_rtx" else "see NVIDIA's installation guide, or use --runtime tensorrt_rtx"
        raise UnavailableError(f"runtime {name!r} is not installed ({error}): {how}") from error


class TrtSession(Session):
    """A graph as a TensorRT plan. The first session of a graph on a GPU builds the plan and keeps it."""

    replayable = True

    def __init__(self, graph: bytes, device: Cuda, name: str, cache: PlanCache | None = None) -> None:
        self._trt = flavour(name)
        self._device = device
        self._logger = _make_logger(self._trt)
        self.runtime = f"{name} {self._trt.__version__} CUDA"
        cache = cache or PlanCache()
        key = {
            "graph": hashlib.sha256(graph).hexdigest(),
            "runtime": self.runtime,
            "gpu": device.describe(),
            "driver": str(device.xp.cuda.runtime.driverGetVersion()),
            "workspace": str(WORKSPACE_BYTES),
            "schema": str(SCHEMA),
        }
        plan = cache.plan(key, lambda: self._build(graph, cache, key))
        self._engine = self._trt.Runtime(self._logger).deserialize_cuda_engine(plan)
        if self._engine is None:  # as after an update of the driver that its version does not tell
            plan = cache.plan(key, lambda: self._build(graph, cache, key), anew=True)
            self._engine = self._trt.Runtime(self._logger).deserialize_cuda_engine(plan)
        if self._engine is None:
            raise GraphError(f"{self.runtime} does not load the plan it has built: {self._logger.last}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceError(f"{device.name}: no memory for a plan's workspace: {self._logger.last}")
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        is_input = {n: self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.INPUT for n in names}
        self.inputs = tuple(n for n in names if is_input[n])
        self.outputs = tuple(n for n in names if not is_input[n])
        self._shapes = {n: tuple(self._engine.get_tensor_shape(n)) for n in self.outputs}

    def run(self, feeds: Arrays) -> Arrays:
        xp = self._device.xp
        fed = {name: xp.ascontiguousarray(feeds[name]) for name in self.inputs}
        found: dict[str, Any] = {name: xp.empty(shape, xp.float32) for name, shape in self._shapes.items()}
        for name, array in {**fed, **found}.items():
            self._context.set_tensor_address(name, array.data.ptr)
        if not self._context.execute_async_v3(xp.cuda.get_current_stream().ptr):
            raise DeviceError(f"{self._device.name}: {self.runtime} fails in the graph: {self._logger.last}")
        return found

    def close(self) -> None:
        del self._context, self._engine

    def _build(self, graph: bytes, cache: PlanCache, key: dict[str, str]) -> bytes:
        timings = cache.timings({name: key[name] for name in ("runtime", "gpu", "driver")})
        return build(graph, self._trt, timings=timings, progress=_logged)


def build(
    graph: bytes,
    trt: Any,
    *,
    capabilities: Sequence[str] = (),
    timings: Timings | None = None,
    progress: Progress | None = None,
) -> bytes:
    """A plan of a graph. Raises GraphError, which names the node, where TensorRT refuses it.

    capabilities: "SM80" and the like, of TensorRT-RTX alone, which then builds for those and needs no GPU.
    """
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    network = parsed(graph, trt, builder, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for place, name in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), place)
    if timings is not None and not hasattr(trt, "ComputeCapability"):  # TensorRT-RTX finds kernels at run time
        config.set_timing_cache(config.create_timing_cache(timings.data), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise GraphError(f"{trt.__name__} {trt.__version__} does not build the graph: {logger.last}")
    if timings is not None and config.get_timing_cache() is not None:
        timings.keep(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def parsed(graph: bytes, trt: Any, builder: Any, logger: Any) -> Any:
    """A graph as TensorRT's network, for `build` and for proofs about it."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reasons = "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
        raise GraphError(f"{trt.__name__} {trt.__version__} does not take the graph: {reasons or logger.last}")
    return network


def _logged(phase: str, done: int, steps: int) -> None:
    if done == 0:
        log.info("building a TensorRT plan: %s, %d steps", phase, steps)


def _make_logger(trt: Any) -> Any:
    class LastError(trt.ILogger):  # type: ignore[misc]
        """Keeps the last error, for the message of ours."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "no reason given"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = message
            log.debug("%s", message)

    return LastError()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self.steps.get(phase_name, 0))
            return True  # goes on

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
