"""Extension headers: who reads which, what options and routing headers lead to (RFC 8200 4, net/ipv6/exthdrs.c)."""

from __future__ import annotations

import pytest

from core.worlds6 import (
    ALL_NODES,
    DESTINATION,
    HOP_BY_HOP,
    NO_NEXT,
    PARAMETER_PROBLEM,
    ROUTER06,
    ROUTING,
    SERVER6,
    UNREACHABLE,
    Router6,
    aged,
    error6,
    extension,
    group_mac,
    ipv6,
    udp6,
)

UDP = 17
FIRST_OPTION = 42  # offset in a packet whose first header holds options
FIELD, NEXT_HEADER, OPTION = 0, 1, 2  # codes of parameter problems
SKIP, DISCARD, TELL, TELL_NO_GROUP = 0x1E, 0x5E, 0x9E, 0xDE  # types of an unknown option by their two highest bits


def options(kind: int, data: bytes, *, dst: str = SERVER6) -> bytes:
    return ipv6(extension(UDP, data) + udp6(dst=dst), dst=dst, proto=kind)


def unknown(option: int) -> bytes:
    return bytes([option, 4, 0, 0, 0, 0])


def forwarded(packet: bytes) -> bool:
    """Does it go on? If not, nobody is told."""
    router = Router6()
    router.take(packet)
    sent = {frame.device: frame.data[14:] for frame in router.engine.frames() if frame.outgoing}
    assert router.eth0 not in sent
    return sent == {router.eth1: aged(packet)}


def told(packet: bytes, **where: bytes) -> list[bytes]:
    """What the sender hears; nothing goes on."""
    router = Router6()
    router.take(packet, **where)
    frames = [frame for frame in router.engine.frames() if frame.outgoing]
    assert {frame.device for frame in frames} <= {router.eth0}
    return [frame.data[14:] for frame in frames]


# ---- options


@pytest.mark.parametrize(("option", "answered"), [(DISCARD, False), (TELL, True), (TELL_NO_GROUP, True)])
@pytest.mark.parametrize(("kind", "dst"), [(HOP_BY_HOP, SERVER6), (HOP_BY_HOP, ROUTER06), (DESTINATION, ROUTER06)])
def test_an_unknown_option_says_what_becomes_of_its_packet(kind: int, dst: str, option: int, answered: bool) -> None:
    """RFC 8200 4.2; the pointer is to the option (RFC 4443 3.4)."""
    packet = options(kind, unknown(option), dst=dst)
    assert told(packet) == ([error6(PARAMETER_PROBLEM, OPTION, packet, info=FIRST_OPTION)] if answered else [])


@pytest.mark.parametrize(("option", "answered"), [(DISCARD, False), (TELL, True), (TELL_NO_GROUP, False)])
def test_who_sent_it_to_a_group_is_told_if_the_option_says_so(option: int, answered: bool) -> None:
    packet = options(DESTINATION, unknown(option), dst=ALL_NODES)
    expected = [error6(PARAMETER_PROBLEM, OPTION, packet, info=FIRST_OPTION)] if answered else []
    assert told(packet, dst=group_mac(ALL_NODES)) == expected


def test_an_option_that_may_be_skipped_is() -> None:
    assert forwarded(options(HOP_BY_HOP, unknown(SKIP)))
    packet = options(DESTINATION, unknown(SKIP), dst=ROUTER06)
    assert told(packet) == [error6(UNREACHABLE, 4, packet)], "the port is asked for, where nobody listens"


@pytest.mark.parametrize("option", [DISCARD, TELL, TELL_NO_GROUP])
def test_destination_options_are_for_the_destination(option: int) -> None:
    assert forwarded(options(DESTINATION, unknown(option)))


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (bytes(6), True),  # Pad1, six times
        (b"\1\4" + bytes(4), True),
        (b"\1\5" + bytes(5) + b"\x1e\5" + bytes(5), True),  # seven bytes of padding are the most
        (b"\1\6" + bytes(6) + b"\x1e\4" + bytes(4), False),
        (b"\1\4" + bytes(4) + b"\0\0" + b"\x1e\4" + bytes(4), False),  # eight, of two kinds
        (b"\1\2\0\0" + b"\x1e\0" + b"\1\6" + bytes(6), False),
        (b"\1\4\0\0\0\1", False),  # padding is zero
        (b"\1\5" + bytes(4), False),  # longer than its header
        (bytes(5) + b"\x1e", False),  # an option without a length
    ],
)
def test_padding(data: bytes, good: bool) -> None:
    """ip6_parse_tlv(): up to seven bytes between options, all zero."""
    assert forwarded(options(HOP_BY_HOP, data)) == good


