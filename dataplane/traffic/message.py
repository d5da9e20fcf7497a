"""What the applications say to each other: a request names its size and the size of the answer it wants.

So an answering end needs to know nothing but what arrives. All numbers are unsigned and in network byte order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("!IIII")
_PATTERN = bytes(range(256)) * 257  # any 65,535 bytes from any of 256 starts


@dataclass(frozen=True, slots=True)
class Header:
    """The first 16 bytes of a request; a UDP response begins with the same."""

    flow: int  # number of the flow in the run
    sequence: int  # of the request in the flow, from 0
    request_bytes: int  # with this header
    response_bytes: int

    def pack(self) -> bytes:
        return _HEADER.pack(self.flow, self.sequence, self.request_bytes, self.response_bytes)


def parse_header(data: bytes) -> Header | None:
    """The header at the start of ``data``, or None if that is too short to hold one."""
    return Header(*_HEADER.unpack_from(data)) if len(data) >= _HEADER.size else None


@dataclass(frozen=True, slots=True)
class Body:
    """``head`` and then a fixed pattern, ``length`` bytes together (``head`` is cut if it is longer); never held as a whole."""

    head: bytes
    length: int

    def slice(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (at most 65,535 of them)."""
        stop = min(stop, self.length)
        first = self.head[start:stop]
        start += len(first)
        return first + _PATTERN[start & 0xFF :][: max(0, stop - start)]
