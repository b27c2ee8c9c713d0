"""Measurements: quality and, later, speed. Nothing imports this."""
