"""Which conntrack entries kube-proxy deletes when the endpoints of a service have changed."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from control.proxy_world import cluster, on, service, slices
from dataplane.control.proxy.cleanup import stale_entries
from dataplane.control.proxy.service_ports import service_ports

CLIENT = {4: "203.0.113.9", 6: "2001:db8:5::9"}
NODE = {4: "192.168.1.100", 6: "2001:db8::100"}
SERVICE = {4: "10.96.0.1", 6: "fd00:96::1"}
SERVING, GONE = {4: "10.244.1.5", 6: "fd00:244:0:1::5"}, {4: "10.244.1.9", 6: "fd00:244:0:1::9"}


def entry(family: int, destination: str, port: int, answers_from: str, proto: int = 17) -> dict[str, Any]:
    source, original, reply = (ip_address(text).packed for text in (CLIENT[family], destination, answers_from))
    return {
        "family": family, "proto": proto,
        "orig": {"src": source, "dst": original, "sport": 5000, "dport": port},
        "reply": {"src": reply, "dst": source, "sport": 8080, "dport": 5000},
    }  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
def test_entries_to_an_endpoint_that_is_gone_are_deleted_in_each_family(family: int) -> None:
    services = [service("dns", 1, protocol="UDP", node_port=30053)]
    manifests = cluster(services, slices("dns", *on("node1", "5"), protocol="UDP"))
    ports = [port for each in (4, 6) for port in service_ports(manifests, "node1", each)]
    gone = [entry(family, SERVICE[family], 80, GONE[family]), entry(family, NODE[family], 30053, GONE[family])]
    kept = [
        entry(family, SERVICE[family], 80, SERVING[family]),
        entry(family, NODE[family], 30053, SERVING[family]),
        entry(family, SERVICE[family], 81, GONE[family]),
        entry(family, SERVICE[family], 80, GONE[family], proto=6),
    ]
    assert stale_entries([*kept, *gone], ports) == gone
