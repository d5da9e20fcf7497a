"""Sizes of frames that are compared, and what frames of a size take on a link.

A size is that of the Ethernet frame at its sender, FCS included, as RFC 2544 9.1 counts: 18 more than the IP packet's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dataplane.errors import InputError

FRAME_EXTRA = 18  # Ethernet header 14, FCS 4
FCS = 4
LEAST_CAPTURED = 60  # what is shorter is padded on the wire: 64 with the FCS (IEEE 802.3 4A.2.3.2.4)
BETWEEN_FRAMES = 20  # preamble and start delimiter 8, gap 12 (IEEE 802.3 4A.4.2)
LEAST, MOST = 64, 65535 + FRAME_EXTRA
IMIX = (64,) * 7 + (594,) * 4 + (1518,)
"""Simple IMIX: 40, 576 and 1500 bytes of IP, 7:4:1, as frames (docs/compare.md names the source)."""
DEFAULT = "64,512,1518,imix,tcp"
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([kMGT]?)(?:bit/s|bit|bps|b)?")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True)
class Size:
    """One column of the comparison: frames sent in turn, or a TCP connection that sends as much as fits."""

    label: str
    frames: tuple[int, ...] = ()  # none: TCP

    @property
    def is_tcp(self) -> bool:
        return not self.frames

    def least(self, shortest: int) -> tuple[int, ...]:
        """The frames of a mix are as long as their headers want them; a single size is what was asked for."""
        return tuple(max(frame, shortest) for frame in self.frames) if len(self.frames) > 1 else self.frames


def parse_sizes(text: str) -> tuple[Size, ...]:
    """``64,512,imix,tcp``. Raises InputError for anything else."""
    return tuple(dict.fromkeys(_parse_size(word.strip().lower()) for word in text.split(",")))


def _parse_size(word: str) -> Size:
    if word == "imix":
        return Size(word, IMIX)
    if word == "tcp":
        return Size(word)
    if not word.isdecimal() or not LEAST <= int(word) <= MOST:
        raise InputError(f"--sizes: {word!r} is none: write bytes of an Ethernet frame with FCS ({LEAST} to {MOST}), imix or tcp")
    return Size(str(int(word)), (int(word),))


def parse_rate(text: str) -> int:
    """Bits per second of ``10Gbit/s``, ``400M`` or ``9600``. Raises InputError for anything else."""
    match = _RATE.fullmatch(text.strip())
    rate = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if rate < 1:
        raise InputError(f"--rate {text}: write a number and bit/s, kbit/s, Mbit/s, Gbit/s or Tbit/s, such as 10Gbit/s")
    return rate


def on_wire(captured: int) -> int:
    """Bytes of the frame on the wire, padding and FCS included, of one that is captured with ``captured`` bytes."""
    return max(captured, LEAST_CAPTURED) + FCS
