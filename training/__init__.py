"""Making training data, training, and measuring."""
