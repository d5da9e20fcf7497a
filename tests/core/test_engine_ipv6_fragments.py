"""IPv6 fragments: where they are put together, where they are cut, and who is told when that fails (RFC 8200 4.5)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.worlds import SECOND, unaccounted
from core.worlds6 import (
    CLIENT6,
    ECHO,
    ECHO_REPLY,
    FRAGMENT,
    ICMPV6,
    PARAMETER_PROBLEM,
    ROUTER06,
    SERVER6,
    TIME_EXCEEDED,
    TOO_BIG,
    Router6,
    aged,
    error6,
    fragment6,
    icmpv6,
    ipv6,
    udp6,
)

TIMEOUT = 60  # seconds: net.ipv6.ip6frag_time, net.netfilter.nf_conntrack_frag6_timeout
PING = icmpv6(ECHO, rest=b"\0\1\0\1", payload=bytes(range(256)) * 8, dst=ROUTER06)  # 2056 bytes
PONG = icmpv6(ECHO_REPLY, rest=b"\0\1\0\1", payload=bytes(range(256)) * 8, src=ROUTER06, dst=CLIENT6)
DATAGRAM = udp6(bytes(range(250)) * 8)  # 2008 bytes


def cut(payload: bytes, sizes: list[int], *, next_header: int = 17, dst: str = SERVER6, ident: int = 7, tclass: int = 0) -> list[bytes]:
    """Fragments of these sizes, the last one with all that is left."""
    parts, offset = [], 0
    for size in [*sizes, len(payload)]:
        data = payload[offset : offset + size]
        if data:
            more = offset + size < len(payload)
            piece = fragment6(data, offset, more=more, next_header=next_header, ident=ident)
            parts.append(ipv6(piece, dst=dst, proto=FRAGMENT, tclass=tclass))
        offset += size
    return parts


def pings(*sizes: int, ident: int = 7) -> list[bytes]:
    return cut(PING, list(sizes), next_header=ICMPV6, dst=ROUTER06, ident=ident)


def joined(packets: list[bytes]) -> bytes:
    """The payload of fragments that came in order, all of one datagram."""
    assert all(packet[6] == FRAGMENT for packet in packets)
    assert len({packet[44:48] for packet in packets}) == 1
    offset = 0
    for packet in packets:
        word = int.from_bytes(packet[42:44])
        assert (word & ~7, bool(word & 1)) == (offset, packet is not packets[-1])
        offset += len(packet) - 48
    return b"".join(packet[48:] for packet in packets)


def tracking(mtu: int = 1500) -> Router6:
    """A router that tracks connections puts datagrams together first (nf_defrag_ipv6)."""
    router = Router6(mtu=mtu)
    router.engine.set_rules(router.ns, 6, "nat", [])
    return router


# ---- where they arrive


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_parts_in_any_order_become_one_message(order: list[int]) -> None:
    """The answer is fragmented by who sends it, to whole multiples of eight that fit: 1500 - 40 - 8 - 4."""
    router = Router6()
    parts = pings(800, 800)
    router.take(*(parts[number] for number in order))
    sent = router.sent(router.eth0)
    assert [len(packet) - 48 for packet in sent] == [1448, len(PONG) - 1448]
    assert joined(sent) == PONG
    assert unaccounted(router.engine) == 0


def test_an_atomic_fragment_is_whole_by_itself() -> None:
    """RFC 6946."""
    router = Router6()
    message = icmpv6(ECHO, dst=ROUTER06)
    router.take(*pings(800)[:1], ipv6(fragment6(message, 0, more=False, next_header=ICMPV6), dst=ROUTER06, proto=FRAGMENT))
    answer = icmpv6(ECHO_REPLY, src=ROUTER06, dst=CLIENT6)
    assert router.sent(router.eth0) == [ipv6(answer, src=ROUTER06, dst=CLIENT6, proto=ICMPV6)]


def test_datagrams_are_told_apart_by_their_identification() -> None:
    router = Router6()
    router.take(pings(800, ident=1)[0], pings(800, ident=2)[1])
    assert router.sent(router.eth0) == []
    assert router.engine.counters()["held"] == 2


def test_a_duplicate_changes_nothing() -> None:
    router = Router6()
    parts = pings(800, 800)
    router.take(parts[0], parts[0], parts[1], parts[0], parts[2])
    assert joined(router.sent(router.eth0)) == PONG
    assert router.dropped("defragment/duplicate") == 2


def test_an_overlap_is_the_end_of_the_datagram() -> None:
    """RFC 5722 4: nothing of it is used, nobody is told; what comes later is a datagram of its own."""
    router = Router6()
    whole = pings(800, 800)
    overlapping = ipv6(fragment6(PING[792:1592], 792, more=True, next_header=ICMPV6), dst=ROUTER06, proto=FRAGMENT)
    router.take(whole[0], overlapping, whole[1], whole[2])
    assert router.sent(router.eth0) == []
    router.take(whole[0])
    assert joined(router.sent(router.eth0)) == PONG


@pytest.mark.parametrize("world", [Router6, tracking])
@pytest.mark.parametrize("first", [True, False])
def test_who_sent_the_first_part_is_told_that_the_rest_did_not_come(world: type[Router6], first: bool) -> None:
    """Of the first part alone, for it has the headers (RFC 8200 4.5); conntrack tells as well (nf_ct_frag6_expire())."""
    router = world()
    part = pings(800)[0 if first else 1]
    router.take(part)
    router.engine.run(TIMEOUT * SECOND - 1)
    assert router.sent(router.eth0) == []
    router.engine.run(TIMEOUT * SECOND)
    assert router.sent(router.eth0) == ([error6(TIME_EXCEEDED, 1, part)] if first else [])
    assert router.dropped("defragment/timeout") == 1
    assert unaccounted(router.engine) == 0


@pytest.mark.parametrize(("world", "name"), [(Router6, "net.ipv6.ip6frag_time"), (tracking, "net.netfilter.nf_conntrack_frag6_timeout")])
def test_how_long_parts_wait_is_a_sysctl(world: type[Router6], name: str) -> None:
    router = world()
    router.engine.set_sysctl(router.ns, name, 5)
    router.take(pings(800)[0])
    router.engine.run(5 * SECOND)
    assert len(router.sent(router.eth0)) == 1


# ---- what cannot be


def test_a_part_with_more_to_come_is_a_multiple_of_eight() -> None:
    """RFC 8200 4.5: parameter problem, the pointer is to the payload length."""
    router = Router6()
    packet = ipv6(fragment6(PING[:801], 0, more=True, next_header=ICMPV6), dst=ROUTER06, proto=FRAGMENT)
    router.take(packet)
    assert router.sent(router.eth0) == [error6(PARAMETER_PROBLEM, 0, packet, info=4)]


def test_a_datagram_is_no_longer_than_65535() -> None:
    """RFC 8200 4.5: parameter problem, the pointer is to the fragment offset."""
    router = Router6()
    packet = ipv6(fragment6(bytes(16), 65528, more=False, next_header=ICMPV6), dst=ROUTER06, proto=FRAGMENT)
    router.take(packet)
    assert router.sent(router.eth0) == [error6(PARAMETER_PROBLEM, 0, packet, info=42)]


def test_the_first_part_has_all_headers() -> None:
    """RFC 7112 5: IPv6 first fragment has incomplete header chain."""
    router = Router6()
    packet = ipv6(fragment6(udp6()[:0], 0, more=True), dst=ROUTER06, proto=FRAGMENT)
    router.take(packet)
    assert router.sent(router.eth0) == [error6(PARAMETER_PROBLEM, 3, packet)]


@pytest.mark.parametrize(("classes", "ecn"), [((2, 3), 3), ((1, 1), 1), ((1, 2), 1), ((0, 3), None), ((0, 0), 0)])
def test_congestion_seen_by_one_part_is_seen_by_the_whole(classes: tuple[int, int], ecn: int | None) -> None:
    """RFC 3168 5.3. Parts of different kinds make no datagram if one of them is Not-ECT (ip_frag_ecn_table)."""
    router = tracking()
    parts = cut(DATAGRAM, [1000])
    router.take(*(part[:1] + bytes([tclass << 4]) + part[2:] for part, tclass in zip(parts, classes, strict=True)))
    sent = router.sent(router.eth1)
    assert {packet[1] >> 4 & 3 for packet in sent} == (set() if ecn is None else {ecn})


# ---- on the way


def test_a_router_that_tracks_nothing_forwards_parts_as_they_are() -> None:
    router = Router6()
    parts = [*cut(DATAGRAM, [800, 800]), ipv6(fragment6(udp6(), 0, more=False), proto=FRAGMENT)]
    router.take(*parts)
    assert router.sent(router.eth1) == [aged(part) for part in parts]


def test_a_router_that_tracks_takes_the_header_off_an_atomic_fragment() -> None:
    router = tracking()
    router.take(ipv6(fragment6(udp6(), 0, more=False), proto=FRAGMENT))
    assert router.sent(router.eth1) == [aged(ipv6(udp6()))]


def test_what_was_put_together_is_cut_where_it_was() -> None:
    """ip6_fragment() uses the parts it has, under a new identification of its own."""
    router = tracking()
    router.take(*cut(DATAGRAM, [1400, 400]))
    sent = router.sent(router.eth1)
    assert [len(packet) - 48 for packet in sent] == [1400, 400, 208]
    assert joined(sent) == DATAGRAM
    assert {packet[7] for packet in sent} == {63}


def test_a_part_that_does_not_fit_is_answered_as_a_packet_is() -> None:
    """The quote is of the datagram (ip6_pkt_too_big() looks at the longest part that came)."""
    router = tracking()
    router.engine.set_device(router.eth1, mtu=1400)
    router.take(*cut(DATAGRAM, [1448]))
    assert router.sent(router.eth0) == [error6(TOO_BIG, 0, ipv6(DATAGRAM), info=1400)]


def test_an_unaligned_part_is_invalid_and_goes_on() -> None:
    router = tracking()
    packet = ipv6(fragment6(bytes(801), 0, more=True), proto=FRAGMENT)
    router.take(packet)
    assert router.sent(router.eth1) == [aged(packet)]
    assert router.engine.conntrack(router.ns) == []


SIZES = st.lists(st.integers(1, 181).map(lambda eights: 8 * eights), max_size=8)  # up to what fits into 1500 bytes


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=5000), SIZES, st.permutations(range(20)))
def test_any_cuts_in_any_order_leave_as_the_same_datagram(data: bytes, sizes: list[int], order: list[int]) -> None:
    router = tracking()
    datagram = udp6(data)
    parts = cut(datagram, sizes + [1448] * 4)
    router.take(*(parts[number] for number in order if number < len(parts)))
    sent = router.sent(router.eth1)
    if len(sent) == 1:
        assert sent == [aged(ipv6(datagram))]
    else:
        assert joined(sent) == datagram
    assert max(map(len, sent)) <= max(1280, *map(len, parts))
    assert unaccounted(router.engine) == 0
