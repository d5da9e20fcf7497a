"""kube-proxy's iptables mode: the rules of one node, with its chains, texts and order.

Source: kube-proxy v1.30, pkg/proxy/iptables/proxier.go (syncProxyRules), without its nfacct matches;
KUBE-FIREWALL: also pkg/kubelet/kubelet_network_linux.go. Services stand in the order written, where
kube-proxy has none.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network
from typing import Protocol

from dataplane.control.iptables import IptablesTables
from dataplane.control.proxy.endpoints import Categories, ProxyEndpoint, categorize
from dataplane.control.proxy.service_ports import ProxyServicePort, service_ports
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, IPNetwork, Manifests, Node, Origin, Proxy

MASQUERADE_MARK = 0x4000  # --iptables-masquerade-bit 14
LARGE_CLUSTER_ENDPOINTS = 1000  # above it kube-proxy leaves the comments of endpoint rules out
ZONE_LABEL = "topology.kubernetes.io/zone"

# (table, chain that jumps, chain jumped to, comment, only for new connections). Order in the base chains: kubelet
# puts its jump to KUBE-FIREWALL first when it starts, kube-proxy then puts each of its own before what is there.
_NEW = "-m conntrack --ctstate NEW "
_JUMPS = (
    ("filter", "INPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", _NEW),
    ("filter", "INPUT", "KUBE-NODEPORTS", "kubernetes health check service ports", ""),
    ("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", _NEW),
    ("filter", "INPUT", "KUBE-FIREWALL", "", ""),
    ("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", _NEW),
    ("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules", ""),
    ("filter", "FORWARD", "KUBE-SERVICES", "kubernetes service portals", _NEW),
    ("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", _NEW),
    ("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", _NEW),
    ("filter", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals", _NEW),
    ("filter", "OUTPUT", "KUBE-FIREWALL", "", ""),
    ("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals", ""),
    ("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals", ""),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules", ""),
)
_PREFIXES = ("EXT", "FW", "SVC", "SVL")  # of a service port's chains, in their order
_CHAINS = {
    "filter": ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL"),
    "nat": ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"),
}


@lru_cache(maxsize=1 << 16)  # a name stands in several rules
def chain_name(prefix: str, service_port: str, protocol: str, endpoint: str = "") -> str:
    """Name of a chain of one service port: ``prefix`` and 16 characters of a hash.

    ``prefix`` is SVC, SVL, EXT, FW or (with ``endpoint`` as ip:port) SEP; ``protocol`` is lower case.
    """
    digest = hashlib.sha256(f"{service_port}{protocol}{endpoint}".encode()).digest()
    return f"KUBE-{prefix}-{base64.b32encode(digest).decode()[:16]}"


def probability(remaining: int) -> str:
    """Probability that a rule takes a connection while ``remaining`` endpoints are left, as kube-proxy writes it."""
    return f"{1 / remaining:.10f}"


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """Matches for traffic of this node's pods; both empty: traffic is never taken for a pod's."""

    if_local: str = ""
    if_not_local: str = ""


def local_detector(proxy: Proxy, node: Node, family: int) -> LocalDetector:
    """The detector of ``proxy.detect_local_mode``; none where the CIDR that it needs is not known for this family."""
    if proxy.detect_local_mode == "ClusterCIDR":
        prefixes: Sequence[IPNetwork] = proxy.cluster_cidrs
    elif proxy.detect_local_mode == "NodeCIDR":
        prefixes = node.pod_cidrs
    elif proxy.detect_local_mode == "None":
        prefixes = ()
    else:
        raise InputError(f"detectLocalMode {proxy.detect_local_mode} is not supported; use ClusterCIDR, NodeCIDR or None")
    prefix = next((prefix for prefix in prefixes if prefix.version == family), None)
    return LocalDetector(f"-s {prefix}", f"! -s {prefix}") if prefix else LocalDetector()


def node_rules(manifests: Manifests, node: Node, family: int, *, origins: Callable[[Origin], int]) -> IptablesTables:
    """Tables nat and filter of ``node`` for family 4 or 6, with everything that kube-proxy puts there.

    ``origins`` numbers what a rule comes from: the service, the slice of an endpoint, or for the rules that every
    node has the cluster's configuration. Raises InputError for a proxy configuration that is not supported.
    """
    tables = IptablesTables(family)
    ports = service_ports(manifests, node.name, family)
    rules = NodeRules(manifests, node, family, origins, tables, comment_endpoints=comments_endpoints(ports))
    rules.base()
    for port in ports:
        rules.service(service_rules(port, node))
    rules.tail()
    return tables


def comments_endpoints(ports: Iterable[ProxyServicePort]) -> bool:
    """Do rules of endpoints say what they are for?"""
    return sum(len(port.endpoints) for port in ports) <= LARGE_CLUSTER_ENDPOINTS


def service_rules(port: ProxyServicePort, node: Node) -> ServiceRules:
    """Which traffic of a service port gets where on this node."""
    return ServiceRules(port, categorize(port.endpoints, port.policy, node.name, node.labels.get(ZONE_LABEL, "")))


class RuleSink(Protocol):
    """Where rules are written: ``IptablesTables``, or what takes them as text."""

    def new_chain(self, table: str, chain: str) -> None: ...
    def append(self, table: str, chain: str, rule_text: str, origin: int) -> None: ...


class NodeRules:
    """Writes the rules of one node and family: ``base``, ``service`` for each port, ``tail``."""

    def __init__(
        self, manifests: Manifests, node: Node, family: int, origins: Callable[[Origin], int], tables: RuleSink, *, comment_endpoints: bool
    ) -> None:
        self._manifests = manifests
        self._proxy = manifests.config.proxy
        self._node = node
        self._family = family
        self._origins = origins
        self._detector = local_detector(self._proxy, node, family)
        self._node_ports = _NodePorts(self._proxy, node, family)
        self._tables = tables
        self._comment_endpoints = comment_endpoints

    # ---- what every node has
    def base(self) -> None:
        """The chains that all services have in common, and the jumps to them."""
        for table, chains in _CHAINS.items():
            for chain in chains:
                self._tables.new_chain(table, chain)
        for table, source, destination, comment, condition in _JUMPS:
            self._static(table, source, f"{condition}{_comment(comment) if comment else ''} -j {destination}")
        mark = f"{MASQUERADE_MARK:#x}"
        self._static("nat", "KUBE-POSTROUTING", f"-m mark ! --mark {mark}/{mark} -j RETURN")
        # Taken off again, so that the packet is not masqueraded a second time when it passes the stack once more.
        self._static("nat", "KUBE-POSTROUTING", f"-j MARK --xor-mark {mark}")
        fully = " --random-fully" if self._proxy.masquerade_random_fully else ""
        self._static("nat", "KUBE-POSTROUTING", f"{_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE{fully}")
        self._static("nat", "KUBE-MARK-MASQ", f"-j MARK --or-mark {mark}")
        if self._node_ports.on_localhost:
            # route_localnet, which node ports on localhost need, would let neighbours reach 127.0.0.0/8.
            self._static(
                "filter",
                "KUBE-FIREWALL",
                f"{_comment('block incoming localnet connections')} -d 127.0.0.0/8 ! -s 127.0.0.0/8"
                " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
            )

    def tail(self) -> None:
        """What stands behind the services' rules."""
        comment = _comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
        for destination in self._node_ports.destinations():
            self._static("nat", "KUBE-SERVICES", f"{comment} {destination} -j KUBE-NODEPORTS")
        mark = f"{MASQUERADE_MARK:#x}"
        # A packet outside the window would otherwise reach the client untranslated and make it reset the connection.
        self._static("filter", "KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP")
        self._static("filter", "KUBE-FORWARD", f"{_comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT")
        self._static(
            "filter",
            "KUBE-FORWARD",
            f"{_comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        )

    def _static(self, table: str, chain: str, text: str) -> None:
        self._tables.append(table, chain, text, self._origins(self._manifests.config.origin))

    # ---- one service port
    def service(self, rules: ServiceRules) -> None:
        """All rules of one port."""
        # Chains first: a rule can only jump to a chain that is there.
        for chain in rules.chains():
            self._tables.new_chain("nat", chain)
        self.entries(rules)
        self.own_chains(rules)

    def entries(self, rules: ServiceRules) -> None:
        """What a port adds to the chains that all have in common."""
        self._cluster_ip(rules)
        self._external_addresses(rules)
        self._node_port(rules)

    def own_chains(self, rules: ServiceRules) -> None:
        """The rules of the port's own chains."""
        self._internal_chain(rules)
        if rules.uses_external_chain:
            self._external_chain(rules)
        if rules.uses_firewall:
            self._firewall_chain(rules)
        for chain, endpoints in ((rules.cluster_chain, rules.cluster), (rules.local_chain, rules.local)):
            self._balance(rules.port, chain, endpoints)
        for endpoint in rules.reachable:
            self._endpoint_chain(rules.port, endpoint)

    def own_counts(self, rules: ServiceRules) -> list[int]:
        """How many rules ``own_chains`` writes into each of ``rules.chains()``."""
        port, counts = rules.port, dict.fromkeys(rules.service_chains(), 0)
        if rules.has_internal and (self._proxy.masquerade_all or self._detector.if_not_local):
            counts[rules.internal_chain] += 1
        if rules.uses_external_chain:
            counts[rules.external_chain] = (2 + bool(self._detector.if_local) if port.policy.external_local else 1) + rules.has_external
        if rules.uses_firewall:
            counts[rules.firewall_chain] = len(self._allowed(port)) + 1
        for chain, endpoints in ((rules.cluster_chain, rules.cluster), (rules.local_chain, rules.local)):
            if endpoints:
                counts[chain] += len(endpoints) * (2 if port.affinity_seconds else 1)
        return [*counts.values(), *[2] * len(rules.reachable)]

    def _rule(self, rules: ServiceRules, table: str, chain: str, text: str) -> None:
        self._tables.append(table, chain, text, self._origins(rules.port.origin))

    def _cluster_ip(self, rules: ServiceRules) -> None:
        if rules.has_internal:
            self._rule(
                rules, "nat", "KUBE-SERVICES", f"{rules.comment('cluster IP')} {rules.to(rules.port.cluster_ip)} -j {rules.internal_chain}"
            )
        else:
            self._rule(rules, "filter", "KUBE-SERVICES", f"{rules.refusal_comment} {rules.to(rules.port.cluster_ip)} -j {rules.refusal}")

    def _external_addresses(self, rules: ServiceRules) -> None:
        port = rules.port
        lead = [(address, "external IP", rules.external_chain) for address in port.external_ips]
        lead += [
            (address, "loadbalancer IP", rules.firewall_chain if rules.uses_firewall else rules.external_chain)
            for address in port.load_balancer_ips
        ]
        for address, what, chain in lead:
            if rules.has_any:
                self._rule(rules, "nat", "KUBE-SERVICES", f"{rules.comment(what)} {rules.to(address)} -j {chain}")
            if not rules.has_external:
                self._rule(rules, "filter", "KUBE-EXTERNAL-SERVICES", f"{rules.refusal_comment} {rules.to(address)} -j {rules.refusal}")
        if rules.uses_firewall:
            fenced = rules.comment(f"traffic not accepted by {rules.firewall_chain}")
            for address in port.load_balancer_ips:
                self._rule(rules, "filter", "KUBE-PROXY-FIREWALL", f"{fenced} {rules.to(address)} -j DROP")

    def _node_port(self, rules: ServiceRules) -> None:
        port = rules.port
        if port.node_port:
            match = f"-m {port.protocol} -p {port.protocol} --dport {port.node_port}"
            if rules.has_any:
                self._rule(rules, "nat", "KUBE-NODEPORTS", f"{_comment(port.name)} {match} -j {rules.external_chain}")
            if not rules.has_external:
                refused = f"{rules.refusal_comment} -m addrtype --dst-type LOCAL {match} -j {rules.refusal}"
                self._rule(rules, "filter", "KUBE-EXTERNAL-SERVICES", refused)
        if port.health_check_node_port:
            accepted = f"{rules.comment('health check node port')} -m tcp -p tcp --dport {port.health_check_node_port} -j ACCEPT"
            self._rule(rules, "filter", "KUBE-NODEPORTS", accepted)

    def _internal_chain(self, rules: ServiceRules) -> None:
        if not rules.has_internal:
            return
        match = f"{rules.comment('cluster IP')} {rules.to(rules.port.cluster_ip)}"
        if self._proxy.masquerade_all:
            self._rule(rules, "nat", rules.internal_chain, f"{match} -j KUBE-MARK-MASQ")
        elif self._detector.if_not_local:
            # Somebody outside may route the service network to this node, which then bridges into the service.
            self._rule(rules, "nat", rules.internal_chain, f"{match} {self._detector.if_not_local} -j KUBE-MARK-MASQ")

    def _external_chain(self, rules: ServiceRules) -> None:
        name, chain = rules.port.name, rules.external_chain
        if not rules.port.policy.external_local:
            masquerade = _comment(f"masquerade traffic for {name} external destinations")
            self._rule(rules, "nat", chain, f"{masquerade} -j KUBE-MARK-MASQ")
        else:
            # Pods and the node itself are led past the policy, as if they had come back in through a load balancer.
            if self._detector.if_local:
                pods = _comment(f"pod traffic for {name} external destinations")
                self._rule(rules, "nat", chain, f"{pods} {self._detector.if_local} -j {rules.cluster_chain}")
            for what, target in (("masquerade", "KUBE-MARK-MASQ"), ("route", rules.cluster_chain)):
                own = _comment(f"{what} LOCAL traffic for {name} external destinations")
                self._rule(rules, "nat", chain, f"{own} -m addrtype --src-type LOCAL -j {target}")
        if rules.has_external:
            self._rule(rules, "nat", chain, f"-j {rules.local_chain if rules.port.policy.external_local else rules.cluster_chain}")

    def _firewall_chain(self, rules: ServiceRules) -> None:
        port, chain, comment = rules.port, rules.firewall_chain, rules.comment("loadbalancer IP")
        for source in self._allowed(port):
            self._rule(rules, "nat", chain, f"{comment} -s {source} -j {rules.external_chain}")
        self._rule(rules, "nat", chain, _comment(f"other traffic to {port.name} will be dropped by KUBE-PROXY-FIREWALL"))

    def _allowed(self, port: ProxyServicePort) -> list[IPAddress | IPNetwork]:
        """Who may use the load balancer's addresses, where that is limited."""
        node_ip = next((address for address in self._node.addresses if address.version == self._family), None)
        allowed: list[IPAddress | IPNetwork] = list(port.source_ranges)
        if node_ip is not None and any(node_ip in prefix for prefix in port.source_ranges):
            # The address is often one of the node's own: the node's traffic to it then carries it as its source, too.
            allowed += port.load_balancer_ips
        return allowed

    # ---- endpoints
    def _balance(self, port: ProxyServicePort, chain: str, endpoints: Sequence[ProxyEndpoint]) -> None:
        if port.affinity_seconds:
            for endpoint in endpoints:
                target = _endpoint_chain_name(port, endpoint)
                recent = f"-m recent --name {target} --rcheck --seconds {port.affinity_seconds} --reap"
                self._endpoint_rule(chain, endpoint, f"{self._arrow(port, endpoint)}{recent} -j {target}")
        for index, endpoint in enumerate(endpoints):
            left = len(endpoints) - index
            chance = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
            self._endpoint_rule(chain, endpoint, f"{self._arrow(port, endpoint)}{chance}-j {_endpoint_chain_name(port, endpoint)}")

    def _endpoint_chain(self, port: ProxyServicePort, endpoint: ProxyEndpoint) -> None:
        chain = _endpoint_chain_name(port, endpoint)
        comment = self._endpoint_comment(port.name)
        self._endpoint_rule(chain, endpoint, f"{comment}-s {endpoint.address} -j KUBE-MARK-MASQ")
        listed = f"-m recent --name {chain} --set " if port.affinity_seconds else ""
        match = f"{listed}-m {port.protocol} -p {port.protocol}"
        self._endpoint_rule(chain, endpoint, f"{comment}{match} -j DNAT --to-destination {endpoint.text}")

    def _endpoint_rule(self, chain: str, endpoint: ProxyEndpoint, text: str) -> None:
        self._tables.append("nat", chain, text, self._origins(endpoint.origin))

    def _arrow(self, port: ProxyServicePort, endpoint: ProxyEndpoint) -> str:
        return self._endpoint_comment(f"{port.name} -> {endpoint.text}")

    def _endpoint_comment(self, text: str) -> str:
        return f"{_comment(text)} " if self._comment_endpoints else ""


class ServiceRules:
    """One service port with its endpoints chosen: chain names and which traffic gets where."""

    def __init__(self, port: ProxyServicePort, chosen: Categories) -> None:
        self.port = port
        self.cluster = chosen.cluster or ()
        self.local = chosen.local or ()
        self.reachable = chosen.reachable
        self.has_any = chosen.any_usable
        self.has_internal = bool(self.local) if port.policy.internal_local else self.has_any
        self.has_external = bool(self.local) if port.policy.external_local else self.has_any
        self.uses_external_chain = self.has_any and port.policy.externally_accessible
        self.uses_firewall = self.has_any and bool(port.load_balancer_ips and port.source_ranges)
        # Without any endpoint clients are told at once; with endpoints elsewhere a load balancer is to try another node.
        self.refusal = "DROP" if self.has_any else "REJECT"
        self.refusal_comment = self.comment("has no local endpoints" if self.has_any else "has no endpoints")

    @property
    def cluster_chain(self) -> str:
        return chain_name("SVC", self.port.name, self.port.protocol)

    @property
    def local_chain(self) -> str:
        return chain_name("SVL", self.port.name, self.port.protocol)

    @property
    def external_chain(self) -> str:
        return chain_name("EXT", self.port.name, self.port.protocol)

    @property
    def firewall_chain(self) -> str:
        return chain_name("FW", self.port.name, self.port.protocol)

    @property
    def internal_chain(self) -> str:
        return self.local_chain if self.port.policy.internal_local else self.cluster_chain

    def chains(self) -> list[str]:
        """The chains of table nat that this port has."""
        return self.service_chains() + [_endpoint_chain_name(self.port, endpoint) for endpoint in self.reachable]

    def service_chains(self) -> list[str]:
        """Those that are not of a single endpoint, which come first."""
        used = (self.uses_external_chain, self.uses_firewall, bool(self.cluster), bool(self.local))
        return [chain_name(prefix, self.port.name, self.port.protocol) for prefix, own in zip(_PREFIXES, used, strict=True) if own]

    def comment(self, text: str) -> str:
        return _comment(f"{self.port.name} {text}")

    def to(self, address: IPAddress) -> str:
        """Match for traffic to ``address`` on the service's port."""
        return f"-m {self.port.protocol} -p {self.port.protocol} -d {address} --dport {self.port.port}"


class _NodePorts:
    """On which addresses of the node node ports answer (pkg/proxy/util/nodeport_addresses.go)."""

    def __init__(self, proxy: Proxy, node: Node, family: int) -> None:
        self._family = family
        self._node = node
        everywhere = ip_network("0.0.0.0/0" if family == 4 else "::/0")
        prefixes = [prefix for text in proxy.node_port_addresses for prefix in self._selected(text)]
        self._prefixes = [prefix for prefix in prefixes if prefix.version == family] or [everywhere]
        self._match_all = everywhere in self._prefixes
        loopback = ip_network("127.0.0.0/8")
        # An IPv6 packet from ::1 cannot leave the node, whatever the setting says.
        self.on_localhost = family == 4 and proxy.localhost_node_ports and any(prefix.overlaps(loopback) for prefix in self._prefixes)

    def _selected(self, text: str) -> list[IPNetwork]:
        """``primary`` stands for the node's first address of each family (KEP-3866)."""
        if text != "primary":
            return [ip_network(text, strict=False)]
        first = {address.version: address for address in reversed(self._node.addresses)}
        return [ip_network(address) for address in first.values()]

    def destinations(self) -> list[str]:
        """Matches for the packets that are looked up among the node ports."""
        if self._match_all:
            but_loopback = "" if self.on_localhost else f" ! -d {'127.0.0.0/8' if self._family == 4 else '::1/128'}"
            return [f"-m addrtype --dst-type LOCAL{but_loopback}"]
        return [f"-d {address}" for address in self._own_addresses() if any(address in prefix for prefix in self._prefixes)]

    def _own_addresses(self) -> list[IPAddress]:
        texts = [text for hint in self._node.interfaces.values() for text in hint.addresses]
        hinted = [ip_interface(text).ip for text in texts]
        loopback = [ip_address("127.0.0.1")] if self.on_localhost else []
        known = dict.fromkeys([*loopback, *self._node.addresses, *hinted])
        return [a for a in known if a.version == self._family and (self.on_localhost or not a.is_loopback)]


def _endpoint_chain_name(port: ProxyServicePort, endpoint: ProxyEndpoint) -> str:
    return chain_name("SEP", port.name, port.protocol, endpoint.text)


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'
