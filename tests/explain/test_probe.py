"""Probes and answers are packets that any stack takes."""

from __future__ import annotations

import struct

import pytest

from dataplane.capture.checksums import INVALID, VALID, checksums
from dataplane.capture.dissect import summary
from dataplane.errors import InputError
from dataplane.explain.probe import Shape, answer_to, build_probe, crc32c

PAIRS = {4: (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))), 6: (bytes((0xFD, *bytes(14), 1)), bytes((0xFD, *bytes(14), 2)))}
A, B = PAIRS[4]
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
HEADER_BYTES = {4: 20, 6: 40}


def test_crc32c_is_castagnolis() -> None:
    """RFC 3720 B.4: 32 bytes of zeros give 0x8a9136aa, "123456789" is the customary check value 0xe3069283."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp", "sctp"])
@pytest.mark.parametrize("size", [0, 100, 101, 1500])
def test_checksums_hold_at_every_size(protocol: str, size: int, family: int) -> None:
    packet = build_probe(*PAIRS[family], Shape(protocol, 40000, 80, ttl=9, size=size))
    found = checksums(bytes(12) + ETHERTYPES[family].to_bytes(2, "big") + packet)
    assert all(item.state != INVALID for item in found)
    assert [item.label for item in found if item.label.startswith("ICMP")] == {("icmp", 4): ["ICMP"], ("icmp", 6): ["ICMPv6"]}.get(
        (protocol, family), []
    )
    assert packet[8 if family == 4 else 7] == 9
    if size and protocol != "sctp":
        assert len(packet) == size
    if protocol == "sctp":
        body = packet[HEADER_BYTES[family] :]
        assert struct.unpack_from("<I", body, 8)[0] == crc32c(body[:8] + bytes(4) + body[12:])


@pytest.mark.parametrize(("protocol", "answer"), [("tcp", "TCP SYN,ACK"), ("udp", "UDP"), ("sctp", "SCTP")])
@pytest.mark.parametrize(("family", "ends"), [(4, "10.0.0.2:80 > 10.0.0.1:40000"), (6, "[fd00::2]:80 > [fd00::1]:40000")])
def test_the_answer_turns_the_ends_round(protocol: str, answer: str, family: int, ends: str) -> None:
    reply = answer_to(build_probe(*PAIRS[family], Shape(protocol, 40000, 80)))
    assert reply is not None
    assert summary(reply, ethertype=ETHERTYPES[family]) == f"{ends} {answer}"
    assert all(item.state == VALID for item in checksums(bytes(12) + ETHERTYPES[family].to_bytes(2, "big") + reply))


def test_a_syn_ack_acknowledges_the_syn_and_its_data() -> None:
    reply = answer_to(build_probe(A, B, Shape("tcp", 40000, 80, size=50)))
    assert reply is not None
    assert struct.unpack_from("!I", reply, 28)[0] == 1 + 1 + 10  # our sequence number, the SYN, 10 bytes behind the headers


def test_a_size_that_headers_do_not_fit_in_is_refused() -> None:
    with pytest.raises(InputError, match="40 to 65535 bytes, not 39"):
        build_probe(A, B, Shape("tcp", 40000, 80, size=39))
    with pytest.raises(InputError, match="60 to 65535 bytes, not 59"):
        build_probe(*PAIRS[6], Shape("tcp", 40000, 80, size=59))
