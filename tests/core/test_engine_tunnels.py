"""Tunnel devices that carry IP packets: remote ends, what they receive, and how they take part in path MTU discovery."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Raw

from core.worlds import CLIENT, CLIENT_MAC, ROUTER0, ROUTER1, SERVER, SERVER_MAC, Router, ether, ip, mac, udp_packet, unaccounted
from dataplane.encap import registry

for KIND in ("ipip", "gre", "vxlan"):
    registry.ensure(KIND)
FAR, OTHER_SERVER = "10.9.0.9", "10.0.1.77"
DF = 0x4000
PLACES = {"local": ROUTER1, "remote": SERVER}


@dataclass
class Tunnel(Router):
    """The router reaches 10.9.0.0/24 through device tun0 of this kind, whose remote end is the server if ``fixed``."""

    kind: str = "ipip"
    fixed: bool = True
    tunnel_mtu: int = 1480
    options: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tun = self.add("tun0", **({"local": ROUTER1, "remote": SERVER} if self.fixed else {"local": ROUTER1}))
        self.engine.add_address(self.tun, ip("10.9.0.1"), 32)
        if self.fixed:
            self.engine.add_route(self.ns, ip("10.9.0.0"), 24, dev=self.tun)

    def add(self, name: str, **ends: str) -> int:
        given: dict[str, int | bytes] = {key: ip(text) for key, text in ends.items()} | dict(self.options)
        return self.engine.add_device(self.ns, name, self.kind, mac=bytes(6), mtu=self.tunnel_mtu, up=True, **given)

    def sent(self) -> list[IP]:
        """What leaves towards the server since the last call."""
        return [Ether(frame)[IP] for frame in self.seen(self.eth1, outgoing=True)]

    def receive(self, packet: IP) -> None:
        self.engine.receive(self.eth1, ether(bytes(packet), dst=mac(3), src=SERVER_MAC))
        self.engine.run(self.engine.now)


def outer(inner: IP | IPv6, *, src: str = SERVER, dst: str = ROUTER1, tos: int = 0) -> IP:
    return IP(src=src, dst=dst, tos=tos) / inner


def inner(*, tos: int = 0) -> IP:
    return IP(src=FAR, dst=CLIENT, ttl=9, tos=tos) / UDP(sport=1, dport=2) / Raw(b"abc")


def test_a_forwarded_packet_leaves_in_an_ip_header_of_its_own() -> None:
    world = Tunnel()
    world.take(ether(udp_packet(dst=FAR, ttl=10, tos=0x20)))
    (packet,) = world.sent()
    assert (packet.src, packet.dst, packet.proto, packet.ttl, packet.flags, packet.tos) == (ROUTER1, SERVER, 4, 9, "DF", 0)
    assert bytes(packet.payload) == bytes(IP(udp_packet(dst=FAR, ttl=9, tos=0x20)))
    assert unaccounted(world.engine) == 0


def test_on_the_tunnel_device_itself_the_packet_has_no_ethernet_header() -> None:
    world = Tunnel()
    world.take(ether(udp_packet(dst=FAR, ttl=10)))
    assert world.seen(world.tun, outgoing=True) == [udp_packet(dst=FAR, ttl=9)]
    assert [device["ethernet"] for device in world.engine.devices(world.ns)] == [True, True, True, False]


def test_without_a_remote_end_the_gateway_of_the_route_is_it() -> None:
    world = Tunnel(fixed=False)
    engine = world.engine
    engine.add_neighbour(world.eth1, ip(OTHER_SERVER), mac(77))
    engine.add_route(world.ns, ip("10.9.0.0"), 24, via=ip(SERVER), dev=world.tun, onlink=True)
    engine.add_route(world.ns, ip("10.10.0.0"), 24, via=ip(OTHER_SERVER), dev=world.tun, onlink=True)
    world.take(ether(udp_packet(dst=FAR)), ether(udp_packet(dst="10.10.0.1")))
    assert [(packet.dst, packet.payload.dst) for packet in world.sent()] == [(SERVER, FAR), (OTHER_SERVER, "10.10.0.1")]


def test_a_received_packet_is_forwarded_without_its_outer_header() -> None:
    world = Tunnel()
    world.receive(outer(inner()))
    frames = world.engine.frames()
    assert [frame.data for frame in frames if frame.device == world.tun] == [bytes(inner())]
    (sent,) = [Ether(frame.data)[IP] for frame in frames if frame.device == world.eth0 and frame.outgoing]
    assert (sent.src, sent.dst, sent.ttl, bytes(sent[Raw])) == (FAR, CLIENT, 8, b"abc")


@pytest.mark.parametrize(
    ("down", "arrives_on"),
    [((), "both"), (("both",), "remote"), (("both", "remote"), "local"), (("both", "remote", "local"), "any")],
)
def test_the_device_whose_addresses_fit_best_receives(down: tuple[str, ...], arrives_on: str) -> None:
    """ip_tunnel_lookup(): local and remote, remote, local, neither."""
    world = Tunnel(fixed=False)
    engine = world.engine
    engine.set_device(world.tun, up=False)
    ends: dict[str, dict[str, str]] = {"any": {}, "local": {"local": ROUTER1}, "remote": {"remote": SERVER}, "both": PLACES}
    devices = {name: world.add(name, **given) for name, given in ends.items()}
    for name in down:
        engine.set_device(devices[name], up=False)
    world.receive(outer(inner()))
    assert [frame.device for frame in engine.frames() if frame.data == bytes(inner())] == [devices[arrives_on]]


@pytest.mark.parametrize("ends", [{"remote": OTHER_SERVER}, {"local": ROUTER0}])
def test_a_device_of_other_addresses_does_not_receive_and_the_sender_is_told(ends: dict[str, str]) -> None:
    """tunnel4_rcv(): port unreachable where tunnels exist."""
    world = Tunnel(fixed=False)
    world.engine.set_device(world.tun, up=False)
    world.add("tun1", **ends)
    world.receive(outer(inner()))
    (told,) = world.sent()
    assert (told[ICMP].type, told[ICMP].code, told.dst) == (3, 3, SERVER)
    assert world.dropped("tunnel/unknown_id") == 1


def test_without_any_tunnel_the_protocol_is_unreachable() -> None:
    world = Tunnel(fixed=False)
    world.engine.set_device(world.tun, up=False)
    world.receive(outer(inner()))
    (told,) = world.sent()
    assert (told[ICMP].type, told[ICMP].code) == (3, 2)
    assert world.dropped("local/no_protocol") == 1


@pytest.mark.parametrize(("inner_ecn", "outer_ecn", "seen"), [(0, 1, 0), (1, 3, 3), (2, 1, 1), (2, 3, 3), (1, 2, 1), (3, 0, 3)])
def test_congestion_marks_come_inside(inner_ecn: int, outer_ecn: int, seen: int) -> None:
    """RFC 6040 4.2, for IPv4 with its checksum and for IPv6."""
    world = Tunnel()
    world.receive(outer(inner(tos=inner_ecn), tos=outer_ecn))
    world.receive(outer(IPv6(src="2001:db8::1", dst="2001:db8::2", tc=0xA0 | inner_ecn) / UDP(), tos=outer_ecn))
    four, six = world.seen(world.tun, outgoing=False)
    assert four == bytes(inner(tos=seen))
    assert IPv6(six).tc == 0xA0 | seen


# ---- MTU


def big(size: int, *, fragment: int = DF) -> bytes:
    """A packet of ``size`` bytes to the far side."""
    return udp_packet(bytes(size - 28), dst=FAR, fragment=fragment)


def told_mtus(world: Router) -> list[int]:
    """MTUs of the "fragmentation needed" messages to the client since the last call."""
    packets = [Ether(frame)[IP] for frame in world.seen(world.eth0, outgoing=True)]
    return [packet[ICMP].nexthopmtu for packet in packets if packet[ICMP].type == 3 and packet[ICMP].code == 4]


def test_a_packet_that_fits_exactly_passes_and_one_byte_more_is_too_big() -> None:
    """The outer header has the don't-fragment bit: 1500 - 20 bytes remain (tnl_update_pmtu())."""
    world = Tunnel(tunnel_mtu=1500)
    world.take(ether(big(1480)))
    assert [packet.len for packet in world.sent()] == [1500]
    world = Tunnel(tunnel_mtu=1500)
    world.take(ether(big(1481)))
    assert world.dropped("tunnel/too_big") == 1
    assert told_mtus(world) == [1480]
    assert unaccounted(world.engine) == 0


