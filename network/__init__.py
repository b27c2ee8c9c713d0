"""The torch modules: backbone, full head, the whole detector, and reading checkpoints safely."""
