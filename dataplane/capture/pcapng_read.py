"""The pcapng format, reading: any number of sections, of both byte orders, with any number of interfaces.

Format: IETF draft-ietf-opsawg-pcapng. Blocks that carry no packets (names, statistics, secrets, custom and
unknown ones) are skipped by their length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dataplane.capture.packet import MAX_CAPTURED, Buffer, Packet, cut_short, without_fcs
from dataplane.errors import InputError

SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"  # reads the same in both byte orders
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION, _INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_PACKET_AT = {_OBSOLETE_PACKET: 28, _SIMPLE_PACKET: 12, _ENHANCED_PACKET: 28}  # where the packet stands in its block
_TIME_END = 1 << 63  # the year 2262: what a signed 64-bit count of nanoseconds holds
_MAX_BLOCK = 16 << 20  # Wireshark's limit too; a packet block cannot come near it

_OPT_END, _OPT_COMMENT = 0, 1
_IF_NAME, _IF_TSRESOL, _IF_FCSLEN, _IF_TSOFFSET = 2, 9, 13, 14
_EPB_FLAGS, _EPB_PACKETID, _EPB_VERDICT = 2, 5, 7
_INBOUND, _OUTBOUND = 1, 2
_VERDICT_TC = 1
# option -> its length, where the format fixes one and we read it
_PACKET_LENGTHS = {_EPB_FLAGS: 4, _EPB_PACKETID: 8}
_INTERFACE_LENGTHS = {_IF_TSRESOL: 1, _IF_FCSLEN: 1, _IF_TSOFFSET: 8}

Options = dict[int, list[bytes]]


class Interface(NamedTuple):
    """What a capture says of an interface."""

    name: str
    link_type: int
    snap_len: int  # 0: no limit
    units_per_second: int
    offset_ns: int
    fcs_len: int

    def time_ns(self, high: int, low: int) -> int:
        return self.offset_ns + ((high << 32) | low) * 1_000_000_000 // self.units_per_second


def read_pcapng(data: Buffer, name: str) -> Iterator[Packet]:
    """Packets of a pcapng file. A simple packet block has no time: it gets that of the packet before it.

    Raises InputError (``name`` and the packet's number in its text) for anything cut off or contradictory.
    """
    reader = BlockReader(data, name)
    while reader.offset < len(data):
        packet = reader.step()
        if packet is not None:
            yield packet


class BlockReader:
    """Block by block: what was read so far, and where the next block begins, may be set from outside."""

    def __init__(self, data: Buffer, name: str) -> None:
        self._data = data
        self._name = name
        self.offset = 0
        self.order = "<"
        self.interfaces: list[Interface] = []
        self.number = 0  # packets so far
        self.time_ns = 0  # of the last one
        self.packet_at = 0  # where its bytes are
        self._readers = {_ENHANCED_PACKET: self._enhanced, _SIMPLE_PACKET: self._simple, _OBSOLETE_PACKET: self._obsolete}

    def step(self) -> Packet | None:
        """Read the next block; its packet, or None if it holds none. Raises InputError."""
        start = self.offset
        kind, body = self._next_block()
        read = self._readers.get(kind)
        if read is not None:
            self.number += 1
            packet = read(body)
            self.time_ns = packet.time_ns
            self.packet_at = start + _PACKET_AT[kind]
            return packet
        if kind == _SECTION:
            self._section(body)
        elif kind == _INTERFACE:
            self.interfaces.append(self._interface(body))
        return None

    def _next_block(self) -> tuple[int, bytes]:
        """Type and body of the next block, both copies of its length checked."""
        data, start = self._data, self.offset
        left = len(data) - start
        if left < 12:
            raise cut_short(self._name, self.number + 1, left, 12)
        if data[start : start + 4] == SECTION_MAGIC:
            self._set_byte_order(data[start + 8 : start + 12])
        kind, length = struct.unpack_from(self.order + "II", data, start)
        if length < 12 or length % 4 or length > _MAX_BLOCK:
            raise self._error(f"a block of type {kind:#x} gives its length as {length}")
        if length > left:
            number = self.number + 1
            if kind in _PACKET_AT:
                raise cut_short(self._name, number, left, length)
            raise self._error(f"cut off in a block of type {kind:#x}: {left} of {length} bytes are there")
        (again,) = struct.unpack_from(self.order + "I", data, start + length - 4)
        if again != length:
            raise self._error(f"a block of type {kind:#x} is {length} bytes long by its start and {again} by its end")
        self.offset = start + length
        return kind, data[start + 8 : start + length - 4]

    def _set_byte_order(self, magic: bytes) -> None:
        order = _BYTE_ORDERS.get(magic)
        if order is None:
            raise self._error(f"a section header has byte-order magic {magic.hex(' ')}")
        self.order = order

    def _section(self, body: bytes) -> None:
        if len(body) < 16:
            raise self._error("a section header is too short")
        major, minor = struct.unpack_from(self.order + "HH", body, 4)
        if major != 1:
            raise self._error(f"pcapng version {major}.{minor} is not known")
        self.interfaces = []

    def _interface(self, body: bytes) -> Interface:
        index = len(self.interfaces)
        if len(body) < 8:
            raise self._error(f"the description of interface {index} is too short")
        link_type, _, snap_len = struct.unpack_from(self.order + "HHI", body)
        options = self._options(body, 8, f"interface {index}", _INTERFACE_LENGTHS)
        resolution = options.get(_IF_TSRESOL, [b"\x06"])[0][0]
        units = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        (seconds,) = struct.unpack(self.order + "q", options.get(_IF_TSOFFSET, [bytes(8)])[0])
        return Interface(
            name=_text(options.get(_IF_NAME, [b""])[0]),
            link_type=link_type,
            snap_len=snap_len,
            units_per_second=units,
            offset_ns=seconds * 1_000_000_000,
            fcs_len=options.get(_IF_FCSLEN, [b"\0"])[0][0],
        )

    def _enhanced(self, body: bytes) -> Packet:
        if len(body) < 20:
            raise self._error("the packet block is too short", packet=True)
        index, high, low, captured, orig_len = struct.unpack_from(self.order + "IIIII", body)
        return self._timed_packet(body, index, high, low, captured, orig_len)

    def _obsolete(self, body: bytes) -> Packet:
        if len(body) < 20:
            raise self._error("the packet block is too short", packet=True)
        index, _, high, low, captured, orig_len = struct.unpack_from(self.order + "HHIIII", body)
        return self._timed_packet(body, index, high, low, captured, orig_len)

    def _timed_packet(self, body: bytes, index: int, high: int, low: int, captured: int, orig_len: int) -> Packet:
        interface = self._interface_of(index)
        if captured > MAX_CAPTURED or captured > len(body) - 20:
            raise self._error(f"captured length {captured} does not fit its block of {len(body) + 12} bytes", packet=True)
        options = self._options(body, 20 + (captured + 3) // 4 * 4, f"packet {self.number}", _PACKET_LENGTHS)
        time_ns = interface.time_ns(high, low)
        if not 0 <= time_ns < _TIME_END:
            raise self._error(f"its time, {time_ns} ns since 1970, is out of range", packet=True)
        packet = self._packet(interface, time_ns, body[20 : 20 + captured], orig_len)
        if not options:
            return packet
        return packet._replace(
            comments=tuple(_text(comment) for comment in options.get(_OPT_COMMENT, ())),
            outgoing=self._direction(options),
            packet_id=self._integer(options.get(_EPB_PACKETID, [b""])[0]),
            verdict=self._verdict(options.get(_EPB_VERDICT, ())),
        )

    def _simple(self, body: bytes) -> Packet:
        interface = self._interface_of(0)
        if len(body) < 4:
            raise self._error("the packet block is too short", packet=True)
        (orig_len,) = struct.unpack_from(self.order + "I", body)
        captured = min(orig_len, interface.snap_len or orig_len)
        if captured > MAX_CAPTURED or captured > len(body) - 4:
            raise self._error(f"captured length {captured} does not fit its block of {len(body) + 12} bytes", packet=True)
        return self._packet(interface, self.time_ns, body[4 : 4 + captured], orig_len)

    def _packet(self, interface: Interface, time_ns: int, data: bytes, orig_len: int) -> Packet:
        orig_len = max(orig_len, len(data))
        if interface.fcs_len:
            data, orig_len = without_fcs(data, orig_len, interface.fcs_len)
        return Packet(time_ns, data, interface.link_type, interface.name, self.number, orig_len)

    def _interface_of(self, index: int) -> Interface:
        if index >= len(self.interfaces):
            raise self._error(f"belongs to interface {index}, but its section describes {len(self.interfaces)}", packet=True)
        return self.interfaces[index]

    def _options(self, body: bytes, offset: int, where: str, lengths: dict[int, int]) -> Options:
        """Options from ``offset`` to the body's end, the values of each code in order."""
        found: Options = {}
        while offset + 4 <= len(body):
            code, length = struct.unpack_from(self.order + "HH", body, offset)
            if code == _OPT_END:
                break
            value = body[offset + 4 : offset + 4 + length]
            if len(value) < length or length != lengths.get(code, length):
                raise self._error(f"option {code} of {where} gives its length as {length}")
            found.setdefault(code, []).append(value)
            offset += 4 + (length + 3) // 4 * 4
        return found

    def _direction(self, options: Options) -> bool | None:
        flags = self._integer(options.get(_EPB_FLAGS, [b""])[0]) or 0
        return {_INBOUND: False, _OUTBOUND: True}.get(flags & 3)

    def _verdict(self, values: list[bytes] | tuple[()]) -> int | None:
        for value in values:
            if len(value) == 9 and value[0] == _VERDICT_TC:
                return self._integer(value[1:])
        return None

    def _integer(self, value: bytes) -> int | None:
        return int.from_bytes(value, "little" if self.order == "<" else "big") if value else None

    def _error(self, what: str, *, packet: bool = False) -> InputError:
        place = f"packet {self.number}" if packet else f"after packet {self.number}"
        return InputError(f"{self._name}: {place}: {what}; the file is damaged or not pcapng, capture again or repair it with editcap")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
