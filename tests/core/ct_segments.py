"""TCP segments for the connection tracker, and what conntrack does around it: look up, begin, confirm, expire."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

SECOND = 1_000_000_000
FLAG_BITS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20}
NOP = b"\x01"
SACK_PERMITTED = b"\x04\x02"


def window_scale(shift: int) -> bytes:
    return bytes([3, 3, shift])


def timestamps(value: int, echo: int) -> bytes:
    return NOP * 2 + struct.pack(">BBII", 8, 10, value, echo)


def sack(*blocks: tuple[int, int]) -> bytes:
    return NOP * 2 + bytes([5, 2 + 8 * len(blocks)]) + b"".join(struct.pack(">II", *block) for block in blocks)


def segment(flags: str, seq: int = 0, ack: int = 0, *, win: int = 65535, payload: int = 0, options: bytes = b"") -> bytes:
    """A TCP header with ``payload`` zero bytes; the checksum stays 0, since the tracker leaves it to its caller."""
    options += bytes(-len(options) % 4)
    bits = sum(FLAG_BITS[flag] for flag in flags)
    offset = (5 + len(options) // 4) << 4
    return struct.pack(">HHIIBBHHH", 40000, 80, seq % 2**32, ack % 2**32, offset, bits, win, 0, 0) + options + bytes(payload)


class Conntrack:
    """One TCP connection's entry and the little of nf_conntrack_in() that it needs; times in ns."""

    def __init__(self, ct: ModuleType, **settings: int) -> None:
        self.ct = ct
        self.settings = ct.Settings(**settings)
        self.entry: Any = None
        self.expires = 0
        self.verdict = -1  # the tracker's last one

    def send(self, direction: int, seg: bytes, now: int = 0) -> str:
        """Track a segment: the ct state that rules see. ``direction`` 0 is that of the entry's first segment."""
        if self.entry is not None and self.expires <= now:
            self.entry = None
        if not self.ct.Tcp.valid(seg):
            return "INVALID"
        if self.entry is None:
            return self._begin(seg, now)
        entry = self.entry
        self.verdict, timeout = entry.packet(direction, seg, self.expires - now)
        if timeout != self.ct.KEEP_TIMEOUT:
            self.expires = now + timeout
        if self.verdict == self.ct.REPEAT:
            return self._begin(seg, now)
        if self.verdict == self.ct.INVALID:
            return "INVALID"
        state = "ESTABLISHED" if direction or entry.status & self.ct.SEEN_REPLY else "NEW"
        if direction:
            entry.status |= self.ct.SEEN_REPLY
        if self.verdict == self.ct.KILL:
            self.entry = None
        return state

    def _begin(self, seg: bytes, now: int) -> str:
        self.entry = None
        entry = self.ct.Tcp(self.settings)
        if not entry.new(seg):
            return "INVALID"
        self.verdict, timeout = entry.packet(0, seg, 0)
        if self.verdict == self.ct.INVALID:
            return "INVALID"
        entry.status |= self.ct.CONFIRMED
        self.entry = entry
        self.expires = now + timeout
        return "NEW"

    @property
    def state(self) -> str | None:
        return None if self.entry is None else self.entry.state

    @property
    def assured(self) -> bool:
        return self.entry is not None and bool(self.entry.status & self.ct.ASSURED)

    @property
    def replied(self) -> bool:
        return self.entry is not None and bool(self.entry.status & self.ct.SEEN_REPLY)


def handshake(track: Conntrack, now: int = 0, *, options: Sequence[bytes] = (b"", b"")) -> None:
    """Client at 1001, server at 5001 afterwards, both with a window of 65535 (unscaled)."""
    assert track.send(0, segment("S", 1000, options=options[0]), now) == "NEW"
    assert track.send(1, segment("SA", 5000, 1001, options=options[1]), now) == "ESTABLISHED"
    assert track.send(0, segment("A", 1001, 5001), now) == "ESTABLISHED"
    assert track.state == "ESTABLISHED"
    assert track.assured
