"""A run as a folder: its paths, lock, identity, provenance and checkpoints, and resuming it."""
