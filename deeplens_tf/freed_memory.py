"""What the C library does with the memory that a training step frees."""

import ctypes
import sys

# Parameters of glibc's mallopt, see malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
KEPT_BYTES = 2**31 - 1  # the largest value that mallopt accepts


def keep_freed_memory() -> bool:
    """Keep freed memory in the process, for the next step, and return whether that is possible.

    A step frees hundreds of megabytes. By default glibc returns them to the kernel, which zeroes
    each page again when the next step touches it: an eighth of the processor time of a contrastive
    step. Other C libraries do as they like.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    return all(mallopt(*pair) for pair in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, KEPT_BYTES)))


def return_freed_memory() -> bool:
    """Return the freed memory that is kept to the kernel, and return whether that is possible.

    The next step takes as much again, which costs a few tenths of a second.
    """
    trim = _function("malloc_trim")
    if trim is None:
        return False
    trim(0)
    return True


def _function(name: str) -> "ctypes._NamedFuncPointer | None":
    """Return a function of glibc, or None with another C library."""
    is_linux = sys.platform.startswith("linux")
    return getattr(ctypes.CDLL(None), name, None) if is_linux else None
