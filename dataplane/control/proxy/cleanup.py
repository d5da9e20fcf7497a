"""Conntrack entries that kube-proxy deletes when services or endpoints have changed.

Source: kube-proxy, pkg/proxy/conntrack/cleanup.go (CleanStaleEntries). Only UDP needs it: a client that goes on sending
from one port would keep its translation to an endpoint that is gone for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dataplane.control.proxy.service_ports import ProxyServicePort

_UDP = 17


def stale_entries(entries: Iterable[Mapping[str, Any]], ports: Sequence[ProxyServicePort]) -> list[Mapping[str, Any]]:
    """Those of ``entries`` (shape of ``Engine.conntrack()``) that go to a UDP service, but not to one of its serving endpoints.

    ``ports`` and ``entries`` may be of both families. Traffic policies and topology hints do not count, and a service without a serving
    endpoint loses no entry.
    """
    by_address: dict[tuple[bytes, int], set[bytes]] = {}
    by_node_port: dict[tuple[int, int], set[bytes]] = {}  # by length of addresses and port
    for port in ports:
        serving = {endpoint.address.packed for endpoint in port.endpoints if endpoint.serving}
        if port.protocol != "udp" or not serving:
            continue
        for address in (port.cluster_ip, *port.load_balancer_ips, *port.external_ips):
            by_address[address.packed, port.port] = serving
        if port.node_port:
            by_node_port[len(port.cluster_ip.packed), port.node_port] = serving
    return [entry for entry in entries if entry["proto"] == _UDP and _is_stale(entry, by_address, by_node_port)]


def _is_stale(
    entry: Mapping[str, Any], by_address: Mapping[tuple[bytes, int], set[bytes]], by_node_port: Mapping[tuple[int, int], set[bytes]]
) -> bool:
    destination, port, answers_from = entry["orig"]["dst"], entry["orig"]["dport"], entry["reply"]["src"]
    services = (by_address.get((destination, port)), by_node_port.get((len(destination), port)))
    return any(serving is not None and answers_from not in serving for serving in services)
