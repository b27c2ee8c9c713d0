"""Command line interface, and the benchmark that it runs."""
