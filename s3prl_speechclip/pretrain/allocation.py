"""The C library's allocator, told to keep the memory that a training step frees."""

from __future__ import annotations

import ctypes

# Names and values of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have glibc hand freed memory out again in place of returning it to the system.

    By default every large tensor on the CPU is fresh memory, whose pages the system clears one by
    one as they are touched: a quarter of a step of a small model. The process' memory stays at its
    peak instead. Does nothing, and gives False, where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Backward has a thread of its own, and an arena of its own would not hand out the others'.
    wanted = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER))
    return all([bool(mallopt(name, value)) for name, value in wanted])
