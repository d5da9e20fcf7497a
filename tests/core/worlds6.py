"""IPv6 packets and a router that forwards them, written out here as in ``worlds``."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from core.worlds import CLIENT_MAC, IPV6, ROUTER0_MAC, ROUTER1_MAC, SERVER_MAC, checksum, ether
from dataplane._core import Engine

HOP_BY_HOP, ROUTING, FRAGMENT, ICMPV6, NO_NEXT, DESTINATION = 0, 43, 44, 58, 59, 60
UNREACHABLE, TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM, ECHO, ECHO_REPLY = 1, 2, 3, 4, 128, 129
SOLICITATION, ADVERTISEMENT, REDIRECT = 135, 136, 137

CLIENT6, SERVER6 = "2001:db8:0::2", "2001:db8:1::2"
ROUTER06, ROUTER16 = "2001:db8:0::1", "2001:db8:1::1"
LINK_LOCAL0 = "fe80::1"  # the router's on eth0
CLIENT_LINK_LOCAL = "fe80::2"
NOBODY6 = "2001:db8:2::9"  # no route leads there
ALL_NODES = "ff02::1"


def ip6(text: str) -> bytes:
    return IPv6Address(text).packed


def group_mac(group: str) -> bytes:
    """RFC 2464 7."""
    return b"\x33\x33" + ip6(group)[12:]


def ipv6(
    payload: bytes,
    *,
    src: str = CLIENT6,
    dst: str = SERVER6,
    proto: int = 17,
    hops: int = 64,
    tclass: int = 0,
    label: int = 0,
    length: int | None = None,
    version: int = 6,
) -> bytes:
    first = version << 28 | tclass << 20 | label
    return struct.pack("!IHBB", first, len(payload) if length is None else length, proto, hops) + ip6(src) + ip6(dst) + payload


def pseudo6(src: str, dst: str, proto: int, size: int) -> bytes:
    return ip6(src) + ip6(dst) + struct.pack("!IxxxB", size, proto)


def udp6(payload: bytes = bytes(8), *, src: str = CLIENT6, dst: str = SERVER6, sport: int = 1000, dport: int = 2000) -> bytes:
    header = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    value = checksum(pseudo6(src, dst, 17, 8 + len(payload)) + header + payload) or 0xFFFF
    return header[:6] + value.to_bytes(2) + payload


def tcp6(
    flags: int,
    *,
    src: str = CLIENT6,
    dst: str = SERVER6,
    ports: tuple[int, int] = (1000, 80),
    seq: int = 1,
    ack: int = 0,
    window: int = 65535,
) -> bytes:
    header = struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, window, 0, 0)
    value = checksum(pseudo6(src, dst, 6, len(header)) + header)
    return header[:16] + value.to_bytes(2) + header[18:]


def icmpv6(kind: int, code: int = 0, rest: bytes = bytes(4), payload: bytes = b"", *, src: str = CLIENT6, dst: str = SERVER6) -> bytes:
    body = bytes([kind, code, 0, 0]) + rest + payload
    value = checksum(pseudo6(src, dst, ICMPV6, len(body)) + body)
    return body[:2] + value.to_bytes(2) + body[4:]


def icmpv6_packet(
    kind: int, code: int = 0, rest: bytes = bytes(4), payload: bytes = b"", *, src: str = CLIENT6, dst: str = SERVER6, hops: int = 64
) -> bytes:
    return ipv6(icmpv6(kind, code, rest, payload, src=src, dst=dst), src=src, dst=dst, proto=ICMPV6, hops=hops)


def error6(kind: int, code: int, quoted: bytes, *, info: int = 0, src: str = ROUTER06, dst: str = CLIENT6) -> bytes:
    """An ICMPv6 error as long as may be: 1280 bytes (RFC 4443 2.4 c)."""
    return icmpv6_packet(kind, code, info.to_bytes(4), quoted[: 1280 - 48], src=src, dst=dst)


def aged(packet: bytes, hops: int = 63) -> bytes:
    """The packet with another hop limit: as it leaves a router."""
    return packet[:7] + bytes([hops]) + packet[8:]


def solicited_node(address: str) -> str:
    """RFC 4291 2.7.1."""
    return str(IPv6Address(ip6("ff02::1:ff00:0")[:13] + ip6(address)[13:]))


def udp6_packet(*, src: str = CLIENT6, dst: str = SERVER6, size: int = 8, hops: int = 64) -> bytes:
    return ipv6(udp6(bytes(size), src=src, dst=dst), src=src, dst=dst, hops=hops)


def extension(next_header: int, data: bytes = b"\x01\x04\0\0\0\0") -> bytes:
    """A header of options or of another kind: ``data`` behind its next-header and length bytes fills it to a multiple of eight."""
    assert (len(data) + 2) % 8 == 0
    return bytes([next_header, (len(data) + 2) // 8 - 1]) + data


def fragment6(data: bytes, offset: int, *, more: bool, next_header: int = 17, ident: int = 7, reserved: int = 0) -> bytes:
    return struct.pack("!BBHI", next_header, reserved, offset | more, ident) + data


def neighbour_message(kind: int, target: str, *, flags: int = 0, options: bytes = b"", src: str, dst: str, hops: int = 255) -> bytes:
    return icmpv6_packet(kind, 0, bytes([flags, 0, 0, 0]), ip6(target) + options, src=src, dst=dst, hops=hops)


def link_option(kind: int, mac: bytes) -> bytes:
    return bytes([kind, 1]) + mac


@dataclass
class Router6:
    """A namespace that forwards between two ends, whose neighbours are permanent: client - eth0 router eth1 - server."""

    mtu: int = 1500
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        engine = self.engine
        self.ns = engine.add_namespace("router")
        client, server = engine.add_namespace("client"), engine.add_namespace("server")
        self.eth0 = engine.add_device(self.ns, "eth0", "veth", mac=ROUTER0_MAC, mtu=self.mtu)
        self.eth1 = engine.add_device(self.ns, "eth1", "veth", mac=ROUTER1_MAC, mtu=self.mtu)
        engine.connect(self.eth0, engine.add_device(client, "eth0", "veth", mac=CLIENT_MAC, mtu=self.mtu))
        engine.connect(self.eth1, engine.add_device(server, "eth0", "veth", mac=SERVER_MAC, mtu=self.mtu))
        for end in (client, server):
            engine.set_sysctl(end, "net.ipv6.conf.all.disable_ipv6", 1)
        engine.set_sysctl(self.ns, "net.ipv6.conf.all.forwarding", 1)
        engine.set_sysctl(self.ns, "net.ipv6.icmp.ratelimit", 0)
        engine.set_sysctl(self.ns, "net.ipv6.auto_flowlabels", 0)  # a label is a hash: without it whole packets can be foretold
        engine.add_address(self.eth0, ip6(ROUTER06), 64)
        engine.add_address(self.eth0, ip6(LINK_LOCAL0), 64)
        engine.add_address(self.eth1, ip6(ROUTER16), 64)
        engine.add_address(self.eth1, ip6("fe80::3"), 64)
        engine.add_neighbour(self.eth0, ip6(CLIENT6), CLIENT_MAC)
        engine.add_neighbour(self.eth1, ip6(SERVER6), SERVER_MAC)

    def take(self, *packets: bytes, dst: bytes = ROUTER0_MAC) -> None:
        """eth0 receives frames with these packets, and what follows at that instant happens."""
        for packet in packets:
            self.engine.receive(self.eth0, ether(packet, dst=dst, kind=IPV6))
        self.engine.run(self.engine.now)

    def sent(self, device: int) -> list[bytes]:
        """IPv6 packets that left by a device since the last call."""
        return [frame.data[14:] for frame in self.engine.frames() if frame.device == device and frame.outgoing]

    def answer(self, *packets: bytes, dst: bytes = ROUTER1_MAC, src: bytes = SERVER_MAC) -> None:
        """eth1 receives frames with these packets."""
        for packet in packets:
            self.engine.receive(self.eth1, ether(packet, dst=dst, src=src, kind=IPV6))
        self.engine.run(self.engine.now)

    def frames(self, device: int) -> list[bytes]:
        """Frames that left by a device since the last call."""
        return [frame.data for frame in self.engine.frames() if frame.device == device and frame.outgoing]

    def timed(self, device: int) -> list[tuple[int, bytes]]:
        """The same with their times."""
        return [(frame.time, frame.data) for frame in self.engine.frames() if frame.device == device and frame.outgoing]

    def neighbour(self, address: str) -> tuple[str, bytes | None]:
        """State and MAC of a neighbour; "none" if there is no entry."""
        rows = [row for row in self.engine.neighbours(self.ns) if row["address"] == ip6(address)]
        return (rows[0]["state"], rows[0]["mac"]) if rows else ("none", None)

    def dropped(self, reason: str) -> int:
        return self.engine.counters().get(f"drop/{reason}", 0)
