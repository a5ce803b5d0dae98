"""Scores of a test set, as pure NumPy, each formula once."""
