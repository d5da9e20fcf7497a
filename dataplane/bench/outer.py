"""What a tunnel adds to a packet, written down from the RFCs a second time: rows compare the core's frames with it.

RFC 7348 (VXLAN), RFC 8926 (Geneve), RFC 2003 (IPIP), RFC 2784 (GRE). Values are Linux' defaults.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dataplane.bench.checksum import checksum, folded, word_sum

DONT_FRAGMENT = 0x4000
IPIP, GRE, UDP = 4, 47, 17
VNI = 1
TTL = 64


@dataclass(frozen=True)
class Tunnel:
    """One kind of tunnel as the measured cluster uses it."""

    kind: str
    protocol: int  # of the outer IP header
    port: int  # UDP destination, 0: not over UDP
    header: bytes  # of the encapsulation itself
    device: str  # Flannel's name for it
    frames: bool  # it carries Ethernet frames
    fragment: int  # word of flags in the outer header
    inherits_ttl: bool
    checksummed: bool = False  # UDP's checksum is computed

    @property
    def overhead(self) -> int:
        """Bytes before the inner IP header, the outer Ethernet header included."""
        return 14 + 20 + (8 if self.port else 0) + len(self.header) + (14 if self.frames else 0)

    @property
    def backend(self) -> dict[str, object]:
        """Of Flannel's configuration."""
        return {"Type": self.kind, "VNI": VNI, "Port": self.port} if self.port else {"Type": self.kind}


TUNNELS = {
    "vxlan": Tunnel("vxlan", UDP, 8472, struct.pack("!II", 0x08000000, VNI << 8), "flannel.1", True, 0, False, True),
    "geneve": Tunnel("geneve", UDP, 6081, struct.pack("!BBHI", 0, 0, 0x6558, VNI << 8), "flannel.geneve", True, 0, False),
    "ipip": Tunnel("ipip", IPIP, 0, b"", "flannel.ipip", False, DONT_FRAGMENT, True),
    "gre": Tunnel("gre", GRE, 0, struct.pack("!HH", 0, 0x0800), "flannel.gre", False, DONT_FRAGMENT, True),
}


@dataclass(frozen=True)
class Way:
    """Who sends to whom: MAC and IPv4 addresses of two nodes, and MAC addresses of their tunnel devices."""

    source_mac: bytes
    destination_mac: bytes
    source: bytes
    destination: bytes
    inner_source_mac: bytes = bytes(6)
    inner_destination_mac: bytes = bytes(6)

    def back(self) -> Way:
        return Way(
            self.destination_mac, self.source_mac, self.destination, self.source, self.inner_destination_mac, self.inner_source_mac
        )


def wrapped(tunnel: Tunnel, way: Way, packet: bytes, *, ident: int, port: int) -> bytes:
    """The frame on the wire that carries the IPv4 ``packet``; ``ident`` and ``port`` (UDP source) are Linux' to choose."""
    inner = tunnel.header
    if tunnel.frames:
        inner += way.inner_destination_mac + way.inner_source_mac + b"\x08\x00"
    inner += packet
    if tunnel.port:
        inner = struct.pack("!HHHH", port, tunnel.port, 8 + len(inner), 0) + inner
        if tunnel.checksummed:
            total = word_sum(way.source + way.destination) + UDP + len(inner) + word_sum(inner)
            inner = inner[:6] + (checksum(total) or 0xFFFF).to_bytes(2, "big") + inner[8:]
    ttl = packet[8] if tunnel.inherits_ttl else TTL
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), ident, tunnel.fragment, ttl, tunnel.protocol, 0)
    head += way.source + way.destination
    head = head[:10] + checksum(word_sum(head)).to_bytes(2, "big") + head[12:]
    return way.destination_mac + way.source_mac + b"\x08\x00" + head + inner


def udp_checksums(tunnel: Tunnel, way: Way, template: bytes, pseudo_sums: Iterable[int]) -> Iterator[int]:
    """UDP's checksum of each frame like ``template`` but for inner addresses, ports and checksums; ``pseudo_sums``: of the words of
    each inner packet's pseudo header. Right inner checksums make everything behind the inner IP header sum up to its negative."""
    headers = template[34 : tunnel.overhead]
    fixed = word_sum(way.source + way.destination) + UDP + len(template) - 34 + word_sum(headers[:6] + headers[8:])
    return (checksum(fixed + 0xFFFF - folded(each)) or 0xFFFF for each in pseudo_sums)


def chosen(tunnel: Tunnel, frame: bytes) -> tuple[int, int]:
    """Identification and UDP source port (0: none) of a frame on the wire."""
    return int.from_bytes(frame[18:20], "big"), int.from_bytes(frame[34:36], "big") if tunnel.port else 0
