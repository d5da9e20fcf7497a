"""Which iptables rules each namespace has, and their way into the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from dataplane.control.cni.masquerade import add_cni_rules
from dataplane.control.iptables import IptablesTables
from dataplane.control.proxy.iptables import node_rules
from dataplane.control.rule_books import Books, Local, match_at
from dataplane.control.topology import Firewall, Topology
from dataplane.k8s.objects import Node

if TYPE_CHECKING:
    from dataplane._core import Engine, Match


class NumberedRule(NamedTuple):
    """What the core knows by a number only."""

    chain: str
    built_in: bool  # the chain is
    match: Match
    is_jump: bool


def firewall_of(topology: Topology, namespace: int) -> Firewall:
    """The tables of a namespace by family, empty ones if it has none so far."""
    if namespace not in topology.firewalls:
        topology.firewalls[namespace] = {4: IptablesTables(4), 6: IptablesTables(6)}
        if (namespace, 4) in topology.books or (namespace, 6) in topology.books or is_waiting_node(topology, namespace):
            name = topology.machines[namespace].ref.partition("/")[2]
            node = next(node for node in topology.manifests.nodes if node.name == name)
            topology.firewalls[namespace].update((family, tables_of_node(topology, node, family)) for family in families(node))
    return topology.firewalls[namespace]


def is_waiting_node(topology: Topology, namespace: int) -> bool:
    """A node that is described, whose rules are known all the same."""
    machine = topology.machines.get(namespace)
    return topology.is_described and machine is not None and machine.kind == "node"


def families(node: Node) -> list[int]:
    return sorted({address.version for address in node.addresses})


def tables_of_node(topology: Topology, node: Node, family: int) -> IptablesTables:
    """kube-proxy's rules, then the CNI's."""
    tables = node_rules(topology.manifests, node, family, origins=topology.origin_id)
    add_cni_rules(tables, topology.manifests, node, topology.origin_id(topology.manifests.config.origin))
    return tables


def load(engine: Engine, topology: Topology, namespace: int, tables: IptablesTables) -> None:
    """Make the core follow ``tables``."""
    topology.books.pop((namespace, tables.family), None)
    for table, chains in tables.compile().items():
        engine.set_rules(namespace, tables.family, table, chains)


def load_node_rules(engine: Engine, topology: Topology, nodes: Iterable[Node]) -> None:
    """kube-proxy's rules, then the CNI's, on these nodes and for each family that they have an address of."""
    for node in nodes:
        namespace = topology.endpoint(f"node/{node.name}").namespace
        if topology.is_described:
            topology.firewalls.pop(namespace, None)
            if engine.is_made(namespace):
                use_books(engine, topology, namespace, node)
            continue
        for family in families(node):
            tables = tables_of_node(topology, node, family)
            topology.firewalls.setdefault(namespace, {4: IptablesTables(4), 6: IptablesTables(6)})[family] = tables
            load(engine, topology, namespace, tables)


def use_books(engine: Engine, topology: Topology, namespace: int, node: Node) -> None:
    """The same rules, of which the core knows most by number until a packet meets them."""
    for family in families(node):
        topology.books[namespace, family] = books_of(topology).use(engine, namespace, node, family)


def books_of(topology: Topology) -> Books:
    """Of all clusters that are built of the same manifests."""
    return topology.manifests.remembered("rule books", lambda: Books(topology.manifests, topology.origin_id))


def numbered_rules(topology: Topology, namespace: int, family: int, table: str) -> Callable[[int], NumberedRule]:
    """What the numbers of a table's rules in the core stand for."""
    views: dict[str, Local] | None = topology.books.get((namespace, family))
    if views is not None:
        view = views[table]
        return lambda number: NumberedRule(*match_at(view, table, number))
    chains = firewall_of(topology, namespace)[family].compile()[table]
    names = {chain.name for chain in chains}
    rules = [
        NumberedRule(chain.name, bool(chain.policy), match, (match.get("target") or "counted") in names)
        for chain in chains
        for match in chain.rules
    ]
    return rules.__getitem__
