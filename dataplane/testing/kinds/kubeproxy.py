"""Case kinds of kube-proxy: ``flow``, ``categorize``, ``identifier_table``, ``probability_table``, ``ipvs_table``.

A flow is a packet that the compiled core carries through the rules of one node, every outcome enumerated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.control.iptables import IptablesTables
from dataplane.control.proxy.endpoints import ProxyEndpoint, TrafficPolicy, categorize
from dataplane.control.proxy.iptables import MASQUERADE_MARK, ZONE_LABEL, chain_name, node_rules, probability
from dataplane.control.proxy.nftables import chain_name as nftables_chain_name
from dataplane.errors import InputError
from dataplane.k8s.loader import load_objects
from dataplane.k8s.objects import ClusterConfig, InterfaceHint, Manifests, Node, Origin, Proxy
from dataplane.testing.probes import opening_packet

if TYPE_CHECKING:
    from dataplane._core import Engine, Outcome

_CHAIN_PREFIXES = {"service": "SVC", "external": "EXT", "firewall": "FW", "local": "SVL", "endpoint": "SEP"}
_OUTSIDE, _PODS = "eth0", "cni0"  # the node's ways to the outside and to its pods


def run(case: Mapping[str, Any], path: Path) -> list[str]:
    """Failure lines of one case; empty: it passed."""
    mode = case.get("mode", "iptables")
    if mode != "iptables":
        return [f"mode {mode} of kube-proxy is not supported yet"]
    return _RUNNERS[case["kind"]](case)


# ---- identifiers


def _run_identifiers(case: Mapping[str, Any]) -> list[str]:
    failures = []
    for row in case["rows"]:
        got = _identifier(row)
        if got != row["name"]:
            failures.append(f"{row['kind']} {row['service']} {row['protocol']}: expected {row['name']}, got {got}")
    return failures


def _identifier(row: Mapping[str, Any]) -> str:
    key = (row["service"], row["protocol"], row.get("endpoint", ""))
    if row["kind"] in _CHAIN_PREFIXES:
        return chain_name(_CHAIN_PREFIXES[row["kind"]], *key)
    if row["kind"].startswith("nft-"):
        return nftables_chain_name(row["kind"].removeprefix("nft-"), *key)
    return f"no name for kind {row['kind']}"


def _run_probabilities(case: Mapping[str, Any]) -> list[str]:
    failures = [
        f"{row['remaining_endpoints']} endpoints left: expected {row['probability']}, got {probability(row['remaining_endpoints'])}"
        for row in case["rows"]
        if probability(row["remaining_endpoints"]) != row["probability"]
    ]
    first, last = case.get("monotone_decreasing_from", (1, 0))
    shares = [float(probability(left)) for left in range(first, last + 1)]
    rising = [left for left, (one, other) in enumerate(zip(shares, shares[1:], strict=False), first) if other > one]
    return failures + [f"{left + 1} endpoints left: a higher probability than with {left}" for left in rising[:1]]


# ---- endpoint selection


def _run_categorize(case: Mapping[str, Any]) -> list[str]:
    service, node = case["service"], case["node"]
    policy = TrafficPolicy(
        internal_local=service["internalTrafficPolicyLocal"],
        external_local=service["externalTrafficPolicyLocal"],
        externally_accessible=bool(service["nodePort"]),
    )
    zone = node.get("labels", {}).get(ZONE_LABEL, "")
    chosen = categorize([_endpoint(row) for row in case["endpoints"]], policy, node.get("name", ""), zone)
    expect = case["expect"]
    failures = [
        f"{name}: expected {_shown(expect[name])}, got {_shown(got)}"
        for name, got in (("cluster", _texts(chosen.cluster)), ("local", _texts(chosen.local)))
        if got != (None if expect[name] is None else sorted(expect[name]))
    ]
    if _texts(chosen.reachable) != sorted(expect["all"] or ()):
        failures.append(f"all: expected {_shown(expect['all'])}, got {_shown(_texts(chosen.reachable))}")
    only_remote = chosen.any_usable and not chosen.reachable
    if only_remote != expect["only_remote"]:
        failures.append(f"only_remote: expected {expect['only_remote']}, got {only_remote}")
    return failures


def _endpoint(row: Mapping[str, Any]) -> ProxyEndpoint:
    address, _, port = row["endpoint"].rpartition(":")
    return ProxyEndpoint(
        address=ip_address(address.strip("[]")),
        port=int(port),
        origin=Origin("", 0, f"endpoint {row['endpoint']}"),
        ready=row["ready"],
        serving=row["serving"],
        terminating=row["terminating"],
        local=row["local"],
        zone_hints=tuple(row.get("zones") or ()),
        node_hints=tuple(row.get("nodes") or ()),
    )


def _texts(endpoints: Iterable[ProxyEndpoint] | None) -> list[str] | None:
    return None if endpoints is None else sorted(endpoint.text for endpoint in endpoints)


def _shown(texts: Iterable[str] | None) -> str:
    return "not used" if texts is None else f"[{', '.join(texts)}]"


# ---- flows


def _run_flows(case: Mapping[str, Any]) -> list[str]:
    tables = flow_tables(case)
    emulated = _EmulatedNode(case, tables)
    return [
        f"{flow['name']}: {failure}" for flow in case["flows"] for failure in judge(flow["expect"], emulated.outcomes(flow, case["node"]))
    ]


def flow_tables(case: Mapping[str, Any]) -> IptablesTables:
    """The node's tables; only rules of a service or an endpoint have an origin (1), the rules of every node have none (0)."""
    manifests, node = _manifests(case)
    everywhere = manifests.config.origin
    return node_rules(manifests, node, _family(case["node"]), origins=lambda origin: int(origin != everywhere))


