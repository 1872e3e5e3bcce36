"""The C library's allocator, told to keep the memory that a training step frees."""

from __future__ import annotations

import ctypes
import os

# Names and values of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
NEVER = 2**31 - 1

SHARE = 0.25  # of the machine's memory, that a process may keep
MOST = 6 * 2**30  # bytes, however large the machine: a container may be allowed less than it sees


class KeptMemory:
    """Has glibc hand freed memory out again in place of returning it to the system.

    By default every large tensor on the CPU is fresh memory, whose pages the system clears one by
    one as they are touched, which takes much of a step of a small model. Where the C library is
    another, nothing changes.

    Attributes:
        kept: whether memory is kept.
    """

    def __init__(self) -> None:
        try:
            self._libc = ctypes.CDLL(None)
            mallopt, _ = self._libc.mallopt, self._libc.malloc_trim
        except (AttributeError, OSError, TypeError):
            self.kept = False
            return
        # Backward has a thread of its own; from an arena of its own nobody else would be served.
        wanted = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER))
        self.kept = all([mallopt(name, value) == 1 for name, value in wanted])
        self._limit = min(SHARE * os.sysconf("SC_PHYS_PAGES"), MOST / os.sysconf("SC_PAGE_SIZE"))

    def return_surplus(self) -> bool:
        """Return what is free, if the process holds more than its share; says whether it did."""
        if not self.kept or _resident_pages() <= self._limit:
            return False
        self._libc.malloc_trim(0)
        return True


def _resident_pages() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1])
    except OSError:
        return 0
