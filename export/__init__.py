"""From torch to what runs: splitting checkpoints, ONNX graphs, and the certificates that compare them."""
