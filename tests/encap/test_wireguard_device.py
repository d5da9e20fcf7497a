"""WireGuard devices: what is said between two of them, when, and what is refused (drivers/net/wireguard)."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.wireguard import Wireguard, WireguardInitiation, WireguardResponse, WireguardTransport
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane import _core
from dataplane.encap import registry
from dataplane.encap.python_plugin import Incoming, Outgoing, Refused
from dataplane.encap.wireguard.device import WireGuard
from dataplane.encap.wireguard.noise import public_key
from encap.wireguard_world import (
    COOKIE,
    DATA,
    INITIATION,
    IPV4,
    IPV6,
    KEY,
    MILLISECOND,
    RESPONSE,
    SECOND,
    UNDERLAY,
    Sent,
    World,
    config,
    packet,
    text,
)

KEEPALIVE_LENGTH = 32  # 16 bytes of header, nothing, 16 bytes of tag
HANDSHAKE_TOS = 0x88
JITTER = 334 * MILLISECOND
SESSION = World()
SESSION.meet()


def test_a_first_packet_waits_for_the_handshake_and_arrives() -> None:
    world = World()
    world.left.transmit(packet())
    assert world.kinds() == [("left", INITIATION), ("right", RESPONSE), ("left", DATA)]
    assert world.right.received == [packet()]


def test_the_messages_are_what_scapy_reads() -> None:
    world = World()
    world.left.transmit(packet())
    world.run()
    initiation, response, data = (UDP(sent.datagram) for sent in world.sent)
    assert [(udp.sport, udp.dport) for udp in (initiation, response, data)] == [(51820, 51820)] * 3
    assert [udp.len for udp in (initiation, response, data)] == [8 + 148, 8 + 92, 8 + 16 + 48 + 16]
    asked, answered = initiation[Wireguard][WireguardInitiation], response[Wireguard][WireguardResponse]
    assert answered.receiver_index == asked.sender_index
    inside = data[Wireguard][WireguardTransport]
    assert (inside.receiver_index, inside.counter) == (answered.sender_index, 0)


def test_checksums_are_those_of_the_underlay() -> None:
    world = World()
    world.left.transmit(packet())
    world.run()
    for sent in world.sent:
        whole = IP(src=".".join(map(str, sent.outer.local)), dst=".".join(map(str, sent.outer.remote)), proto=17) / UDP(sent.datagram)
        written = whole[UDP].chksum
        del whole[UDP].chksum
        assert IP(bytes(whole))[UDP].chksum == written != 0


def test_handshakes_are_marked_and_data_is_not() -> None:
    world = World()
    world.left.transmit(packet(tos=0xB8), tos=0xB8)
    world.run()
    assert [sent.outer.tos for sent in world.sent] == [HANDSHAKE_TOS, HANDSHAKE_TOS, 0]


@pytest.mark.parametrize(("inner", "outer"), [(0xB8, 0), (0xB9, 1), (0xBA, 2), (0xBB, 2)])
def test_only_ecn_shows_outside_and_congestion_as_capability(inner: int, outer: int) -> None:
    world = World()
    world.meet()
    world.left.transmit(packet(), tos=inner)
    assert world.sent[0].outer.tos == outer


@pytest.mark.parametrize(
    ("inner", "plaintext"),
    [(28, 32), (32, 32), (33, 48), (1408, 1408), (1409, 1420), (1420, 1420)],
)
def test_packets_are_padded_to_16_bytes_but_not_beyond_the_mtu(inner: int, plaintext: int) -> None:
    """calculate_skb_padding() of send.c."""
    world = World()
    world.meet()
    world.left.transmit(packet(size=inner - 28))
    assert len(world.sent[0].message) == 16 + plaintext + 16
    assert world.right.received == [packet(size=inner - 28)]


def test_a_session_is_used_in_both_directions() -> None:
    world = World()
    world.meet()
    for count in range(3):
        world.right.transmit(packet("right", "left", size=count))
    assert world.left.received == [packet("right", "left", size=count) for count in range(3)]
    assert world.kinds() == [("right", DATA)] * 3


def test_who_only_receives_answers_with_a_keepalive_after_ten_seconds() -> None:
    world = World()
    world.meet()
    world.run(10 * SECOND - 1)
    assert world.sent == []
    world.run(1)
    assert [(sent.source, len(sent.message)) for sent in world.sent] == [("right", KEEPALIVE_LENGTH)]
    assert world.left.received == []


def test_silence_for_fifteen_seconds_after_sending_brings_a_new_handshake() -> None:
    world = World()
    world.meet()
    world.lost = lambda sent: sent.source == "right"
    world.run(15 * SECOND - 1)
    assert world.kinds(INITIATION) == []
    world.run(JITTER)
    assert world.kinds(INITIATION) == [("left", INITIATION)]


def test_the_initiator_rekeys_after_two_minutes_of_sending() -> None:
    world = World()
    world.meet()
    world.run(120 * SECOND - 1)
    world.sent.clear()
    world.left.transmit(packet())
    world.run()
    assert world.kinds(INITIATION, DATA) == [("left", DATA)]
    world.run(1)
    world.sent.clear()
    world.left.transmit(packet())
    world.run()
    assert world.kinds() == [("left", DATA), ("left", INITIATION), ("right", RESPONSE), ("left", DATA)]
    assert len(world.sent[-1].message) == KEEPALIVE_LENGTH


def test_the_responder_does_not_rekey() -> None:
    world = World()
    world.meet()
    world.run(130 * SECOND)
    world.sent.clear()
    world.right.transmit(packet("right", "left"))
    world.run()
    assert world.kinds() == [("right", DATA)]


def test_an_initiator_that_only_receives_rekeys_in_the_last_quarter_minute() -> None:
    """keep_key_fresh() of receive.c: 180 - 10 - 5 seconds."""
    world = World()
    world.meet()
    world.run(165 * SECOND - 1)
    world.sent.clear()
    world.right.transmit(packet("right", "left"))
    world.run(1)
    assert world.kinds() == [("right", DATA)]
    world.right.transmit(packet("right", "left"))
    world.run()
    assert world.kinds(INITIATION) == [("left", INITIATION)]


def test_a_session_of_three_minutes_is_used_no_more() -> None:
    world = World()
    world.meet()
    world.run(180 * SECOND - 1)
    world.lost = lambda sent: True
    world.right.transmit(packet("right", "left"))
    late = world.sent[-1]
    world.run(1)
    world.left.arrive(late, UNDERLAY["right"])
    assert world.left.refused == ["expired_session"]
    world.sent.clear()
    world.right.transmit(packet("right", "left"))
    world.run()
    assert world.kinds() == [("right", INITIATION)]


def test_a_session_is_forgotten_after_nine_minutes() -> None:
    world = World()
    world.meet()
    world.left.transmit(packet())
    old = world.sent[-1]
    world.run(539 * SECOND)
    world.right.arrive(old, UNDERLAY["left"])
    world.run(2 * SECOND)
    world.right.arrive(old, UNDERLAY["left"])
    assert world.right.refused == ["expired_session", "unknown_session"]


def test_packets_in_the_old_session_still_arrive_while_the_new_one_begins() -> None:
    world = World()
    world.meet()
    world.run(120 * SECOND)
    world.lost = lambda sent: sent.kind == DATA
    world.left.transmit(packet())
    old = world.sent[-1]
    world.lost = lambda sent: False
    world.run()
    assert world.kinds(RESPONSE) == [("right", RESPONSE)]
    world.right.arrive(old, UNDERLAY["left"])
    assert world.right.received == [packet()]


def test_lost_initiations_are_repeated_every_five_seconds_and_the_packet_is_kept() -> None:
    world = World(lost=lambda sent: sent.kind == INITIATION)
    world.left.transmit(packet())
    world.run(17 * SECOND)
    times = [sent.time for sent in world.sent]
    assert len(times) == 4
    assert all(5 * SECOND <= later - earlier < 5 * SECOND + JITTER for earlier, later in pairwise(times))
    assert len({sent.message for sent in world.sent}) == 4
    world.lost = lambda sent: False
    world.run(6 * SECOND)
    assert world.right.received == [packet()]


def test_after_twenty_initiations_in_vain_the_packets_are_given_up() -> None:
    """MAX_TIMER_HANDSHAKES is 90 / 5: a first attempt and nineteen more."""
    world = World(lost=lambda sent: True)
    world.left.transmit(packet())
    world.run(600 * SECOND)
    assert world.kinds() == [("left", INITIATION)] * 20
    world.lost = lambda sent: False
    world.left.transmit(packet(size=99))
    world.run()
    assert world.right.received == [packet(size=99)]


def test_of_packets_that_wait_the_oldest_give_way() -> None:
    """MAX_STAGED_PACKETS: 128 may wait before another is added."""
    world = World(lost=lambda sent: True)
    for size in range(200):
        world.left.transmit(packet(size=size))
    world.lost = lambda sent: False
    world.run(6 * SECOND)
    assert world.right.received == [packet(size=size) for size in range(71, 200)]


def test_persistent_keepalives_begin_at_once_and_go_on() -> None:
    world = World(left="PersistentKeepalive = 25")
    world.run(80 * SECOND)
    assert world.kinds(INITIATION) == [("left", INITIATION)]
    started = world.sent[0].time
    from_left = [sent for sent in world.sent if (sent.source, sent.kind) == ("left", DATA)]
    assert [sent.time - started for sent in from_left] == [0, 25 * SECOND, 50 * SECOND, 75 * SECOND]
    assert {len(sent.message) for sent in from_left} == {KEEPALIVE_LENGTH}


def test_both_ends_may_begin_at_once() -> None:
    world = World(right="Endpoint = 192.0.2.1:51820", lost=lambda sent: sent.kind != DATA)
    world.left.transmit(packet())
    world.right.transmit(packet("right", "left"))
    world.run()
    assert world.kinds() == [("left", INITIATION), ("right", INITIATION)]
    world.lost = lambda sent: False
    world.run(11 * SECOND)
    assert world.right.received == [packet()]
    assert world.left.received == [packet("right", "left")]


def test_the_endpoint_follows_authentic_packets_only() -> None:
    world = World()
    world.meet()
    world.lost = lambda sent: True
    world.left.transmit(packet())
    genuine = world.sent[-1]
    moved = bytes([203, 0, 113, 9])
    forged = Sent(genuine.time, "left", genuine.outer, genuine.datagram[:-1] + bytes([genuine.datagram[-1] ^ 1]))
    world.right.arrive(forged, moved)
    world.right.transmit(packet("right", "left"))
    assert world.sent[-1].outer.remote == UNDERLAY["left"]
    world.right.arrive(genuine, moved)
    world.right.transmit(packet("right", "left"))
    assert world.sent[-1].outer.remote == moved


def test_a_counter_is_taken_once_within_a_window_of_8128() -> None:
    world = World()
    world.meet()
    world.lost = lambda sent: True
    for _ in range(8130):
        world.left.transmit(packet())
    first, second, last = world.sent[0], world.sent[1], world.sent[-1]
    for sent in (last, second, first, second, last):
        world.right.arrive(sent, UNDERLAY["left"])
    assert world.right.received == [packet()] * 2
    assert world.right.refused == ["replayed_counter"] * 3


def test_inner_sources_must_be_allowed() -> None:
    world = World()
    world.meet()
    world.left.transmit(packet("10.9.0.7"))
    assert world.right.refused == ["source_not_allowed"]


def test_a_replayed_initiation_is_refused() -> None:
    world = World()
    world.left.transmit(packet())
    world.run()
    world.now += SECOND
    world.right.arrive(world.sent[0], UNDERLAY["left"])
    assert world.right.refused == ["replayed_handshake"]


def test_more_than_fifty_initiations_a_second_are_a_flood() -> None:
    world = World(lost=lambda sent: True)
    world.left.transmit(packet())
    world.run(6 * SECOND)
    for sent in world.sent[:2]:
        world.right.arrive(sent, UNDERLAY["left"])
    assert world.right.refused == ["handshake_flood"]


def test_strangers_are_refused() -> None:
    world = World()
    stranger = World().left
    stranger.device = WireGuard(
        {"config": config(bytes([7]) * 32, public_key(KEY["right"]), endpoint="192.0.2.2:51820", allowed="0.0.0.0/0")}, stranger
    )
    stranger.transmit(packet())
    stranger.world.run()
    world.right.arrive(stranger.world.sent[0], UNDERLAY["left"])
    assert world.right.refused == ["unknown_peer"]


def test_a_wrong_preshared_key_ends_the_handshake() -> None:
    world = World()
    world.left.device = WireGuard(
        {"config": config(KEY["left"], public_key(KEY["right"]), endpoint="192.0.2.2:51820", allowed="10.9.0.2/32")}, world.left
    )
    world.left.transmit(packet())
    world.run()
    assert world.left.refused == ["invalid_handshake"]
    assert world.right.received == []


@pytest.mark.parametrize("position", [0, 1, 2])
def test_no_changed_or_broken_message_is_taken(position: int) -> None:
    """Each bit of each message, and each length; the two cookie macs alone mean nothing without load."""
    world = World(lost=lambda sent: True)
    world.left.transmit(packet())
    world.run()
    world.right.arrive(world.sent[0], UNDERLAY["left"])
    world.left.arrive(world.sent[1], UNDERLAY["right"])
    sent = world.sent[position]
    judge, source = (world.left, "right") if position == 1 else (world.right, "left")
    ends = len(sent.message) - (16 if position < 2 else 0)
    for bit in range(8 * ends):
        changed = bytearray(sent.datagram)
        changed[8 + bit // 8] ^= 1 << bit % 8
        judge.arrive(Sent(0, source, sent.outer, bytes(changed)), UNDERLAY[source])
    for size in range(len(sent.datagram)):
        judge.arrive(Sent(0, source, sent.outer, sent.datagram[:size]), UNDERLAY[source])
    assert len(judge.refused) == 8 * ends + len(sent.datagram)
    assert judge.received == []


@settings(max_examples=300, deadline=None, derandomize=True)
@given(kind=st.integers(0, 5), size=st.sampled_from([0, 1, 31, 32, 48, 64, 92, 100, 148, 149]), rest=st.binary(max_size=200))
def test_random_messages_are_refused(kind: int, size: int, rest: bytes) -> None:
    message = (bytes([kind, 0, 0, 0]) + rest + bytes(200))[:size]
    datagram = bytes(UDP(sport=51820, dport=51820) / Raw(message))
    for side in SESSION.sides.values():
        with pytest.raises(Refused):
            side.device.pop(Incoming(SESSION.now, UNDERLAY[side.name], bytes([203, 0, 113, 1])), datagram)


def test_under_load_a_cookie_is_asked_for_and_the_next_initiation_bears_it() -> None:
    world = World(busy=True)
    world.left.transmit(packet())
    world.run(4 * SECOND)
    assert world.kinds() == [("left", INITIATION), ("right", COOKIE)]
    assert world.right.refused == ["cookie_demanded"]
    world.run(2 * SECOND)
    assert world.right.received == [packet()]


def test_under_load_six_handshakes_at_once_from_one_address_are_too_many() -> None:
    world = World(busy=True)
    world.left.transmit(packet())
    world.run(6 * SECOND)
    with_cookie = [sent for sent in world.sent if sent.kind == INITIATION][1]
    world.right.refused.clear()
    world.run(SECOND)
    for _ in range(6):
        world.right.arrive(with_cookie, UNDERLAY["left"])
    assert world.right.refused == ["replayed_handshake"] * 5 + ["rate_limited"]


def test_a_cookie_that_was_not_asked_for_is_refused() -> None:
    world = World(busy=True, lost=lambda sent: sent.kind == COOKIE)
    world.left.transmit(packet())
    world.run()
    cookie = world.sent[-1]
    for _ in range(2):
        world.left.arrive(cookie, UNDERLAY["right"])
    assert world.left.refused == ["bad_cookie"]


def test_the_same_input_gives_the_same_bytes() -> None:
    worlds = [World(), World()]
    for world in worlds:
        world.left.transmit(packet())
        world.run(700 * SECOND)
    assert worlds[0].sent == worlds[1].sent


def test_where_nobody_is_allowed_nothing_is_sent() -> None:
    world = World()
    with pytest.raises(Refused, match="no_peer"):
        world.left.transmit(packet(destination="10.9.0.3"))


def test_without_an_endpoint_nothing_is_sent() -> None:
    world = World()
    with pytest.raises(Refused, match="no_endpoint"):
        world.right.transmit(packet("right", "left"))


def test_a_single_packet_of_a_session_goes_over_ipv6_too() -> None:
    registry.ensure("wireguard")
    key = bytes(range(32))
    codec = _core.Codec("wireguard", {"sending_key": key, "receiving_key": key, "sending_index": 7, "receiving_index": 7})
    inner = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", tc=2) / UDP() / b"six")
    packet = IPv6(codec.push(inner, IPV6, ip_address("fd00::1").packed, ip_address("fd00::2").packed))
    assert (packet.tc, packet.plen) == (2, 8 + 16 + 64 + 16)
    written = packet[UDP].chksum
    del packet[UDP].chksum
    assert IPv6(bytes(packet))[UDP].chksum == written
    packet[UDP].chksum = written
    sealed = bytes(packet[WireguardTransport].encrypted_encapsulated_packet)
    assert ChaCha20Poly1305(key).decrypt(bytes(12), sealed, None) == inner + bytes(13)
    assert codec.pop(bytes(packet)).inner == inner


def test_over_ipv6_a_checksum_must_be_there() -> None:
    """use_udp6_rx_checksums of wg_socket_init()."""
    world = World()
    address = ip_address("2001:db8::1").packed
    with pytest.raises(Refused, match="no_checksum"):
        world.right.device.pop(Incoming(world.now, address, address), bytes(UDP(sport=1, dport=51820, chksum=0) / bytes(32)))


def test_the_longest_allowed_prefix_decides() -> None:
    peers = [("192.0.2.9:1", "10.0.0.0/8, 2001:db8::/32"), ("[2001:db8:ffff::2]:2", "10.9.0.0/16")]
    public = [text(public_key(bytes([number]) * 32)) for number in range(len(peers))]
    sections = [
        f"[Peer]\nPublicKey = {key}\nEndpoint = {endpoint}\nAllowedIPs = {allowed}\n"
        for key, (endpoint, allowed) in zip(public, peers, strict=True)
    ]
    device = WireGuard({"config": "".join(sections).encode()}, None)
    outer = Outgoing(0, bytes(4), bytes(4), inner_protocol=IPV4)
    assert device.select(outer, packet(destination="10.8.0.1")) == bytes([192, 0, 2, 9])
    assert device.select(outer, packet(destination="10.9.0.1")) == ip_address("2001:db8:ffff::2").packed
    outer.inner_protocol = IPV6
    assert device.select(outer, bytes(IPv6(src="2001:db8::1", dst="2001:db8::2"))) == bytes([192, 0, 2, 9])


@pytest.mark.parametrize("inner", [b"", b"\x45" + bytes(18), b"\x65" + bytes(39), b"\x60" + bytes(38)])
def test_what_is_no_ip_packet_is_refused(inner: bytes) -> None:
    world = World()
    with pytest.raises(Refused, match="not_ip"):
        world.left.device.select(Outgoing(0, bytes(4), bytes(4), inner_protocol=IPV4), inner)


@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [(b"\x55" + bytes(31), "inner_not_ip"), (b"\x45" + bytes(18), "inner_not_ip"), (bytes.fromhex("4500 0013") + bytes(28), "inner_size"),
     (bytes.fromhex("4500 0031") + bytes(44), "inner_size"), (b"\x60" + bytes(3) + b"\0\x09" + bytes(42), "inner_size")],
)  # fmt: skip
def test_what_decrypts_to_no_ip_packet_is_refused(plaintext: bytes, reason: str) -> None:
    key = bytes(32)
    device = WireGuard({"sending_key": key, "receiving_key": key}, None)
    message = bytes([4]) + bytes(15) + ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, None)
    datagram = bytes(4) + (8 + len(message)).to_bytes(2, "big") + bytes(2) + message
    with pytest.raises(Refused, match=reason):
        device.pop(Incoming(0, bytes(4), bytes(4)), datagram)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[Interface]\nPrivateKey = abc", "line 2: Incorrect padding"),
        ("[Interface]\nPrivateKey = aGVsbG8=", "line 2: a key has 32 bytes, in base64"),
        ("[Interface]\nFwMark = 1", "line 2: FwMark is not known here"),
        ("PrivateKey = x", "line 1: PrivateKey is not known here"),
        ("[Peer]\nnonsense", "line 2: 'nonsense' is no 'Key = value'"),
        ("[Peer]\nEndpoint = example.org:1", "line 2: endpoint 'example.org:1' is no ADDRESS:PORT"),
        ("[Peer]\nPersistentKeepalive = -1", "line 2: '-1' is no number from 0 to 65535"),
        ("[Peer]\nAllowedIPs = 10.0.0.0/33", "line 2: '10.0.0.0/33' does not appear to be"),
        ("# a comment\n[Peer]\n", "config: peer 1 has no PublicKey"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_line(written: str, said: str) -> None:
    with pytest.raises(ValueError, match="config") as refusal:
        WireGuard({"config": written.encode()}, None)
    assert said in str(refusal.value)


