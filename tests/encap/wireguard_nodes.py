"""Two machines of the core joined by a wire, each with a WireGuard device."""

from __future__ import annotations

from ipaddress import ip_address

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from core.worlds import mac
from dataplane import _core
from dataplane.encap import registry
from dataplane.encap.wireguard.noise import public_key
from encap.wireguard_world import INSIDE, KEY, PSK, config

MTU = 1420
WIRE_MTU = 1500
DELAY = 1_000_000  # ns, of the wire
UNDERLAY = {4: "192.0.2.{}", 6: "2001:db8::{}"}
INSIDE6 = {"left": "fd00:9::1", "right": "fd00:9::2"}


def packed(address: str) -> bytes:
    return ip_address(address).packed


class Nodes:
    """``left`` (192.0.2.1 or 2001:db8::1, inside 10.9.0.1 and fd00:9::1) knows where ``right`` (2 for 1) is."""

    def __init__(self, *, more: str = "", mtu: int = MTU, wire_mtu: int = WIRE_MTU, version: int = 4) -> None:
        registry.ensure("wireguard")
        self.engine = _core.Engine(1)
        self.ns = {name: self.engine.add_namespace(name) for name in KEY}
        self.eth: dict[str, int] = {}
        self.wg: dict[str, int] = {}
        for number, name in enumerate(KEY, start=1):
            self.eth[name] = self.engine.add_device(self.ns[name], "eth0", "veth", mac=mac(number), mtu=wire_mtu)
        self.engine.connect(self.eth["left"], self.eth["right"], latency=DELAY)
        for number, name in enumerate(KEY, start=1):
            other = "right" if name == "left" else "left"
            self.engine.add_address(self.eth[name], packed(UNDERLAY[version].format(number)), 24 if version == 4 else 64)
            self.engine.add_neighbour(self.eth[name], packed(UNDERLAY[version].format(3 - number)), mac(3 - number))
            endpoint = ("192.0.2.2:51820" if version == 4 else "[2001:db8::2]:51820") if name == "left" else ""
            allowed = f"{INSIDE[other]}/32, {INSIDE6[other]}/128"
            text = config(KEY[name], public_key(KEY[other]), endpoint=endpoint, allowed=allowed, psk=PSK, more=more)
            self.wg[name] = self.engine.add_device(self.ns[name], "wg0", "wireguard", mac=bytes(6), mtu=mtu, config=text)
            self.engine.add_address(self.wg[name], packed(INSIDE[name]), 24)
            self.engine.add_address(self.wg[name], packed(INSIDE6[name]), 64)

    def send(self, inner: Packet) -> None:
        self.engine.send(self.ns["left"], bytes(inner))
        self.engine.run(self.engine.now + 10 * DELAY)

    def refused(self) -> list[str]:
        """Drops by WireGuard devices."""
        reasons = _core.drop_reasons()
        names = [reasons[drop.reason].name for drop in self.engine.drops()]
        return [name for name in names if name.startswith("wireguard/")]

    def on_the_wire(self, frames: list[_core.Frame]) -> list[Ether]:
        """What left either machine, in order."""
        return [Ether(frame.data) for frame in frames if frame.device in self.eth.values() and frame.outgoing]

    def inside(self, frames: list[_core.Frame], name: str) -> list[Packet]:
        """What came out of a tunnel."""
        packets = [frame.data for frame in frames if frame.device == self.wg[name] and not frame.outgoing]
        return [IP(packet) if packet[0] >> 4 == 4 else IPv6(packet) for packet in packets]


def question(size: int = 10, *, tos: int = 0) -> Packet:
    """For a port that nobody listens on: an ICMP error comes back."""
    return IP(src=INSIDE["left"], dst=INSIDE["right"], tos=tos) / UDP(sport=1, dport=2) / bytes(size)
