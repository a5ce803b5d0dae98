"""A run as a folder: where it is, who holds it, what it is, and its checkpoints."""
