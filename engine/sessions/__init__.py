"""Sessions execute loaded ONNX graphs: one file per runtime, one protocol for all."""
