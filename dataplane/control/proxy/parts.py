"""What each service port contributes to the rules of nodes, worked out once for all nodes that see the port alike.

Most ports are the same everywhere. A port is a node's own affair where traffic policies or topology hints choose among endpoints, where
two slices name one endpoint, where a load balancer's sources are limited (a node may be one of them), and where the node's podCIDR tells
local traffic from other.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from dataplane.control.iptables_compile import compile_rule
from dataplane.control.iptables_parse import parse_rule
from dataplane.control.proxy.iptables import LARGE_CLUSTER_ENDPOINTS, NodeRules, ServiceRules, service_rules
from dataplane.control.proxy.service_ports import ProxyServicePort, endpoints_named, ports_of, slices_by_service
from dataplane.k8s.objects import EndpointSlice, Manifests, Node, Origin, Service

if TYPE_CHECKING:
    from dataplane._core import Match

Text = tuple[str, int]
"""A rule's text, and the number of its origin."""

EMPTY: Mapping[str, Sequence[EndpointSlice]] = MappingProxyType({})
EVERYWHERE = Node("*", (), Origin("", 0, "any node"))
"""A node that no endpoint is on, for ports that are the same on all."""


class RuleTexts:
    """Keeps rules as they are written, by table and chain."""

    def __init__(self) -> None:
        self.chains: dict[tuple[str, str], list[Text]] = {}

    def new_chain(self, table: str, chain: str) -> None:
        self.chains.setdefault((table, chain), [])

    def append(self, table: str, chain: str, rule_text: str, origin: int) -> None:
        self.chains.setdefault((table, chain), []).append((rule_text, origin))


@dataclass(slots=True)
class Part:
    """One service port: its rules in the chains that all have in common, and chains of its own."""

    rules: ServiceRules
    chains: int  # how many of its own it has
    counts: bytes  # rules of each of them, as an array of C ints
    entries: Mapping[tuple[str, str], list[Text]]
    packed: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)  # the same for the core: by table, for each chain
    bodies: dict[object, list[list[Text]]] = field(default_factory=dict)  # rules of own chains, by what else they depend on
    packed_bodies: dict[object, list[bytes]] = field(default_factory=dict)

    @property
    def asks_chance(self) -> bool:
        return len(self.rules.cluster) > 1 or len(self.rules.local) > 1

    @property
    def remembers(self) -> bool:
        """Do rules look at who came before?"""
        return self.rules.port.affinity_seconds > 0 and bool(self.rules.reachable)


class Ports(NamedTuple):
    """The ports of one service."""

    ports: list[ProxyServicePort]  # as a node sees them that no endpoint is on
    parts: list[Part | None]  # None: a node's own affair
    endpoints: int
    differ: bool


