"""IP packets in VXLAN-GPE. The kernel's device is the peer in tests/kernel."""

from __future__ import annotations

import pytest

from dataplane import _core

from .tunnel_packets import FRAME, IPV4, IPV6, PACKET4, PACKET6, TEB, codec
from .udp_tunnels import header, push, refusal

PORT, NSH, MPLS = 4790, 0x894F, 0x8847
GOOD = bytes.fromhex("0c00000100000700") + PACKET4
CARRIED = [(IPV4, PACKET4, 1), (IPV6, PACKET6, 2), (NSH, b"nsh", 4), (MPLS, b"mpls", 5)]


@pytest.mark.parametrize(("protocol", "inner", "next_protocol"), CARRIED)
@pytest.mark.parametrize("family", [4, 6])
def test_the_header_names_the_next_protocol(protocol: int, inner: bytes, next_protocol: int, family: int) -> None:
    """draft-ietf-nvo3-vxlan-gpe section 3.1; MPLS is Linux' addition (include/net/tun_proto.h)."""
    packet = push("vxlan_gpe", {"id": 7}, inner, protocol, family)
    assert header(packet, 8) == bytes((0x0C, 0, 0, next_protocol, 0, 0, 7, 0))
    assert codec("vxlan_gpe", id=7).pop(packet) == (protocol, inner, 7, None)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (GOOD, None),
        (GOOD[:7], "vxlan_gpe/truncated"),
        (b"\x04" + GOOD[1:], "vxlan_gpe/bad_flags"),
        (b"\x08" + GOOD[1:], "vxlan_gpe/not_gpe"),
        (b"\x1c" + GOOD[1:], "vxlan_gpe/not_gpe"),
        (b"\x0d" + GOOD[1:], "vxlan_gpe/not_gpe"),
        (b"\x0e" + GOOD[1:], "vxlan_gpe/reserved_bits"),
        (GOOD[:2] + b"\x01" + GOOD[3:], "vxlan_gpe/reserved_bits"),
        (GOOD[:7] + b"\x01" + GOOD[8:], "vxlan_gpe/reserved_bits"),
        (GOOD[:3] + b"\x03" + GOOD[4:], "vxlan_gpe/unknown_protocol"),
        (GOOD[:6] + b"\x08" + GOOD[7:], "tunnel/unknown_id"),
    ],
)
def test_what_linux_refuses_is_refused_by_name(payload: bytes, reason: str | None) -> None:
    assert refusal("vxlan_gpe", {"id": 7}, PORT, payload) == reason


def test_a_frame_is_not_carried() -> None:
    with pytest.raises(_core.EncapDrop) as refused:
        push("vxlan_gpe", {}, FRAME, TEB)
    assert refused.value.reason == "vxlan_gpe/unknown_protocol"


def test_header_fields_are_named() -> None:
    fields, size = _core.encap_describe("vxlan_gpe", 17, push("vxlan_gpe", {"id": 7}, PACKET6, IPV6)[20:]) or ([], 0)
    assert size == 16
    assert [(name, value) for layer, name, value in fields if layer == "vxlan_gpe"] == [
        ("flags", 0x0C),
        ("reserved1", b"\0\0"),
        ("next_protocol", 2),
        ("vni", 7),
        ("reserved2", 0),
    ]
