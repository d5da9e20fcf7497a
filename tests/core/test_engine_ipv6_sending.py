"""What a namespace sends of its own over IPv6: fragments, path MTU, ICMPv6 as its sysctls say."""

from __future__ import annotations

import pytest

from core.worlds import SECOND, unaccounted
from core.worlds6 import (
    CLIENT6,
    DESTINATION,
    ECHO,
    ECHO_REPLY,
    FRAGMENT,
    HOP_BY_HOP,
    NOBODY6,
    ROUTER06,
    ROUTER16,
    ROUTING,
    SERVER6,
    TIME_EXCEEDED,
    TOO_BIG,
    Router6,
    extension,
    icmpv6_packet,
    ip6,
    ipv6,
    udp6,
    udp6_packet,
)

UDP = 17
PORT = 1000
MTU_SECONDS = 600  # net.ipv6.route.mtu_expires
LARGE = udp6_packet(src=ROUTER16, size=2000)


def sending(packet: bytes = LARGE, *, router: Router6 | None = None) -> list[bytes]:
    router = router or Router6()
    router.engine.frames()
    router.engine.send(router.ns, packet)
    router.engine.run(router.engine.now)
    assert unaccounted(router.engine) == 0
    return router.sent(router.eth1)


# ---- fragments


@pytest.mark.parametrize(("mtu", "sizes"), [(1500, [1448, 560]), (1280, [1232, 776]), (1401, [1352, 656])])
def test_the_sender_fragments_what_does_not_fit(mtu: int, sizes: list[int]) -> None:
    """RFC 8200 4.5: in multiples of eight, each with the header of the packet and a fragment header."""
    router = Router6()
    router.engine.set_device(router.eth1, mtu=mtu)
    sent = sending(router=router)
    assert [packet[:4] + packet[6:40] for packet in sent] == [LARGE[:4] + bytes([FRAGMENT]) + LARGE[7:40]] * len(sizes)
    assert [int.from_bytes(packet[4:6]) for packet in sent] == [8 + size for size in sizes]
    assert [packet[40:44] for packet in sent] == [bytes([UDP, 0, 0, 1]), bytes([UDP, 0]) + sizes[0].to_bytes(2)]
    assert len({packet[44:48] for packet in sent}) == 1
    assert b"".join(packet[48:] for packet in sent) == LARGE[40:]


def test_what_fits_is_not_touched() -> None:
    packet = udp6_packet(src=ROUTER16, size=1500 - 48)
    assert sending(packet) == [packet]


@pytest.mark.parametrize(
    ("kinds", "repeated"),
    [([HOP_BY_HOP], 1), ([HOP_BY_HOP, DESTINATION], 2), ([ROUTING], 1), ([ROUTING, DESTINATION], 1), ([DESTINATION, ROUTING], 2)],
)
def test_headers_for_the_way_are_in_each_fragment_and_others_in_the_first(kinds: list[int], repeated: int) -> None:
    """RFC 8200 4.5. Destination options are for the way unless a routing header is before them (ip6_find_1stfragopt())."""
    headers = [extension(after, bytes(6)) for after in [*kinds[1:], UDP]]
    whole = b"".join(headers) + udp6(bytes(2000), src=ROUTER16)
    sent = sending(ipv6(whole, src=ROUTER16, proto=kinds[0]))
    at = 40 + 8 * repeated
    each = b"".join(headers[: repeated - 1]) + bytes([FRAGMENT]) + headers[repeated - 1][1:]
    assert [packet[40:at] for packet in sent] == [each] * 2
    assert [packet[at] for packet in sent] == [[*kinds, UDP][repeated]] * 2
    assert b"".join(packet[at + 8 :] for packet in sent) == whole[8 * repeated :]


# ---- path MTU


def too_big(mtu: int, *, quoted: bytes = LARGE, src: str = SERVER6) -> bytes:
    return icmpv6_packet(TOO_BIG, 0, mtu.to_bytes(4), quoted[:1000], src=src, dst=ROUTER16)


def told(mtu: int, *, listening: bool = True) -> Router6:
    """Somebody on the way has said that a packet of ours is too big."""
    router = Router6()
    if listening:
        router.engine.open_socket(router.ns, UDP, PORT)
    router.answer(too_big(mtu))
    router.engine.deliveries()
    return router


def longest(router: Router6) -> int:
    return max(map(len, sending(router=router)))


def test_the_path_s_mtu_is_learned_and_kept_to() -> None:
    """RFC 8201 4. By 1304 a fragment holds 1256 bytes."""
    router = told(1304)
    assert longest(router) == 1304


