"""Weave's sleeve: its bytes as weaveworks/weave router/crypto.go writes them, and what it refuses."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey
from nacl.secret import SecretBox
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from core.worlds import ip
from dataplane import _core
from dataplane.encap import registry
from dataplane.encap.python_plugin import Incoming, Outgoing, Refused
from dataplane.encap.sleeve import SequenceWindow, Sleeve, session_key

LEFT, RIGHT, THIRD = bytes.fromhex("7a1122334401"), bytes.fromhex("7a1122334402"), bytes.fromhex("7a1122334403")
LEFT_IP, RIGHT_IP = ip("192.0.2.1"), ip("192.0.2.2")
KEY = bytes(range(32))
TEB = 0x6558
FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.32.0.1", dst="10.32.0.2") / UDP() / b"inside")
HEARTBEAT = bytes(14) + bytes(range(8))
DF = 1 << 63


@pytest.fixture(autouse=True)
def registered() -> None:
    registry.ensure("sleeve")


def router(name: bytes, peer: bytes, address: str, secret: str = "") -> dict[str, int | bytes]:
    return {"peer_name": name, "peers": f"{address} {peer.hex(':')} {secret}\n".encode()}


def pair(*, encrypted: bool) -> tuple[_core.Codec, _core.Codec]:
    secrets = (f"outbound {KEY.hex()}", f"inbound {KEY.hex()}") if encrypted else ("", "")
    left = _core.Codec("sleeve", router(LEFT, RIGHT, "192.0.2.2", secrets[0]))
    return left, _core.Codec("sleeve", router(RIGHT, LEFT, "192.0.2.1", secrets[1]))


def entry(frame: bytes = FRAME, source: bytes = LEFT, destination: bytes = RIGHT) -> bytes:
    return source + destination + struct.pack("!H", len(frame)) + frame


def boxed(frames: bytes, number: int, *, outbound: bool = True) -> bytes:
    """NaClEncryptor.Bytes() with PyNaCl's own interface: the nonce is the direction's bit and, at its end, the sequence number."""
    nonce = bytes([0x80 if outbound else 0]) + bytes(15) + struct.pack("!Q", number)
    return struct.pack("!Q", number) + SecretBox(KEY).encrypt(frames, nonce).ciphertext


def push(codec: _core.Codec, frame: bytes = FRAME) -> bytes:
    return codec.push(frame, TEB, LEFT_IP, RIGHT_IP)


def test_in_the_clear_a_datagram_is_the_senders_name_and_the_frame_with_its_way() -> None:
    left, right = pair(encrypted=False)
    packet = push(left)
    want = IP(src="192.0.2.1", dst="192.0.2.2", id=0) / UDP(sport=6783, dport=6783) / (LEFT + entry())
    assert packet == bytes(want)
    assert right.pop(packet).inner == FRAME


def test_encrypted_a_datagram_is_a_numbered_secretbox() -> None:
    left, right = pair(encrypted=True)
    for number in range(3):
        packet = push(left)
        assert bytes(IP(packet)[UDP].payload) == LEFT + boxed(entry(), number)
        assert right.pop(packet).inner == FRAME


def test_the_two_directions_use_different_nonces() -> None:
    left, right = pair(encrypted=True)
    packet = right.push(FRAME, TEB, RIGHT_IP, LEFT_IP)
    assert bytes(IP(packet)[UDP].payload) == RIGHT + boxed(entry(source=RIGHT, destination=LEFT), 0, outbound=False)
    assert left.pop(packet).inner == FRAME


def test_frames_with_df_go_without_checksum_and_with_a_sequence_of_their_own() -> None:
    left, right = pair(encrypted=True)
    frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(flags="DF") / b"x")
    push(left)
    packet = IP(push(left, frame))
    assert (packet.flags, packet[UDP].chksum) == ("DF", 0)
    assert bytes(packet[UDP].payload) == LEFT + boxed(entry(frame), DF)
    assert right.pop(bytes(packet)).inner == frame


@pytest.mark.parametrize(("encrypted", "overhead"), [(False, 20 + 8 + 6 + 14), (True, 20 + 8 + 6 + 8 + 16 + 14)])
def test_the_overhead_is_that_of_sleeve_go(encrypted: bool, overhead: int) -> None:
    """UDPOverhead, Encryptor.PacketOverhead, Encryptor.FrameOverhead."""
    left, _ = pair(encrypted=encrypted)
    assert left.overhead(4) == len(push(left)) - len(FRAME) == overhead


class Receiver:
    """A host that keeps what is received."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, outer: Outgoing, payload: bytes) -> None:
        raise AssertionError("the sleeve sends nothing of its own")

    def receive(self, incoming: Incoming, inner: bytes) -> None:
        assert incoming.inner_protocol == TEB
        self.frames.append(inner)

    def wake(self, at: int) -> None:
        raise AssertionError("the sleeve has no timers")

    def add_secret(self, kind: int, data: bytes) -> None:
        raise AssertionError("nothing reads sleeve's secrets")


def popped(body: bytes, host: Receiver | None = None, secret: str = "") -> bytes | None:
    sleeve = Sleeve(router(RIGHT, LEFT, "192.0.2.1", secret), host)
    return sleeve.pop(Incoming(0, RIGHT_IP, LEFT_IP), bytes(UDP(sport=6783, dport=6783) / body))


