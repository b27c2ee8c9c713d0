"""Claims about Hydra, one a test."""
