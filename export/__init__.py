"""Export from torch: splitting of checkpoints, ONNX graphs, and certificates of their agreement."""
