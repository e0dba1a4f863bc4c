"""Memory that a training step frees is what the next one asks for."""

from __future__ import annotations

import ctypes
import platform

# Of glibc's mallopt, see malloc.h, and the most that it takes for the second.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 128 * 2**20, 32 * 2**20


def keep_freed() -> None:
    """Let this process keep up to 128 MiB of freed memory, in blocks of up to 32 MiB, for what comes next.

    glibc gives blocks back to the system at once, which then zeroes every page anew: half of the time of an
    evaluation. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
