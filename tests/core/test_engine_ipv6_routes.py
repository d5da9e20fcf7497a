"""IPv6 routes: kinds, prefixes and metrics, what addresses bring and take, link-local addresses, groups and anycast."""

from __future__ import annotations

import pytest

from core.worlds import CLIENT_MAC, IPV6, ROUTER1_MAC, SERVER_MAC, ether, mac
from core.worlds6 import (
    ALL_NODES,
    CLIENT6,
    CLIENT_LINK_LOCAL,
    ECHO,
    ECHO_REPLY,
    LINK_LOCAL0,
    NOBODY6,
    ROUTER06,
    ROUTER16,
    SERVER6,
    UNREACHABLE,
    Router6,
    aged,
    error6,
    group_mac,
    icmpv6_packet,
    ip6,
    solicited_node,
    udp6_packet,
)

NETWORK, LENGTH = "2001:db8:2::", 48  # NOBODY6 is in it
OTHER, OTHER_MAC = "2001:db8:1::3", mac(0x33)
PING = b"\0\1\0\1"  # identifier and sequence number


def forwarding(router: Router6, dst: str = NOBODY6) -> bytes | None:
    """Destination MAC of a packet to ``dst`` from the client, None if it does not go on."""
    router.engine.frames()
    router.take(udp6_packet(dst=dst))
    sent = router.frames(router.eth1)
    return sent[0][:6] if sent else None


def two_gateways() -> Router6:
    router = Router6()
    router.engine.add_neighbour(router.eth1, ip6(OTHER), OTHER_MAC)
    router.engine.add_route(router.ns, ip6(NETWORK), LENGTH, via=ip6(SERVER6))
    return router


def ping(dst: str, *, src: str = CLIENT6) -> bytes:
    return icmpv6_packet(ECHO, rest=PING, payload=b"payload!", src=src, dst=dst)


def pong(src: str, *, dst: str = CLIENT6) -> bytes:
    return icmpv6_packet(ECHO_REPLY, rest=PING, payload=b"payload!", src=src, dst=dst)


# ---- main table


def test_a_route_is_taken_from_when_it_is_added_until_it_is_deleted() -> None:
    router = Router6()
    assert forwarding(router) is None
    router.engine.add_route(router.ns, ip6(NETWORK), LENGTH, via=ip6(SERVER6))
    assert forwarding(router) == SERVER_MAC
    assert router.engine.del_route(router.ns, ip6(NETWORK), LENGTH)
    assert forwarding(router) is None
    assert not router.engine.del_route(router.ns, ip6(NETWORK), LENGTH)


def test_the_longest_prefix_wins() -> None:
    router = two_gateways()
    router.engine.add_route(router.ns, ip6(NOBODY6), 128, via=ip6(OTHER))
    assert (forwarding(router), forwarding(router, "2001:db8:2::8")) == (OTHER_MAC, SERVER_MAC)
    router.engine.del_route(router.ns, ip6(NOBODY6), 128)
    assert forwarding(router) == SERVER_MAC


def test_the_lower_metric_wins_and_the_other_takes_over() -> None:
    router = Router6()
    router.engine.add_neighbour(router.eth1, ip6(OTHER), OTHER_MAC)
    router.engine.add_route(router.ns, ip6(NETWORK), LENGTH, via=ip6(SERVER6), metric=1024)
    router.engine.add_route(router.ns, ip6(NETWORK), LENGTH, via=ip6(OTHER), metric=512)
    assert forwarding(router) == OTHER_MAC
    router.engine.del_route(router.ns, ip6(NETWORK), LENGTH, metric=512)
    assert forwarding(router) == SERVER_MAC


@pytest.mark.parametrize(("kind", "code"), [("unreachable", 0), ("prohibit", 1), ("throw", 0), ("blackhole", None)])
def test_what_a_route_that_leads_nowhere_tells_the_sender(kind: str, code: int | None) -> None:
    """ "No route" for all but prohibit (net/ipv6/route.c, ip6_pkt_discard(), ip6_pkt_prohibit()); nothing follows table main here."""
    router = two_gateways()
    packet = udp6_packet(dst=NOBODY6)
    router.engine.add_route(router.ns, ip6(NOBODY6), 128, kind=kind)
    router.take(packet)
    assert router.sent(router.eth0) == ([] if code is None else [error6(UNREACHABLE, code, packet)])
    assert forwarding(router, "2001:db8:2::8") == SERVER_MAC


