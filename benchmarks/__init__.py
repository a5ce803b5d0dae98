"""Measurements of speed, of errors and of intervals, each a program of its own."""
