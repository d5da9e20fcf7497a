"""Connection tracking, translation and REJECT for IPv6, in whole packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.worlds import CLIENT_MAC, IPV6, ROUTER1_MAC, SERVER_MAC, ether, filter_table, nat_table
from core.worlds6 import (
    ADVERTISEMENT,
    CLIENT6,
    DESTINATION,
    ECHO,
    ECHO_REPLY,
    HOP_BY_HOP,
    NO_NEXT,
    ROUTER06,
    ROUTER16,
    ROUTING,
    SERVER6,
    SOLICITATION,
    UNREACHABLE,
    Router6,
    aged,
    error6,
    extension,
    icmpv6_packet,
    ip6,
    ipv6,
    link_option,
    neighbour_message,
    tcp6,
    udp6,
    udp6_packet,
)
from dataplane._core import CT_INVALID, CT_NEW, CT_RELATED, CT_UNTRACKED

if TYPE_CHECKING:
    from dataplane._core import Match

SERVICE = "fd00:10:96::1"
UDP, TCP, ICMPV6 = 17, 6, 58
SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01
TCP_RESET = 256


def translating(*, masquerade: bool = False) -> Router6:
    """Port 80 of the service is the server's 2000; what has no ports goes there too."""
    router = Router6()
    rules: list[Match] = [
        {"dst": (ip6(SERVICE), 128), "proto": UDP, "target": "DNAT", "to": (ip6(SERVER6), ip6(SERVER6), 2000, 2000)},
        {"dst": (ip6(SERVICE), 128), "target": "DNAT", "to": (ip6(SERVER6), ip6(SERVER6), 0, 0)},
    ]
    after: list[Match] = [{"target": "MASQUERADE"}] if masquerade else []
    router.engine.set_rules(router.ns, 6, "nat", nat_table(PREROUTING=rules, POSTROUTING=after))
    return router


def filtering(**chains: list[Match]) -> Router6:
    router = Router6()
    router.engine.set_rules(router.ns, 6, "filter", filter_table(**chains))
    return router


def asked() -> bytes:
    return ipv6(udp6(b"question", dst=SERVICE, dport=80), dst=SERVICE)


# ---- translation


def test_a_service_address_becomes_the_server_s_and_back() -> None:
    """Checksums cover the addresses of the header (RFC 8200 8.1)."""
    router = translating()
    router.take(asked())
    question = aged(ipv6(udp6(b"question")))
    assert router.frames(router.eth1) == [ether(question, dst=SERVER_MAC, src=ROUTER1_MAC, kind=IPV6)]
    router.answer(ipv6(udp6(b"answer", src=SERVER6, dst=CLIENT6, sport=2000, dport=1000), src=SERVER6, dst=CLIENT6))
    answer = udp6(b"answer", src=SERVICE, dst=CLIENT6, sport=80, dport=1000)
    assert router.sent(router.eth0) == [aged(ipv6(answer, src=SERVICE, dst=CLIENT6))]


def test_masquerade_takes_the_address_of_the_way_out() -> None:
    router = translating(masquerade=True)
    router.take(asked())
    assert router.sent(router.eth1) == [aged(ipv6(udp6(b"question", src=ROUTER16), src=ROUTER16))]
    router.answer(ipv6(udp6(b"answer", src=SERVER6, dst=ROUTER16, sport=2000, dport=1000), src=SERVER6, dst=ROUTER16))
    assert [packet[8:40] for packet in router.sent(router.eth0)] == [ip6(SERVICE) + ip6(CLIENT6)]


def test_a_checksum_of_zero_stays_zero() -> None:
    """Tunnels may leave it out (RFC 6935), and to receive it is left to the destination."""
    router = translating()
    packet = asked()
    router.take(packet[:46] + bytes(2) + packet[48:])
    expected = aged(ipv6(udp6(b"question")))
    assert router.sent(router.eth1) == [expected[:46] + bytes(2) + expected[48:]]