def test_several_frames_of_one_datagram_are_received_in_order() -> None:
    host = Receiver()
    other = FRAME[:-1] + b"!"
    assert popped(LEFT + entry() + entry(HEARTBEAT) + entry(other), host) is None
    assert host.frames == [FRAME, other]


def test_frames_before_a_broken_one_are_received() -> None:
    assert popped(LEFT + entry() + entry()[:-1]) == FRAME
    assert popped(LEFT + entry() + b"garbage") == FRAME


def test_messages_between_routers_are_swallowed() -> None:
    assert popped(LEFT + entry(HEARTBEAT)) is None
    assert popped(LEFT + entry(bytes(60001))) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "unknown_peer"),
        (LEFT[:5], "unknown_peer"),
        (THIRD + entry(), "unknown_peer"),
        (LEFT, "bad_frame"),
        (LEFT + entry()[:-1], "bad_frame"),
        (LEFT + entry(FRAME[:13]), "bad_frame"),
        (LEFT + entry(source=THIRD), "unknown_name"),
        (LEFT + entry(destination=THIRD), "unknown_name"),
        (LEFT + entry(destination=LEFT), "not_for_us"),
    ],
)
def test_what_is_not_for_this_router_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        popped(body)


def test_no_changed_or_broken_datagram_decrypts() -> None:
    body = LEFT + boxed(entry(), 5)
    secret = f"inbound {KEY.hex()}"
    assert popped(body, secret=secret) == FRAME
    for bit in range(8 * len(LEFT), 8 * len(body)):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused, match="not_authentic"):
            popped(bytes(changed), secret=secret)
    for size in range(len(LEFT), len(body)):
        with pytest.raises(Refused, match="not_authentic"):
            popped(body[:size], secret=secret)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(body=st.binary(max_size=80), named=st.booleans(), entries=st.lists(st.binary(max_size=30), max_size=3))
def test_random_datagrams_are_frames_or_refused(body: bytes, named: bool, entries: list[bytes]) -> None:
    whole = (LEFT if named else b"") + b"".join(entry(data) for data in entries) + body
    host = Receiver()
    try:
        inner = popped(whole, host)
    except Refused:
        assert host.frames == []
    else:
        received = host.frames if inner is None else [inner]
        assert all(frame in whole and len(frame) >= 14 for frame in received)


def test_a_datagram_is_taken_once() -> None:
    left, right = pair(encrypted=True)
    packet = push(left)
    assert right.pop(packet).reason is None
    assert right.pop(packet).reason == "sleeve/replayed"


@pytest.mark.parametrize(
    ("sequence", "accepted"),
    [
        ([3, 1, 2, 3, 1], [True, True, True, False, False]),
        ([0, 1 << 20, 1, 0], [True, True, True, False]),
        ([1 << 20, 2 << 20, 5, (1 << 20) + 5], [True, True, False, True]),
        ([7, 5 << 20, (4 << 20) + 7, 7], [True, True, True, False]),
    ],
)
def test_the_window_slides_by_whole_windows(sequence: list[int], accepted: list[bool]) -> None:
    """NaClDecryptorInstance.advanceState(): this window of 2**20 and the one before it."""
    window = SequenceWindow()
    assert [window.accept(number) for number in sequence] == accepted


def test_the_session_key_is_what_both_routers_compute() -> None:
    """FormSessionKey(): SHA-256 of NaCl's shared key and the password."""
    one, two = PrivateKey(bytes(range(32))), PrivateKey(bytes(range(1, 33)))
    shared = Box(one, two.public_key).shared_key()
    want = sha256(shared + b"wfvAwt7sj").digest()
    assert session_key(bytes(one), bytes(two.public_key), b"wfvAwt7sj") == want
    assert session_key(bytes(two), bytes(one.public_key), b"wfvAwt7sj") == want


def test_nothing_is_sent_to_strangers_or_over_ipv6() -> None:
    left, _ = pair(encrypted=False)
    with pytest.raises(_core.EncapDrop, match="sleeve/unknown_peer"):
        left.push(FRAME, TEB, LEFT_IP, ip("192.0.2.9"))
    with pytest.raises(_core.EncapDrop, match="sleeve/ipv4_only"):
        left.push(FRAME, TEB, bytes(16), bytes(15) + b"\1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"peer_name": b"short"}, "'peer_name' has 6 bytes"),
        ({"peers": 3}, "'peers' is text"),
        ({"port": 0}, "'port' is a number from 1 to 65535"),
        ({"mtu": 1}, "option 'mtu' is unknown"),
        ({"peers": b"\n192.0.2.1"}, "peers line 2: it is not ADDRESS NAME"),
        ({"peers": b"192.0.2.1 7a:11"}, "peers line 1: a name has 6 bytes"),
        ({"peers": b"192.0.2.1 7a:11:22:33:44:01 sideways 00"}, "peers line 1: it is not ADDRESS NAME"),
        ({"peers": b"192.0.2.1 7a:11:22:33:44:01 inbound 00"}, "peers line 1: a name has 6 bytes, a key 32"),
        ({"peers": b"somewhere 7a:11:22:33:44:01"}, "peers line 1: 'somewhere' does not appear"),
    ],
)
def test_wrong_options_are_refused_with_their_line(options: dict[str, int | bytes], said: str) -> None:
    with pytest.raises(ValueError, match="sleeve") as refusal:
        _core.Codec("sleeve", options)
    assert said in str(refusal.value)
