"""Neighbour Discovery as who asks: solicitations and their retries, what waits meanwhile, what advertisements change (RFC 4861 7)."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from core.worlds import CLIENT_MAC, IPV6, MILLISECOND, ROUTER0_MAC, ROUTER1_MAC, SECOND, SERVER_MAC, ether, mac, unaccounted
from core.worlds6 import (
    ADVERTISEMENT,
    ALL_NODES,
    ROUTER16,
    SOLICITATION,
    UNREACHABLE,
    Router6,
    aged,
    error6,
    group_mac,
    ip6,
    link_option,
    neighbour_message,
    solicited_node,
    udp6_packet,
)

NEW, NEW_MAC, OTHER_MAC = "2001:db8:1::9", mac(9), mac(0x66)
LINK_LOCAL1 = "fe80::3"  # the router's on eth1
REACHABLE_SECONDS, DELAY_SECONDS = 30, 5  # net.ipv6.neigh.default.base_reachable_time_ms, delay_first_probe_time
SOURCE_LINK, TARGET_LINK = 1, 2  # options, RFC 4861 4.6.1
SOLICITED, OVERRIDE = 0x40, 0x20  # flags, RFC 4861 4.4


def question(target: str, *, src: str = LINK_LOCAL1, unicast_to: bytes | None = None) -> bytes:
    """The router's solicitation on eth1: to the solicited-node group, or to the known owner (RFC 4861 7.2.2, 7.3.3)."""
    dst = target if unicast_to else solicited_node(target)
    packet = neighbour_message(SOLICITATION, target, options=link_option(SOURCE_LINK, ROUTER1_MAC), src=src, dst=dst)
    return ether(packet, dst=unicast_to or group_mac(dst), src=ROUTER1_MAC, kind=IPV6)


def advertisement(
    flags: int = SOLICITED | OVERRIDE, hardware: bytes | None = NEW_MAC, *, dst: str = LINK_LOCAL1, target: str = NEW
) -> bytes:
    options = link_option(TARGET_LINK, hardware) if hardware else b""
    return neighbour_message(ADVERTISEMENT, target, flags=flags, options=options, src=target, dst=dst)


def reachable() -> Router6:
    """NEW has just answered."""
    router = Router6()
    router.take(udp6_packet(dst=NEW))
    router.answer(advertisement())
    router.engine.frames()
    return router


def test_three_solicitations_then_address_unreachable_for_all_that_waited() -> None:
    """What is only forwarded is asked for from the link-local address (net/ipv6/ndisc.c, ndisc_solicit())."""
    router = Router6()
    packets = [udp6_packet(dst=NEW, size=size) for size in (8, 16)]
    router.take(*packets)
    router.engine.run(10 * SECOND)
    frames = [frame for frame in router.engine.frames() if frame.outgoing]
    asked = [(frame.time, frame.data) for frame in frames if frame.device == router.eth1]
    assert asked == [(number * SECOND, question(NEW)) for number in range(3)]
    told = [(frame.time, frame.data) for frame in frames if frame.device == router.eth0]
    errors = [error6(UNREACHABLE, 3, aged(packet)) for packet in packets]
    assert told == [(3 * SECOND, ether(error, dst=CLIENT_MAC, src=ROUTER0_MAC, kind=IPV6)) for error in errors]
    assert router.neighbour(NEW)[0] == "failed"
    assert unaccounted(router.engine) == 0


def test_an_own_packet_is_asked_for_with_its_own_source() -> None:
    """RFC 4861 7.2.2: the address that the packet comes from, if it is one of the asking interface."""
    router = Router6()
    router.engine.send(router.ns, udp6_packet(src=ROUTER16, dst=NEW))
    router.engine.run(0)
    assert router.frames(router.eth1) == [question(NEW, src=ROUTER16)]


def test_what_waits_is_sent_in_order_when_the_answer_comes() -> None:
    router = Router6()
    packets = [udp6_packet(dst=NEW, size=size) for size in (8, 16, 24)]
    router.take(*packets)
    assert router.engine.counters()["held"] == 3
    router.engine.frames()
    router.answer(advertisement())
    assert router.frames(router.eth1) == [ether(aged(packet), dst=NEW_MAC, src=ROUTER1_MAC, kind=IPV6) for packet in packets]
    assert unaccounted(router.engine) == 0


def test_retrans_time_and_number_of_solicitations_are_sysctls() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv6.neigh.eth1.retrans_time_ms", 200)
    router.engine.set_sysctl(router.ns, "net.ipv6.neigh.eth1.mcast_solicit", 5)
    router.take(udp6_packet(dst=NEW))
    router.engine.run(10 * SECOND)
    assert [time for time, _ in router.timed(router.eth1)] == [number * 200 * MILLISECOND for number in range(5)]