@pytest.mark.parametrize("kind", [HOP_BY_HOP, DESTINATION, ROUTING])
def test_translation_reaches_behind_extension_headers(kind: int) -> None:
    router = translating()
    header = extension(UDP, bytes(6))
    router.take(ipv6(header + udp6(dst=SERVICE, dport=80), dst=SERVICE, proto=kind))
    assert router.sent(router.eth1) == [aged(ipv6(header + udp6(), proto=kind))]


def test_pings_are_translated_by_their_identifier() -> None:
    router = translating(masquerade=True)
    router.take(icmpv6_packet(ECHO, rest=b"\0\7\0\1", dst=SERVICE))
    assert router.sent(router.eth1) == [aged(icmpv6_packet(ECHO, rest=b"\0\7\0\1", src=ROUTER16))]
    router.answer(icmpv6_packet(ECHO_REPLY, rest=b"\0\7\0\1", src=SERVER6, dst=ROUTER16))
    assert router.sent(router.eth0) == [aged(icmpv6_packet(ECHO_REPLY, rest=b"\0\7\0\1", src=SERVICE, dst=CLIENT6))]


# ---- errors inside translated connections


@pytest.mark.parametrize("masquerade", [False, True])
@pytest.mark.parametrize("quote", [48, 49, 56])
def test_an_error_comes_from_the_service_and_quotes_what_was_sent(quote: int, masquerade: bool) -> None:
    router = translating(masquerade=masquerade)
    router.take(asked())
    (got,) = router.sent(router.eth1)
    source = ROUTER16 if masquerade else CLIENT6
    router.answer(icmpv6_packet(UNREACHABLE, 4, payload=got[:quote], src=SERVER6, dst=source))
    assert router.sent(router.eth0) == [aged(error6(UNREACHABLE, 4, aged(asked())[:quote], src=SERVICE))]


@pytest.mark.parametrize(("quote", "goes_on"), [(47, False), (44, False), (43, True)])
def test_an_error_that_quotes_too_little_cannot_be_translated(quote: int, goes_on: bool) -> None:
    """With the ports its connection is found, but only a whole UDP header can be translated back (nf_nat_icmpv6_reply_translation());
    with less it is INVALID, which no rule is about here."""
    router = translating()
    router.take(asked())
    (got,) = router.sent(router.eth1)
    error = icmpv6_packet(UNREACHABLE, 4, payload=got[:quote], src=SERVER6, dst=CLIENT6)
    router.answer(error)
    assert router.sent(router.eth0) == ([aged(error)] if goes_on else [])


def test_an_error_is_related_to_its_connection() -> None:
    router = filtering(FORWARD=[{"ctstate": CT_NEW, "target": "ACCEPT"}, {"ctstate": CT_RELATED, "target": "ACCEPT"}, {"target": "DROP"}])
    router.take(udp6_packet())
    (got,) = router.sent(router.eth1)
    router.answer(
        icmpv6_packet(UNREACHABLE, 4, payload=got, src=SERVER6, dst=CLIENT6),
        icmpv6_packet(UNREACHABLE, 4, payload=got[:40] + udp6(sport=9), src=SERVER6, dst=CLIENT6),
    )
    assert router.sent(router.eth0) == [aged(icmpv6_packet(UNREACHABLE, 4, payload=got, src=SERVER6, dst=CLIENT6))]


# ---- what is tracked


@pytest.mark.parametrize(
    "packet",
    [
        ipv6(b"", proto=NO_NEXT),
        icmpv6_packet(ECHO_REPLY, rest=b"\0\1\0\1"),
        icmpv6_packet(100),
        icmpv6_packet(200),
        ipv6(udp6()[:-1] + b"\xff"),
        ipv6(bytes(8), proto=1),  # ICMP of IPv4
    ],
)
def test_what_is_no_connection_is_invalid(packet: bytes) -> None:
    router = filtering(FORWARD=[{"ctstate": CT_INVALID, "target": "DROP"}])
    router.take(packet)
    assert router.sent(router.eth1) == []
    assert router.dropped("rules/denied") == 1
    assert router.engine.conntrack(router.ns) == []


