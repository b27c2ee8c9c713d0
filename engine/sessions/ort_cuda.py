"""ONNX Runtime on a GPU: CUDA execution provider, inputs and outputs bound in device memory."""

from typing import Any

import numpy as np
import onnxruntime

from engine.devices.cuda import Cuda
from engine.errors import GraphError, UnavailableError

from .base import Arrays, Session

PROVIDER = "CUDAExecutionProvider"


class OrtCudaSession(Session):
    """Graph in ONNX Runtime on the GPU, all of it: nodes that would go to the CPU are an error. Not replayable, for the
    runtime has further streams and memory of its own."""

    def __init__(self, graph: bytes, device: Cuda) -> None:
        """Raises UnavailableError where ONNX Runtime has no CUDA provider or the graph does not fit on it."""
        if PROVIDER not in onnxruntime.get_available_providers():
            raise UnavailableError(
                f"onnxruntime {onnxruntime.__version__} here runs on the CPU only: pip install 'hydra-rf[gpu]', "
                "with onnxruntime itself removed first"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._stream = device.stream("compute").queue  # the provider takes a stream at load only
        settings = {"device_id": str(device.number), "user_compute_stream": str(self._stream.ptr)}
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=[(PROVIDER, settings)])
        except Exception as error:  # the runtime has no common error type
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise UnavailableError(f"ONNX Runtime does not run this graph on {device.name}: {reason}") from error
        if self._session.get_providers()[0] != PROVIDER:  # it says so in its log only
            raise UnavailableError(f"ONNX Runtime fell back to the CPU: its libraries for {device.name} do not load")
        self._device = device
        self.runtime = f"onnxruntime {onnxruntime.__version__} CUDA"
        self.inputs = tuple(port.name for port in self._session.get_inputs())
        self._shapes = {port.name: tuple(port.shape) for port in self._session.get_outputs()}
        self.outputs = tuple(self._shapes)

    def run(self, feeds: Arrays) -> Arrays:
        xp, number = self._device.xp, self._device.number
        binding = self._session.io_binding()
        fed = {name: xp.ascontiguousarray(feeds[name]) for name in self.inputs}
        found: dict[str, Any] = {name: xp.empty(shape, xp.float32) for name, shape in self._shapes.items()}
        for name, array in fed.items():
            binding.bind_input(name, "cuda", number, np.float32, array.shape, array.data.ptr)
        for name, array in found.items():
            binding.bind_output(name, "cuda", number, np.float32, array.shape, array.data.ptr)
        current = xp.cuda.get_current_stream()
        is_other = current.ptr != self._stream.ptr
        if is_other:
            self._stream.wait_event(current.record())
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise GraphError(f"ONNX Runtime fails in the graph on {self._device.name}: {reason}") from error
        if is_other:
            current.wait_event(self._stream.record())
        return found

    def close(self) -> None:
        del self._session
