"""Atomic writing of files and folders, and bounded reading of untrusted archives, JSON and YAML."""
