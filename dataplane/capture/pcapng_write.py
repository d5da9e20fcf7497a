"""The pcapng format, writing: one section, nanoseconds, with what makes a capture explain itself.

Interface names, direction, packet ids, verdicts, comments and address names are standard blocks and options
of IETF draft-ietf-opsawg-pcapng, so stock Wireshark shows them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dataplane.capture.atomic import AtomicFile, Output
from dataplane.capture.packet import LINKTYPE_ETHERNET
from dataplane.errors import InputError

# Linux include/uapi/linux/pkt_cls.h: what the kernel's traffic control would have answered
TC_ACT_OK = 0
TC_ACT_SHOT = 2

_SECTION, _INTERFACE, _NAMES, _STATISTICS, _ENHANCED_PACKET, _SECRETS = 0x0A0D0D0A, 1, 4, 5, 6, 10
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_OPT_COMMENT = 1
_SHB_HARDWARE, _SHB_OS, _SHB_APPLICATION = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_EPB_FLAGS, _EPB_PACKETID, _EPB_VERDICT = 2, 5, 7
_INBOUND, _OUTBOUND = 1, 2
_VERDICT_TC = 1
_ISB_STARTTIME, _ISB_ENDTIME, _ISB_IFRECV, _ISB_IFDROP = 2, 3, 4, 5
_NANOSECONDS = b"\x09"  # if_tsresol: 10^-9
_NAMES_PER_BLOCK = 1000
_FLUSH_AT = 1 << 20
_MAX_OPTION = 0xFFFF

_PACKET_HEAD = struct.Struct("<IIIIIII")
_PACKET_OPTIONS = struct.Struct("<HHIHHQ")  # epb_flags, epb_packetid
_VERDICT_OPTION = struct.Struct("<HHBQ3x")
_END_OF_OPTIONS = bytes(4)
_LENGTH = struct.Struct("<I")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4


class Interface(NamedTuple):
    """One interface of a capture; ``name`` is what Wireshark shows, by our habit ``namespace/device``."""

    name: str
    description: str = ""
    link_type: int = LINKTYPE_ETHERNET


class Record(NamedTuple):
    """One frame to write, in the order of ``CaptureWriter.write``."""

    interface: int
    time_ns: int
    data: bytes
    outgoing: bool
    packet_id: int
    verdict: int | None = None
    comments: tuple[str, ...] = ()


class CaptureWriter(Output):
    """Writes one pcapng file, which stands under its name only after ``close()``.

    As a context manager it closes, or after an exception leaves nothing behind. ``names``: packed address
    (4 or 16 bytes, network byte order) to the name shown for it. Raises InputError where the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        interfaces: Sequence[Interface],
        names: Mapping[bytes, str] | None = None,
        application: str = "dataplane",
        comment: str = "",
    ) -> None:
        self.paths = [Path(path)]
        self._file = AtomicFile(path)
        self._statistics = [_Statistics() for _ in interfaces]
        self._buffer = bytearray(_section_block(application, comment))
        for interface in interfaces:
            self._buffer += _interface_block(interface)
        for block in _name_blocks(names or {}):
            self._buffer += block

    def write(
        self,
        interface_index: int,
        time_ns: int,
        data: bytes,
        outgoing: bool,
        packet_id: int,
        verdict: int | None = None,
        comments: Sequence[str] = (),
    ) -> None:
        """Append one frame: nanoseconds since the epoch (0 and up), the same ``packet_id`` on all hops of a frame,
        a TC action as ``verdict`` (``TC_ACT_OK``, ``TC_ACT_SHOT``; None: no verdict)."""
        options = _PACKET_OPTIONS.pack(_EPB_FLAGS, 4, _OUTBOUND if outgoing else _INBOUND, _EPB_PACKETID, 8, packet_id)
        if verdict is not None:
            options += _VERDICT_OPTION.pack(_EPB_VERDICT, 9, _VERDICT_TC, verdict)
        for comment in comments:
            options += comment_option(comment)
        size = len(data)
        padding = _PADDING[size % 4]
        total = 36 + size + len(padding) + len(options)
        self._buffer += b"".join(
            (
                _PACKET_HEAD.pack(_ENHANCED_PACKET, total, interface_index, time_ns >> 32, time_ns & 0xFFFFFFFF, size, size),
                data,
                padding,
                options,
                _END_OF_OPTIONS,
                _LENGTH.pack(total),
            )
        )
        self._statistics[interface_index].count(time_ns, verdict)
        if len(self._buffer) >= _FLUSH_AT:
            self._flush()

    def add_secrets(self, kind: int, data: bytes) -> None:
        """Append a decryption secrets block, which must stand before the frames that it decrypts: a secrets type of
        draft-ietf-opsawg-pcapng section 4.7 (0x57474b4c: WireGuard), and secrets in that type's format."""
        self._buffer += _block(_SECRETS, struct.pack("<II", kind, len(data)) + data + _PADDING[len(data) % 4])

    def descriptor(self, interface_index: int) -> int:
        """An open file for whoever writes blocks of frames on this interface by himself, behind what was written so far."""
        self._flush()
        return self._file.descriptor()

    def note(self, interface_index: int, frames: int, dropped: int, first_ns: int, last_ns: int) -> None:
        """What was written to the descriptor, for the interface's statistics: the first and the last time are the extremes."""
        self._statistics[interface_index].add(frames, dropped, first_ns, last_ns)

    def failure(self, error: OSError, interface_index: int) -> InputError:
        """What to raise for an error on the descriptor; nothing is left behind."""
        return self._file.failure(error)

    def flush(self) -> None:
        """Hand over to the file what was gathered."""
        self._flush()
        self._file.descriptor()

    def finish(self) -> None:
        """Write what is left and close the temporary file; only ``close()`` gives it its name."""
        for index, statistics in enumerate(self._statistics):
            if statistics.frames:
                self._buffer += statistics.block(index)
        self._flush()
        self._file.finish()

    def close(self) -> None:
        """Finish the file and put it in its place."""
        self.finish()
        self._file.commit()

    def commit(self) -> None:
        """Put a finished file in its place."""
        self._file.commit()

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.discard()

    def _flush(self) -> None:
        self._file.write(self._buffer)
        self._buffer.clear()


