"""What executes a loaded graph: one file per runtime, one seam for all."""
