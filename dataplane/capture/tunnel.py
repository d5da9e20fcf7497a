"""What a tunnel adds to a packet: the link header, the outer IP header, and the encapsulation's own headers, field by field.

Layer and field names are those in which encapsulations describe themselves (``encap_abi.h``): ``ipv4`` ``src``, ``udp`` ``sport``,
``vxlan`` ``vni``. Numbers are integers, everything else bytes or text.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from dataplane.capture.checksums import VALID, Checksum, checksums
from dataplane.capture.headers import bare_ip_version, network_offset
from dataplane.capture.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL, Packet, normalised

ETHERTYPE_TEB = 0x6558  # a whole Ethernet frame (RFC 1701)
PROTO_UDP = 17
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS = 0, 43, 44, 60
_SEGMENT_ROUTING = 4  # routing type, RFC 8754
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_DONT_FRAGMENT = 0x4000
_IPV4_MIN, _IPV6_HLEN, _ETHER_HLEN, _VLAN_HLEN = 20, 40, 14, 4

Value = int | bytes | str


class LayerField(NamedTuple):
    """One field of one layer."""

    layer: str
    name: str
    value: Value


class Outer(NamedTuple):
    """The IP packet of a frame, and what stands before and behind it."""

    link: bytes  # everything before the IP header
    link_type: int
    packet: bytes  # from the IP header to the end that its length gives
    family: int  # 4 or 6
    protocol: int  # of what begins at ``payload``
    payload: int  # offset in ``packet``, behind options and extension headers
    fragment: bool

    @property
    def body(self) -> bytes:
        """What follows the IP header."""
        return self.packet[self.payload :]

    @property
    def port(self) -> int:
        """The UDP destination port, 0 where there is none."""
        whole = self.protocol == PROTO_UDP and not self.fragment and len(self.body) >= 4
        return int.from_bytes(self.body[2:4], "big") if whole else 0

    @property
    def addresses(self) -> tuple[bytes, bytes]:
        """Source and destination, 4 or 16 bytes."""
        at, size = (12, 4) if self.family == 4 else (8, 16)
        return self.packet[at : at + size], self.packet[at + size : at + 2 * size]


def outer_of(frame: bytes, link_type: int = LINKTYPE_ETHERNET) -> Outer | None:
    """The IP packet in a frame of a capture's link type; None where there is none, or only a part of its header.

    Raises InputError for a link type that we do not read.
    """
    normal = normalised(Packet(0, frame, link_type, "", 1, len(frame)), "frame")
    at, ethertype = 0, normal.ethertype
    if not normal.is_l3:
        at = network_offset(frame)
        ethertype = int.from_bytes(frame[at - 2 : at], "big")
    link = frame[: len(frame) - len(normal.data) + at]
    packet = normal.data[at:]
    if ethertype == ETHERTYPE_IPV4:
        return _ipv4(link, link_type, packet)
    return _ipv6(link, link_type, packet) if ethertype == ETHERTYPE_IPV6 else None


def _ipv4(link: bytes, link_type: int, packet: bytes) -> Outer | None:
    if len(packet) < _IPV4_MIN or packet[0] >> 4 != 4:
        return None
    payload, total = 4 * (packet[0] & 15), int.from_bytes(packet[2:4], "big")
    if payload < _IPV4_MIN or not payload <= total <= len(packet):
        return None
    fragment = bool(int.from_bytes(packet[6:8], "big") & _MORE_FRAGMENTS_OR_OFFSET)
    return Outer(link, link_type, packet[:total], 4, packet[9], payload, fragment)


def _ipv6(link: bytes, link_type: int, packet: bytes) -> Outer | None:
    if len(packet) < _IPV6_HLEN or packet[0] >> 4 != 6:
        return None
    total = _IPV6_HLEN + int.from_bytes(packet[4:6], "big")
    if total > len(packet):
        return None
    packet = packet[:total]
    protocol, at = packet[6], _IPV6_HLEN
    while _extension_is_passed(packet, protocol, at):
        protocol, at = packet[at], at + 8 * (packet[at + 1] + 1)
    return Outer(link, link_type, packet, 6, protocol, at, protocol == _FRAGMENT)


def _extension_is_passed(packet: bytes, protocol: int, at: int) -> bool:
    """A whole header that only stands between; a segment routing header is an encapsulation's own."""
    if protocol not in (_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS) or len(packet) < at + 8:
        return False
    if protocol == _ROUTING and packet[at + 2] == _SEGMENT_ROUTING:
        return False
    return len(packet) >= at + 8 * (packet[at + 1] + 1)


def outer_fields(outer: Outer) -> list[LayerField]:
    """The fields of the link header and of the IP header, outermost first; what follows the IP header is described by its encapsulation."""
    return _link_fields(outer) + (_ipv4_fields(outer) if outer.family == 4 else _ipv6_fields(outer.packet))


def _link_fields(outer: Outer) -> list[LayerField]:
    link = outer.link
    if outer.link_type == LINKTYPE_LINUX_SLL:
        return [LayerField("linux_sll", "header_hex", link)]
    if outer.link_type != LINKTYPE_ETHERNET:
        return []
    tags = range(_ETHER_HLEN, len(link), _VLAN_HLEN)
    fields = [LayerField("ethernet", "dst", link[:6].hex(":")), LayerField("ethernet", "src", link[6:12].hex(":"))]
    return fields + [LayerField("vlan", "tci", int.from_bytes(link[at : at + 2], "big")) for at in tags]


def _ipv4_fields(outer: Outer) -> list[LayerField]:
    packet = outer.packet
    values: dict[str, Value] = {
        "src": packet[12:16],
        "dst": packet[16:20],
        "tos": packet[1],
        "id": int.from_bytes(packet[4:6], "big"),
        "df": int(bool(int.from_bytes(packet[6:8], "big") & _DONT_FRAGMENT)),
        "ttl": packet[8],
        "protocol": packet[9],
        "header_checksum_valid": int(outer_checksums(outer)["ipv4"].state == VALID),
    }
    return [LayerField("ipv4", name, _address(value)) for name, value in values.items()]


def _ipv6_fields(packet: bytes) -> list[LayerField]:
    first = int.from_bytes(packet[:4], "big")
    values: dict[str, Value] = {
        "src": packet[8:24],
        "dst": packet[24:40],
        "traffic_class": first >> 20 & 0xFF,
        "flow_label": first & 0xFFFFF,
        "hop_limit": packet[7],
        "next_header": packet[6],
    }
    return [LayerField("ipv6", name, _address(value)) for name, value in values.items()]


def _address(value: Value) -> Value:
    return str(ip_address(value)) if isinstance(value, bytes) else value


def outer_checksums(outer: Outer) -> dict[str, Checksum]:
    """The checksums of the outer IP header and of a UDP header behind it, by layer name; offsets count from the IP header."""
    ethertype = ETHERTYPE_IPV4 if outer.family == 4 else ETHERTYPE_IPV6
    found = checksums(bytes(_ETHER_HLEN - 2) + ethertype.to_bytes(2, "big") + outer.packet)
    return {item.label.lower(): item._replace(offset=item.offset - _ETHER_HLEN) for item in found if item.label in ("IPv4", "UDP")}


def inner_type(data: bytes) -> int:
    """EtherType of bytes whose kind nobody tells: an IP packet if its own lengths say so, else an Ethernet frame."""
    return {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(bare_ip_version(data), ETHERTYPE_TEB)
