"""No IPv6 frame, however broken, brings the core down or gets lost: routers, a bridge with rules and a VXLAN tunnel are sent
every truncation and flipped bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.worlds import CLIENT_MAC, IPV6, SECOND, Bridge, ether, filter_table, mac, nat_table, udp_packet, unaccounted
from core.worlds6 import (
    ADVERTISEMENT,
    CLIENT6,
    DESTINATION,
    ECHO,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    REDIRECT,
    ROUTER06,
    ROUTING,
    SERVER6,
    SOLICITATION,
    TOO_BIG,
    UNREACHABLE,
    Router6,
    extension,
    fragment6,
    icmpv6,
    icmpv6_packet,
    ip6,
    ipv6,
    link_option,
    neighbour_message,
    tcp6,
    udp6,
    udp6_packet,
)
from dataplane._core import CT_INVALID, Engine
from dataplane.encap import registry

if TYPE_CHECKING:
    from dataplane._core import Match

SERVICE = "fd00:10:96::1"
TCP, SYN = 6, 0x02
VNI, VXLAN_PORT, TUNNEL_MAC = 1, 8472, mac(0xE0)
TELLING = (0, 1, 17, 43, 44, 58, 59, 60, 255)  # bytes that are worth more tries: next headers, and what wraps around
HEADERS = 110  # bytes whose bits are flipped
World = tuple[Engine, list[int], bytes]  # an engine, the devices that frames come in by, the MAC they are for


# ---- where to


def ruled(engine: Engine, ns: int) -> None:
    """Rules that make the namespace put together, track, translate and reject."""
    service: list[Match] = [{"dst": (ip6(SERVICE), 128), "target": "DNAT", "to": (ip6(SERVER6), ip6(SERVER6), 0, 0)}]
    engine.set_rules(ns, 6, "nat", nat_table(PREROUTING=service, POSTROUTING=[{"dst": (ip6(SERVER6), 128), "target": "MASQUERADE"}]))
    for family in (4, 6):
        refused: list[Match] = [{"ctstate": CT_INVALID, "target": "DROP"}, {"proto": TCP, "target": "REJECT", "reject_with": 256}]
        engine.set_rules(ns, family, "filter", filter_table(FORWARD=refused))


def router() -> World:
    world = Router6()
    ruled(world.engine, world.ns)
    world.engine.set_sysctl(world.ns, "net.ipv6.conf.all.proxy_ndp", 1)
    world.engine.add_proxy(world.eth0, ip6("2001:db8:0::77"))
    return world.engine, [world.eth0, world.eth1], mac(1)


def plain_router() -> World:
    """It puts together only what is its own."""
    world = Router6()
    return world.engine, [world.eth0], mac(1)


def bridge() -> World:
    world = Bridge()
    engine = world.engine
    engine.add_address(world.br, ip6(ROUTER06), 64)
    engine.set_sysctl(world.ns, "net.ipv6.conf.all.forwarding", 1)
    ruled(engine, world.ns)
    return engine, [*world.ports[:2], world.br], mac(0xB0)


def tunnel() -> World:
    """Behind the router's VXLAN device over IPv6 are networks of both families; the other end is the client."""
    world = Router6()
    registry.ensure("vxlan")
    engine = world.engine
    near, far = ip6(ROUTER06), ip6(CLIENT6)
    device = engine.add_device(world.ns, "vxlan6", "vxlan", mac=TUNNEL_MAC, mtu=1430, id=VNI, port=VXLAN_PORT, local=near, remote=far)
    engine.add_address(device, bytes([10, 1, 0, 1]), 24)
    engine.add_address(device, ip6("fd00:1::1"), 64)
    engine.add_route(world.ns, ip6("fd00:2::"), 64, via=ip6("fd00:1::2"))
    return engine, [world.eth0, device], mac(1)


WORLDS = {each.__name__: each for each in (router, plain_router, bridge, tunnel)}


# ---- what


def tunnelled(inner: bytes, *, to: bytes = TUNNEL_MAC, kind: int = IPV6) -> bytes:
    frame = bytes([8, 0, 0, 0, 0, 0, VNI, 0]) + ether(inner, dst=to, src=mac(0xE1), kind=kind)
    return ipv6(udp6(frame, dst=ROUTER06, dport=VXLAN_PORT), dst=ROUTER06)


