"""Instructions of this thread in user mode, by the processor's own counter where the kernel lets us: perf_event_open(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from functools import cache

_SYSCALLS = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTES = 64  # PERF_ATTR_SIZE_VER0, include/uapi/linux/perf_event.h
_HARDWARE, _INSTRUCTIONS = 0, 1
_NOT_KERNEL_NOT_HYPERVISOR = 1 << 5 | 1 << 6


def _open() -> int:
    """A counter's file descriptor. Raises OSError."""
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(0, f"perf_event_open is not known for {platform.machine()}")
    attributes = struct.pack("=IIQQQQQ", _HARDWARE, _ATTRIBUTES, _INSTRUCTIONS, 0, 0, 0, _NOT_KERNEL_NOT_HYPERVISOR)
    memory = ctypes.create_string_buffer(attributes.ljust(_ATTRIBUTES, b"\0"))
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(number, memory, 0, -1, -1, 0)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(descriptor)


@cache
def why_not() -> str:
    """Why instructions cannot be counted here, "" if they can."""
    try:
        os.close(_open())
    except OSError as error:
        return f"perf_event_open: {error.strerror}"
    return ""


class InstructionCounter:
    """Counts between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self._descriptor = -1 if why_not() else _open()
        self._before = 0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _read(self) -> int:
        return int(struct.unpack("Q", os.read(self._descriptor, 8))[0])

    def start(self) -> None:
        if self._descriptor >= 0:
            self._before = self._read()

    def stop(self) -> int | None:
        """Since ``start``; None where they cannot be counted."""
        return self._read() - self._before if self._descriptor >= 0 else None
