"""What each service port contributes to the rules of nodes, worked out once for all nodes that see the port alike.

Most ports are the same everywhere. A port is a node's own affair where traffic policies or topology hints choose among endpoints, where
a load balancer's sources are limited (a node may be one of them), and where the node's podCIDR tells local traffic from other.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dataplane.control.iptables_compile import compile_rule
from dataplane.control.iptables_parse import parse_rule
from dataplane.control.proxy.iptables import NodeRules, ServiceRules, comments_endpoints, service_rules
from dataplane.control.proxy.service_ports import ProxyServicePort, ports_of, slices_by_service
from dataplane.k8s.objects import EndpointSlice, Manifests, Node, Origin, Service

Text = tuple[str, int]
"""A rule's text, and the number of its origin."""

EVERYWHERE = Node("", (), Origin("", 0, "any node"))
"""A node that no port knows, for ports that are the same on all."""


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
    counts: bytes  # rules of each own chain, as an array of C ints
    entries: Mapping[tuple[str, str], list[Text]]
    packed: dict[tuple[str, str], bytes] = field(default_factory=dict)  # the same for the core
    bodies: dict[object, list[list[Text]]] = field(default_factory=dict)  # rules of own chains, by what else they depend on
    packed_bodies: dict[object, list[bytes]] = field(default_factory=dict)

    @property
    def chains(self) -> int:
        return len(self.counts) // array("i").itemsize

    @property
    def asks_chance(self) -> bool:
        return len(self.rules.cluster) > 1 or len(self.rules.local) > 1


class Parts:
    """The parts of all ports of one family, in the order of the services."""

    def __init__(self, manifests: Manifests, family: int, origins: Callable[[Origin], int], known: Parts | None = None) -> None:
        """``known``: parts of the cluster before a change, of which those still hold whose service and slices are the same."""
        self.manifests = manifests
        self.family = family
        self.origins = origins
        self._slices = slices_by_service(manifests)
        self._common: dict[str, tuple[Service, Sequence[EndpointSlice], list[ProxyServicePort], list[Part | None]]] = {}
        self._own: dict[str, list[Part]] = {}  # by node
        for service in manifests.services:
            self._common[service.key] = self._of_service(service, known)
        ports = [port for _, _, ports, _ in self._common.values() for port in ports]
        self.comment_endpoints = comments_endpoints(ports)
        self.differ = any(part is None for _, _, _, parts in self._common.values() for part in parts)

    def of(self, node: Node) -> list[Part]:
        """As ``node`` sees them; the same list for all nodes unless parts ``differ``."""
        key = node.name if self.differ else ""
        if key not in self._own:
            self._own[key] = [part for service in self.manifests.services for part in self._at(service, node)]
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
    def _of_service(
        self, service: Service, known: Parts | None
    ) -> tuple[Service, Sequence[EndpointSlice], list[ProxyServicePort], list[Part | None]]:
        slices = self._slices.get(service.key, [])
        before = known._common.get(service.key) if known is not None else None
        if before is not None and before[0] is service and _same(before[1], slices):
            return before
        ports = ports_of(service, slices, "", self.family)
        return service, slices, ports, [self._part(service_rules(port, EVERYWHERE), EVERYWHERE) if self._is_common(port) else None for port in ports]

    def _is_common(self, port: ProxyServicePort) -> bool:
        chosen_by_node = port.policy.uses_local or any(each.zone_hints or each.node_hints for each in port.endpoints)
        limited = bool(port.load_balancer_ips and port.source_ranges)
        return not (chosen_by_node or limited or self.manifests.config.proxy.detect_local_mode == "NodeCIDR")

    def _at(self, service: Service, node: Node) -> Iterable[Part]:
        _, slices, _, parts = self._common[service.key]
        if all(part is not None for part in parts):
            return [part for part in parts if part is not None]
        ports = ports_of(service, slices, node.name, self.family)
        return [part or self._part(service_rules(port, node), node) for part, port in zip(parts, ports, strict=True)]

    def _part(self, rules: ServiceRules, node: Node) -> Part:
        texts = RuleTexts()
        writer = NodeRules(self.manifests, node, self.family, self.origins, texts, comment_endpoints=True)
        writer.entries(rules)
        return Part(rules, array("i", writer.own_counts(rules)).tobytes(), texts.chains)


def _same(before: Sequence[EndpointSlice], now: Sequence[EndpointSlice]) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def pack(texts: Iterable[Text], family: int, targets: Mapping[str, int]) -> bytes:
    """Rules for the core; see ``_rulebook.pack_rules`` for ``targets``."""
    from dataplane._rulebook import pack_rules

    return pack_rules((match for text, origin in texts for match in compile_rule(parse_rule(text, family), family, origin)), targets)
