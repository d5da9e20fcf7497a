"""Drop reasons that are IPv6's own: addresses, extension headers, fragments, Neighbour Discovery."""

from __future__ import annotations

from core.provoked import provokes
from core.worlds import CLIENT_MAC
from core.worlds6 import (
    ADVERTISEMENT,
    ALL_NODES,
    CLIENT6,
    CLIENT_LINK_LOCAL,
    DESTINATION,
    ECHO_REPLY,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    LINK_LOCAL0,
    NO_NEXT,
    ROUTER06,
    ROUTING,
    SOLICITATION,
    Router6,
    extension,
    fragment6,
    group_mac,
    icmpv6_packet,
    ip6,
    ipv6,
    link_option,
    neighbour_message,
    udp6,
    udp6_packet,
)
from dataplane._core import Engine

PIM = 103


def taking(*packets: bytes, mtu: int = 1500, dst: bytes | None = None) -> Engine:
    router = Router6(mtu=mtu)
    if dst is None:
        router.take(*packets)
    else:
        router.take(*packets, dst=dst)
    return router.engine


def to_router(payload: bytes, proto: int) -> bytes:
    return ipv6(payload, dst=ROUTER06, proto=proto)


# ---- reading


@provokes("parse/ipv6_bad_address")
def loopback_on_a_link() -> Engine:
    return taking(udp6_packet(src="::1"))


# ---- extension headers


@provokes("extension_headers/malformed")
def padding_that_is_not_zero() -> Engine:
    return taking(ipv6(extension(17, b"\x01\x04\0\1\0\0") + udp6(), proto=HOP_BY_HOP))


@provokes("extension_headers/unknown_option")
def option_that_wants_a_drop() -> Engine:
    return taking(ipv6(extension(17, b"\x5e\x04\0\0\0\0") + udp6(), proto=HOP_BY_HOP))


@provokes("extension_headers/truncated")
def options_longer_than_the_packet() -> Engine:
    return taking(to_router(bytes([17, 9]) + bytes(6), DESTINATION))


@provokes("extension_headers/routing_unknown")
def segments_left() -> Engine:
    return taking(to_router(extension(17, b"\0\1" + bytes(4)) + udp6(), ROUTING))


@provokes("extension_headers/routing_to_group")
def routing_header_for_all_nodes() -> Engine:
    return taking(ipv6(extension(17, b"\0\0" + bytes(4)) + udp6(), dst=ALL_NODES, proto=ROUTING), dst=group_mac(ALL_NODES))


@provokes("extension_headers/segment_routing_off")
def segment_routing_header() -> Engine:
    return taking(to_router(extension(17, b"\4\0" + bytes(4)) + udp6(), ROUTING))


@provokes("extension_headers/no_next_header")
def nothing_follows() -> Engine:
    return taking(to_router(b"", NO_NEXT))


@provokes("extension_headers/fragment_bad")
def half_a_fragment_header() -> Engine:
    return taking(to_router(b"\x11\0\0\1", FRAGMENT))


@provokes("extension_headers/incomplete_chain")
def first_fragment_without_the_udp_header() -> Engine:
    return taking(to_router(fragment6(bytes(0), 0, more=True), FRAGMENT))


# ---- forwarding


@provokes("forward/link_local_source")
def link_local_source_to_another_link() -> Engine:
    return taking(udp6_packet(src=CLIENT_LINK_LOCAL))


@provokes("forward/proxied_link_local")
def traffic_to_a_proxied_link_local_address() -> Engine:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.proxy_ndp", 1)
    router.engine.add_proxy(router.eth0, ip6("fe80::77"))
    router.take(udp6_packet(dst="fe80::77"))
    return router.engine


def put_together(*parts: bytes) -> Router6:
    """A router that tracks connections, and so puts the fragments of a datagram together."""
    router = Router6()
    router.engine.set_rules(router.ns, 6, "nat", [])
    offset, last = 0, len(parts) - 1
    for number, data in enumerate(parts):
        router.take(ipv6(fragment6(data, offset, more=number < last, next_header=DESTINATION), proto=FRAGMENT))
        offset += len(data)
    return router


@provokes("fragment/ipv6_too_big")
def route_with_an_mtu_that_is_not_locked() -> Engine:
    router = Router6()
    router.engine.add_route(router.ns, ip6("2001:db8:1::2"), 128, dev=router.eth1, mtu=1300)
    router.take(udp6_packet(size=1400))
    return router.engine


@provokes("fragment/ipv6_bad_chain")
def chain_that_ends_behind_the_first_fragment() -> Engine:
    options = extension(DESTINATION) + extension(17, bytes([1, 4, 0, 0, 0, 0]) + bytes([1, 6, 0, 0, 0, 0, 0, 0]))
    rest = options[8:] + udp6(bytes(800))
    return put_together(options[:8], rest[:400], rest[400:]).engine


# ---- delivery


@provokes("local/icmp_no_socket")
def answer_to_no_question() -> Engine:
    return taking(icmpv6_packet(ECHO_REPLY, dst=ROUTER06))


@provokes("local/no_multicast_routing")
def pim_message() -> Engine:
    return taking(to_router(bytes(8), PIM))


# ---- Neighbour Discovery


@provokes("neighbour_discovery/not_from_link")
def solicitation_that_was_forwarded() -> Engine:
    return taking(neighbour_message(SOLICITATION, ROUTER06, src=CLIENT6, dst=ROUTER06, hops=254))


@provokes("neighbour_discovery/bad_message")
def solicitation_for_a_group() -> Engine:
    return taking(neighbour_message(SOLICITATION, ALL_NODES, src=CLIENT6, dst=ROUTER06))


@provokes("neighbour_discovery/bad_options")
def option_of_length_zero() -> Engine:
    return taking(neighbour_message(SOLICITATION, ROUTER06, src=CLIENT6, dst=ROUTER06, options=bytes(8)))


@provokes("neighbour_discovery/fragmented")
def solicitation_in_an_atomic_fragment() -> Engine:
    message = neighbour_message(SOLICITATION, ROUTER06, src=CLIENT6, dst=ROUTER06)[40:]
    whole = fragment6(message, 0, more=False, next_header=ICMPV6)
    return taking(ipv6(whole, dst=ROUTER06, proto=FRAGMENT, hops=255))


@provokes("neighbour_discovery/ignored")
def advertisement_that_nobody_asked_for() -> Engine:
    target = link_option(2, CLIENT_MAC)
    return taking(neighbour_message(ADVERTISEMENT, "2001:db8::77", src=CLIENT_LINK_LOCAL, dst=LINK_LOCAL0, options=target))


@provokes("neighbour_discovery/own_address")
def somebody_claims_the_routers_address() -> Engine:
    claim = link_option(2, CLIENT_MAC)
    return taking(neighbour_message(ADVERTISEMENT, ROUTER06, src=CLIENT6, dst=ROUTER06, options=claim))