@pytest.mark.parametrize(("count", "good"), [(8, True), (9, False)])
def test_so_many_options_and_no_more(count: int, good: bool) -> None:
    """net.ipv6.max_hbh_opts_number is 8."""
    padding = 22 - 2 * count
    assert forwarded(options(HOP_BY_HOP, b"\x1e\0" * count + bytes([1, padding - 2]) + bytes(padding - 2))) == good


@pytest.mark.parametrize(("data", "good"), [(b"\5\2\0\0\1\0", True), (b"\5\3\0\0\0\0", False)])
def test_a_router_alert_has_two_bytes(data: bytes, good: bool) -> None:
    """RFC 2711 2.1."""
    assert forwarded(options(HOP_BY_HOP, data)) == good


def test_a_jumbo_payload_that_is_not_jumbo() -> None:
    """RFC 2675 3: its length is above 65535; the pointer is to the length."""
    packet = options(HOP_BY_HOP, b"\xc2\4" + (1000).to_bytes(4))
    assert told(packet) == [error6(PARAMETER_PROBLEM, FIELD, packet, info=FIRST_OPTION + 2)]


# ---- order and kinds of headers


def test_two_hop_by_hop_headers_are_forwarded_and_not_received() -> None:
    """A router looks at the first header alone; where they are taken apart the second is of an unknown kind (RFC 8200 4)."""
    chain = extension(HOP_BY_HOP) + extension(UDP)
    assert forwarded(ipv6(chain + udp6(), proto=HOP_BY_HOP))
    packet = ipv6(chain + udp6(dst=ROUTER06), dst=ROUTER06, proto=HOP_BY_HOP)
    assert told(packet) == [error6(PARAMETER_PROBLEM, NEXT_HEADER, packet, info=40)]


def test_all_headers_are_read_to_the_last() -> None:
    chain = extension(DESTINATION) + extension(ROUTING) + extension(DESTINATION, bytes([0, 0]) + bytes(4)) + extension(UDP)
    packet = ipv6(chain + udp6(dst=ROUTER06), dst=ROUTER06, proto=HOP_BY_HOP)
    assert told(packet) == [error6(UNREACHABLE, 4, packet)]


@pytest.mark.parametrize(("headers", "pointer"), [(b"", 6), (extension(253), 40)])
def test_an_unknown_next_header(headers: bytes, pointer: int) -> None:
    """RFC 4443 3.4; 253 is for experiments (RFC 3692)."""
    packet = ipv6(headers + bytes(16), dst=ROUTER06, proto=DESTINATION if headers else 253)
    assert told(packet) == [error6(PARAMETER_PROBLEM, NEXT_HEADER, packet, info=pointer)]


def test_no_next_header_is_the_end() -> None:
    """RFC 8200 4.7: what follows is ignored, and forwarded unchanged."""
    assert told(ipv6(bytes(16), dst=ROUTER06, proto=NO_NEXT)) == []
    assert forwarded(ipv6(bytes(16), proto=NO_NEXT))


# ---- routing headers


def routing(kind: int, segments_left: int, *, dst: str = ROUTER06) -> bytes:
    return ipv6(extension(UDP, bytes([kind, segments_left]) + bytes(4)) + udp6(dst=dst), dst=dst, proto=ROUTING)


@pytest.mark.parametrize("kind", [0, 1, 2, 99])
def test_segments_left_are_not_followed(kind: int) -> None:
    """RFC 8200 4.4, RFC 5095: the pointer is to the type."""
    packet = routing(kind, 1)
    assert told(packet) == [error6(PARAMETER_PROBLEM, FIELD, packet, info=42)]


@pytest.mark.parametrize("kind", [0, 2, 99])
def test_with_no_segments_left_it_is_skipped(kind: int) -> None:
    packet = routing(kind, 0)
    assert told(packet) == [error6(UNREACHABLE, 4, packet)]


def test_segment_routing_is_off() -> None:
    """net.ipv6.conf.DEV.seg6_enabled is 0: dropped without a word (ipv6_srh_rcv())."""
    assert told(routing(4, 0)) == []


def test_routing_headers_are_for_the_destination() -> None:
    assert forwarded(routing(0, 1, dst=SERVER6))