def test_where_nothing_leads_the_sender_is_told_no_route() -> None:
    router = Router6()
    packet = udp6_packet(dst=NOBODY6)
    router.take(packet)
    assert router.sent(router.eth0) == [error6(UNREACHABLE, 0, packet)]
    assert router.dropped("route/no_route") == 1


def test_a_gateway_may_be_a_link_local_address() -> None:
    router = Router6()
    router.engine.add_neighbour(router.eth1, ip6("fe80::9"), OTHER_MAC)
    router.engine.add_route(router.ns, ip6(NETWORK), LENGTH, via=ip6("fe80::9"), dev=router.eth1)
    assert forwarding(router) == OTHER_MAC


def test_a_gateway_must_be_on_a_link() -> None:
    router = Router6()
    with pytest.raises(ValueError, match="gateway"):
        router.engine.add_route(router.ns, ip6(NETWORK), LENGTH, via=ip6("2001:db8:9::1"))


def test_the_unspecified_destination_takes_the_default_route() -> None:
    """Linux does not filter it where packets are received (net/ipv6/ip6_input.c)."""
    router = Router6()
    router.engine.add_route(router.ns, ip6("::"), 0, via=ip6(SERVER6))
    packet = udp6_packet(dst="::")
    router.take(packet)
    assert router.frames(router.eth1) == [ether(aged(packet), dst=SERVER_MAC, src=ROUTER1_MAC, kind=IPV6)]


# ---- addresses and their routes


def listed(router: Router6, device: int) -> set[tuple[str, bytes, int, int]]:
    rows = router.engine.routes(router.ns)
    return {
        (row["kind"], row["prefix"], row["prefix_len"], row["metric"]) for row in rows if row["dev"] == device and len(row["prefix"]) == 16
    }


def test_an_address_brings_its_routes_and_takes_them_along() -> None:
    """Local, connected, and of a router the subnet's anycast route (net/ipv6/addrconf.c, __ipv6_ifa_notify(), addrconf_prefix_route())."""
    router = Router6()
    before = listed(router, router.eth1)
    router.engine.add_address(router.eth1, ip6("2001:db8:5::1"), 64)
    brought = {
        ("local", ip6("2001:db8:5::1"), 128, 0),
        ("anycast", ip6("2001:db8:5::"), 128, 0),
        ("unicast", ip6("2001:db8:5::"), 64, 256),
    }
    assert listed(router, router.eth1) == before | brought
    router.engine.del_address(router.eth1, ip6("2001:db8:5::1"), 64)
    assert listed(router, router.eth1) == before


def test_a_prefix_stays_while_another_address_needs_it() -> None:
    router = Router6()
    router.engine.add_address(router.eth1, ip6("2001:db8:1::7"), 64)
    before = listed(router, router.eth1)
    router.engine.del_address(router.eth1, ip6("2001:db8:1::7"), 64)
    assert before - listed(router, router.eth1) == {("local", ip6("2001:db8:1::7"), 128, 0)}
    assert forwarding(router, SERVER6) == SERVER_MAC


@pytest.mark.parametrize("length", [127, 128])
def test_a_point_to_point_prefix_has_no_anycast_address(length: int) -> None:
    """RFC 6164 5.1."""
    router = Router6()
    router.engine.add_address(router.eth1, ip6("2001:db8:5::1"), length)
    assert not any(kind == "anycast" and prefix == ip6("2001:db8:5::") for kind, prefix, _, _ in listed(router, router.eth1))


def test_anycast_routes_come_and_go_with_forwarding() -> None:
    router = Router6()
    for forward in (0, 1):
        router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.forwarding", forward)
        anycast = {prefix for kind, prefix, _, _ in listed(router, router.eth1) if kind == "anycast"}
        assert anycast == ({ip6("2001:db8:1::"), ip6("fe80::")} if forward else set())


