"""Post-training quantisation of the trunk to int8, calibrated on real images.

Weights are quantised per output channel to 7 bits of a signed byte: processors without VNNI add two products of bytes
in 16 bits, which 8 bits would overflow. What stays in fp32: the image's resize and normalisation, and the fused map.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from engine.heads import IMAGE, fused_shape
from engine.sessions.graphs import check_graph
from engine.sessions.half import simplify
from network.heads import Size

QUANTISED: Final = ("Conv", "Add", "MaxPool", "Relu", "Resize")
BEFORE: Final = "Conv"  # nodes before the first one stay in float32


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._left: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {"image": image[None, None]}


def int8_graph(trunk: bytes, images: Iterable[np.ndarray], size: Size, symmetric: bool = False) -> bytes:
    """image -> fused, as `trunk` computes it, in 8 bits. images: float32[1024, 1024] in 0..1, for calibration.

    symmetric: as TensorRT has it, with all bits of the weights used, zero points of zero, and biases in float32.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        simplify(trunk, plain)
        quantize_static(
            plain,
            quantised,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_before_the_network(onnx.load(plain)),
            per_channel=True,
            reduce_range=not symmetric,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
        )
        model = onnx.load(quantised)
    check_graph(model, IMAGE, fused_shape(size))
    return bytes(model.SerializeToString())


def _before_the_network(model: onnx.ModelProto) -> list[str]:
    names = []
    for node in model.graph.node:
        if node.op_type == BEFORE:
            break
        names.append(node.name)
    return names
