"""One packet of a capture, and the link types captures are written in.

Numbers and header layouts: tcpdump.org, "Link-layer header types" and the LINKTYPE_* pages.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

from dataplane.errors import InputError

LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_RAW_DLT = 12  # what programs write that put the DLT number of raw IP into the file
LINKTYPE_RAW = 101
LINKTYPE_LOOP = 108
LINKTYPE_LINUX_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL2 = 276

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD

MAX_CAPTURED = 262_144  # libpcap's MAXIMUM_SNAPLEN: no reader accepts a longer packet

Buffer = bytes | mmap.mmap

_OTHER_LINK_TYPES = {
    9: "PPP",
    105: "IEEE 802.11",
    127: "IEEE 802.11 with radiotap",
    189: "USB",
    220: "USB",
    195: "IEEE 802.15.4",
    201: "Bluetooth",
    249: "USBPcap",
}
_RAW_TYPES = {LINKTYPE_RAW_DLT, LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6}
_AF_INET = 2
_AF_INET6 = {10, 23, 24, 28, 30}  # Linux, Windows, OpenBSD and NetBSD, FreeBSD, macOS
_LINK_HEADER_BYTES = {LINKTYPE_NULL: 4, LINKTYPE_LOOP: 4, LINKTYPE_LINUX_SLL: 16, LINKTYPE_LINUX_SLL2: 20}


class Packet(NamedTuple):
    """One packet of a capture.

    ``data`` is an Ethernet frame if ``link_type`` is ``LINKTYPE_ETHERNET``. The readers of one format give
    every other link type as it stands; ``open_capture`` takes such a link header off, sets ``LINKTYPE_RAW``
    and keeps in ``ethertype`` what followed it.
    """

    time_ns: int  # since the epoch
    data: bytes
    link_type: int
    interface: str  # if_name of pcapng; "" where the file does not say
    number: int  # 1-based, counting every packet of the file
    orig_len: int  # bytes on the wire; more than len(data) if the capture cut the packet
    comments: tuple[str, ...] = ()
    outgoing: bool | None = None  # None: the file does not say
    packet_id: int | None = None
    verdict: int | None = None  # TC action of epb_verdict
    ethertype: int = 0  # of ``data`` where link_type is LINKTYPE_RAW; 0: neither IPv4 nor anything else we know

    @property
    def is_l3(self) -> bool:
        """True if ``data`` starts at the network layer."""
        return self.link_type == LINKTYPE_RAW


def normalised(packet: Packet, name: str) -> Packet:
    """The packet as Ethernet frame or as L3 bytes. Raises InputError for a link type with no such reading."""
    kind = packet.link_type
    if kind == LINKTYPE_ETHERNET:
        return packet
    if kind in _RAW_TYPES:
        return packet._replace(link_type=LINKTYPE_RAW, ethertype=raw_ethertype(packet.data))
    header = _LINK_HEADER_BYTES.get(kind)
    if header is None:
        raise InputError(
            f"{name}: packet {packet.number}: link type {kind} ({_OTHER_LINK_TYPES.get(kind, 'unknown')}) is not supported; "
            "give a capture of Ethernet, raw IP, Linux cooked or loopback packets"
        )
    if len(packet.data) < header:
        raise InputError(
            f"{name}: packet {packet.number}: {len(packet.data)} bytes do not hold the {header}-byte link header of link type {kind}; "
            f"leave it out with: editcap {name} OUT {packet.number}"
        )
    ethertype = _ethertype(kind, packet.data)
    return packet._replace(
        data=packet.data[header:], link_type=LINKTYPE_RAW, orig_len=max(packet.orig_len - header, 0), ethertype=ethertype
    )


def raw_ethertype(data: bytes) -> int:
    """Of bytes that begin with an IP header, by its version; 0: it has none that we know."""
    version = data[0] >> 4 if data else 0
    return {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(version, 0)


def _ethertype(kind: int, data: bytes) -> int:
    if kind == LINKTYPE_LINUX_SLL:
        return int.from_bytes(data[14:16], "big")
    if kind == LINKTYPE_LINUX_SLL2:
        return int.from_bytes(data[0:2], "big")
    family = int.from_bytes(data[:4], "big")
    if kind == LINKTYPE_NULL and family > 0xFFFF:  # host byte order of whoever captured
        family = int.from_bytes(data[:4], "little")
    if family == _AF_INET:
        return ETHERTYPE_IPV4
    return ETHERTYPE_IPV6 if family in _AF_INET6 else 0


def without_fcs(data: bytes, orig_len: int, fcs_len: int) -> tuple[bytes, int]:
    """Take the frame check sequence off; a capture cut before it holds only a part of it, or none."""
    wire = max(orig_len - fcs_len, 0)
    return data[:wire], wire


def cut_short(name: str, number: int, have: int, need: int) -> InputError:
    """The error for a file that ends inside packet ``number``."""
    salvage = f"; keep what is whole with: editcap -r {name} OUT 1-{number - 1}" if number > 1 else "; capture again"
    return InputError(f"{name}: cut off in packet {number}: {have} of {need} bytes are there{salvage}")
