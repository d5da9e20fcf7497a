"""What the tests of single encapsulations share: packets to carry, ends of tunnels, and stock tshark as the judge of outer packets."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from cli.recorded import tool
from dataplane._core import Codec, Popped
from dataplane.encap.registry import ensure

IPV4, IPV6, TEB = 0x0800, 0x86DD, 0x6558
ENDS4 = (ip_address("192.0.2.1").packed, ip_address("192.0.2.2").packed)
ENDS6 = (ip_address("2001:db8::1").packed, ip_address("2001:db8::2").packed)
DATAGRAM = UDP(sport=4000, dport=9999) / Raw(b"sixteen bytes...")
PACKET4 = bytes(IP(src="10.1.0.1", dst="10.1.0.2", ttl=33, tos=0xB9, id=7) / DATAGRAM)
PACKET6 = bytes(IPv6(src="fd00::1", dst="fd00::2", hlim=44, tc=0xB9, fl=0x12345) / DATAGRAM)
PACKETS = {IPV4: PACKET4, IPV6: PACKET6}
MACS = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
FRAME = bytes(MACS / IP(PACKET4))
FRAME6 = bytes(MACS / IPv6(PACKET6))
TAGGED = bytes(MACS / Dot1Q(vlan=342, prio=5) / IP(PACKET4))
_LINKTYPE_RAW = 101


def codec(kind: str, **options: Any) -> Codec:
    ensure(kind)
    return Codec(kind, options)


def outer(family: int, **fields: Any) -> Packet:
    """The outer header that Linux' tunnel devices write around ``PACKETS`` by default: ECN as inside, DF set; scapy fills in the rest."""
    if family == 4:
        return IP(**{"src": "192.0.2.1", "dst": "192.0.2.2", "id": 0, "flags": "DF", "tos": 1, **fields})
    return IPv6(**{"src": "2001:db8::1", "dst": "2001:db8::2", "tc": 1, "fl": 0, **fields})


def ends(family: int) -> tuple[bytes, bytes]:
    return ENDS4 if family == 4 else ENDS6


def limited(limit: int) -> bytes:
    """An IPv6 packet that may enter ``limit`` more tunnels (RFC 2473 4.1.1)."""
    option = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4, optdata=bytes([limit]))])
    return bytes(IPv6(src="fd00::1", dst="fd00::2") / option / DATAGRAM)


def around(family: int, protocol: int, payload: bytes) -> bytes:
    """``payload`` in a right outer header that says ``protocol``."""
    header = outer(family, proto=protocol) if family == 4 else outer(family, nh=protocol)
    return bytes(header / Raw(payload))


def payload(packet: bytes) -> bytes:
    """What is behind the outer header, which has no options."""
    return packet[20 if packet[0] >> 4 == 4 else 40 :]


def opened(device: Codec, packet: bytes) -> tuple[int, bytes]:
    """EtherType and bytes of what comes out of a packet that must not be refused."""
    popped = device.pop(packet)
    assert popped.reason is None
    return popped.inner_protocol, popped.inner


def damaged(family: int, protocol: int, body: bytes, hlen: int) -> Iterator[bytes]:
    """Packets whose payload ends after each of its bytes, and those with each single bit of its first ``hlen`` bytes flipped."""
    for end in range(len(body)):
        yield around(family, protocol, body[:end])
    for bit in range(hlen * 8):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        yield around(family, protocol, bytes(flipped))


def is_sound(popped: Popped) -> bool:
    """Either refused with a reason and nothing else, or a packet that is one."""
    if popped.reason is not None:
        return not popped.inner and "/" in popped.reason
    return popped.inner_protocol >= 0x600 and len(popped.inner) >= 0


def seen_by_tshark(path: Path, packets: Sequence[bytes], *options: str) -> list[str]:
    """For each IP packet the protocols that tshark finds in it, ``:`` between them; none of them may have an expert warning."""
    capture = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW)
    capture += b"".join(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet for packet in packets)
    path.write_bytes(capture)
    verify = [word for name in ("ip", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    output = tool("tshark", "-n", "-r", str(path), *verify, *options, "-T", "fields", "-e", "_ws.expert.message", "-e", "frame.protocols")
    complaints, protocols = zip(*(line.split("\t") for line in output.splitlines()), strict=True)
    assert [text for text in complaints if text] == []
    return [text.removeprefix("raw:") for text in protocols]
