"""Kinds of tunnel frames: the given cases pass, and a case that says something else about its frame fails naming what differs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dataplane.capture.tunnel import outer_checksums, outer_of
from dataplane.capture.tunnel_codec import take_apart
from dataplane.testing.check import RUNNERS
from dataplane.testing.kinds.encap import kind_of, run
from dataplane.testing.kinds.encap_params import raw_fields

NOWHERE = Path("case.json")
KINDS = {"capture", "encap", "decap", "header"}
Mutation = Callable[[dict[str, Any]], None]


def given(cases: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, json.loads(path.read_text())) for path in sorted((cases / "encap").glob("[!_]*.json"))]


@pytest.fixture
def vector_of(cases: Path) -> Callable[[str, int], dict[str, Any]]:
    """A copy of one vector of a given case as a case of its own."""

    def single(name: str, number: int) -> dict[str, Any]:
        case = json.loads((cases / "encap" / name).read_text())
        case["vectors"] = [copy.deepcopy(case["vectors"][number - 1])]
        return dict(case)

    return single


def test_the_given_cases_pass(cases: Path) -> None:
    assert {case["kind"] for _, case in given(cases)} == KINDS
    assert set(RUNNERS) > KINDS
    assert [f"{path.name}: {line}" for path, case in given(cases) for line in run(case, path)] == []


def layer(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda vector: next(layer for layer in vector["params"] if layer["layer"] == name)


def set_field(name: str, field: str, value: object) -> Mutation:
    return lambda vector: layer(name)(vector).update({field: value})


def set_bytes(key: str, at: int, data: bytes) -> Mutation:
    def change(vector: dict[str, Any]) -> None:
        changed = bytearray.fromhex(vector[key])
        changed[at : at + len(data)] = data
        vector[key] = changed.hex()

    return change


def set_value(key: str, value: object) -> Mutation:
    return lambda vector: vector.update({key: value})


VXLAN = ("zeek-vxlan-pcap.json", 1)
GENEVE = ("tcpdump-geneve-pcap.json", 1)
ERSPAN = ("tcpdump-erspan-type-ii-1-pcap.json", 1)
IPIP6 = ("zeek-6in6-pcap.json", 1)


@pytest.mark.parametrize(
    ("where", "change", "expected"),
    [
        (VXLAN, set_field("vxlan", "vni", 124), "vxlan vni: expected 124, got 123"),
        (VXLAN, set_field("vxlan", "vni", 124), "rebuilt VXLAN vni: expected 123, got 124"),
        (VXLAN, set_field("vxlan", "reserved1", "000001"), "vxlan reserved1: expected 000001, got 000000"),
        (VXLAN, set_field("udp", "checksum", "valid"), "udp checksum: expected valid, got zero"),
        (VXLAN, set_field("udp", "dport", 8472), "udp dport: expected 8472, got 4789"),
        (VXLAN, set_field("ipv4", "df", False), "rebuilt IPv4 df: expected 1, got 0"),
        (VXLAN, set_field("ipv4", "src", "192.168.56.13"), "ipv4 src: expected 192.168.56.13, got 192.168.56.11"),
        (VXLAN, set_field("ethernet", "dst", "08:00:27:f2:1d:8d"), "rebuilt link header: expected 080027f21d8c"),
        (VXLAN, set_bytes("inner_hex", 41, b"\xff"), "inner packet: expected 42 bytes, got 42; from byte 41 on expected ff, got 02"),
        (VXLAN, set_value("inner_type", "ipv4"), "inner type: expected 0x0800 (ipv4), got 0x6558"),
        (VXLAN, set_bytes("outer_hex", 16, b"\xff\xff"), "outer_hex holds no whole IP packet"),
        (GENEVE, set_field("geneve", "critical", False), "geneve critical: expected False, got 1"),
        (GENEVE, set_field("geneve", "options", []), "geneve options: expected [], got [{'class': 0, 'type': 0, 'critical': True"),
        (ERSPAN, set_field("erspan2", "session", 667), "erspan2 session: expected 667, got 666"),
        (ERSPAN, set_field("gre", "key", 1), "gre key: expected 1, got none"),
        (IPIP6, set_field("ipv6", "hop_limit", 1), "ipv6 hop_limit: expected 1, got"),
        (IPIP6, lambda vector: vector["params"].append({"layer": "gre", "key": 1}), "gre: expected after ipv6, the packet has none"),
    ],
)  # fmt: skip
def test_a_difference_is_named(
    vector_of: Callable[[str, int], dict[str, Any]], where: tuple[str, int], change: Mutation, expected: str
) -> None:
    case = vector_of(*where)
    assert run(case, NOWHERE) == []
    change(case["vectors"][0])
    assert any(line.startswith(f"vector 1 (1): {expected}") for line in run(case, NOWHERE)), run(case, NOWHERE)


@pytest.mark.parametrize(
    ("number", "change", "expected"),
    [
        (5, set_value("verdict", "drop"), "verdict: expected drop, got pass"),
        (5, set_value("decapsulated", False), "decapsulated: expected False, got True"),
        (1, set_value("decapsulated", True), "decapsulated: expected True, got False"),
        (3, set_value("verdict", "pass"), "verdict: expected pass, got drop"),
        (6, set_bytes("inner_hex", 12, b"\x08\x00"), "frame: expected 89 bytes, got 89; from byte 12 on expected 0800"),
        (5, set_bytes("outer_hex", 20, b"\x20"), "verdict: expected pass, got drop"),  # more fragments
        (5, set_bytes("outer_hex", 16, b"\x00\x1e\x00\x01\x00\x00\x40\x04\xbd\xb8"), "got drop"),  # 10 bytes inside
    ],
)
def test_a_decapsulators_verdict_is_compared(
    vector_of: Callable[[str, int], dict[str, Any]], number: int, change: Mutation, expected: str
) -> None:
    case = vector_of("katran-decap-ipip.json", number)
    change(case["vectors"][0])
    assert any(expected in line for line in run(case, NOWHERE)), run(case, NOWHERE)


@pytest.mark.parametrize(
    ("number", "change", "expected"),
    [
        (1, lambda vector: vector["params"].update(udp_sport=1025), "udp_sport: expected 1025, got 1024"),
        (2, lambda vector: vector["params"].update(vni=1), "vni: expected 1, got 8776"),
        (2, lambda vector: vector["params"].update(key=1), "key: expected 1, got none"),
        (2, set_value("inner_hex", ""), "inner packet: expected 0 bytes, got 42"),
        (2, set_value("outer_hex", "08000000"), "the header is broken off"),
    ],
)
def test_a_bare_header_is_compared(vector_of: Callable[[str, int], dict[str, Any]], number: int, change: Mutation, expected: str) -> None:
    case = vector_of("scapy-vxlan.json", number)
    change(case["vectors"][0])
    assert any(expected in line for line in run(case, NOWHERE)), run(case, NOWHERE)


def test_what_linux_would_accept_is_accepted(cases: Path) -> None:
    """By a device of the frame's own identifier, port and flags."""
    refused = set()
    for path, case in given(cases):
        for vector in case["vectors"] if case["kind"] in ("capture", "encap") else ():
            outer = outer_of(bytes.fromhex(vector["outer_hex"]), vector["linktype"])
            assert outer is not None
            taken = take_apart(kind_of(vector["encap"], outer), outer, {}, raw_fields(vector["params"]))
            unfinished = outer.port != 0 and outer_checksums(outer)["udp"].state == "invalid"  # an offload was to write it
            if taken.reason is not None and not unfinished:
                refused.add((path.stem, taken.reason))
    # an option that is longer than the options as a whole, as the case itself says
    assert refused == {("scapy-geneve", "geneve/bad_options")}


@pytest.mark.parametrize("outer", [IP(src="172.16.1.1", dst="172.16.100.1"), IPv6(src="100::1", dst="100::2")])
def test_an_ip_packet_right_in_udp_is_taken_off_by_its_port(outer: Packet) -> None:
    link: dict[str, Any] = {"src": "00:00:00:00:00:01", "dst": "02:00:00:00:00:00"}
    inner = IP(src="192.168.1.1", dst="10.200.1.1", id=1) / UDP(sport=31337, dport=80) / b"katran test pkt"
    vector = {
        "description": "GUE",
        "verdict": "pass",
        "decapsulated": True,
        "outer_hex": bytes(Ether(**link) / outer / UDP(sport=31337, dport=9886) / inner).hex(),
        "inner_hex": bytes(Ether(**link) / inner).hex(),
    }
    assert run({"kind": "decap", "features": ["decap", "gue"], "vectors": [vector]}, NOWHERE) == []
