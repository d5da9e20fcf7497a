"""The classic pcap format: reads micro- and nanosecond files of both byte orders, writes nanoseconds.

Format: IETF draft-ietf-opsawg-pcap, tcpdump.org pcap-savefile(5).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from dataplane.capture.atomic import AtomicFile, Output
from dataplane.capture.packet import LINKTYPE_ETHERNET, MAX_CAPTURED, Buffer, Packet, cut_short, without_fcs
from dataplane.errors import InputError

MAGIC_NS = 0xA1B23C4D
# first four bytes -> byte order, nanoseconds per unit of the second timestamp field
MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
FILE_HEADER = 24
_RECORD_HEADER = 16
_FCS_PRESENT = 0x0400_0000
_WRITE_RECORD = struct.Struct("<IIII")
_FLUSH_AT = 1 << 20


class PcapForm(NamedTuple):
    """What the file header says of the records."""

    order: str  # of bytes: < or >
    unit: int  # nanoseconds of the second timestamp field
    link_type: int
    fcs_len: int


def pcap_form(data: Buffer, name: str) -> PcapForm:
    """Of a pcap file whose magic the caller has found in ``MAGICS``. Raises InputError, ``name`` in its text."""
    order, unit = MAGICS[data[:4]]
    if len(data) < FILE_HEADER:
        raise InputError(f"{name}: cut off in the file header: {len(data)} of {FILE_HEADER} bytes are there; capture again")
    _, major, minor, _, _, _, network = struct.unpack_from(order + "IHHiIII", data)
    if major != 2 or minor < 3:  # before 2.3 the two lengths of a record stood the other way round
        raise InputError(f"{name}: pcap version {major}.{minor} is not supported; convert it with: editcap -F pcapng {name} OUT")
    return PcapForm(order, unit, network & 0xFFFF, 2 * (network >> 28) if network & _FCS_PRESENT else 0)


def read_pcap(data: Buffer, name: str) -> Iterator[Packet]:
    """Packets of a pcap file whose magic the caller has found in ``MAGICS``. Raises InputError, ``name`` in its text."""
    return read_records(data, name, pcap_form(data, name))


def read_records(data: Buffer, name: str, form: PcapForm, offset: int = FILE_HEADER, number: int = 0) -> Iterator[Packet]:
    """Packets from ``offset`` on, ``number`` packets stand before it. Raises InputError."""
    header, end = struct.Struct(form.order + "IIII"), len(data)
    while offset < end:
        number += 1
        if end - offset < _RECORD_HEADER:
            raise cut_short(name, number, end - offset, _RECORD_HEADER)
        seconds, fraction, captured, orig_len = header.unpack_from(data, offset)
        if captured > MAX_CAPTURED:
            raise InputError(
                f"{name}: packet {number}: captured length {captured} is over {MAX_CAPTURED}, the most a capture holds; "
                "the file is damaged from here on, capture again"
            )
        offset += _RECORD_HEADER
        if captured > end - offset:
            raise cut_short(name, number, end - offset, captured)
        frame = data[offset : offset + captured]
        offset += captured
        orig_len = max(orig_len, captured)
        if form.fcs_len:
            frame, orig_len = without_fcs(frame, orig_len, form.fcs_len)
        yield Packet(seconds * 1_000_000_000 + fraction * form.unit, frame, form.link_type, "", number, orig_len)


class PcapWriter(Output):
    """Writes a little-endian nanosecond pcap file; it stands under its name only after ``close()``."""

    def __init__(self, path: str | os.PathLike[str], link_type: int = LINKTYPE_ETHERNET) -> None:
        self._file = AtomicFile(path)
        self._buffer = bytearray(struct.pack("<IHHiIII", MAGIC_NS, 2, 4, 0, 0, MAX_CAPTURED, link_type))

    def write(self, time_ns: int, data: bytes) -> None:
        """Append one packet; ``time_ns`` since the epoch. Raises InputError after 2106, when the format's seconds end."""
        seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
        if seconds > 0xFFFFFFFF:
            raise InputError(f"{self._file.path}: pcap cannot hold a time {seconds} s after 1970; write pcapng")
        self._buffer += _WRITE_RECORD.pack(seconds, nanoseconds, len(data), len(data))
        self._buffer += data
        if len(self._buffer) >= _FLUSH_AT:
            self._flush()

    def write_records(self, records: memoryview) -> None:
        """Append whole records that are in the file's form already."""
        self._flush()
        self._file.write(records)

    def close(self) -> None:
        """Put the file in its place."""
        self._flush()
        self._file.commit()

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.discard()

    def _flush(self) -> None:
        self._file.write(self._buffer)
        self._buffer.clear()