class _Statistics:
    """What the interface statistics block at the end says of one interface."""

    __slots__ = ("dropped", "first_ns", "frames", "last_ns")

    def __init__(self) -> None:
        self.frames = self.dropped = self.first_ns = self.last_ns = 0

    def count(self, time_ns: int, verdict: int | None) -> None:
        if not self.frames:
            self.first_ns = self.last_ns = time_ns
        self.frames += 1
        self.first_ns = min(self.first_ns, time_ns)
        self.last_ns = max(self.last_ns, time_ns)
        self.dropped += verdict == TC_ACT_SHOT

    def add(self, frames: int, dropped: int, first_ns: int, last_ns: int) -> None:
        self.first_ns = min(self.first_ns, first_ns) if self.frames else first_ns
        self.last_ns = max(self.last_ns, last_ns) if self.frames else last_ns
        self.frames += frames
        self.dropped += dropped

    def block(self, index: int) -> bytes:
        body = struct.pack("<III", index, *_halves(self.last_ns))
        body += _option(_ISB_STARTTIME, struct.pack("<II", *_halves(self.first_ns)))
        body += _option(_ISB_ENDTIME, struct.pack("<II", *_halves(self.last_ns)))
        body += _option(_ISB_IFRECV, struct.pack("<Q", self.frames))
        body += _option(_ISB_IFDROP, struct.pack("<Q", self.dropped))
        return _block(_STATISTICS, body + _END_OF_OPTIONS)


def _halves(time_ns: int) -> tuple[int, int]:
    return time_ns >> 32, time_ns & 0xFFFFFFFF


def _block(kind: int, body: bytes) -> bytes:
    total = len(body) + 12
    return struct.pack("<II", kind, total) + body + _LENGTH.pack(total)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + _PADDING[len(value) % 4]


def comment_option(text: str) -> bytes:
    """A comment as it stands among the options of a block."""
    return _text_option(_OPT_COMMENT, text)


def _text_option(code: int, text: str) -> bytes:
    value = text.encode("utf-8", "replace")
    if len(value) > _MAX_OPTION:
        value = value[:_MAX_OPTION].decode("utf-8", "ignore").encode()  # not in the middle of a character
    return _option(code, value)


def _section_block(application: str, comment: str) -> bytes:
    body = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
    body += _text_option(_SHB_HARDWARE, "emulated cluster network")
    body += _text_option(_SHB_OS, "Linux network stack, emulated")
    body += _text_option(_SHB_APPLICATION, application)
    if comment:
        body += _text_option(_OPT_COMMENT, comment)
    return _block(_SECTION, body + _END_OF_OPTIONS)


def _interface_block(interface: Interface) -> bytes:
    body = struct.pack("<HHI", interface.link_type, 0, 0)
    body += _text_option(_IF_NAME, interface.name)
    if interface.description:
        body += _text_option(_IF_DESCRIPTION, interface.description)
    return _block(_INTERFACE, body + _option(_IF_TSRESOL, _NANOSECONDS) + _END_OF_OPTIONS)


def _name_blocks(names: Mapping[bytes, str]) -> Iterable[bytes]:
    """Name-resolution blocks; they must stand before the packets, for readers that see a packet once."""
    entries = sorted(names.items())
    for start in range(0, len(entries), _NAMES_PER_BLOCK):
        body = bytearray()
        for address, name in entries[start : start + _NAMES_PER_BLOCK]:
            kind = 1 if len(address) == 4 else 2  # nrb_record_ipv4, nrb_record_ipv6
            body += _option(kind, address + name.encode("utf-8", "replace") + b"\0")
        yield _block(_NAMES, bytes(body) + bytes(4))
