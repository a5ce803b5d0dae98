"""How many cores this process may use."""

import os


def available_cores() -> int:
    """Return how many cores this process may use; a batch system may limit them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