@cache
def corpus() -> tuple[bytes, ...]:
    """Good packets of all kinds, each the way it is to be broken."""
    solicitation = link_option(1, CLIENT_MAC)
    chain = extension(DESTINATION, b"\x1e\4\0\0\0\0") + extension(ROUTING) + extension(DESTINATION, bytes(6)) + extension(17)
    parts = [ipv6(fragment6(udp6(bytes(200))[at : at + 104], at, more=at < 104), proto=FRAGMENT) for at in (0, 104)]
    return (
        udp6_packet(),
        udp6_packet(size=1452),
        ipv6(tcp6(SYN, dst=SERVICE), dst=SERVICE, proto=TCP),
        icmpv6_packet(ECHO, dst=ROUTER06),
        ipv6(chain + udp6(), proto=HOP_BY_HOP),
        ipv6(chain + udp6(dst=ROUTER06), dst=ROUTER06, proto=HOP_BY_HOP),
        *parts,
        ipv6(fragment6(icmpv6(ECHO, dst=ROUTER06), 0, more=False, next_header=ICMPV6), dst=ROUTER06, proto=FRAGMENT),
        ipv6(fragment6(icmpv6(ECHO, dst=ROUTER06), 0, more=True, next_header=ICMPV6), dst=ROUTER06, proto=FRAGMENT),
        icmpv6_packet(UNREACHABLE, 4, payload=udp6_packet(src=SERVER6, dst=CLIENT6)),
        icmpv6_packet(TOO_BIG, 0, (1300).to_bytes(4), payload=tunnelled(udp6_packet()), dst=ROUTER06),
        neighbour_message(SOLICITATION, ROUTER06, options=solicitation, src=CLIENT6, dst=ROUTER06),
        neighbour_message(SOLICITATION, "2001:db8:0::77", options=solicitation, src=CLIENT6, dst="2001:db8:0::77"),
        neighbour_message(ADVERTISEMENT, CLIENT6, options=link_option(2, CLIENT_MAC), flags=0x60, src=CLIENT6, dst=ROUTER06),
        neighbour_message(REDIRECT, SERVER6, options=ip6(SERVER6) + link_option(2, CLIENT_MAC), src="fe80::2", dst=ROUTER06),
        tunnelled(udp6_packet(dst="fd00:2::9")),
        tunnelled(udp_packet(dst="10.1.0.1"), kind=0x0800),
    )


def carry(engine: Engine, device: int, frame: bytes) -> None:
    """Both ways in: received by the device, and through its transmit queue; then everything that follows."""
    if len(frame) >= 14:
        engine.receive(device, frame)
    engine.inject(device, frame)
    engine.run(engine.now + SECOND)


def assert_accounted_for(make: Callable[[], World], breaks: Callable[[bytes], list[bytes]]) -> None:
    engine, devices, hardware = make()
    for packet in corpus():
        for device in devices:
            for frame in breaks(ether(packet, dst=hardware, kind=IPV6)):
                carry(engine, device, frame)
                assert unaccounted(engine) == 0, frame.hex()
    engine.run(engine.now + 200 * SECOND)
    assert unaccounted(engine) == 0
    assert engine.counters()["held"] == 0
    assert engine.counters()["dropped"] > 0


def truncations(frame: bytes) -> list[bytes]:
    return [frame[:length] for length in range(min(len(frame), 14 + 300))]


def flipped_bits(frame: bytes) -> list[bytes]:
    frames = []
    for bit in range(8 * min(len(frame), HEADERS)):
        broken = bytearray(frame)
        broken[bit // 8] ^= 1 << bit % 8
        frames.append(bytes(broken))
    return frames


@pytest.mark.parametrize("name", WORLDS)
def test_every_truncation_of_every_frame_is_accounted_for(name: str) -> None:
    assert_accounted_for(WORLDS[name], truncations)


@pytest.mark.parametrize("name", WORLDS)
def test_every_flipped_bit_of_the_headers_is_accounted_for(name: str) -> None:
    assert_accounted_for(WORLDS[name], flipped_bits)


@st.composite
def broken_frames(draw: st.DrawFn) -> bytes:
    packet = bytearray(draw(st.sampled_from(corpus())))
    for _ in range(draw(st.integers(0, 6))):
        packet[draw(st.integers(0, min(len(packet), 200) - 1))] = draw(
            st.sampled_from((0, 1, 17, 43, 44, 58, 59, 60, 255)) | st.integers(0, 255)
        )
    return bytes(packet[: draw(st.integers(0, len(packet)))]) + draw(st.binary(max_size=40))


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(WORLDS)), st.lists(broken_frames(), max_size=12))
def test_no_sequence_of_broken_packets_is_lost(name: str, packets: list[bytes]) -> None:
    engine, devices, hardware = WORLDS[name]()
    for number, packet in enumerate(packets):
        carry(engine, devices[number % len(devices)], ether(packet, dst=hardware, kind=IPV6))
        assert unaccounted(engine) == 0
    engine.run(engine.now + 200 * SECOND)
    assert unaccounted(engine) == 0
    assert engine.counters()["held"] == 0
