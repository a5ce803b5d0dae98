"""Metrics of a test set in pure NumPy, each formula once."""
