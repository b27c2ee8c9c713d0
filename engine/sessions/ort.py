"""ONNX Runtime on the CPU."""

import numpy as np
import onnxruntime

from engine.errors import GraphError

from .base import Arrays, Session


class OrtSession(Session):
    """A graph in ONNX Runtime, on the CPU and nowhere else."""

    def __init__(self, graph: bytes, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common error type
            raise _graph_error("refuses the graph", error) from error
        self.runtime = f"onnxruntime {onnxruntime.__version__} CPU"
        self.inputs = tuple(port.name for port in self._session.get_inputs())
        self.outputs = tuple(port.name for port in self._session.get_outputs())

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        try:
            found = self._session.run(None, dict(feeds))
        except Exception as error:
            raise _graph_error("fails in the graph", error) from error
        return dict(zip(self.outputs, found, strict=True))

    def close(self) -> None:
        del self._session


def _graph_error(what: str, error: Exception) -> GraphError:
    reason = (str(error).splitlines() or ["no reason given"])[0]
    return GraphError(f"ONNX Runtime {what}: {reason}; use a graph that `g20 extract` wrote")