def send(world: Router, size: int) -> None:
    """The router itself sends a packet of this size."""
    world.engine.send(world.ns, udp_packet(bytes(size - 28), src="10.9.0.1", dst=FAR, fragment=DF))
    world.engine.run(world.engine.now)


def test_the_route_into_the_tunnel_remembers_what_fits() -> None:
    """The second packet of the namespace's own is refused before it enters the tunnel."""
    world = Tunnel(tunnel_mtu=1500)
    send(world, 1481)
    assert (world.dropped("tunnel/too_big"), world.dropped("output/too_big")) == (1, 0)
    send(world, 1481)
    assert (world.dropped("tunnel/too_big"), world.dropped("output/too_big")) == (1, 1)


def test_without_path_mtu_discovery_the_outer_packet_is_cut() -> None:
    """``ip tunnel ... nopmtudisc``: the don't-fragment bit is that of the inner packet."""
    world = Tunnel(tunnel_mtu=1500, options=(("df", 2),))
    world.take(ether(big(1500, fragment=0)))
    first, second = world.sent()
    assert (first.flags, second.flags, first.frag, second.frag) == ("MF", 0, 0, (first.len - 20) // 8)
    assert first.len + second.len - 40 == 1500
    assert told_mtus(world) == []


def test_a_router_on_the_way_lowers_what_the_tunnel_takes() -> None:
    """ipip_err(): fragmentation needed about an outer packet."""
    world = Tunnel(tunnel_mtu=1500)
    world.take(ether(big(1000)))
    (sent,) = world.sent()
    world.receive(IP(src="10.0.1.254", dst=ROUTER1) / ICMP(type=3, code=4, nexthopmtu=900) / Raw(bytes(sent)[:28]))
    world.take(ether(big(1000)))
    assert told_mtus(world) == [880]
    world.take(ether(big(880)))
    assert [packet.len for packet in world.sent()] == [900]


def test_the_same_word_about_somebody_elses_tunnel_changes_nothing() -> None:
    world = Tunnel(tunnel_mtu=1500)
    stranger = IP(src=ROUTER1, dst=OTHER_SERVER, proto=4) / Raw(bytes(20))
    world.receive(IP(src="10.0.1.254", dst=ROUTER1) / ICMP(type=3, code=4, nexthopmtu=900) / stranger)
    world.engine.add_neighbour(world.eth1, ip(OTHER_SERVER), mac(77))
    world.take(ether(udp_packet(bytes(1200), dst=OTHER_SERVER, fragment=DF)))
    assert told_mtus(world) == []


def test_gre_leaves_four_bytes_less_than_ipip() -> None:
    world = Tunnel(kind="gre", tunnel_mtu=1500)
    world.take(ether(big(1476)))
    assert [(packet.len, packet[GRE].proto) for packet in world.sent()] == [(1500, 0x0800)]
    world = Tunnel(kind="gre", tunnel_mtu=1500)
    world.take(ether(big(1477)))
    assert told_mtus(world) == [1476]


def vxlan_world() -> Router:
    world = Router()
    engine = world.engine
    tunnel = engine.add_device(world.ns, "vxlan1", "vxlan", mac=mac(0xE0), mtu=1500, id=1, local=ip(ROUTER1))
    engine.add_address(tunnel, ip("10.9.0.1"), 24)
    engine.add_neighbour(tunnel, ip(FAR), mac(0xE1))
    engine.add_fdb(tunnel, mac(0xE1), dst=ip(SERVER))
    return world


@pytest.mark.parametrize(("first", "refused"), [(1450, 0), (1451, 1)])
def test_vxlan_learns_silently_and_only_from_what_does_not_fit(first: int, refused: int) -> None:
    """skb_tunnel_check_pmtu(): the first packet is cut outside, later ones are refused before the tunnel."""
    world = vxlan_world()
    send(world, first)
    assert world.dropped("output/too_big") == 0
    send(world, 1500)
    assert world.dropped("output/too_big") == refused


# ---- over IPv6

NEAR6, FAR6, CLIENT6, BEYOND6 = ("fd00:1::1", "fd00:1::2", "fd00::2", "fd00:9::9")


@dataclass
class Tunnel6(Router):
    """The same with IPv6 around it: tun0 leads from fd00:1::1 to the server, fd00:1::2; fd00:9::/64 and 10.9.0.0/24 lie behind."""

    kind: str = "ipip"
    tunnel_mtu: int = 1500
    fixed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        engine = self.engine
        engine.set_sysctl(self.ns, "net.ipv6.conf.all.forwarding", 1)
        engine.add_address(self.eth1, address(NEAR6), 64)
        engine.add_neighbour(self.eth1, address(FAR6), SERVER_MAC)
        engine.add_address(self.eth0, address("fd00::1"), 64)
        engine.add_neighbour(self.eth0, address(CLIENT6), CLIENT_MAC)
        ends = {"local": address(NEAR6), "remote": address(FAR6)} if self.fixed else {"local": address(NEAR6)}
        self.tun = engine.add_device(self.ns, "tun0", self.kind, mac=bytes(6), mtu=self.tunnel_mtu, up=True, **ends)
        if self.fixed:
            engine.add_route(self.ns, address("fd00:9::"), 64, dev=self.tun)
            engine.add_route(self.ns, ip("10.9.0.0"), 24, dev=self.tun)

    def take6(self, packet: IPv6) -> None:
        self.take(ether(bytes(packet), kind=0x86DD))

    def sent(self) -> list[IPv6]:
        return [IPv6(frame[14:]) for frame in self.seen(self.eth1, outgoing=True) if frame[12:14] == b"\x86\xdd"]

    def receive(self, packet: IPv6) -> None:
        self.engine.receive(self.eth1, ether(bytes(packet), dst=mac(3), src=SERVER_MAC, kind=0x86DD))
        self.engine.run(self.engine.now)


def address(text: str) -> bytes:
    return ip_address(text).packed


def inner6(size: int = 100) -> IPv6:
    return IPv6(src=CLIENT6, dst=BEYOND6, hlim=9) / UDP(sport=1, dport=2) / Raw(bytes(size - 48))


def test_ipv6_in_ipv6() -> None:
    world = Tunnel6()
    world.take6(inner6())
    (packet,) = world.sent()
    assert (packet.src, packet.dst, packet.nh, packet.hlim, packet.plen) == (NEAR6, FAR6, 41, 8, 100)
    assert (packet.payload.dst, packet.payload.hlim) == (BEYOND6, 8)
    assert unaccounted(world.engine) == 0


def test_ipv4_in_ipv6() -> None:
    world = Tunnel6()
    world.take(ether(udp_packet(dst=FAR, ttl=10)))
    (packet,) = world.sent()
    assert (packet.dst, packet.nh, packet.hlim, bytes(packet.payload)) == (FAR6, 4, 9, udp_packet(dst=FAR, ttl=9))


def test_ipv6_in_ipv4() -> None:
    world = Tunnel()
    world.engine.set_sysctl(world.ns, "net.ipv6.conf.all.forwarding", 1)
    world.engine.add_route(world.ns, address("fd00:9::"), 64, dev=world.tun)
    world.take(ether(bytes(inner6()), kind=0x86DD))
    (packet,) = world.sent()
    assert (packet.src, packet.dst, packet.proto, packet.ttl) == (ROUTER1, SERVER, 41, 8)


def test_without_a_remote_end_the_ipv6_gateway_is_it() -> None:
    world = Tunnel6(fixed=False)
    world.engine.add_route(world.ns, address("fd00:9::"), 64, via=address(FAR6), dev=world.tun, onlink=True)
    world.take6(inner6())
    assert [packet.dst for packet in world.sent()] == [FAR6]


def test_what_comes_over_ipv6_is_forwarded() -> None:
    world = Tunnel6()
    arriving = IPv6(src=BEYOND6, dst=CLIENT6, hlim=9) / UDP() / Raw(b"abc")
    world.receive(IPv6(src=FAR6, dst=NEAR6) / arriving)
    (sent,) = [IPv6(frame[14:]) for frame in world.seen(world.eth0, outgoing=True)]
    assert (sent.src, sent.dst, sent.hlim, bytes(sent[Raw])) == (BEYOND6, CLIENT6, 8, b"abc")


@pytest.mark.parametrize("source", [FAR6, "fd00:1::77"])
def test_over_ipv6_addresses_decide_too_and_the_sender_is_told(source: str) -> None:
    """tunnel6_rcv(): port unreachable."""
    world = Tunnel6()
    world.engine.add_neighbour(world.eth1, address("fd00:1::77"), SERVER_MAC)
    world.receive(IPv6(src=source, dst=NEAR6) / IPv6(src=BEYOND6, dst=CLIENT6) / UDP())
    assert world.dropped("tunnel/unknown_id") == (source != FAR6)
    told = [(packet.dst, packet.payload.type, packet.payload.code) for packet in world.sent() if packet.nh == 58]
    assert told == ([] if source == FAR6 else [(source, 1, 4)])


@pytest.mark.parametrize(("size", "refused"), [(1460, 0), (1461, 1)])
def test_over_ipv6_nothing_is_cut(size: int, refused: int) -> None:
    """ip6_tnl_xmit(): 1500 - 40 bytes remain, for IPv4 packets that might be fragmented too."""
    world = Tunnel6()
    world.take6(inner6(size))
    assert world.dropped("tunnel/too_big") == refused
    packets = [IPv6(frame[14:]) for frame in world.seen(world.eth0, outgoing=True)]
    assert [(packet.payload.type, packet.payload.mtu) for packet in packets] == [(2, 1460)] * refused
    world.take(ether(big(size, fragment=0)))
    assert world.dropped("tunnel/too_big") == 2 * refused
    assert told_mtus(world) == [1460] * refused


# ---- the device by itself


def test_a_packet_socket_sends_ip_packets_of_up_to_the_mtu() -> None:
    world = Tunnel()
    packet = big(1480)
    assert world.engine.inject(world.tun, packet) > 0
    assert world.engine.inject(world.tun, packet + b"x") == -1
    assert world.engine.inject(world.tun, b"") == -1
    world.engine.run(0)
    assert [bytes(sent.payload) for sent in world.sent()] == [packet]


def test_a_received_packet_can_be_handed_in_without_a_header() -> None:
    world = Tunnel()
    world.engine.receive(world.tun, bytes(inner()))
    world.engine.run(0)
    assert [Ether(frame)[IP].ttl for frame in world.seen(world.eth0, outgoing=True)] == [8]
    with pytest.raises(ValueError, match="tun0 receives at least 1 bytes"):
        world.engine.receive(world.tun, b"")


def test_it_cannot_be_a_bridge_port() -> None:
    world = Tunnel()
    bridge = world.engine.add_device(world.ns, "br0", "bridge", mac=mac(0xB0), mtu=1500)
    with pytest.raises(ValueError, match="tun0 carries no Ethernet frames"):
        world.engine.set_device(world.tun, master=bridge)


def test_an_end_is_an_address() -> None:
    with pytest.raises(ValueError, match="remote is an address of 4 or 16 bytes"):
        Router().engine.add_device(0, "tun0", "ipip", mac=bytes(6), mtu=1480, remote=b"123")
