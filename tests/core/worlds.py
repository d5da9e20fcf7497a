"""Tiny worlds for tests of the core, and the frames that go through them.

Addresses and headers are written out here, not taken from the package: a test that builds its frames with the code under
test would not see that code's mistakes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from dataplane._core import Chain, Engine

if TYPE_CHECKING:
    from dataplane._core import Match

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND

BROADCAST = b"\xff" * 6
IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ICMP, TCP, UDP, GRE, SCTP = 1, 6, 17, 47, 132
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000

CLIENT, SERVER = "10.0.0.2", "10.0.1.2"
ROUTER0, ROUTER1 = "10.0.0.1", "10.0.1.1"
OUTSIDE = "198.51.100.7"  # behind nobody


def ip(text: str) -> bytes:
    return IPv4Address(text).packed


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5)


CLIENT_MAC, ROUTER0_MAC, ROUTER1_MAC, SERVER_MAC = (mac(number) for number in (2, 1, 3, 4))


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ether(payload: bytes, *, dst: bytes = ROUTER0_MAC, src: bytes = CLIENT_MAC, kind: int = IPV4) -> bytes:
    return dst + src + kind.to_bytes(2) + payload


def ipv4(
    payload: bytes,
    *,
    src: str = CLIENT,
    dst: str = SERVER,
    proto: int = UDP,
    ttl: int = 64,
    tos: int = 0,
    ident: int = 1,
    fragment: int = 0,
    options: bytes = b"",
    total: int | None = None,
    first: int | None = None,
    bad_checksum: bool = False,
) -> bytes:
    """A packet with the header checksum that belongs to it; ``fragment`` is the whole word of flags and offset."""
    words = 5 + len(options) // 4
    length = 4 * words + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | words, tos, length, ident, fragment, ttl, proto, 0, ip(src), ip(dst)) + options
    if first is not None:
        head = bytes([first]) + head[1:]
    right = checksum(head)
    return head[:10] + (right ^ bad_checksum).to_bytes(2) + head[12:] + payload


def udp(
    payload: bytes = b"x",
    *,
    src: str = CLIENT,
    dst: str = SERVER,
    sport: int = 1000,
    dport: int = 2000,
    length: int = 0,
    bad_checksum: bool = False,
) -> bytes:
    """``length``: what the header says, 0: the right one."""
    length = length or 8 + len(payload)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    pseudo = ip(src) + ip(dst) + struct.pack("!HH", UDP, length)
    right = checksum(pseudo + head + payload) or 0xFFFF
    return head[:6] + (right ^ bad_checksum).to_bytes(2) + payload


def tcp(
    flags: int,
    *,
    src: str = CLIENT,
    dst: str = SERVER,
    sport: int = 1000,
    dport: int = 80,
    seq: int = 1,
    ack: int = 0,
    payload: bytes = b"",
) -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 65535, 0, 0) + payload
    right = checksum(ip(src) + ip(dst) + struct.pack("!HH", TCP, len(head)) + head)
    return head[:16] + right.to_bytes(2) + head[18:]


def icmp(kind: int, code: int = 0, rest: bytes = bytes(4), payload: bytes = b"", *, bad_checksum: bool = False) -> bytes:
    body = bytes([kind, code, 0, 0]) + rest + payload
    return body[:2] + (checksum(body) ^ bad_checksum).to_bytes(2) + body[4:]


def udp_packet(
    payload: bytes = b"x", *, src: str = CLIENT, dst: str = SERVER, sport: int = 1000, dport: int = 2000, **header: Any
) -> bytes:
    return ipv4(udp(payload, src=src, dst=dst, sport=sport, dport=dport), src=src, dst=dst, proto=UDP, **header)


def tcp_packet(
    flags: int, *, src: str = CLIENT, dst: str = SERVER, sport: int = 1000, dport: int = 80, seq: int = 1, ack: int = 0
) -> bytes:
    return ipv4(tcp(flags, src=src, dst=dst, sport=sport, dport=dport, seq=seq, ack=ack), src=src, dst=dst, proto=TCP)


def ping(*, src: str = CLIENT, dst: str = SERVER, size: int = 8, **header: Any) -> bytes:
    return ipv4(icmp(8, rest=b"\x00\x01\x00\x01", payload=bytes(size)), src=src, dst=dst, proto=ICMP, **header)


def arp(operation: int, sender_mac: bytes, sender: str, target: str, target_mac: bytes = bytes(6)) -> bytes:
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + sender_mac + ip(sender) + target_mac + ip(target)


def fragments(packet: bytes, size: int) -> list[bytes]:
    """An IPv4 packet without options cut into parts of ``size`` bytes of payload (a multiple of 8)."""
    payload = packet[20:]
    parts = []
    for offset in range(0, len(payload), size):
        more = MORE_FRAGMENTS if offset + size < len(payload) else 0
        part = payload[offset : offset + size]
        head = (
            packet[:2]
            + (20 + len(part)).to_bytes(2)
            + packet[4:6]
            + (more | offset // 8).to_bytes(2)
            + packet[8:10]
            + b"\0\0"
            + packet[12:20]
        )
        parts.append(head[:10] + checksum(head).to_bytes(2) + head[12:] + part)
    return parts


def unaccounted(engine: Engine) -> int:
    """Frames that came in or were made, less those that left or ended with a reason: 0, or a frame got lost."""
    count = engine.counters()
    origins = ("in", "generated", "copies", "fragments_made")
    fates = ("out", "dropped", "consumed", "fragments_merged", "held")
    return sum(count[name] for name in origins) - sum(count[name] for name in fates)


def filter_table(**chains: list[Match]) -> list[Chain]:
    """Built-in chains of the filter table with policy ACCEPT; those not given are empty."""
    return [Chain(name, "ACCEPT", chains.get(name, [])) for name in ("INPUT", "FORWARD", "OUTPUT")]


def nat_table(**chains: list[Match]) -> list[Chain]:
    return [Chain(name, "ACCEPT", chains.get(name, [])) for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")]


@dataclass
class Router:
    """A namespace that forwards between two ends, whose neighbours are permanent: client - eth0 router eth1 - server.

    The ends' devices take everything in; ``silent`` ends have no address and so answer nothing.
    """

    silent: bool = True
    mtu: int = 1500
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        engine = self.engine
        self.ns = engine.add_namespace("router")
        self.client, self.server = engine.add_namespace("client"), engine.add_namespace("server")
        self.eth0 = engine.add_device(self.ns, "eth0", "veth", mac=ROUTER0_MAC, mtu=self.mtu)
        self.eth1 = engine.add_device(self.ns, "eth1", "veth", mac=ROUTER1_MAC, mtu=self.mtu)
        self.client_eth = engine.add_device(self.client, "eth0", "veth", mac=CLIENT_MAC, mtu=self.mtu)
        self.server_eth = engine.add_device(self.server, "eth0", "veth", mac=SERVER_MAC, mtu=self.mtu)
        engine.connect(self.eth0, self.client_eth)
        engine.connect(self.eth1, self.server_eth)
        engine.set_sysctl(self.ns, "net.ipv4.ip_forward", 1)
        engine.add_address(self.eth0, ip(ROUTER0), 24)
        engine.add_address(self.eth1, ip(ROUTER1), 24)
        engine.add_neighbour(self.eth0, ip(CLIENT), CLIENT_MAC)
        engine.add_neighbour(self.eth1, ip(SERVER), SERVER_MAC)
        if not self.silent:
            self._wake(self.client, self.client_eth, CLIENT, ROUTER0, ROUTER0_MAC)
            self._wake(self.server, self.server_eth, SERVER, ROUTER1, ROUTER1_MAC)

    def _wake(self, ns: int, device: int, address: str, gateway: str, gateway_mac: bytes) -> None:
        self.engine.add_address(device, ip(address), 24)
        self.engine.add_route(ns, bytes(4), 0, via=ip(gateway))
        self.engine.add_neighbour(device, ip(gateway), gateway_mac)

    def take(self, *frames: bytes, at: int | None = None) -> None:
        """eth0 receives these frames, at the present time or at ``at`` (ns), and what follows at that instant happens."""
        for frame in frames:
            self.engine.receive(self.eth0, frame, at=at)
        self.engine.run(self.engine.now if at is None else at)

    def seen(self, device: int, *, outgoing: bool) -> list[bytes]:
        """Frames captured on one device in one direction since the last call; the others are forgotten."""
        return [frame.data for frame in self.engine.frames() if frame.device == device and frame.outgoing == outgoing]

    def dropped(self, reason: str) -> int:
        return self.engine.counters().get(f"drop/{reason}", 0)


@dataclass
class Bridge:
    """A namespace with a bridge br0 (10.0.0.1/24) of three ports, each the end of a silent station's cable."""

    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        engine = self.engine
        self.ns = engine.add_namespace("node")
        self.br = engine.add_device(self.ns, "br0", "bridge", mac=mac(0xB0), mtu=1500)
        engine.add_address(self.br, ip(ROUTER0), 24)
        self.ports, self.stations = [], []
        for number in range(3):
            port = engine.add_device(self.ns, f"port{number}", "veth", mac=mac(0xA0 + number), mtu=1500)
            station = engine.add_namespace(f"station{number}")
            far = engine.add_device(station, "eth0", "veth", mac=mac(0x10 + number), mtu=1500)
            engine.connect(port, far)
            engine.set_device(port, master=self.br)
            self.ports.append(port)
            self.stations.append(far)

    def take(self, port: int, *frames: bytes) -> None:
        for frame in frames:
            self.engine.receive(self.ports[port], frame)
        self.engine.run(self.engine.now)

    def ports_out(self) -> list[int]:
        """Numbers of the ports that frames left by since the last call, in order."""
        return [self.ports.index(frame.device) for frame in self.engine.frames() if frame.outgoing and frame.device in self.ports]
