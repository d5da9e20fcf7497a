"""What a router does with IPv6 packets that go on, and what it tells their senders, byte for byte."""

from __future__ import annotations

import pytest

from core.worlds import CLIENT_MAC, IPV6, MILLISECOND, ROUTER0_MAC, ROUTER1_MAC, SECOND, SERVER_MAC, ether, mac, unaccounted
from core.worlds6 import (
    CLIENT6,
    CLIENT_LINK_LOCAL,
    LINK_LOCAL0,
    REDIRECT,
    TIME_EXCEEDED,
    TOO_BIG,
    UNREACHABLE,
    Router6,
    aged,
    error6,
    icmpv6_packet,
    ip6,
    ipv6,
    link_option,
    udp6,
    udp6_packet,
)

NEAR, NEAR_MAC = "2001:db8:0::9", mac(9)  # on the client's link
FAR_NETWORK, FAR = "2001:db8:9::", "2001:db8:9::9"
TARGET_LINK, REDIRECTED_HEADER = 2, 4  # options, RFC 4861 4.6
BURST = 6  # tokens of a peer, net/ipv4/route.c XRLIM_BURST_FACTOR


def test_the_hop_limit_is_all_that_changes() -> None:
    router = Router6()
    packet = ipv6(udp6(bytes(100)), tclass=0xB9, label=0x12345, hops=255)
    router.take(packet)
    assert router.frames(router.eth1) == [ether(aged(packet, 254), dst=SERVER_MAC, src=ROUTER1_MAC, kind=IPV6)]
    assert unaccounted(router.engine) == 0


@pytest.mark.parametrize("hops", [0, 1])
def test_a_hop_limit_that_is_used_up(hops: int) -> None:
    """RFC 8200 3. The packet is quoted as it came (ip6_forward() has not counted yet)."""
    router = Router6()
    packet = udp6_packet(hops=hops)
    router.take(packet)
    assert router.frames(router.eth0) == [ether(error6(TIME_EXCEEDED, 0, packet), dst=CLIENT_MAC, src=ROUTER0_MAC, kind=IPV6)]
    assert router.frames(router.eth1) == []


def test_the_hop_limit_is_looked_at_before_the_size() -> None:
    router = Router6(mtu=9000)
    router.engine.set_device(router.eth1, mtu=1400)
    router.take(udp6_packet(size=2000, hops=1))
    assert [packet[40] for packet in router.sent(router.eth0)] == [TIME_EXCEEDED]


def test_a_host_does_not_forward() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.all.forwarding", 0)
    router.take(udp6_packet())
    assert router.frames(router.eth1) == []
    assert router.dropped("route/no_forwarding") == 1


# ---- sizes


@pytest.mark.parametrize("mtu", [1280, 1400, 1499])
def test_what_does_not_fit_is_answered_with_the_mtu_that_would(mtu: int) -> None:
    """RFC 8200 5: routers do not fragment. The quote is cut to 1280 bytes of message (RFC 4443 2.4 c)."""
    router = Router6()
    router.engine.set_device(router.eth1, mtu=mtu)
    fits, not_ = (udp6_packet(size=size - 48) for size in (mtu, mtu + 1))
    router.take(fits, not_)
    frames = [(frame.device, frame.data[14:]) for frame in router.engine.frames() if frame.outgoing]
    assert frames == [(router.eth1, aged(fits)), (router.eth0, error6(TOO_BIG, 0, not_, info=mtu))]
    assert router.dropped("forward/too_big") == 1


def through_route(size: int, *, mtu: int, lock: bool) -> list[bytes]:
    """What the sender of a packet of this size is told where the route has an MTU of its own."""
    router = Router6()
    router.engine.add_route(router.ns, ip6(FAR_NETWORK), 64, via=ip6("2001:db8:1::2"), mtu=mtu, mtu_lock=lock)
    router.take(udp6_packet(dst=FAR, size=size - 48))
    return router.sent(router.eth0)


@pytest.mark.parametrize(
    ("size", "mtu", "lock", "told"),
    [
        (1300, 1300, False, None),
        (1301, 1300, False, 1300),
        (1301, 1300, True, 1300),
        (1400, 1200, False, 1200),
        (1201, 1200, False, 1200),
        (1200, 1200, True, None),
        (1280, 1200, True, 1200),  # fits where it is forwarded, which no MTU below 1280 counts for, but not where it leaves
        (1281, 1200, True, 1280),
    ],
)
def test_the_mtu_of_a_route(size: int, mtu: int, lock: bool, told: int | None) -> None:
    """ip6_forward() asks for a locked MTU or the device's, and never below 1280; ip6_fragment() then for the route's."""
    sent = through_route(size, mtu=mtu, lock=lock)
    assert [(packet[40], int.from_bytes(packet[44:48])) for packet in sent] == ([] if told is None else [(TOO_BIG, told)])


def test_an_mtu_below_1280_is_no_ipv6_link() -> None:
    """RFC 8200 5; net/ipv6/ip6_input.c."""
    router = Router6()
    router.engine.set_device(router.eth0, mtu=1279)
    router.take(udp6_packet())
    assert router.frames(router.eth1) == []
    assert router.dropped("receive/ipv6_disabled") == 1


# ---- scopes


