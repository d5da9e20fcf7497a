"""What decides the source port of a tunnel in UDP: the flow inside, looked at as the kernel's flow dissector does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet, Raw

from core.worlds import ROUTER1, SERVER, Router, ether, ip, mac
from dataplane.encap import registry

registry.ensure("vxlan")
A4, B4, A6, B6 = "10.5.0.1", "10.5.0.2", "fd00:5::1", "fd00:5::2"


def source_ports(*packets: Packet) -> list[int]:
    """The ports that a VXLAN device chooses for these packets, handed to it as frames."""
    world = Router()
    engine = world.engine
    tunnel = engine.add_device(world.ns, "vxlan1", "vxlan", mac=mac(0xE0), mtu=1450, up=True, id=1, local=ip(ROUTER1))
    engine.add_fdb(tunnel, mac(0xE1), dst=ip(SERVER))
    for packet in packets:
        frame = ether(bytes(packet), dst=mac(0xE1), src=mac(0x77), kind=0x86DD if packet.name == "IPv6" else 0x0800)
        assert engine.inject(tunnel, frame) > 0
    engine.run(0)
    ports = [Ether(frame)[UDP].sport for frame in world.seen(world.eth1, outgoing=True)]
    assert len(ports) == len(packets)
    return ports


def flow4(sport: int = 1, dport: int = 2) -> Packet:
    return IP(src=A4, dst=B4) / UDP(sport=sport, dport=dport) / Raw(b"x")


def flow6(sport: int = 1, dport: int = 2, *, label: int = 0) -> Packet:
    return IPv6(src=A6, dst=B6, fl=label) / TCP(sport=sport, dport=dport)


@pytest.mark.parametrize(
    "outside",
    [
        lambda inner: inner,
        lambda inner: IP(src="10.7.0.1", dst="10.7.0.2") / inner,
        lambda inner: IPv6(src="fd00:7::1", dst="fd00:7::2") / inner,
        lambda inner: IP(src="10.7.0.1", dst="10.7.0.2") / GRE() / inner,
        lambda inner: IP(src="10.7.0.1", dst="10.7.0.2") / GRE(chksum_present=1, key_present=1, seqnum_present=1) / inner,
        lambda inner: IP(src="10.7.0.1", dst="10.7.0.2") / GRE(proto=0x6558) / Ether(dst="02:00:00:00:00:01") / inner,
        lambda inner: IPv6(src="fd00:7::1", dst="fd00:7::2") / IPv6ExtHdrDestOpt() / inner,
    ],
)
@pytest.mark.parametrize("flow", [flow4, flow6])
def test_the_ports_of_the_innermost_flow_decide(outside: Callable[[Packet], Packet], flow: Callable[..., Packet]) -> None:
    first, same, other = source_ports(outside(flow()), outside(flow()), outside(flow(sport=7)))
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    ("one", "back"),
    [
        (flow4(), IP(src=B4, dst=A4) / UDP(sport=2, dport=1) / Raw(b"x")),
        (flow6(), IPv6(src=B6, dst=A6) / TCP(sport=2, dport=1)),
    ],
)
def test_both_directions_of_a_flow_have_one_port(one: Packet, back: Packet) -> None:
    first, second = source_ports(one, back)
    assert first == second


def test_a_flow_label_takes_the_place_of_the_ports() -> None:
    ports = source_ports(flow6(label=5), flow6(sport=7, label=5), flow6(label=6), flow6())
    assert ports[0] == ports[1]
    assert len(set(ports)) == 3


def test_fragments_go_by_their_addresses() -> None:
    whole: list[Packet] = [IP(src=A4, dst=B4, flags="MF") / UDP(sport=port) / Raw(bytes(8)) for port in (1, 7)]
    whole += [IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(m=1) / UDP(sport=port) / Raw(bytes(8)) for port in (1, 7)]
    ports = source_ports(*whole)
    assert ports[0] == ports[1]
    assert ports[2] == ports[3]


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_a_header_broken_off_still_has_a_port(size: int) -> None:
    inner = IP(src="10.7.0.1", dst="10.7.0.2") / GRE(key_present=1) / flow6()
    assert source_ports(Raw(bytes(inner)[:size]) if size else Raw(b"\x45"), flow4())[0] > 0
