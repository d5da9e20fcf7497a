"""The checksum of RFC 1071, as arithmetic on sums that many frames share.

Written here and not taken from the core: rows check the core's bytes with it.
"""

from __future__ import annotations

import struct


def word_sum(data: bytes) -> int:
    """Sum of the 16-bit words of ``data``, which is padded with a zero byte where its length is odd."""
    return sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))


def folded(total: int) -> int:
    """A sum with its carries added in: 16 bits."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def checksum(total: int) -> int:
    """What a checksum field holds whose other words sum up to ``total``."""
    return folded(total) ^ 0xFFFF
