"""Conntrack entries as conntrack(8) writes them; the expected lines were printed by conntrack v1.4.7."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from dataplane.testing import conntrack_lines

NO_PORTS: frozenset[int] = frozenset()


def half(source: str, destination: str, **fields: int) -> dict[str, Any]:
    return {"src": ip_address(source).packed, "dst": ip_address(destination).packed, **fields}


def entry(proto: int, state: str, orig: dict[str, Any], reply: dict[str, Any], **flags: bool) -> dict[str, Any]:
    return {"proto": proto, "state": state, "orig": orig, "reply": reply, "assured": False, "seen_reply": False} | flags


@pytest.mark.parametrize(
    ("made", "printed"),
    [
        (
            entry(
                6,
                "SYN_SENT",
                half("10.244.1.5", "10.96.0.13", sport=40000, dport=80),
                half("10.244.1.5", "10.244.1.1", sport=8080, dport=40000),
            ),
            "tcp      6 SYN_SENT src=10.244.1.5 dst=10.96.0.13 sport=40000 dport=80 [UNREPLIED] "
            "src=10.244.1.5 dst=10.244.1.1 sport=8080 dport=40000",
        ),
        (
            entry(
                6,
                "ESTABLISHED",
                half("10.244.1.5", "10.96.0.13", sport=40000, dport=80),
                half("10.244.1.5", "10.244.1.1", sport=8080, dport=40000),
                assured=True,
                seen_reply=True,
            ),
            "tcp      6 ESTABLISHED src=10.244.1.5 dst=10.96.0.13 sport=40000 dport=80 "
            "src=10.244.1.5 dst=10.244.1.1 sport=8080 dport=40000 [ASSURED]",
        ),
        (
            entry(
                58,
                "",
                half("fd00:10:244:1::5", "fd00:192:168:1::50", type=128, code=0, id=7),
                half("fd00:192:168:1::50", "fd00:192:168:1::100", type=129, code=0, id=7),
            ),
            "icmpv6   58 src=fd00:10:244:1::5 dst=fd00:192:168:1::50 type=128 code=0 id=7 [UNREPLIED] "
            "src=fd00:192:168:1::50 dst=fd00:192:168:1::100 type=129 code=0 id=7",
        ),
        (
            entry(17, "", half("fe80::1", "::ffff:10.0.0.1", sport=1, dport=2), half("::ffff:10.0.0.1", "fe80::1", sport=2, dport=1)),
            "udp      17 src=fe80::1 dst=::ffff:10.0.0.1 sport=1 dport=2 [UNREPLIED] src=::ffff:10.0.0.1 dst=fe80::1 sport=2 dport=1",
        ),
        (
            entry(4, "", half("10.244.1.6", "192.168.1.101"), half("192.168.1.101", "192.168.1.100")),
            "unknown  4 src=10.244.1.6 dst=192.168.1.101 [UNREPLIED] src=192.168.1.101 dst=192.168.1.100",
        ),
    ],
)
def test_entries_are_written_as_conntrack_prints_them(made: dict[str, Any], printed: str) -> None:
    assert conntrack_lines.line(made) == printed


UDP = "udp      17 src=10.0.0.1 dst=10.0.0.2 sport=5 dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=5"
TUNNEL = "udp 17 src=1.0.0.1 dst=1.0.0.2 sport={0} dport=8472 [UNREPLIED] src=1.0.0.2 dst=1.0.0.1 sport=8472 dport={0} use=1"

BOTH = ["entry missing", "entry not expected"]


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ([UDP + " use=1"], [UDP + " mark=3 zone=1 use=2 id=99"]),
        ([UDP, TUNNEL.format("*")], [TUNNEL.format(33333), UDP]),
        ([TUNNEL.format("*"), TUNNEL.format(33333)], [TUNNEL.format(33333), TUNNEL.format(44444)]),
    ],
)
def test_equal_tables(expected: list[str], got: list[str]) -> None:
    assert list(conntrack_lines.differences(expected, got, frozenset({33333, 44444}))) == []


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        ([UDP], [], ["entry missing: udp 17"]),
        ([], [UDP], ["entry not expected: udp 17"]),
        ([UDP, UDP], [UDP], ["entry missing: udp 17"]),
        ([UDP], [UDP.replace(" [UNREPLIED]", "")], ["entry differs: expected udp 17"]),
        (["icmp 1 src=1.0.0.1 dst=1.0.0.2 type=8 code=0 id=5"], ["icmp 1 src=1.0.0.1 dst=1.0.0.2 type=8 code=0 id=6"], BOTH),
        ([TUNNEL.format("*")], [TUNNEL.format(55555)], BOTH),
        ([TUNNEL.format("*")], [TUNNEL.format(33333).replace("dport=33333", "dport=44444")], BOTH),
    ],
)
def test_unequal_tables_are_told_entry_by_entry(expected: list[str], got: list[str], said: list[str]) -> None:
    lines = list(conntrack_lines.differences(expected, got, frozenset({33333, 44444})))
    assert [line.startswith(start) for line, start in zip(lines, said, strict=True)] == [True] * len(said)


def test_gre_has_a_key_for_each_direction() -> None:
    half = {"src": bytes([10, 0, 0, 1]), "dst": bytes([10, 0, 0, 2]), "srckey": 0, "dstkey": 0x2A}
    assert conntrack_lines.tuple_text(half) == "src=10.0.0.1 dst=10.0.0.2 srckey=0x0 dstkey=0x2a"