# ---- link-local addresses


def test_a_link_local_address_is_that_of_one_device() -> None:
    """The same address may be on each link (RFC 4291 2.5.6): the way back is the way it came."""
    router = Router6()
    router.engine.add_neighbour(router.eth0, ip6(CLIENT_LINK_LOCAL), CLIENT_MAC)
    router.engine.add_neighbour(router.eth1, ip6(CLIENT_LINK_LOCAL), SERVER_MAC)
    router.take(ping(LINK_LOCAL0, src=CLIENT_LINK_LOCAL))
    router.answer(ping("fe80::3", src=CLIENT_LINK_LOCAL))
    frames = [frame for frame in router.engine.frames() if frame.outgoing]
    assert [(frame.device, frame.data[:6], frame.data[14:]) for frame in frames] == [
        (router.eth0, CLIENT_MAC, pong(LINK_LOCAL0, dst=CLIENT_LINK_LOCAL)),
        (router.eth1, SERVER_MAC, pong("fe80::3", dst=CLIENT_LINK_LOCAL)),
    ]


def test_another_device_s_link_local_address_is_not_ours_here() -> None:
    """Linux looks for routes of that link alone (net/ipv6/route.c, RT6_LOOKUP_F_IFACE)."""
    router = Router6()
    router.answer(ping(LINK_LOCAL0, src=SERVER6))
    assert [packet[40] for packet in router.sent(router.eth1)] != [ECHO_REPLY]


def test_another_device_s_global_address_is_ours_everywhere() -> None:
    router = Router6()
    router.take(ping(ROUTER16))
    assert router.sent(router.eth0) == [pong(ROUTER16)]


# ---- groups


@pytest.mark.parametrize("group", [ALL_NODES, "ff02::2", solicited_node(ROUTER06), solicited_node(LINK_LOCAL0)])
def test_a_router_listens_to_its_groups(group: str) -> None:
    """RFC 4291 2.8. It answers from the address that goes best with the asker's (net/ipv6/icmp.c, icmpv6_echo_reply())."""
    router = Router6()
    router.engine.add_neighbour(router.eth0, ip6(CLIENT_LINK_LOCAL), CLIENT_MAC)
    router.take(ping(group), ping(group, src=CLIENT_LINK_LOCAL), dst=group_mac(group))
    assert router.sent(router.eth0) == [pong(ROUTER06), pong(LINK_LOCAL0, dst=CLIENT_LINK_LOCAL)]


@pytest.mark.parametrize("group", ["ff02::5", "ff02::1:ff00:99", "ff05::1", solicited_node("2001:db8:1::abcd")])
def test_other_groups_are_for_others(group: str) -> None:
    router = Router6()
    router.engine.add_address(router.eth1, ip6("2001:db8:1::abcd"), 64)
    router.take(ping(group), dst=group_mac(group))
    assert router.sent(router.eth0) == []
    assert router.dropped("route/multicast_not_joined") == 1


def test_a_host_does_not_listen_to_all_routers() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.forwarding", 0)
    router.take(ping("ff02::2"), dst=group_mac("ff02::2"))
    assert router.dropped("route/multicast_not_joined") == 1


def test_pings_of_groups_can_be_ignored() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.icmp.echo_ignore_multicast", 1)
    router.take(ping(ALL_NODES), dst=group_mac(ALL_NODES))
    router.take(ping(ROUTER06))
    assert router.sent(router.eth0) == [pong(ROUTER06)]


# ---- anycast


@pytest.mark.parametrize(("own", "source"), [(0, ROUTER06), (1, "2001:db8::")])
def test_a_router_answers_for_its_subnets_anycast_address(own: int, source: str) -> None:
    """By a unicast address, unless net.ipv6.anycast_src_echo_reply is on."""
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.anycast_src_echo_reply", own)
    router.take(ping("2001:db8::"))
    assert router.sent(router.eth0) == [pong(source)]


def test_pings_of_anycast_addresses_can_be_ignored() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.icmp.echo_ignore_anycast", 1)
    router.take(ping("2001:db8::"), ping(ROUTER06))
    assert router.sent(router.eth0) == [pong(ROUTER06)]
