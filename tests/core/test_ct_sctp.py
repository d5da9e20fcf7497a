"""Connection tracking of SCTP (RFC 9260): which packets open, move and close an association's entry."""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any

import pytest

from core.ct_segments import SECOND

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN = range(8)
SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK = range(8, 12)
SHUTDOWN_COMPLETE = 14
REFLECTED = 1  # the T flag
CLIENT_TAG, SERVER_TAG = 11, 22


def chunk(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    built = struct.pack(">BBH", kind, flags, 4 + len(body)) + body
    return built + bytes(-len(built) % 4)


def init(kind: int, tag: int) -> bytes:
    return chunk(kind, struct.pack(">IIHHI", tag, 1500, 1, 1, 1))


def packet(vtag: int, *chunks: bytes) -> bytes:
    return struct.pack(">HHII", 5000, 80, vtag, 0) + b"".join(chunks)


class Association:
    def __init__(self, ct: ModuleType) -> None:
        self.ct = ct
        self.entry: Any = None
        self.timeout = 0

    def send(self, direction: int, vtag: int, *chunks: bytes) -> bool:
        """False: the packet is INVALID."""
        raw = packet(vtag, *chunks)
        if not self.ct.Sctp.valid(raw):
            return False
        entry = self.entry or self.ct.Sctp(self.ct.Settings())
        if self.entry is None and not entry.new(raw):
            return False
        verdict, self.timeout = entry.packet(direction, raw)
        if verdict == self.ct.INVALID:
            return False
        self.entry = entry
        entry.status |= self.ct.CONFIRMED | (self.ct.SEEN_REPLY if direction else 0)
        return True

    def open(self) -> None:
        assert self.send(0, 0, init(INIT, CLIENT_TAG))
        assert self.send(1, CLIENT_TAG, init(INIT_ACK, SERVER_TAG))
        assert self.send(0, SERVER_TAG, chunk(COOKIE_ECHO, b"cookie"))
        assert self.send(1, CLIENT_TAG, chunk(COOKIE_ACK))
        assert self.entry.state == "ESTABLISHED"


def test_an_association_from_init_to_shutdown(ct: ModuleType) -> None:
    association = Association(ct)
    seen = []
    for direction, vtag, sent in [
        (0, 0, init(INIT, CLIENT_TAG)),
        (1, CLIENT_TAG, init(INIT_ACK, SERVER_TAG)),
        (0, SERVER_TAG, chunk(COOKIE_ECHO, b"cookie")),
        (1, CLIENT_TAG, chunk(COOKIE_ACK)),
        (0, SERVER_TAG, chunk(DATA, bytes(16))),
        (1, CLIENT_TAG, chunk(SACK, bytes(12))),
        (0, SERVER_TAG, chunk(SHUTDOWN, bytes(4))),
        (1, CLIENT_TAG, chunk(SHUTDOWN_ACK)),
        (0, SERVER_TAG, chunk(SHUTDOWN_COMPLETE)),
    ]:
        assert association.send(direction, vtag, sent)
        seen.append((association.entry.state, association.timeout // SECOND))
    assert seen == [
        ("CLOSED", 10),
        ("COOKIE_WAIT", 3),
        ("COOKIE_ECHOED", 3),
        ("ESTABLISHED", 210),
        ("ESTABLISHED", 210),
        ("ESTABLISHED", 210),
        ("SHUTDOWN_SENT", 3),
        ("SHUTDOWN_ACK_SENT", 3),
        ("CLOSED", 10),
    ]
    assert association.entry.status & ct.ASSURED


@pytest.mark.parametrize("kind", [DATA, SACK, ABORT, SHUTDOWN_COMPLETE, COOKIE_ACK, COOKIE_ECHO, ERROR, 64])
def test_what_cannot_begin_an_association(ct: ModuleType, kind: int) -> None:
    assert not Association(ct).send(0, SERVER_TAG, chunk(kind))


def test_a_second_path_begins_with_a_heartbeat(ct: ModuleType) -> None:
    association = Association(ct)
    assert association.send(0, SERVER_TAG, chunk(HEARTBEAT, bytes(8)))
    assert (association.entry.state, association.timeout) == ("HEARTBEAT_SENT", 30 * SECOND)
    assert association.send(1, CLIENT_TAG, chunk(HEARTBEAT_ACK, bytes(8)))
    assert (association.entry.state, association.timeout) == ("ESTABLISHED", 210 * SECOND)
    assert not association.send(1, SERVER_TAG, chunk(DATA, bytes(16)))


def test_a_repeated_init_does_not_keep_the_entry_alive(ct: ModuleType) -> None:
    association = Association(ct)
    association.send(0, 0, init(INIT, CLIENT_TAG))
    assert association.send(0, 0, init(INIT, CLIENT_TAG))
    assert association.timeout == ct.KEEP_TIMEOUT


@pytest.mark.parametrize(
    ("direction", "vtag", "sent"),
    [
        (0, CLIENT_TAG, chunk(DATA, bytes(16))),
        (1, 0, chunk(DATA, bytes(16))),
        (0, SERVER_TAG, init(INIT, 33)),
        (0, SERVER_TAG, init(INIT, 33)[:12]),
        (1, SERVER_TAG, chunk(ABORT)),
        (1, CLIENT_TAG, chunk(ABORT, flags=REFLECTED)),
        (0, 33, chunk(COOKIE_ECHO)),
        (0, CLIENT_TAG, chunk(SHUTDOWN_COMPLETE)),
        (0, 33, chunk(HEARTBEAT) + chunk(DATA, bytes(16))),
        (0, 33, chunk(HEARTBEAT_ACK)),
        (1, CLIENT_TAG, init(INIT_ACK, 33)),
    ],
)
def test_packets_with_a_wrong_tag_are_invalid(ct: ModuleType, direction: int, vtag: int, sent: bytes) -> None:
    association = Association(ct)
    association.open()
    assert not association.send(direction, vtag, sent)
    assert association.entry.state == "ESTABLISHED"


@pytest.mark.parametrize(("vtag", "flags"), [(CLIENT_TAG, 0), (SERVER_TAG, REFLECTED)])
def test_abort_with_the_receivers_or_the_reflected_tag(ct: ModuleType, vtag: int, flags: int) -> None:
    association = Association(ct)
    association.open()
    assert association.send(1, vtag, chunk(ABORT, flags=flags))
    assert association.entry.state == "CLOSED"


def test_an_answered_heartbeat_with_unknown_tags_restarts_the_path(ct: ModuleType) -> None:
    association = Association(ct)
    association.open()
    assert association.send(0, 44, chunk(HEARTBEAT, bytes(8)))
    assert association.timeout == ct.KEEP_TIMEOUT
    assert not association.send(0, 44, chunk(DATA, bytes(16)))
    assert association.send(1, 55, chunk(HEARTBEAT_ACK, bytes(8)))
    assert association.send(1, 55, chunk(DATA, bytes(16)))


def test_colliding_inits_settle_on_one_pair_of_tags(ct: ModuleType) -> None:
    """RFC 9260, section 5.2: both ends open at once; a late INIT ACK must not replace what they settled on."""
    association = Association(ct)
    assert association.send(0, 0, init(INIT, CLIENT_TAG))
    assert association.send(1, 0, init(INIT, SERVER_TAG))
    assert association.send(0, SERVER_TAG, init(INIT_ACK, CLIENT_TAG))
    assert association.send(1, CLIENT_TAG, init(INIT_ACK, SERVER_TAG))
    assert association.send(1, CLIENT_TAG, chunk(COOKIE_ECHO))
    assert association.send(0, SERVER_TAG, chunk(COOKIE_ACK))
    assert association.entry.state == "ESTABLISHED"
    assert not association.send(1, CLIENT_TAG, init(INIT_ACK, 99))


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (b"", False),
        (b"\0\0\0", False),
        (chunk(DATA), True),
        (chunk(DATA) + chunk(SACK), True),
        (chunk(DATA) + b"\0\0\0", True),  # less than a chunk header behind the last chunk
        (struct.pack(">BBH", DATA, 0, 400), True),  # longer than the packet: that is the receiver's business
        (struct.pack(">BBH", DATA, 0, 0), False),
        (chunk(DATA) + struct.pack(">BBH", DATA, 0, 0), False),
        (init(INIT, 1) + chunk(DATA), False),
        (chunk(DATA) + init(INIT, 1), False),
        (init(INIT_ACK, 1) + chunk(DATA), False),
        (chunk(SHUTDOWN_COMPLETE) + chunk(ERROR), False),
        (chunk(COOKIE_ECHO) + chunk(DATA), True),
        (chunk(DATA) + chunk(COOKIE_ECHO), False),
        (chunk(COOKIE_ACK) + chunk(DATA), True),
        (chunk(DATA) + chunk(COOKIE_ACK), False),
    ],
)
def test_which_chunks_may_stand_together(ct: ModuleType, body: bytes, valid: bool) -> None:
    assert ct.Sctp.valid(packet(1, body)) == valid


def test_less_than_a_header_is_invalid(ct: ModuleType) -> None:
    whole = packet(1, chunk(DATA))
    assert [ct.Sctp.valid(whole[:n]) for n in range(1, len(whole))] == [False] * (len(whole) - 1)


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_checksum_is_crc32c(ct: ModuleType) -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    raw = packet(0xDEADBEEF, *[chunk(DATA, bytes(range(n))) for n in range(20)])
    good = raw[:8] + struct.pack("<I", crc32c(raw)) + raw[12:]
    assert ct.Sctp.checksum_ok(good)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert not ct.Sctp.checksum_ok(bytes(bad))