def test_a_link_local_source_does_not_leave_its_link() -> None:
    """RFC 4443 3.1: beyond scope of source address, told from the address that goes with the sender's (RFC 6724)."""
    router = Router6()
    router.engine.add_neighbour(router.eth0, ip6(CLIENT_LINK_LOCAL), CLIENT_MAC)
    packet = udp6_packet(src=CLIENT_LINK_LOCAL)
    router.take(packet)
    assert router.sent(router.eth0) == [error6(UNREACHABLE, 2, packet, src=LINK_LOCAL0, dst=CLIENT_LINK_LOCAL)]


def test_nobody_s_packet_is_not_forwarded_and_nobody_is_told() -> None:
    """RFC 4291 2.5.2: with the unspecified source address it must never be forwarded."""
    router = Router6()
    router.take(udp6_packet(src="::"))
    assert [frame for frame in router.engine.frames() if frame.outgoing] == []
    assert router.dropped("route/martian_source") == 1


# ---- redirects


def redirect(packet: bytes, target: str, hardware: bytes | None, *, dst: str) -> bytes:
    """RFC 4861 4.5, as the router sends it on eth0 for this packet."""
    link = link_option(TARGET_LINK, hardware) if hardware else b""
    quote = packet[: (1280 - 40 - 40 - len(link) - 8) // 8 * 8]
    header = bytes([REDIRECTED_HEADER, len(quote) // 8 + 1]) + bytes(6) + quote
    return icmpv6_packet(REDIRECT, payload=ip6(target) + ip6(dst) + link + header, src=LINK_LOCAL0, dst=CLIENT6, hops=255)


def with_neighbour() -> Router6:
    router = Router6()
    router.engine.add_neighbour(router.eth0, ip6(NEAR), NEAR_MAC)
    return router


@pytest.mark.parametrize("size", [8, 1400])
def test_a_shorter_way_is_told_and_the_packet_carried(size: int) -> None:
    router = with_neighbour()
    packet = udp6_packet(dst=NEAR, size=size)
    router.take(packet)
    assert router.frames(router.eth0) == [
        ether(redirect(packet, NEAR, NEAR_MAC, dst=NEAR), dst=CLIENT_MAC, src=ROUTER0_MAC, kind=IPV6),
        ether(aged(packet), dst=NEAR_MAC, src=ROUTER0_MAC, kind=IPV6),
    ]


@pytest.mark.parametrize(("gateway", "told"), [("fe80::9", True), (NEAR, False)])
def test_a_gateway_is_named_by_its_link_local_address_alone(gateway: str, told: bool) -> None:
    """RFC 4861 8.2: for a router the target must be its link-local address."""
    router = with_neighbour()
    router.engine.add_neighbour(router.eth0, ip6("fe80::9"), NEAR_MAC)
    router.engine.add_route(router.ns, ip6(FAR_NETWORK), 64, via=ip6(gateway), dev=router.eth0)
    packet = udp6_packet(dst=FAR)
    router.take(packet)
    expected = [redirect(packet, gateway, NEAR_MAC, dst=FAR)] if told else []
    assert router.sent(router.eth0) == [*expected, aged(packet)]


def test_whose_mac_is_not_known_is_redirected_to_without() -> None:
    router = Router6()
    packet = udp6_packet(dst=NEAR)
    router.take(packet)
    assert router.sent(router.eth0)[0] == redirect(packet, NEAR, None, dst=NEAR)


def redirects(router: Router6, count: int, *, dst: str = NEAR) -> int:
    router.take(*(udp6_packet(dst=dst) for _ in range(count)))
    return sum(packet[6] == 58 for packet in router.sent(router.eth0))


def test_redirects_are_a_bucket_of_six_that_gains_one_a_second() -> None:
    """Of the destination as well as of the source (net/ipv6/ip6_output.c, ndisc.c, inet_peer_xrlim_allow())."""
    router = with_neighbour()
    assert redirects(router, 2 * BURST) == BURST
    router.engine.run(2 * SECOND)
    assert redirects(router, 2 * BURST) == 2
    router.engine.add_neighbour(router.eth0, ip6("2001:db8:0::a"), NEAR_MAC)
    assert redirects(router, 2, dst="2001:db8:0::a") == 0, "the source's bucket is empty"
    router.engine.run(router.engine.now + 100 * SECOND)
    assert redirects(router, 2 * BURST, dst="2001:db8:0::a") == BURST


# ---- limits of errors


def test_errors_are_limited_for_each_peer() -> None:
    """net.ipv6.icmp.ratelimit, the shorter the prefix of the way back the more (icmpv6_xrlim_allow(): a /64 four times)."""
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.icmp.ratelimit", 1000)
    router.take(*(udp6_packet(hops=1) for _ in range(2 * BURST)))
    assert len(router.sent(router.eth0)) == BURST
    router.engine.run(500 * MILLISECOND)
    router.take(*(udp6_packet(hops=1) for _ in range(2 * BURST)))
    assert len(router.sent(router.eth0)) == 2


def test_too_big_is_never_limited() -> None:
    """net.ipv6.icmp.ratemask leaves it out, for path MTU discovery needs it (RFC 4443 2.4 f)."""
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.icmp.ratelimit", 1000)
    router.engine.set_device(router.eth1, mtu=1280)
    router.take(*(udp6_packet(size=1300) for _ in range(3 * BURST)))
    assert len(router.sent(router.eth0)) == 3 * BURST
