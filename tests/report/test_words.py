"""Entries in the words of iproute2 and conntrack, where no recorded cluster has them."""

from __future__ import annotations

from typing import Any

import pytest

from control.clusters import build_fake
from dataplane.control.topology import Topology
from dataplane.report.network import fdb_words, neighbour_words, route_words, tuple_words


@pytest.fixture
def topology() -> Topology:
    return build_fake()[1]


@pytest.fixture
def eth0(topology: Topology) -> int:
    return topology.device_id("n1/eth0")


def route(**changes: Any) -> dict[str, Any]:
    base = {
        "prefix": bytes([10, 9, 0, 0]), "prefix_len": 16, "kind": "unicast", "dev": -1, "via": None, "src": None, "metric": 0, "mtu": 0,
        "mtu_lock": False, "scope": 0, "onlink": False, "table": "main", "dead": False,
    }  # fmt: skip
    return base | changes


def test_routes(topology: Topology, eth0: int) -> None:
    assert route_words(route(kind="unreachable", metric=20), topology) == "unreachable 10.9.0.0/16 metric 20"
    via = bytes([192, 168, 0, 9])
    assert route_words(route(dev=eth0, via=via, mtu=1400, dead=True), topology) == "10.9.0.0/16 via 192.168.0.9 dev eth0 dead mtu 1400"


def test_ipv6_routes_have_no_scope(topology: Topology, eth0: int) -> None:
    prefix = bytes.fromhex("fd00000000010000") + bytes(8)
    connected = route(prefix=prefix, prefix_len=64, dev=eth0, scope=253, metric=256)
    assert route_words(connected, topology) == "fd00:0:1::/64 dev eth0 metric 256"
    assert route_words(route(prefix=bytes(16), prefix_len=0, dev=eth0), topology) == "default dev eth0"


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", "throw"])
def test_ipv6_routes_that_lead_nowhere_are_kept_at_lo(topology: Topology, kind: str) -> None:
    nowhere = route(prefix=bytes.fromhex("fd00000000010000") + bytes(8), prefix_len=64, kind=kind, metric=1024)
    assert route_words(nowhere, topology) == f"{kind} fd00:0:1::/64 dev lo metric 1024"
    assert route_words(route(kind=kind), topology) == f"{kind} 10.9.0.0/16"


@pytest.mark.parametrize("prefix", [bytes([10, 9, 0, 0]), bytes.fromhex("fd00") + bytes(14)])
def test_an_mtu_may_be_locked(topology: Topology, eth0: int, prefix: bytes) -> None:
    assert route_words(route(prefix=prefix, dev=eth0, mtu=1300, mtu_lock=True), topology).endswith("/16 dev eth0 mtu lock 1300")


def test_an_unresolved_neighbour_has_no_address(topology: Topology, eth0: int) -> None:
    entry = {"address": bytes([192, 168, 0, 9]), "dev": eth0, "mac": None, "state": "failed"}
    assert neighbour_words(entry, topology) == "192.168.0.9 dev eth0 FAILED"


def test_a_learned_bridge_entry_has_no_state(topology: Topology, eth0: int) -> None:
    entry = {"mac": bytes([2, 0, 0, 0, 0, 9]), "dev": eth0, "master": eth0, "local": False, "static": False, "dst": None}
    assert fdb_words(entry, topology) == "02:00:00:00:00:09 dev eth0 master eth0"


def test_connections_of_each_kind() -> None:
    a, b = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    assert tuple_words({"src": a, "dst": b, "sport": 1, "dport": 2}) == "10.0.0.1:1 > 10.0.0.2:2"
    six = {"src": bytes(15) + b"\1", "dst": bytes(15) + b"\2", "sport": 1, "dport": 2}
    assert tuple_words(six) == "[::1]:1 > [::2]:2"
    assert tuple_words({"src": a, "dst": b, "type": 8, "code": 0, "id": 7}) == "10.0.0.1 > 10.0.0.2 type 8 code 0 id 7"
    assert tuple_words({"src": a, "dst": b}) == "10.0.0.1 > 10.0.0.2"
