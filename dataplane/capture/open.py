"""Open a capture of any format we read: pcap, pcapng, either of them gzipped."""

from __future__ import annotations

import gzip
import mmap
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from dataplane.capture.packet import Buffer, Packet, normalised
from dataplane.capture.pcap import MAGICS, read_pcap
from dataplane.capture.pcapng_read import SECTION_MAGIC, read_pcapng
from dataplane.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_KUZNETZOV_MAGICS = {b"\x34\xcd\xb2\xa1", b"\xa1\xb2\xcd\x34"}  # pcap with longer record headers, Linux 2.2's days


def open_capture(path: str | os.PathLike[str], *, at_least_one: bool = False) -> Iterator[Packet]:
    """Packets of a capture file, Ethernet frames or L3 bytes (see ``Packet``); ``-`` is standard input.

    Not being a capture shows at once, what is wrong with a packet when its turn comes: InputError, one line
    with the packet's number. With ``at_least_one`` a capture without packets is an error too.
    """
    name = os.fspath(path)
    return read_capture(load(name), name, at_least_one=at_least_one)


def read_capture(data: Buffer, name: str, *, at_least_one: bool = False) -> Iterator[Packet]:
    """As ``open_capture``, of a capture's bytes; ``name`` is what messages call it."""
    data = unzipped(data, name)
    packets = read_pcapng(data, name) if is_pcapng(data, name) else read_pcap(data, name)
    return _packets(packets, name, at_least_one)


def unzipped(data: Buffer, name: str) -> Buffer:
    """The bytes, decompressed if they are gzip's. InputError: those are damaged."""
    if data[:2] != _GZIP_MAGIC:
        return data
    try:
        return _not_empty(gzip.decompress(bytes(data)), name)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: the gzip data is damaged or cut off ({error}); capture or copy it again") from error


def is_pcapng(data: Buffer, name: str) -> bool:
    """False: it is pcap. InputError: it is neither."""
    magic = data[:4]
    if magic in MAGICS:
        return False
    if magic == SECTION_MAGIC:
        return True
    if magic in _KUZNETZOV_MAGICS:
        raise InputError(f"{name}: a pcap variant of old Linux systems; convert it with: editcap -F pcapng {name} OUT")
    raise InputError(
        f"{name}: not a pcap or pcapng capture (it starts with {magic.hex(' ')}); convert what Wireshark can read with: editcap {name} OUT"
    )


def no_packets(name: str) -> InputError:
    """The error for a capture without any."""
    return InputError(f"{name}: the capture holds no packets; give one with traffic (look with: capinfos {name})")


def load(name: str) -> Buffer:
    """The bytes of a file, ``-`` is standard input. InputError: it cannot be read, or is empty."""
    try:
        if name == "-":
            return _not_empty(sys.stdin.buffer.read(), "standard input")
        path = Path(name)
        with path.open("rb") as file:
            if path.is_file() and os.fstat(file.fileno()).st_size:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return _not_empty(file.read(), name)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{name}: cannot be read: {reason}; give the path of a pcap or pcapng file") from error


def _not_empty(data: bytes, name: str) -> bytes:
    if not data:
        raise InputError(f"{name}: the file is empty; give a pcap or pcapng file")
    return data


def _packets(packets: Iterator[Packet], name: str, at_least_one: bool) -> Iterator[Packet]:
    empty = True
    for packet in packets:
        empty = False
        yield normalised(packet, name)
    if empty and at_least_one:
        raise no_packets(name)