def judge(expect: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[str]:
    """What is wrong with the outcomes of one flow."""
    got = {_verdict(outcome) for outcome in outcomes}
    if got != {expect["verdict"]}:
        return [f"expected {expect['verdict']}, got {', '.join(sorted(got)) or 'no outcome'}"]
    if expect["verdict"] != "DNAT":
        return []
    failures = []
    endpoints = sorted({_destination(outcome) for outcome in outcomes})
    if endpoints != sorted(expect["endpoints"]):
        failures.append(f"expected endpoints {', '.join(sorted(expect['endpoints']))}, got {', '.join(endpoints)}")
    masqueraded = {bool(outcome.mark & MASQUERADE_MARK) for outcome in outcomes}
    if masqueraded != {expect["masq"]}:
        failures.append(f"expected masquerade {expect['masq']}, got {' or '.join(str(one) for one in sorted(masqueraded))}")
    total = sum(outcome.probability for outcome in outcomes)
    if abs(total - 1) > 1e-6:
        failures.append(f"the probabilities of all outcomes sum up to {total}")
    return failures


def _verdict(outcome: Outcome) -> str:
    """The word of the cases: what a service's rules did to the packet."""
    if outcome.verdict != "ACCEPT":
        return outcome.verdict
    if outcome.dnat is not None:
        return "DNAT"
    return "ACCEPT" if any(outcome.origins) else "NONE"


def _destination(outcome: Outcome) -> str:
    address, port = outcome.dnat or (b"", 0)
    text = str(ip_address(address))
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


def _family(node: Mapping[str, Any]) -> int:
    return 6 if node["ipFamily"] == "IPv6" else 4


def _manifests(case: Mapping[str, Any]) -> tuple[Manifests, Node]:
    described = case["node"]
    names = {described["name"]: None} | {
        endpoint["nodeName"]: None
        for item in case["objects"]
        if item["kind"] == "EndpointSlice"
        for endpoint in item.get("endpoints") or ()
        if endpoint.get("nodeName")
    }
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in names]
    loaded = load_objects([*nodes, *case["objects"]], case["name"])
    origin = Origin(case["name"], 0, f"Node {described['name']}")
    node = Node(
        name=described["name"],
        addresses=(ip_address(described["nodeIP"]),),
        origin=origin,
        labels=described.get("labels", {}),
        interfaces={name: InterfaceHint(addresses=tuple(own)) for name, own in described["interfaces"].items()},
    )
    config = ClusterConfig(proxy=_proxy(described), origin=Origin(case["name"], 0, "kube-proxy"))
    return replace(loaded, config=config, nodes=(node,)), node