def test_neighbour_discovery_is_not_tracked() -> None:
    """nf_conntrack_icmpv6_error(): so that no rule about connections cuts a machine off."""
    router = filtering(INPUT=[{"ctstate": CT_UNTRACKED, "target": "ACCEPT"}, {"target": "DROP"}])
    router.take(
        neighbour_message(SOLICITATION, ROUTER06, options=link_option(1, CLIENT_MAC), src=CLIENT6, dst=ROUTER06),
        icmpv6_packet(ECHO, dst=ROUTER06),
    )
    assert [packet[40] for packet in router.sent(router.eth0)] == [ADVERTISEMENT]
    assert router.engine.conntrack(router.ns) == []


def test_a_ping_is_an_entry_with_type_code_and_identifier() -> None:
    router = filtering(FORWARD=[{"ctstate": CT_NEW, "target": "ACCEPT"}])
    router.take(icmpv6_packet(ECHO, rest=b"\1\2\0\1"))
    (entry,) = router.engine.conntrack(router.ns)
    assert (entry["family"], entry["proto"]) == (6, ICMPV6)
    assert entry["orig"] == {"src": ip6(CLIENT6), "dst": ip6(SERVER6), "type": ECHO, "code": 0, "id": 0x102}
    assert entry["reply"] == {"src": ip6(SERVER6), "dst": ip6(CLIENT6), "type": ECHO_REPLY, "code": 0, "id": 0x102}


# ---- REJECT


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5, 6])
def test_reject_tells_the_sender_with_its_code(code: int) -> None:
    """Where packets are forwarded their hop limit has been counted by then."""
    router = filtering(FORWARD=[{"target": "REJECT", "reject_with": code}])
    packet = udp6_packet()
    router.take(packet)
    assert router.sent(router.eth0) == [error6(UNREACHABLE, code, aged(packet))]


def test_reject_believes_no_wrong_checksum() -> None:
    router = filtering(FORWARD=[{"target": "REJECT", "reject_with": 4}])
    router.take(ipv6(udp6()[:-1] + b"\xff"))
    assert router.sent(router.eth0) == []


@pytest.mark.parametrize(
    ("flags", "ack", "answer"),
    [
        (SYN, 0, {"flags": RST | ACK, "seq": 0, "ack": 101}),
        (SYN | FIN, 0, {"flags": RST | ACK, "seq": 0, "ack": 102}),
        (ACK, 777, {"flags": RST, "seq": 777, "ack": 0}),
    ],
)
def test_a_reset_is_what_the_server_would_have_sent(flags: int, ack: int, answer: dict[str, int]) -> None:
    """RFC 9293 3.10.7.1; no window, no flow label, no traffic class (nf_reject_ip6hdr_put())."""
    router = filtering(FORWARD=[{"proto": TCP, "target": "REJECT", "reject_with": TCP_RESET}])
    router.take(ipv6(tcp6(flags, seq=100, ack=ack), proto=TCP, tclass=0xB8))
    reset = tcp6(src=SERVER6, dst=CLIENT6, ports=(80, 1000), window=0, **answer)
    assert router.sent(router.eth0) == [ipv6(reset, src=SERVER6, dst=CLIENT6, proto=TCP)]


def test_nobody_resets_a_reset() -> None:
    router = filtering(FORWARD=[{"proto": TCP, "target": "REJECT", "reject_with": TCP_RESET}])
    router.take(ipv6(tcp6(RST), proto=TCP))
    assert router.sent(router.eth0) == []


def test_rules_of_ipv4_do_not_see_ipv6() -> None:
    router = Router6()
    router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[{"target": "DROP"}]))
    router.take(udp6_packet())
    assert router.sent(router.eth1) == [aged(udp6_packet())]
