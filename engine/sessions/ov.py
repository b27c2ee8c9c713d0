"""OpenVINO on the CPU."""

import numpy as np
import onnx
import openvino

from engine.errors import GraphError

from .base import Arrays, Session


class OvSession(Session):
    """A graph in OpenVINO, on the CPU and nowhere else, in the precision that the graph has."""

    def __init__(self, graph: bytes, threads: int = 0) -> None:
        core = openvino.Core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self._model = core.compile_model(core.read_model(graph), "CPU", options)
        except Exception as error:  # the runtime has no common error type
            raise _graph_error("refuses the graph", error) from error
        self._request = self._model.create_infer_request()
        self.runtime = f"openvino {openvino.__version__.split('-')[0]} CPU"
        known = onnx.load_model_from_string(graph).graph
        self.inputs = tuple(port.name for port in known.input)
        # inputs go by name, for those that nothing reads are gone; outputs by place, for they may go by what feeds them
        self._ports = {name: at for at, port in enumerate(self._model.inputs) for name in port.names}
        self.outputs = tuple(port.name for port in known.output)

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        try:
            fed = {self._ports[name]: feeds[name] for name in self.inputs if name in self._ports}
            found = self._request.infer(fed, share_inputs=True)
        except Exception as error:
            raise _graph_error("fails in the graph", error) from error
        return {name: np.array(found[place]) for place, name in enumerate(self.outputs)}

    def close(self) -> None:
        del self._request, self._model


def _graph_error(what: str, error: Exception) -> GraphError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
    return GraphError(f"OpenVINO {what}: {reason}; use a graph that `g20 extract` wrote, or --runtime onnxruntime")
