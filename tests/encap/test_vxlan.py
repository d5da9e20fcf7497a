"""VXLAN: flags, group policies, identifiers, and what a device refuses. The kernel's device is the peer in tests/kernel."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from .tunnel_packets import FRAME, FRAME6, TEB, codec, outer
from .udp_tunnels import Options, datagram, header, push, refusal

PORT = 4789
NO_DF = {4: {"flags": 0}, 6: {}}
GOOD = bytes.fromhex("0800000000000700") + FRAME


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_is_the_one_that_scapy_writes(family: int) -> None:
    got = push("vxlan", {"id": 0xABCDEF, "ttl": 64, "port_min": 40000, "port_max": 40001}, family=family)
    udp = UDP(sport=40000, dport=PORT) / VXLAN(flags=8, vni=0xABCDEF) / Ether(FRAME)
    assert got == bytes(outer(family, **NO_DF[family]) / udp)


def test_a_group_policy_is_written_as_its_draft_shows_it() -> None:
    """draft-smith-vxlan-group-policy section 2.1: |G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R| Group Policy ID | VNI | reserved."""
    options: Options = {"id": 7, "gbp": 1, "gbp_policy": 0x1234}
    assert header(push("vxlan", options), 8).hex() == "8800123400000700"
    assert header(push("vxlan", options | {"gbp_dont_learn": 1}), 8).hex() == "8840123400000700"
    assert header(push("vxlan", options | {"gbp_policy_applied": 1}), 8).hex() == "8808123400000700"


def test_a_policy_needs_the_extension() -> None:
    assert header(push("vxlan", {"id": 7, "gbp_policy": 5}), 8).hex() == "0800000000000700"


def test_an_option_given_again_takes_back_what_the_policy_had() -> None:
    assert header(push("vxlan", {"gbp": 1, "gbp_policy": 5, "gbp_dont_learn": 0, "gbp_policy_applied": 0}), 8).hex() == "8800000500000000"


def test_reserved_bits_are_written_and_accepted_as_configured() -> None:
    options: Options = {"id": 11, "flags": 0xFF, "reserved1": 0x01D1F2, "reserved2": 1}
    packet = push("vxlan", options)
    assert header(packet, 8).hex() == "ff01d1f200000b01"
    assert codec("vxlan", **options).pop(packet) == (TEB, FRAME, 11, None)
    assert codec("vxlan", id=11).pop(packet).reason == "vxlan/reserved_bits"


def test_an_ethernet_frame_in_the_generic_protocol_extension() -> None:
    """draft-ietf-nvo3-vxlan-gpe section 3.1: the P flag, and next protocol 3."""
    options: Options = {"id": 7, "flags": 0x0C, "reserved1": 3, "port": 4790}
    packet = push("vxlan", options)
    assert header(packet, 8).hex() == "0c00000300000700"
    assert codec("vxlan", **options).pop(packet).inner == FRAME


def test_the_identifier_of_a_route_or_policy_goes_before_the_devices_own() -> None:
    """Cilium writes the security identity of the sender."""
    packet = push("vxlan", {"id": 7, "port": 8472}, id=0x12345)
    assert header(packet, 8).hex() == "0800000001234500"
    assert codec("vxlan", id=7, port=8472).pop(packet).reason == "tunnel/unknown_id"
    assert codec("vxlan", external=1, port=8472).pop(packet) == (TEB, FRAME, 0x12345, None)


def test_an_ipv6_packet_bequeaths_that_it_must_not_be_fragmented() -> None:
    assert IP(push("vxlan", {"df": 2}, FRAME6)).flags == "DF"
    assert IP(push("vxlan", {"df": 2}, FRAME)).flags == 0


@pytest.mark.parametrize(("tos", "outside"), [(0, 0), (1, 0xB8), (2, 0), (3, 0), (0x51, 0x50)])
def test_only_one_itself_means_the_inner_tos(tos: int, outside: int) -> None:
    """And the last two bits are the inner packet's ECN in any case, here ECT(1)."""
    assert IP(push("vxlan", {"tos": tos})).tos == outside | 1
    assert IPv6(push("vxlan", {"tos": tos}, family=6)).tc == outside | 1


@pytest.mark.parametrize(
    ("options", "payload", "reason"),
    [
        ({}, GOOD, None),
        ({}, GOOD[:7], "vxlan/truncated"),
        ({}, b"\0" + GOOD[1:], "vxlan/bad_flags"),
        ({}, b"\x88" + GOOD[1:], "vxlan/reserved_bits"),
        ({"gbp": 1}, b"\x88" + GOOD[1:], None),
        ({"gbp": 1}, b"\x88\xff\xff\xff" + GOOD[4:], None),
        ({"gbp": 1}, b"\x89" + GOOD[1:], "vxlan/reserved_bits"),
        ({"gbp": 1}, GOOD[:7] + b"\x01" + GOOD[8:], "vxlan/reserved_bits"),
        ({}, GOOD[:6] + b"\x08" + GOOD[7:], "tunnel/unknown_id"),
        ({}, GOOD[:21], "vxlan/inner_truncated"),
        ({}, GOOD[:22], None),
        ({}, GOOD[:14] + b"\x01" + GOOD[15:], None),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_what_linux_refuses_is_refused_by_name(options: Options, payload: bytes, reason: str | None, family: int) -> None:
    assert refusal("vxlan", {"id": 7, **options}, PORT, payload, family) == reason


def test_weave_and_flannel_use_other_ports() -> None:
    for port in (6784, 8472):
        assert codec("vxlan", id=7, port=port).pop(datagram(4, port, GOOD)).inner == FRAME
