"""GUE: both variants, GRE inside, flags and fields, and what is refused."""

from __future__ import annotations

import pytest

from dataplane import _core

from .tunnel_packets import FRAME, IPV4, IPV6, PACKET4, PACKET6, TEB, codec, payload
from .udp_tunnels import Options, datagram, header, push, refusal

PORT = 6080
INSIDE = [(PACKET4, IPV4), (PACKET6, IPV6)]
GOOD = bytes.fromhex("00040000") + PACKET4


@pytest.mark.parametrize(
    ("options", "inner", "protocol", "want"),
    [
        ({}, PACKET4, IPV4, "00040000"),
        ({}, PACKET6, IPV6, "00290000"),
        ({"gre": 1}, PACKET4, IPV4, "002f0000 00000800"),
        ({"gre": 1}, PACKET6, IPV6, "002f0000 000086dd"),
        ({"variant": 1}, PACKET4, IPV4, ""),
        ({"variant": 1}, PACKET6, IPV6, ""),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_the_header_is_the_one_of_the_draft(options: Options, inner: bytes, protocol: int, want: str, family: int) -> None:
    """draft-ietf-intarea-gue section 3.1: |variant|C|Hlen|proto/ctype|flags|; section 4: variant 1 is an IP packet."""
    packet = push("gue", {"udp6_zero_checksum_tx": 1, **options}, inner, protocol, family)
    assert payload(packet)[8:] == bytes.fromhex(want) + inner
    assert payload(packet)[2:8] == PORT.to_bytes(2, "big") + len(payload(packet)).to_bytes(2, "big") + bytes(2)
    assert len(packet) == len(inner) + codec("gue", **options).overhead(family)
    assert codec("gue", **options).pop(packet) == (protocol, inner, -1, None)


@pytest.mark.parametrize("family", [4, 6])
def test_a_device_receives_both_variants_and_gre(family: int) -> None:
    device = codec("gue", port=9886)
    for head in ("", "00040000", "002f0000 00000800"):
        assert device.pop(datagram(family, 9886, bytes.fromhex(head) + PACKET4)) == (IPV4, PACKET4, -1, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (GOOD, None),
        (b"\x01" + GOOD[1:4] + b"any\0" + PACKET4, None),  # fields that no flag speaks of
        (b"\x01\x04\0\x01" + bytes(4) + PACKET4, None),  # private flags, none of them set
        (b"\x02\x04\0\x01\x80\0\0\0" + bytes(4) + PACKET4, "gue/remote_checksum"),
        (b"\x01\x04\0\x01\x40\0\0\0" + PACKET4, "gue/bad_flags"),
        (b"\0\x04\0\x01" + PACKET4, "gue/bad_flags"),
        (b"\0\x04\x80\0" + PACKET4, "gue/bad_flags"),
        (b"\x20" + GOOD[1:], "gue/control_message"),
        (b"\x80" + GOOD[1:], "gue/bad_variant"),
        (b"\xc0" + GOOD[1:], "gue/bad_variant"),
        (b"\x50" + PACKET4[1:], "gue/bad_variant"),
        (b"\0\x06" + GOOD[2:], "gue/unknown_protocol"),
        (b"\0\x2f\0\0\x20\0\x08\0\0\0\0\7" + PACKET4, "gue/bad_gre"),
        (GOOD[:3], "gue/truncated"),
        (b"\x1f" + GOOD[1:], "gue/truncated"),
        (GOOD[:23], "gue/inner_truncated"),
        (b"\0\x29\0\0" + PACKET6[:39], "gue/inner_truncated"),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_what_linux_refuses_is_refused_by_name(body: bytes, reason: str | None, family: int) -> None:
    assert refusal("gue", {}, PORT, body, family) == reason


def test_a_zero_checksum_over_ipv6_can_be_refused() -> None:
    packet = push("gue", {"udp6_zero_checksum_tx": 1}, PACKET6, IPV6, 6)
    assert codec("gue", udp6_zero_checksum_rx=0).pop(packet).reason == "gue/zero_checksum"


def test_a_frame_is_not_carried() -> None:
    with pytest.raises(_core.EncapDrop) as refused:
        push("gue", {}, FRAME, TEB)
    assert refused.value.reason == "gue/unknown_protocol"


def test_variant_1_has_no_room_for_gre() -> None:
    with pytest.raises(ValueError, match="gue: variant 1 carries IP packets only: set gre to 0"):
        codec("gue", variant=1, gre=1)


@pytest.mark.parametrize(
    ("body", "want", "size"),
    [
        ("00040000", [("variant", 0), ("control", 0), ("protocol", 4), ("flags", 0)], 12),
        ("21050000 01020304", [("variant", 0), ("control", 1), ("protocol", 5), ("flags", 0), ("fields", b"\1\2\3\4")], 16),
        ("002f0000 00000800", [("variant", 0), ("control", 0), ("protocol", 47), ("flags", 0), ("protocol", 0x800), ("flags", 0)], 16),
        ("1f040000", [("variant", 0), ("control", 0), ("protocol", 4), ("flags", 0)], -1),
        ("45000014", [("variant", 1)], 8),
        ("450000", [], -1),
    ],
)
def test_header_fields_are_named(body: str, want: list[tuple[str, int | bytes]], size: int) -> None:
    fields, taken = _core.encap_describe("gue", 17, bytes(8) + bytes.fromhex(body)) or ([], 0)
    assert ([(name, value) for layer, name, value in fields if layer != "udp"], taken) == (want, size)


def test_the_source_port_comes_from_the_flow() -> None:
    ports = {push("gue", {}, PACKET4, IPV4, flow_hash=n << 24)[20:22] for n in range(16)}
    assert len(ports) == 16
    assert header(push("gue", {}, PACKET4, IPV4), 4) == b"\0\x04\0\0"
