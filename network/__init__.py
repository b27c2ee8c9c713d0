"""Torch modules: backbone, shared layers, compact and full heads, detector; and safe reading of checkpoints."""