def _proxy(described: Mapping[str, Any]) -> Proxy:
    detector = described["localDetector"]
    return Proxy(
        cluster_cidrs=(ip_network(detector["cidr"]),) if "cidr" in detector else (),
        detect_local_mode=detector["mode"],
        masquerade_all=described["masqueradeAll"],
        node_port_addresses=tuple(described["nodePortAddresses"]),
        localhost_node_ports=described["localhostNodePorts"],
    )


class _EmulatedNode:
    """The node of a case as a namespace of the core, with a way to the outside and one to its pods."""

    def __init__(self, case: Mapping[str, Any], tables: IptablesTables) -> None:
        from dataplane._core import Engine

        self._engine: Engine = Engine()
        self._namespace = self._engine.add_namespace(case["node"]["name"])
        self._family = _family(case["node"])
        peer = self._engine.add_namespace("outside")
        self._devices = {name: self._link(peer, name) for name in (_OUTSIDE, _PODS)}
        self._engine.set_sysctl(self._namespace, "net.ipv4.ip_forward" if self._family == 4 else "net.ipv6.conf.all.forwarding", 1)
        if self._family == 4:
            self._engine.set_sysctl(self._namespace, "net.ipv4.conf.all.route_localnet", int(case["node"]["localhostNodePorts"]))
        for name, addresses in case["node"]["interfaces"].items():
            for address in addresses:
                self._add_address(name, address)
        self._engine.add_route(self._namespace, bytes(4 if self._family == 4 else 16), 0, dev=self._devices[_OUTSIDE])
        for prefix in _pod_prefixes(case["node"]):
            self._engine.add_route(self._namespace, prefix.network_address.packed, prefix.prefixlen, dev=self._devices[_PODS])
        for table, chains in tables.compile().items():
            self._engine.set_rules(self._namespace, self._family, table, chains)

    def _link(self, peer: int, name: str) -> int:
        device = self._engine.add_device(self._namespace, name, "veth", mac=bytes.fromhex("020000000001"), mtu=1500)
        self._engine.connect(device, self._engine.add_device(peer, name, "veth", mac=bytes.fromhex("020000000002"), mtu=1500))
        return device

    def _add_address(self, device_name: str, text: str) -> None:
        interface = ip_interface(text)
        if interface.ip.is_loopback or interface.version != self._family:
            return  # lo has its own from the start
        if device_name not in self._devices:
            raise InputError(f"node interface {device_name} is not known to flow cases; use lo, {_OUTSIDE} or {_PODS}")
        self._engine.add_address(self._devices[device_name], interface.ip.packed, interface.network.prefixlen)

    def outcomes(self, flow: Mapping[str, Any], node: Mapping[str, Any]) -> list[Outcome]:
        src, dst = ip_address(flow["src"]), ip_address(flow["dst"])
        packet = opening_packet(src, dst, flow["proto"], flow["dport"])
        local = {ip_address(text) for text in node["localIPs"]}
        if src not in local:
            way_in = self._devices[_PODS if any(src in prefix for prefix in _pod_prefixes(node)) else _OUTSIDE]
            return self._engine.outcomes(self._namespace, self._family, "prerouting", packet, iif=way_in)
        return self._engine.outcomes(self._namespace, self._family, "output", packet)


def _pod_prefixes(node: Mapping[str, Any]) -> list[Any]:
    cidr = node["localDetector"].get("cidr")
    return [ip_network(cidr)] if cidr else []


_RUNNERS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "flow": _run_flows,
    "categorize": _run_categorize,
    "identifier_table": _run_identifiers,
    "probability_table": _run_probabilities,
    "ipvs_table": lambda case: ["tables of IPVS are not supported yet"],
}
