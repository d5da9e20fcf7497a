"""Geneve: options and the critical flag, what is inside, identifiers, and what a device refuses."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dataplane import _core
from dataplane.capture.tunnel import outer_of

from .tunnel_packets import FRAME, FRAME6, IPV4, IPV6, PACKET4, PACKET6, TEB, codec, outer
from .udp_tunnels import Options, datagram, header, push, refusal

PORT = 6081
NO_DF = {4: {"flags": 0}, 6: {}}
GOOD = bytes.fromhex("0000655800000700") + FRAME
TELEMETRY = bytes.fromhex("01020001deadbeef")  # class 0x0102, type 0, which nobody has to understand
URGENT = bytes.fromhex("01028001deadbeef")  # the same with the type's critical bit
# Cilium's struct geneve_dsr_opt4 and geneve_dsr_opt6: header, address, port, padding
DSR4 = bytes.fromhex("014b8102 0a600001 0050 0000")
DSR6 = bytes.fromhex("014b8105") + ip_address("fd00:96::1").packed + bytes.fromhex("01bb0000")


def with_options(area: bytes, flags: int = 0x40) -> bytes:
    return bytes((len(area) // 4, flags)) + GOOD[2:8] + area + FRAME


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_is_the_one_that_scapy_writes(family: int) -> None:
    options: Options = {"id": 0xABCDEF, "ttl": 64, "udp_checksum": 1, "port_min": 40000, "port_max": 40001, "options": TELEMETRY}
    option = GeneveOptions(classid=0x0102, type=0, data=b"\xde\xad\xbe\xef")
    udp = UDP(sport=40000, dport=PORT) / GENEVE(vni=0xABCDEF, options=[option]) / Ether(FRAME)
    assert push("geneve", options, family=family) == bytes(outer(family, **NO_DF[family]) / udp)


def test_the_header_is_the_one_of_the_rfc() -> None:
    """RFC 8926 section 3.4: |Ver|Opt Len|O|C|Rsvd.|Protocol Type| VNI | Reserved |, then the options."""
    assert header(push("geneve", {"id": 7}), 8).hex() == "0000655800000700"
    assert header(push("geneve", {"id": 7, "control": 1}), 8).hex() == "0080655800000700"
    assert header(push("geneve", {"id": 7, "options": TELEMETRY}), 16).hex() == "0200655800000700" + TELEMETRY.hex()


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, 0),
        ({"options": TELEMETRY}, 0),
        ({"options": TELEMETRY + URGENT}, 0x40),
        ({"options": URGENT, "critical": 0}, 0),
        ({"critical": 1}, 0x40),
        ({"critical": 1, "control": 1}, 0xC0),
    ],
)
def test_the_critical_flag_tells_of_critical_options_unless_it_is_set(options: Options, flags: int) -> None:
    assert header(push("geneve", options), 2)[1] == flags


@pytest.mark.parametrize(("inner", "protocol"), [(FRAME, TEB), (PACKET4, IPV4), (PACKET6, IPV6)])
@pytest.mark.parametrize("family", [4, 6])
def test_what_is_inside_comes_out_again(inner: bytes, protocol: int, family: int) -> None:
    packet = push("geneve", {"id": 7, "options": TELEMETRY}, inner, protocol, family)
    assert header(packet, 4)[2:] == protocol.to_bytes(2, "big")
    assert len(packet) == len(inner) + codec("geneve", options=TELEMETRY).overhead(family)
    assert codec("geneve", id=7, inner_proto_inherit=1).pop(packet) == (protocol, inner, 7, None)


def test_linux_leaves_the_checksum_zero_over_ipv4_and_draws_from_all_source_ports() -> None:
    ports = [push("geneve", {}, flow_hash=flow_hash)[20:22] for flow_hash in (0, 0xFFFF0000)]
    assert [int.from_bytes(port, "big") for port in ports] == [1, 65534]
    assert push("geneve", {})[26:28] == bytes(2)
    assert push("geneve", {}, family=6)[46:48] != bytes(2)


def test_an_ipv6_packet_bequeaths_that_it_must_not_be_fragmented() -> None:
    assert [IP(push("geneve", {"df": 2}, frame)).flags for frame in (FRAME, FRAME6)] == [0, "DF"]
    assert IP(push("geneve", {"df": 2}, PACKET6, IPV6)).flags == "DF"


def test_the_identifier_of_a_route_or_policy_goes_before_the_devices_own() -> None:
    packet = push("geneve", {"id": 7}, id=0x12345)
    assert codec("geneve", id=7).pop(packet).reason == "tunnel/unknown_id"
    assert codec("geneve", external=1).pop(packet) == (TEB, FRAME, 0x12345, None)


@pytest.mark.parametrize(
    ("own", "payload", "reason"),
    [
        ({}, with_options(TELEMETRY, flags=0), None),
        ({}, with_options(URGENT, flags=0), None),  # as Linux, which looks at the flag alone
        ({}, with_options(URGENT), "geneve/unknown_critical"),
        ({}, with_options(b""), "geneve/unknown_critical"),
        ({"external": 1}, with_options(URGENT), None),
        ({"options": URGENT}, with_options(URGENT[:4] + b"else"), None),
        ({"options": URGENT}, with_options(TELEMETRY + URGENT), None),
        ({"options": TELEMETRY}, with_options(URGENT), "geneve/unknown_critical"),
        ({"options": URGENT}, with_options(URGENT + DSR4), "geneve/unknown_critical"),
        ({"options": DSR4}, with_options(DSR6), None),
        ({"options": URGENT}, with_options(URGENT[:3] + b"\x02" + URGENT[4:]), "geneve/bad_options"),
    ],
)
def test_critical_options_must_be_known(own: Options, payload: bytes, reason: str | None) -> None:
    """RFC 8926 section 4.2; Linux knows none outside its external mode."""
    assert refusal("geneve", {"id": 7, **own}, PORT, payload) == reason


@pytest.mark.parametrize(
    ("options", "payload", "reason"),
    [
        ({}, GOOD, None),
        ({}, GOOD[:7], "geneve/truncated"),
        ({}, b"\x3f" + GOOD[1:], "geneve/truncated"),
        ({}, b"\x40" + GOOD[1:], "geneve/bad_version"),
        ({}, b"\xc0" + GOOD[1:], "geneve/bad_version"),
        ({}, b"\0\x80" + GOOD[2:], None),
        ({}, b"\0\x3f" + GOOD[2:7] + b"\xff" + GOOD[8:], None),  # reserved bits are ignored: RFC 8926 section 3.4
        ({}, GOOD[:2] + b"\x88\x47" + GOOD[4:], "geneve/unknown_protocol"),
        ({}, GOOD[:2] + b"\x08\x00" + GOOD[4:], "geneve/not_ethernet"),
        ({"inner_proto_inherit": 1}, GOOD[:2] + b"\x08\x00" + GOOD[4:27], "geneve/inner_truncated"),
        ({"inner_proto_inherit": 1}, GOOD[:2] + b"\x86\xdd" + GOOD[4:47], "geneve/inner_truncated"),
        ({}, GOOD[:6] + b"\x08" + GOOD[7:], "tunnel/unknown_id"),
        ({}, GOOD[:21], "geneve/inner_truncated"),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_what_linux_refuses_is_refused_by_name(options: Options, payload: bytes, reason: str | None, family: int) -> None:
    assert refusal("geneve", {"id": 7, **options}, PORT, payload, family) == reason


def test_a_frame_of_the_devices_own_mac_is_refused() -> None:
    assert codec("geneve", id=7).pop(datagram(4, PORT, GOOD), device_mac=FRAME[6:12]).reason == "geneve/own_mac"


def test_a_zero_checksum_over_ipv6_is_taken_if_allowed() -> None:
    packet = push("geneve", {"udp6_zero_checksum_tx": 1}, family=6)
    assert codec("geneve").pop(packet).reason == "geneve/zero_checksum"
    assert codec("geneve", udp6_zero_checksum_rx=1).pop(packet).inner == FRAME


def test_another_protocol_is_not_carried() -> None:
    with pytest.raises(_core.EncapDrop) as refused:
        push("geneve", {}, b"label", 0x8847)
    assert refused.value.reason == "geneve/unknown_protocol"


@pytest.mark.parametrize("area", [b"\1\2\3", bytes(256)])
def test_an_impossible_length_of_options_is_refused(area: bytes) -> None:
    with pytest.raises(ValueError, match="geneve: option 'options' is unknown or its value is out of range"):
        codec("geneve", options=area)


@pytest.mark.parametrize(("option", "address", "port"), [(DSR4, "10.96.0.1", 80), (DSR6, "fd00:96::1", 443)])
def test_what_cilium_says_of_direct_server_return_is_named(option: bytes, address: str, port: int) -> None:
    body = push("geneve", {"id": 7, "options": TELEMETRY + option})[20:]
    fields, size = _core.encap_describe("geneve", 17, body) or ([], 0)
    assert fields[3:] == [
        ("geneve", "control", 0),
        ("geneve", "critical", 1),
        ("geneve", "protocol", TEB),
        ("geneve", "vni", 7),
        ("geneve", "options", TELEMETRY + option),
        ("cilium_dsr", "address", ip_address(address).packed),
        ("cilium_dsr", "port", port),
    ]
    assert size == 16 + len(TELEMETRY + option)


def test_recorded_packets_are_opened(cases: Path) -> None:
    vectors = [vector for path in (cases / "encap").glob("*geneve*.json") for vector in json.loads(path.read_text())["vectors"]]
    device = codec("geneve", external=1, inner_proto_inherit=1)
    found = set()
    for vector in vectors:
        recorded = outer_of(bytes.fromhex(vector["outer_hex"]), vector["linktype"])
        assert recorded is not None
        popped = device.pop(recorded.packet, device_mac=b"\x02" * 6)
        if popped.reason != "local/udp_bad_checksum":  # left to an offload when it was recorded
            assert (popped.reason, popped.inner.hex()) == (None, vector["inner_hex"])
            found.add(popped.inner_protocol)
    assert found == {TEB, IPV4, IPV6}