def test_the_other_family_s_sysctls_change_nothing() -> None:
    router = Router6()
    router.engine.set_sysctl(router.ns, "net.ipv4.neigh.eth1.mcast_solicit", 1)
    router.take(udp6_packet(dst=NEW))
    router.engine.run(10 * SECOND)
    assert len(router.frames(router.eth1)) == 3


def test_a_neighbour_grows_stale_and_is_asked_alone_before_it_is_given_up() -> None:
    router = reachable()
    assert router.neighbour(NEW) == ("reachable", NEW_MAC)
    router.engine.run(2 * REACHABLE_SECONDS * SECOND)
    assert router.neighbour(NEW) == ("stale", NEW_MAC)
    router.take(udp6_packet(dst=NEW))
    assert len(router.frames(router.eth1)) == 1, "a stale address is used"
    assert router.neighbour(NEW)[0] == "delay"
    start = router.engine.now
    router.engine.run(start + DELAY_SECONDS * SECOND)
    assert router.neighbour(NEW)[0] == "probe"
    router.engine.run(start + 20 * SECOND)
    asked = [(time - start, frame) for time, frame in router.timed(router.eth1)]
    assert asked == [((DELAY_SECONDS + number) * SECOND, question(NEW, unicast_to=NEW_MAC)) for number in range(3)]
    assert router.neighbour(NEW)[0] == "failed"


def test_an_answer_to_a_probe_makes_it_reachable_again() -> None:
    router = Router6()
    router.engine.add_neighbour(router.eth1, ip6(NEW), NEW_MAC, permanent=False)
    router.take(udp6_packet(dst=NEW))
    router.engine.run(DELAY_SECONDS * SECOND)
    router.answer(advertisement(SOLICITED, None))
    assert router.neighbour(NEW) == ("reachable", NEW_MAC)


def test_an_answer_without_an_address_helps_nobody_who_has_none() -> None:
    """RFC 4861 7.2.5: while the entry is INCOMPLETE it is to be discarded."""
    router = Router6()
    router.take(udp6_packet(dst=NEW))
    router.answer(advertisement(SOLICITED | OVERRIDE, None))
    assert router.neighbour(NEW)[0] == "incomplete"


def test_an_advertisement_that_nobody_asked_for_makes_no_entry() -> None:
    """RFC 4861 7.2.5: if no entry exists, the advertisement is discarded."""
    router = Router6()
    router.answer(advertisement(OVERRIDE, dst=ALL_NODES), dst=group_mac(ALL_NODES))
    assert router.neighbour(NEW)[0] == "none"
    assert router.dropped("neighbour_discovery/ignored") == 1


def test_a_solicited_advertisement_to_a_group_is_none() -> None:
    """RFC 4861 7.1.2: to a multicast address the solicited flag is zero."""
    router = reachable()
    router.answer(advertisement(SOLICITED | OVERRIDE, OTHER_MAC, dst=ALL_NODES), dst=group_mac(ALL_NODES))
    assert router.neighbour(NEW) == ("reachable", NEW_MAC)
    assert router.dropped("neighbour_discovery/bad_message") == 1


def test_an_unsolicited_advertisement_to_all_nodes_moves_an_address() -> None:
    router = reachable()
    router.answer(advertisement(OVERRIDE, OTHER_MAC, dst=ALL_NODES), dst=group_mac(ALL_NODES))
    assert router.neighbour(NEW) == ("stale", OTHER_MAC)
    router.take(udp6_packet(dst=NEW))
    assert [frame[:6] for frame in router.frames(router.eth1)] == [OTHER_MAC]


def test_a_permanent_neighbour_is_never_asked_for_nor_changed() -> None:
    router = Router6()
    server = "2001:db8:1::2"
    router.answer(advertisement(SOLICITED | OVERRIDE, OTHER_MAC, target=server))
    router.take(udp6_packet(dst=server))
    router.engine.run(100 * SECOND)
    assert [frame[:6] for frame in router.frames(router.eth1)] == [SERVER_MAC]
    assert router.neighbour(server)[0] == "permanent"


def told_by_rfc(messages: Iterable[tuple[int, bytes | None]]) -> tuple[str, bytes]:
    """State and address of a neighbour that was REACHABLE, by the words of RFC 4861 7.2.5."""
    state, known = "reachable", NEW_MAC
    for flags, hardware in messages:
        differs = hardware is not None and hardware != known
        if differs and not flags & OVERRIDE:
            state = "stale" if state == "reachable" else state
            continue
        known = hardware or known
        if flags & SOLICITED:
            state = "reachable"
        elif differs:
            state = "stale"
    return state, known


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from((0, SOLICITED, OVERRIDE, SOLICITED | OVERRIDE)), st.sampled_from((None, NEW_MAC, OTHER_MAC)))))
def test_advertisements_change_an_entry_as_the_rfc_says(messages: list[tuple[int, bytes | None]]) -> None:
    router = reachable()
    for flags, hardware in messages:
        router.answer(advertisement(flags, hardware))
    assert router.neighbour(NEW) == told_by_rfc(messages)
