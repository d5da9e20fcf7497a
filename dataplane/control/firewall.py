"""Which iptables rules each namespace has, and their way into the core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dataplane.control.cni.masquerade import add_cni_rules
from dataplane.control.iptables import IptablesTables
from dataplane.control.proxy.iptables import node_rules
from dataplane.control.topology import Firewall, Topology
from dataplane.k8s.objects import Node

if TYPE_CHECKING:
    from dataplane._core import Engine


def firewall_of(topology: Topology, namespace: int) -> Firewall:
    """The tables of a namespace by family, empty ones if it has none so far."""
    return topology.firewalls.setdefault(namespace, {4: IptablesTables(4), 6: IptablesTables(6)})


def load(engine: Engine, namespace: int, tables: IptablesTables) -> None:
    """Make the core follow ``tables``."""
    for table, chains in tables.compile().items():
        engine.set_rules(namespace, tables.family, table, chains)


def load_node_rules(engine: Engine, topology: Topology, nodes: Iterable[Node]) -> None:
    """kube-proxy's rules, then the CNI's, on these nodes and for each family that they have an address of."""
    manifests = topology.manifests
    cluster = topology.origin_id(manifests.config.origin)
    for node in nodes:
        namespace = topology.endpoint(f"node/{node.name}").namespace
        for family in sorted({address.version for address in node.addresses}):
            tables = node_rules(manifests, node, family, origins=topology.origin_id)
            add_cni_rules(tables, manifests, node, cluster)
            firewall_of(topology, namespace)[family] = tables
            load(engine, namespace, tables)
