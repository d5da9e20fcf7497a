"""The iptables rules that CNIs add beside kube-proxy's: source NAT of what leaves the pod network, and forwarding.

Facts: flannel ``pkg/trafficmngr/iptables`` (chains FLANNEL-POSTRTG and FLANNEL-FWD, appended after kube-proxy's jumps);
Calico Felix ``rules/nat.go`` (cali-nat-outgoing: from a pool with ``natOutgoing`` to an address in no pool). Felix matches
ipsets of all pools; here each pool is a rule of its own, which decides the same.
"""

from __future__ import annotations

from ipaddress import ip_network

from dataplane.control.cni.calico_tunnels import read_pools
from dataplane.control.cni.overlay import cidrs
from dataplane.control.iptables import IptablesTables
from dataplane.k8s.objects import IPNetwork, Manifests, Node

MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
NETWORK_KEYS = {4: "Network", 6: "IPv6Network"}


def add_cni_rules(tables: IptablesTables, manifests: Manifests, node: Node, origin: int) -> None:
    """Add the CNI's rules for one node and the family of ``tables``, which hold kube-proxy's already."""
    cni = manifests.config.cni
    if cni.masquerade == "flannel" or cni.name == "flannel":
        add_flannel_rules(tables, manifests, node, origin)
    else:
        add_nat_outgoing(tables, manifests, origin)


def add_flannel_rules(tables: IptablesTables, manifests: Manifests, node: Node, origin: int) -> None:
    for network in flannel_networks(manifests, tables.family):
        for subnet in cidrs(node, tables.family):
            add_flannel_masquerade(tables, str(network), str(subnet), random_flag(manifests), origin)
        add_flannel_forward(tables, str(network), origin)


def flannel_networks(manifests: Manifests, family: int) -> list[IPNetwork]:
    """net-conf.json's network of this family, or the cluster's pod network."""
    config = manifests.config
    written = config.cni.config.get(NETWORK_KEYS[family])
    if written:
        return [ip_network(written)]
    return [network for network in config.pod_cidrs if network.version == family][:1]


def random_flag(manifests: Manifests) -> str:
    return " --random-fully" if manifests.config.proxy.masquerade_random_fully else ""


def add_flannel_masquerade(tables: IptablesTables, network: str, subnet: str, random: str, origin: int) -> None:
    """``network``: all pods; ``subnet``: this node's, whose traffic with other pods keeps its source."""
    comment = '-m comment --comment "flanneld masq"'
    tables.new_chain("nat", "FLANNEL-POSTRTG")
    tables.append("nat", "POSTROUTING", f"{comment} -j FLANNEL-POSTRTG", origin)
    for match, target in (
        ("-m mark --mark 0x4000/0x4000", "RETURN"),  # kube-proxy's mark: already masqueraded
        (f"-s {subnet} -d {network}", "RETURN"),
        (f"-s {network} -d {subnet}", "RETURN"),
        (f"! -s {network} -d {subnet}", "RETURN"),
        (f"-s {network} ! -d {MULTICAST[tables.family]}", f"MASQUERADE{random}"),
        (f"! -s {network} -d {network}", f"MASQUERADE{random}"),
    ):
        tables.append("nat", "FLANNEL-POSTRTG", f"{match} {comment} -j {target}", origin)


def add_flannel_forward(tables: IptablesTables, network: str, origin: int) -> None:
    comment = '-m comment --comment "flanneld forward"'
    tables.new_chain("filter", "FLANNEL-FWD")
    tables.append("filter", "FORWARD", f"{comment} -j FLANNEL-FWD", origin)
    for match in ("-s", "-d"):
        tables.append("filter", "FLANNEL-FWD", f"{match} {network} {comment} -j ACCEPT", origin)


def add_nat_outgoing(tables: IptablesTables, manifests: Manifests, origin: int) -> None:
    pools = [pool for pool in read_pools(manifests.config) if pool.cidr.version == tables.family]
    if not any(pool.nat_outgoing for pool in pools):
        return
    chain = "cali-nat-outgoing"
    tables.new_chain("nat", chain)
    tables.insert("nat", "POSTROUTING", f"-j {chain}", 1, origin)  # Felix puts its jumps first
    for pool in pools:
        tables.append("nat", chain, f"-d {pool.cidr} -j RETURN", origin)
    for pool in pools:
        if pool.nat_outgoing:
            tables.append("nat", chain, f"-s {pool.cidr} -j MASQUERADE{random_flag(manifests)}", origin)
