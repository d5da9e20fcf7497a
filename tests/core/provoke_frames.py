"""Drop reasons of what happens to frames: receiving, bridges, ARP, neighbours, sending."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.provoked import provokes
from core.worlds import (
    ARP,
    BROADCAST,
    CLIENT,
    CLIENT_MAC,
    DONT_FRAGMENT,
    ICMP,
    IPV6,
    OUTSIDE,
    ROUTER0,
    ROUTER0_MAC,
    ROUTER1,
    SECOND,
    SERVER,
    VLAN,
    Bridge,
    Router,
    arp,
    ether,
    filter_table,
    icmp,
    ip,
    ipv4,
    mac,
    nat_table,
    udp_packet,
)
from dataplane._core import Engine

if TYPE_CHECKING:
    from dataplane._core import Match

STATION0, STATION1 = mac(0x10), mac(0x11)


def router_taking(*frames: bytes) -> Engine:
    router = Router()
    router.take(*frames)
    return router.engine


def bridge_taking(*frames: bytes) -> Engine:
    bridge = Bridge()
    bridge.take(0, *frames)
    return bridge.engine


# ---- receiving


@provokes("receive/device_down")
def device_down() -> Engine:
    router = Router()
    router.engine.set_device(router.eth0, up=False)
    router.take(ether(udp_packet()))
    return router.engine


@provokes("fault/too_big_filtered")
def told_across_a_network_that_filters_it() -> Engine:
    bridge = Bridge()
    bridge.engine.set_device(bridge.ports[0], filters_too_big=True)
    bridge.take(0, ether(ipv4(icmp(3, 4, bytes((0, 0, 5, 120)), ipv4(bytes(8))), proto=ICMP), dst=STATION1))
    return bridge.engine


@provokes("receive/vlan_truncated")
def frame_ends_in_its_tag() -> Engine:
    return router_taking(ether(b"\x00", kind=VLAN))


@provokes("receive/unhandled_protocol")
def link_layer_discovery() -> Engine:
    return router_taking(ether(bytes(46), kind=0x88CC))


@provokes("receive/ipv6_disabled")
def ipv6_frame() -> Engine:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.eth0.disable_ipv6", 1)
    router.take(ether(ipv6(b""), kind=IPV6))
    return router.engine


# ---- bridges


@provokes("bridge/invalid_source_mac")
def group_source() -> Engine:
    return bridge_taking(ether(udp_packet(), dst=STATION1, src=BROADCAST))


@provokes("bridge/pause_frame")
def pause_frame() -> Engine:
    return bridge_taking(ether(bytes(46), dst=bytes.fromhex("0180c2000001"), src=STATION0, kind=0x8808))


@provokes("bridge/same_port")
def back_out_of_the_port() -> Engine:
    return bridge_taking(ether(udp_packet(), dst=BROADCAST, src=STATION1), ether(udp_packet(), dst=STATION1, src=STATION0))


@provokes("bridge/no_port")
def all_other_ports_down() -> Engine:
    bridge = Bridge()
    for port in bridge.ports[1:]:
        bridge.engine.set_device(port, up=False)
    bridge.take(0, ether(udp_packet(), dst=mac(0x77), src=STATION0))
    return bridge.engine


@provokes("bridge/over_mtu")
def port_with_a_smaller_mtu() -> Engine:
    bridge = Bridge()
    bridge.engine.set_sysctl(bridge.ns, "net.bridge.bridge-nf-call-iptables", 0)
    bridge.engine.set_device(bridge.ports[1], mtu=600)
    bridge.take(1, ether(udp_packet(), dst=BROADCAST, src=STATION1))
    bridge.take(0, ether(udp_packet(bytes(1000)), dst=STATION1, src=STATION0))
    return bridge.engine


@provokes("bridge/port_gone")
def port_that_goes_while_its_frame_waits() -> Engine:
    return bridge_that_waits(lambda bridge: bridge.engine.del_device(bridge.ports[0]))


def bridge_that_waits(meanwhile: Callable[[Bridge], None]) -> Engine:
    """For the MAC address of the station that a packet has been translated to."""
    bridge = Bridge()
    service: list[Match] = [{"dst": (ip(OUTSIDE), 32), "target": "DNAT", "to": (ip(SERVER), ip(SERVER), 0, 0)}]
    bridge.engine.add_address(bridge.br, ip(ROUTER1), 24)
    bridge.engine.set_rules(bridge.ns, 4, "nat", nat_table(PREROUTING=service))
    bridge.engine.set_sysctl(bridge.ns, "net.bridge.bridge-nf-call-iptables", 1)
    bridge.engine.set_sysctl(bridge.ns, "net.ipv4.conf.br0.forwarding", 1)
    bridge.take(0, ether(udp_packet(src="10.0.1.9", dst=OUTSIDE), dst=mac(0xB0), src=STATION0))
    meanwhile(bridge)
    bridge.take(1, ether(arp(2, STATION1, SERVER, ROUTER1, mac(0xB0)), dst=mac(0xB0), src=STATION1, kind=ARP))
    return bridge.engine


@provokes("bridge/over_mtu_with_df")
def switched_packet_that_may_not_be_cut() -> Engine:
    bridge = Bridge()
    bridge.engine.set_rules(bridge.ns, 4, "filter", filter_table())
    bridge.engine.set_sysctl(bridge.ns, "net.bridge.bridge-nf-call-iptables", 1)
    bridge.engine.set_device(bridge.ports[1], mtu=600)
    bridge.take(1, ether(udp_packet(), dst=BROADCAST, src=STATION1))
    bridge.take(0, ether(udp_packet(bytes(1000), fragment=DONT_FRAGMENT), dst=STATION1, src=STATION0))
    return bridge.engine


def ipv6(payload: bytes, *, first: int = 0x60, next_header: int = 59, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return bytes([first, 0, 0, 0]) + size.to_bytes(2) + bytes([next_header, 64]) + bytes(32) + payload


def switched_ipv6(packet: bytes) -> Engine:
    bridge = Bridge()
    bridge.engine.set_sysctl(bridge.ns, "net.bridge.bridge-nf-call-ip6tables", 1)
    bridge.take(0, ether(packet, dst=STATION1, src=STATION0, kind=IPV6))
    return bridge.engine


@provokes("parse/ipv6_truncated")
def ipv6_header_cut() -> Engine:
    return switched_ipv6(ipv6(b"")[:30])


@provokes("parse/ipv6_bad_header")
def ipv6_of_another_version() -> Engine:
    return switched_ipv6(ipv6(b"", first=0x50))


# ---- ARP


@provokes("arp/otherhost")
def request_to_another_mac() -> Engine:
    return router_taking(ether(arp(1, CLIENT_MAC, CLIENT, ROUTER0), dst=mac(0x77), kind=ARP))


@provokes("arp/truncated")
def arp_cut() -> Engine:
    return router_taking(ether(arp(1, CLIENT_MAC, CLIENT, ROUTER0)[:20], kind=ARP))


@provokes("arp/bad_header")
def arp_for_another_hardware() -> Engine:
    return router_taking(ether(b"\x00\x20" + arp(1, CLIENT_MAC, CLIENT, ROUTER0)[2:], kind=ARP))


@provokes("arp/bad_target")
def request_for_a_group() -> Engine:
    return router_taking(ether(arp(1, CLIENT_MAC, CLIENT, "224.0.0.1"), dst=BROADCAST, kind=ARP))


@provokes("arp/gratuitous")
def an_announcement_where_they_are_not_wanted() -> Engine:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv4.conf.eth0.drop_gratuitous_arp", 1)
    router.take(ether(arp(1, CLIENT_MAC, CLIENT, CLIENT), dst=BROADCAST, kind=ARP))
    return router.engine


# ---- neighbours


@provokes("neighbour/unresolved")
def nobody_answers() -> Engine:
    router = Router()
    router.take(ether(udp_packet(dst="10.0.1.9")))
    router.engine.run(10 * SECOND)
    return router.engine


@provokes("neighbour/queue_full")
def too_many_wait() -> Engine:
    return router_taking(*(ether(udp_packet(bytes([number]), dst="10.0.1.9")) for number in range(250)))


@provokes("neighbour/table_full")
def too_many_neighbours() -> Engine:
    router = Router()
    for number in range((1 << 16) - 1):  # one is there
        router.engine.add_neighbour(router.eth1, bytes([10, 9]) + number.to_bytes(2), mac(number))
    router.take(ether(udp_packet(dst="10.0.1.9")))
    return router.engine


# ---- sending


@provokes("transmit/device_down")
def sender_is_down() -> Engine:
    router = Router()
    router.engine.set_device(router.eth0, up=False)
    assert router.engine.inject(router.eth0, ether(udp_packet(), dst=CLIENT_MAC, src=ROUTER0_MAC)) > 0
    router.engine.run(0)
    return router.engine


@provokes("transmit/peer_down")
def other_end_is_down() -> Engine:
    router = Router()
    router.engine.set_device(router.server_eth, up=False)
    router.take(ether(udp_packet()))
    return router.engine


@provokes("transmit/over_mtu")
def other_end_takes_less() -> Engine:
    router = Router()
    router.engine.set_device(router.server_eth, mtu=600)
    router.take(ether(udp_packet(bytes(1000))))
    return router.engine


@provokes("transmit/looping")
def two_ports_of_a_bridge_are_joined() -> Engine:
    engine = Engine()
    namespace = engine.add_namespace("switch")
    bridge = engine.add_device(namespace, "br0", "bridge", mac=mac(9), mtu=1500)
    ports = [engine.add_device(namespace, f"port{i}", "veth", mac=mac(10 + i), mtu=1500) for i in range(2)]
    for port in ports:
        engine.set_device(port, master=bridge)
    engine.connect(*ports)
    engine.receive(ports[0], ether(udp_packet(), dst=BROADCAST))
    engine.run()
    return engine
