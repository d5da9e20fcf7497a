"""Encapsulations declared as a template and a list of fields: their bytes, what they refuse, and descriptions that cannot be."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from dataplane import _core
from dataplane._core import Codec, EncapDrop, encap_describe, encap_options
from dataplane.encap.declarative import (
    Bits,
    Checksum,
    Constant,
    Declarative,
    FlowHash,
    Identifier,
    Ignored,
    InnerProtocol,
    Length,
    Option,
    Source,
)  # fmt: skip
from dataplane.errors import InputError
from encap.samples import offered
from encap.tunnel_packets import ENDS4, FRAME, IPV4, IPV6, PACKET4, PACKET6, PACKETS, TEB, around, codec, ends, payload

PROTOCOL = 253  # for experiments (RFC 3692)
TWINS: dict[str, tuple[str, dict[str, int | bytes], dict[str, int | bytes]]] = {
    "declared_gre": ("gre", {}, {}),
    "declared_gre_key": ("gre", {"key": 0x01020304}, {"key": 0x01020304}),
    "declared_gre_checksum": ("gre", {"key": 7, "checksum": 1}, {"key": 7}),
    "declared_fou": ("fou", {}, {}),
}

# ---- the samples

@pytest.mark.parametrize("kind", TWINS)
@pytest.mark.parametrize("options", [{}, {"ttl": 9, "tos": 0x40, "df": 0, "flow_label": 0x12345}])
def test_the_samples_write_and_read_what_the_compiled_ones_do(kind: str, options: dict[str, int | bytes]) -> None:
    name, theirs, ours = TWINS[kind]
    compiled, declared = codec(name, **theirs, **options), Codec(offered(kind), {**ours, **options})
    for family in (4, 6):
        assert declared.overhead(family) == compiled.overhead(family)
        for protocol, inner in PACKETS.items():
            packet = compiled.push(inner, protocol, *ends(family), flow_hash=0x9E3779B9)
            assert declared.push(inner, protocol, *ends(family), flow_hash=0x9E3779B9) == packet
            assert declared.pop(packet) == compiled.pop(packet)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (GRE(proto=IPV4), "declared_gre_checksum/unexpected_header"),
        (GRE(proto=IPV4, chksum_present=1, key_present=1, key=7, version=1), "declared_gre_checksum/unexpected_header"),
        (GRE(proto=IPV4, chksum_present=1, key_present=1, key=8), "tunnel/unknown_id"),
        (GRE(proto=IPV4, chksum_present=1, key_present=1, key=7, chksum=1), "declared_gre_checksum/bad_checksum"),
        (GRE(proto=0x123, chksum_present=1, key_present=1, key=7), "declared_gre_checksum/unknown_protocol"),
        (GRE(proto=TEB, chksum_present=1, key_present=1, key=7), "declared_gre_checksum/unknown_protocol"),
    ],
)
def test_what_is_not_as_declared_is_refused(header: GRE, reason: str) -> None:
    packet = around(4, 47, bytes(header / Raw(PACKET4)))
    assert Codec(offered("declared_gre_checksum"), {"key": 7}).pop(packet).reason == reason


def test_what_is_left_out_of_a_packet_is_refused() -> None:
    device = Codec(offered("declared_gre_key"), {"key": 7})
    assert device.pop(around(4, 47, bytes(7))).reason == "declared_gre_key/truncated"
    short = bytes(GRE(proto=IPV6, key_present=1, key=7) / Raw(PACKET6[:39]))
    assert device.pop(around(4, 47, short)).reason == "declared_gre_key/inner_truncated"


def test_what_no_field_can_name_is_not_carried() -> None:
    with pytest.raises(EncapDrop, match="declared_gre/not_carried"):
        Codec(offered("declared_gre")).push(FRAME, TEB, *ENDS4)
    with pytest.raises(EncapDrop, match="declared_fou/not_carried"):
        Codec(offered("declared_fou")).push(b"\0" * 28, 0x0806, *ENDS4)


def test_a_route_may_ask_for_another_identifier_that_fits() -> None:
    device = Codec(offered("declared_gre_key"), {"key": 7})
    assert payload(device.push(PACKET4, IPV4, *ENDS4, id=9))[4:8] == bytes((0, 0, 0, 9))
    with pytest.raises(EncapDrop, match="id_out_of_range"):
        device.push(PACKET4, IPV4, *ENDS4, id=1 << 32)


# ---- a template of bytes with every source of values

BYTES: dict[str, Source] = {
    "version": Constant(at=Bits(0, 4)),
    "spare": Ignored(at=Bits(0, 4, skip=4)),
    "protocol": InnerProtocol(values={IPV4: 4, IPV6: 41}, at=Bits(1, 8)),
    "length": Length(at=Bits(2, 16), plus=-12),
    "checksum": Checksum(at=Bits(4, 16), header_only=True),
    "entropy": FlowHash(at=Bits(6, 12)),
    "traffic_class": Option(key="traffic_class", sentence="Class of traffic", at=Bits(7, 4, skip=4)),
    "network": Identifier(key="network", at=Bits(8, 24)),
}


@pytest.fixture(scope="module")
def kind() -> str:
    template = bytes.fromhex("3aff ffffffff fff5 000007 00")  # what is computed does not count
    _core.register_encap(Declarative("all_sources", "Every source of values", template, BYTES, PROTOCOL).capsule)
    return "all_sources"


def header(*, first: int = 0x3A, protocol: int = 4, length: int = len(PACKET4), entropy: int = 0, kind: int = 5, network: int = 7) -> bytes:
    """The declared header, written from the description of its fields."""
    words = struct.pack("!BBHHHI", first, protocol, length, 0, entropy << 4 | kind, network << 8)
    total = sum(struct.unpack("!6H", words))
    checksum = ~(total % 0xFFFF or 0xFFFF) & 0xFFFF
    return words[:4] + checksum.to_bytes(2, "big") + words[6:]


@pytest.mark.parametrize("family", [4, 6])
def test_every_field_is_computed(kind: str, family: int) -> None:
    packet = Codec(kind).push(PACKET4, IPV4, *ends(family), flow_hash=0xABCDEF01)
    assert payload(packet) == header(entropy=0xABC) + PACKET4
    other = Codec(kind, {"network": 0x123456, "traffic_class": 9}).push(PACKET6, IPV6, *ends(family))
    assert payload(other) == header(protocol=41, length=len(PACKET6), kind=9, network=0x123456) + PACKET6
    assert Codec(kind).overhead(family) == {4: 20, 6: 40}[family] + 12


def test_ignored_bits_and_hashes_may_be_anything(kind: str) -> None:
    packet = around(4, PROTOCOL, header(first=0x35, entropy=0xFFF) + PACKET4)
    assert Codec(kind).pop(packet) == (IPV4, PACKET4, 7, None)


def test_a_packet_is_cut_to_its_length(kind: str) -> None:
    assert Codec(kind).pop(around(4, PROTOCOL, header() + PACKET4 + b"trailer")).inner == PACKET4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"first": 0x4A}, "all_sources/unexpected_header"),
        ({"kind": 6}, "all_sources/unexpected_header"),
        ({"network": 8}, "tunnel/unknown_id"),
        ({"protocol": 6}, "all_sources/unknown_protocol"),
        ({"length": len(PACKET4) + 1}, "all_sources/bad_length"),
        ({"length": 19}, "all_sources/inner_truncated"),
    ],
)
def test_a_field_with_another_value_is_refused(kind: str, change: dict[str, int], reason: str) -> None:
    assert Codec(kind).pop(around(4, PROTOCOL, header(**change) + PACKET4)).reason == reason


def test_a_wrong_checksum_is_refused(kind: str) -> None:
    wrong = bytearray(header() + PACKET4)
    wrong[4] ^= 1
    assert Codec(kind).pop(around(4, PROTOCOL, bytes(wrong))).reason == "all_sources/bad_checksum"


def test_a_length_that_does_not_fit_is_a_drop(kind: str) -> None:
    with pytest.raises(EncapDrop, match="all_sources/too_long"):
        Codec(kind).push(PACKET4 + bytes(65536 - len(PACKET4)), IPV4, *ENDS4)


def test_names_are_those_of_the_description(kind: str) -> None:
    named = encap_describe(kind, PROTOCOL, header(entropy=0xABC) + PACKET4)
    assert named is not None
    fields, taken = named
    assert taken == 12
    assert {layer for layer, _, _ in fields} == {kind}
    values = {name: value for _, name, value in fields}
    assert list(values) == list(BYTES)
    assert (values["version"], values["spare"], values["entropy"], values["traffic_class"], values["network"]) == (3, 10, 0xABC, 5, 7)
    assert encap_describe(kind, PROTOCOL, header()[:5]) == (fields[:4], -1)


def test_options_are_explained_with_range_and_default(kind: str) -> None:
    shown = {option.key: (option.sentence, option.default) for option in encap_options(kind)}
    assert shown["traffic_class"] == ("Class of traffic, 0 to 0xf", "5")
    assert shown["network"][1] == "7"
    assert "udp_checksum" not in shown


@pytest.mark.parametrize("options", [{"network": 1 << 24}, {"traffic_class": 16}, {"traffic_class": b"1"}, {"ttl": 256}, {"port": 1}])
def test_options_are_checked(kind: str, options: dict[str, int | bytes]) -> None:
    with pytest.raises(ValueError, match=r"all_sources: option '\w+' is unknown or its value is out of range"):
        Codec(kind, options)


def test_ethernet_frames_in_udp_are_those_of_vxlan() -> None:
    declared = Declarative(
        "declared_vxlan", "VXLAN (RFC 7348)", UDP(dport=4789) / VXLAN(flags=8, vni=5), {"VXLAN.vni": Identifier()}, ethernet=True,
    )  # fmt: skip
    _core.register_encap(declared.capsule)
    options: dict[str, int | bytes] = {"id": 77}
    for family in (4, 6):
        packet = codec("vxlan", id=77).push(FRAME, TEB, *ends(family), flow_hash=3)
        assert Codec("declared_vxlan", options).push(FRAME, TEB, *ends(family), flow_hash=3) == packet
        assert Codec("declared_vxlan", options).pop(packet) == (TEB, FRAME, 77, None)
    assert Codec("declared_vxlan").port == 4789


# ---- descriptions that cannot be

TEN = bytes(10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "Upper"}, "lower snake case"),
        ({"sentence": "two\nlines"}, "one line"),
        ({"header": b""}, "has 0 bytes"),
        ({"header": bytes(129)}, "has 129 bytes"),
        ({"header": 5}, "must be a Scapy packet or bytes, not int"),
        ({"header": Ether()}, r"leave out Ether\(\)"),
        ({"header": IP() / GRE()}, r"leave out IP\(\)"),
        ({"ip_protocol": None}, "give ip_protocol"),
        ({"ip_protocol": 256}, "not from 1 to 255"),
        ({"ip_protocol": 17, "header": bytes(8)}, "destination port in the template's UDP header is 0"),
        ({"ip_protocol": 17, "header": b"\1" * 9, "fields": {"x": Constant(at=Bits(7, 8))}}, "the UDP header is written by the core"),
        ({"fields": {"x": 5}}, "field x: 5 is no source"),
        ({"fields": {"x": Identifier()}}, r"field x: say where it is with at=Bits\(byte, bits\)"),
        ({"fields": {"x": Identifier(at=Bits(8, 24))}}, "not inside the template of 10 bytes"),
        ({"fields": {"x": Identifier(at=Bits(-1, 8))}}, "not inside the template"),
        ({"fields": {"x": Identifier(at=Bits(0, 33))}}, "not inside the template"),
        ({"fields": {"x y": Identifier(at=Bits(0, 8))}}, "names are letters"),
        ({"fields": {"x": Identifier(at=Bits(0, 8)), "y": Length(at=Bits(0, 16))}}, "field .: overlaps another"),
        ({"fields": {"x": Identifier(at=Bits(0, 8)), "y": Option(key="id", sentence="", at=Bits(1, 8))}}, "two .* option id"),
        ({"fields": {"x": Identifier(at=Bits(0, 8)), "y": Identifier(key="b", at=Bits(1, 8))}}, "two fields of Identifier"),
        ({"fields": {"x": Option(key="ttl", sentence="t", at=Bits(1, 8))}}, "ttl is an option that all encapsulations have"),
        ({"fields": {"x": Checksum(at=Bits(1, 16))}}, "a checksum has 16 bits, an even number of bytes behind its start"),
        ({"fields": {"x": Checksum(at=Bits(0, 16), start=2)}}, "a checksum has 16 bits"),
        ({"fields": {"x": Length(at=Bits(0, 16), start=10)}}, "start 10 is not from 0 to 9"),
        ({"fields": {"x": Length(at=Bits(0, 16), plus=1 << 20)}}, "plus 1048576 is not"),
        ({"fields": {"x": InnerProtocol(at=Bits(0, 8))}}, "an EtherType has 16 bits: give values"),
        ({"fields": {"x": InnerProtocol(at=Bits(0, 8), values={})}}, "values has 1 to 16"),
        ({"fields": {"x": InnerProtocol(at=Bits(0, 8), values={IPV4: 1, IPV6: 1})}}, "numbers of their own"),
        ({"fields": {"x": InnerProtocol(at=Bits(0, 8), values={IPV4: 256})}}, "out of range"),
        ({"fields": {"x": InnerProtocol(at=Bits(0, 16))}, "ethernet": True}, "carries nothing else"),
        ({"header": GRE(), "fields": {"GRE.key": Identifier()}}, "field GRE.key: it is not in the template"),
        ({"header": GRE(), "fields": {"GRE.tag": Identifier()}}, "Scapy's layer GRE has no field tag"),
        ({"header": GRE(), "fields": {"VXLAN.vni": Identifier()}}, "the template has no layer VXLAN"),
        ({"header": GRE(proto=1 << 20), "fields": {}}, "Scapy cannot build the template"),
        ({"defaults": {"hops": 3}}, "defaults: hops is none of ttl, "),
        ({"defaults": {"ttl": "x"}}, "defaults: ttl must be a number"),
    ],
)
def test_a_description_that_cannot_be_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    described: dict[str, Any] = {"name": "wrong", "sentence": "Wrong", "header": TEN, "ip_protocol": PROTOCOL} | given
    with pytest.raises(InputError, match=f"^encapsulation {described['name']}: .*{message}") as refused:
        Declarative(**described)
    assert "\n" not in str(refused.value)


def test_a_default_that_no_device_takes_is_refused() -> None:
    with pytest.raises(InputError, match="encapsulation wrong: wrong: option 'ttl' is unknown or its value is out of range"):
        Declarative("wrong", "Wrong", TEN, ip_protocol=PROTOCOL, defaults={"ttl": 256})