class Parts:
    """The parts of all ports of one family, in the order of the services."""

    def __init__(self, manifests: Manifests, family: int, origins: Callable[[Origin], int], known: Parts | None = None,
                 changed: Mapping[str, Sequence[EndpointSlice]] = EMPTY) -> None:  # fmt: skip
        """``known``: the parts before a change of the services in ``changed``, which maps them to their slices."""
        self.manifests = manifests
        self.family = family
        self.origins = origins
        self._own: dict[str, list[Part]] = {}  # by node
        if known is None:
            self._services = {service.key: service for service in manifests.services}
            self._slices: dict[str, Sequence[EndpointSlice]] = {**slices_by_service(manifests)}
            self._ports = {key: self._of_service(service) for key, service in self._services.items()}
            self._endpoints = sum(ports.endpoints for ports in self._ports.values())
            self._different = sum(ports.differ for ports in self._ports.values())
        else:
            self._services, self._slices, self._ports = dict(known._services), dict(known._slices), dict(known._ports)
            self._endpoints, self._different = known._endpoints, known._different
            self._follow(changed)
        self.comment_endpoints = self._endpoints <= LARGE_CLUSTER_ENDPOINTS

    @property
    def differ(self) -> bool:
        """Do nodes see some port in different ways?"""
        return self._different > 0

    def of(self, node: Node) -> list[Part]:
        """As ``node`` sees them; the same list for all nodes unless parts ``differ``."""
        key = node.name if self.differ else ""
        if key not in self._own:
            seen = ((self._at(name, node) if ports.differ else ports.parts) for name, ports in self._ports.items())
            self._own[key] = [part for parts in seen for part in parts if part is not None]
        return self._own[key]

    def writer(self, node: Node, texts: RuleTexts) -> NodeRules:
        return NodeRules(self.manifests, node, self.family, self.origins, texts, comment_endpoints=self.comment_endpoints)

    def body(self, part: Part, node: Node) -> list[list[Text]]:
        """The rules of the part's own chains on ``node``."""
        key = (self.comment_endpoints, node.name if self.differ else "")
        if key not in part.bodies:
            texts = RuleTexts()
            names = part.rules.chains()
            self.writer(node, texts).own_chains(part.rules)
            part.bodies[key] = [texts.chains.get(("nat", name), []) for name in names]
        return part.bodies[key]

    # ---- made
    def _follow(self, changed: Mapping[str, Sequence[EndpointSlice]]) -> None:
        now = {service.key: service for service in self.manifests.services}
        for key, slices in changed.items():
            before = self._ports.get(key)
            if before is not None:
                self._endpoints -= before.endpoints
                self._different -= before.differ
            if key not in now:
                for known in (self._services, self._slices, self._ports):
                    known.pop(key, None)
                continue
            self._services[key], self._slices[key] = now[key], slices
            self._ports[key] = self._of_service(now[key])
            self._endpoints += self._ports[key].endpoints
            self._different += self._ports[key].differ
        self._ports = {key: self._ports[key] for key in now}  # one that went and came back stands behind the others

    def _of_service(self, service: Service) -> Ports:
        slices = self._slices.get(service.key, ())
        ports = ports_of(service, slices, EVERYWHERE.name, self.family)
        named = endpoints_named(slices, self.family)
        parts = [
            self._part(service_rules(port, EVERYWHERE), EVERYWHERE)
            if self._is_common(port) and named.get((written.name, written.protocol), 0) == len(port.endpoints)
            else None  # or what counts of an endpoint that two slices name depends on where it is
            for port, written in zip(ports, service.ports, strict=False)  # of some kinds of services no port counts
        ]
        return Ports(ports, parts, sum(len(port.endpoints) for port in ports), None in parts)

    def _is_common(self, port: ProxyServicePort) -> bool:
        chosen_by_node = port.policy.uses_local or any(each.zone_hints or each.node_hints for each in port.endpoints)
        limited = bool(port.load_balancer_ips and port.source_ranges)
        return not (chosen_by_node or limited or self.manifests.config.proxy.detect_local_mode == "NodeCIDR")

    def _at(self, key: str, node: Node) -> Iterable[Part]:
        ports = ports_of(self._services[key], self._slices.get(key, ()), node.name, self.family)
        parts = self._ports[key].parts
        return [part or self._part(service_rules(port, node), node) for part, port in zip(parts, ports, strict=True)]

    def _part(self, rules: ServiceRules, node: Node) -> Part:
        texts = RuleTexts()
        writer = NodeRules(self.manifests, node, self.family, self.origins, texts, comment_endpoints=True)
        writer.entries(rules)
        counts = writer.own_counts(rules)
        return Part(rules, len(counts), array("i", counts).tobytes(), texts.chains)


def pack(texts: Iterable[Text], family: int, targets: Mapping[str, int]) -> bytes:
    """Rules for the core; see ``_rulebook.pack_rules`` for ``targets``."""
    return pack_matches((match for text, origin in texts for match in compile_rule(parse_rule(text, family), family, origin)), targets)


def pack_matches(matches: Iterable[Match], targets: Mapping[str, int]) -> bytes:
    """The same of rules that are compiled."""
    from dataplane._core import recent_lists
    from dataplane._rulebook import pack_rules

    return pack_rules(matches, targets, recent_lists)
