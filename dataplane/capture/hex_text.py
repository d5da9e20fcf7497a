"""Frames as hexadecimal text, one a line: what is quickest to paste. White space and what follows ``#`` mean nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dataplane.capture.open import load, read_capture
from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW, MAX_CAPTURED, Packet
from dataplane.capture.pcapng_read import SECTION_MAGIC
from dataplane.capture.tunnel import ETHERTYPE_TEB, inner_type
from dataplane.errors import InputError

_TEXT = frozenset(b"0123456789abcdefABCDEF# \t\r\n")


def open_frames(path: str | os.PathLike[str]) -> Iterator[Packet]:
    """Packets of a capture, or of hexadecimal text; ``-`` is standard input.

    A line that its own lengths say to be a whole IP packet is one, any other an Ethernet frame. Raises InputError with the line's
    or packet's number, also where there is none at all.
    """
    name = os.fspath(path)
    data = load(name)
    if data[0] in _TEXT and data[:4] != SECTION_MAGIC:
        return _read_text(bytes(data), name)
    return read_capture(data, name, at_least_one=True)


def _read_text(data: bytes, name: str) -> Iterator[Packet]:
    number = 0
    for line_number, line in enumerate(data.splitlines(), 1):
        digits = b"".join(line.partition(b"#")[0].split())
        if not digits:
            continue
        number += 1
        yield _packet(digits, f"{name}:{line_number}", number)
    if number == 0:
        raise InputError(f"{name}: holds no frames: give one a line in hexadecimal, or a pcap or pcapng capture")


def _packet(digits: bytes, where: str, number: int) -> Packet:
    try:
        frame = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        raise InputError(f"{where}: not a frame in hexadecimal (two digits a byte), and the file is no pcap or pcapng capture") from None
    if len(frame) > MAX_CAPTURED:
        raise InputError(f"{where}: a frame of {len(frame)} bytes; at most {MAX_CAPTURED} can be")
    kind = inner_type(frame)
    raw = kind != ETHERTYPE_TEB
    link_type = LINKTYPE_RAW if raw else LINKTYPE_ETHERNET
    return Packet(0, frame, link_type, "", number, len(frame), ethertype=kind if raw else 0)
