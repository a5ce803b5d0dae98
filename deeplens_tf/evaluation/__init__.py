"""Metrics, probes, figures and the report of a run."""