def test_it_is_forgotten_after_ten_minutes() -> None:
    """RFC 8201 4 suggests them."""
    router = told(1304)
    router.engine.run(MTU_SECONDS * SECOND - 1)
    assert longest(router) == 1304
    router.engine.run(MTU_SECONDS * SECOND)
    assert longest(router) == 1496


def test_it_is_of_one_destination() -> None:
    router = told(1304)
    router.engine.add_neighbour(router.eth1, ip6("2001:db8:1::7"), bytes(6))
    other = udp6_packet(src=ROUTER16, dst="2001:db8:1::7", size=1400)
    assert sending(other, router=router) == [other]


@pytest.mark.parametrize("mtu", [0, 68, 1279])
def test_less_than_1280_is_not_believed(mtu: int) -> None:
    """RFC 8201 4: a path MTU is never reduced below the IPv6 minimum link MTU."""
    assert longest(told(mtu)) == 1496


def test_more_than_the_link_takes_changes_nothing() -> None:
    assert longest(told(9000)) == 1496


def test_who_sends_nothing_learns_nothing() -> None:
    """A quoted packet of no socket may be made up (net/ipv6/udp.c, __udp6_lib_err())."""
    assert longest(told(1304, listening=False)) == 1496


def test_a_smaller_path_also_counts_for_what_is_forwarded() -> None:
    """It is a route of the destination's own (rt6_find_cached_rt()), and ip6_fragment() asks for its MTU."""
    router = told(1304)
    router.take(udp6_packet(size=1400))
    assert [(packet[40], int.from_bytes(packet[44:48])) for packet in router.sent(router.eth0)] == [(TOO_BIG, 1304)]


def test_flushing_forgets_it() -> None:
    router = told(1304)
    router.engine.flush(router.ns, "exceptions")
    assert longest(router) == 1496


# ---- to itself and nowhere


@pytest.mark.parametrize("dst", ["::1", ROUTER06, ROUTER16])
def test_own_addresses_are_reached_without_leaving(dst: str) -> None:
    router = Router6()
    socket = router.engine.open_socket(router.ns, UDP, 2000)
    packet = udp6_packet(src=dst, dst=dst)
    router.engine.send(router.ns, packet)
    router.engine.run(0)
    assert [(each.socket, each.data) for each in router.engine.deliveries()] == [(socket, packet)]
    assert router.sent(router.eth0) == []


def test_without_a_route_nothing_is_sent() -> None:
    router = Router6()
    assert sending(udp6_packet(src=ROUTER16, dst=NOBODY6), router=router) == []
    assert router.engine.counters()["dropped"] == 1


# ---- sysctls


def ping(router: Router6) -> list[bytes]:
    router.take(icmpv6_packet(ECHO, dst=ROUTER06))
    return router.sent(router.eth0)


def test_pings_can_be_ignored() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.icmp.echo_ignore_all", 1)
    assert ping(router) == []


def test_hop_limits_of_own_messages_are_the_device_s() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.conf.eth0.hop_limit", 32)
    assert ping(router) == [icmpv6_packet(ECHO_REPLY, src=ROUTER06, dst=CLIENT6, hops=32)]
    router.take(udp6_packet(hops=1))
    assert [(packet[40], packet[7]) for packet in router.sent(router.eth0)] == [(TIME_EXCEEDED, 32)]


def test_a_flow_has_one_label_of_its_own() -> None:
    """RFC 6437 3; net.ipv6.auto_flowlabels, on by default."""
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.auto_flowlabels", 1)
    labels = {int.from_bytes(packet[:4]) & 0xFFFFF for _ in range(3) for packet in ping(router)}
    assert len(labels) == 1
    assert labels != {0}


def test_answers_keep_the_traffic_class() -> None:
    router = Router6()
    question = icmpv6_packet(ECHO, dst=ROUTER06)
    router.take(b"\x6b\x80" + question[2:])
    assert router.sent(router.eth0)[0][:2] == b"\x6b\x80"


@pytest.mark.parametrize("where", ["all", "eth0"])
def test_a_device_without_ipv6_takes_nothing_in(where: str) -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, f"net.ipv6.conf.{where}.disable_ipv6", 1)
    assert ping(router) == []
    assert router.dropped("receive/ipv6_disabled") == 1


def test_a_bad_sysctl_name_is_refused() -> None:
    router = Router6()
    for name in ("net.ipv6.conf.eth9.forwarding", "net.ipv6.conf.eth0.nothing", "net.ipv6.nothing"):
        with pytest.raises(KeyError):
            router.engine.set_sysctl(router.ns, name, 1)
