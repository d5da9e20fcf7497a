"""Memory of this process, and of what a connection takes of it."""

from __future__ import annotations

import ctypes
import gc
import os
import resource


def resident() -> int:
    """Bytes that this process has in memory, after what was freed has been given back."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most that this process ever had in memory, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_of_children() -> int:
    """The most that any ended child of this process ever had in memory, bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
