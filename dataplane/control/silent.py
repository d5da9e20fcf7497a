"""``endSystems: silent``: pods and hosts that record and answer nothing but ARP and neighbour solicitations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dataplane.control.firewall import firewall_of, load
from dataplane.control.sysctl import uses_ipv6
from dataplane.control.topology import Machine, Topology

if TYPE_CHECKING:
    from dataplane._core import Engine

NEIGHBOUR_DISCOVERY = (135, 136)  # solicitation and advertisement, RFC 4861 section 4


def silence(engine: Engine, topology: Topology, machines: Iterable[Machine]) -> None:
    """Drop everything in the raw table of every pod and host, both ways. ARP does not pass there; ICMPv6 does."""
    origin = topology.origin_id(topology.manifests.config.origin)
    families = (4, 6) if uses_ipv6(topology.manifests) else (4,)  # with IPv6 about, even who has no address of it has a link-local one
    for machine in machines:
        if machine.kind == "node":
            continue
        firewall = firewall_of(topology, machine.namespace)
        for family in families:
            tables = firewall[family]
            for chain in ("PREROUTING", "OUTPUT"):
                if family == 6:
                    for kind in NEIGHBOUR_DISCOVERY:
                        tables.append("raw", chain, f"-p icmpv6 --icmpv6-type {kind} -j ACCEPT", origin)
                tables.append("raw", chain, "-j DROP", origin)
            load(engine, topology, machine.namespace, tables)
