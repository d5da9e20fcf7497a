"""Bridged IPv6 packets: what bridge netfilter looks at, and what it leaves to routers (net/bridge/br_netfilter_ipv6.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.worlds import IPV6, Bridge, ether, filter_table, mac, nat_table
from core.worlds6 import HOP_BY_HOP, extension, ip6, ipv6, udp6, udp6_packet

if TYPE_CHECKING:
    from dataplane._core import Match

UDP = 17
STATIONS = [f"2001:db8::{number}" for number in (2, 3, 4)]
SERVICE = "fd00:10:96::1"
CALLED = "net.bridge.bridge-nf-call-ip6tables"


def bridged(packet: bytes, *, rules: list[Match] | None = None, called: int = 1) -> list[bytes]:
    """What leaves by the port of station 1 when station 0 sends it a packet."""
    world = Bridge()
    world.engine.set_sysctl(world.ns, CALLED, called)
    world.engine.add_fdb(world.ports[1], mac(0x11))
    if rules is not None:
        world.engine.set_rules(world.ns, 6, "filter", filter_table(FORWARD=rules))
    world.take(0, ether(packet, dst=mac(0x11), src=mac(0x10), kind=IPV6))
    return [frame.data for frame in world.engine.frames() if frame.outgoing and frame.device == world.ports[1]]


def between(payload: bytes | None = None, *, proto: int = UDP, length: int | None = None) -> bytes:
    payload = udp6(src=STATIONS[0], dst=STATIONS[1]) if payload is None else payload
    return ipv6(payload, src=STATIONS[0], dst=STATIONS[1], proto=proto, hops=1, length=length)


def passes(packet: bytes, *, called: int = 1) -> bool:
    return bridged(packet, called=called) == [ether(packet, dst=mac(0x11), src=mac(0x10), kind=IPV6)]


def test_a_bridged_packet_is_not_changed() -> None:
    """Not its hop limit either: nothing is routed."""
    assert passes(between())


@pytest.mark.parametrize(
    "options",
    [
        b"\1\6" + bytes(6) + b"\x5e\4" + bytes(4),  # a router would drop it: eight bytes of padding, an option that wants a drop
        b"\1\4\0\0\0\1",  # padding that is not zero
        b"\1\4" + bytes(4),
    ],
)
def test_options_are_for_routers(options: bytes) -> None:
    """nf_ip6_check_hbh_len() looks at lengths alone."""
    assert passes(between(extension(UDP, options) + udp6(src=STATIONS[0], dst=STATIONS[1]), proto=HOP_BY_HOP))


BROKEN = {
    "option longer than its header": between(extension(UDP, b"\1\5" + bytes(4)) + udp6(), proto=HOP_BY_HOP),
    "header longer than the packet": between(bytes([UDP, 9]) + bytes(6), proto=HOP_BY_HOP),
    "payload longer than the frame": between(length=17),
    "another version": b"\x50" + between()[1:],
    "half a header": between()[:30],
}


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN)
def test_what_is_no_packet_is_dropped_where_rules_are_asked(packet: bytes) -> None:
    """br_validate_ipv6(); a bridge that asks none looks no further than the Ethernet header."""
    assert bridged(packet) == []
    assert passes(packet, called=0)


@pytest.mark.parametrize(("called", "count"), [(1, 0), (0, 1)])
def test_rules_of_the_ip_layer_see_bridged_packets_if_asked(called: int, count: int) -> None:
    assert len(bridged(between(), rules=[{"dst": (ip6(STATIONS[1]), 128), "target": "DROP"}], called=called)) == count


def test_padding_of_the_frame_is_cut_off() -> None:
    """br_validate_ipv6() trims to the payload length; where no rules are asked it is carried along."""
    packet = between()
    assert bridged(packet + bytes(6)) == [ether(packet, dst=mac(0x11), src=mac(0x10), kind=IPV6)]
    assert passes(packet + bytes(6), called=0)


def test_a_bridged_packet_to_a_service_is_translated_and_stays_on_the_bridge() -> None:
    """br_nf_pre_routing_finish_bridge(): the way to the new destination is the bridge itself, so that nobody routes: the hop limit and
    the sender's MAC stay."""
    world = Bridge()
    engine = world.engine
    engine.add_address(world.br, ip6("2001:db8::1"), 64)
    engine.set_sysctl(world.ns, "net.ipv6.conf.all.forwarding", 1)
    engine.add_neighbour(world.br, ip6(STATIONS[1]), mac(0x11))
    engine.add_fdb(world.ports[1], mac(0x11))
    rule: Match = {"dst": (ip6(SERVICE), 128), "target": "DNAT", "to": (ip6(STATIONS[1]), ip6(STATIONS[1]), 0, 0)}
    engine.set_rules(world.ns, 6, "nat", nat_table(PREROUTING=[rule]))
    world.take(0, ether(udp6_packet(src=STATIONS[0], dst=SERVICE), dst=mac(0xB0), src=mac(0x10), kind=IPV6))
    sent = [frame.data for frame in engine.frames() if frame.outgoing and frame.device == world.ports[1]]
    assert sent == [ether(udp6_packet(src=STATIONS[0], dst=STATIONS[1]), dst=mac(0x11), src=mac(0x10), kind=IPV6)]
