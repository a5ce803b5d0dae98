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
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(*pair) for pair in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, KEPT_BYTES)))
