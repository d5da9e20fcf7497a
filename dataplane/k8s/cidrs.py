"""The cluster-wide CIDRs and the CNI, inferred from nodes, pods and services where ``kind: Cluster`` does not give them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import collapse_addresses, ip_network
from typing import Any

from dataplane.k8s.collected import Collected
from dataplane.k8s.objects import ClusterConfig, Cni, Host, IPAddress, IPNetwork, Node

# kubeadm's habits, and prefixes of the same shape for IPv6.
DEFAULT_POD_CIDRS: dict[int, IPNetwork] = {4: ip_network("10.244.0.0/16"), 6: ip_network("fd00:10:244::/48")}
DEFAULT_SERVICE_CIDRS: dict[int, IPNetwork] = {4: ip_network("10.96.0.0/12"), 6: ip_network("fd00:10:96::/112")}
# Where the nodes are inside those.
SECOND_POD_CIDRS: dict[int, IPNetwork] = {4: ip_network("172.30.0.0/16"), 6: ip_network("fd01:10:244::/48")}
SECOND_SERVICE_CIDRS: dict[int, IPNetwork] = {4: ip_network("172.29.0.0/16"), 6: ip_network("fd01:10:96::/112")}
DEFAULT_UNDERLAY_CIDRS: dict[int, IPNetwork] = {4: ip_network("192.168.1.0/24"), 6: ip_network("fd00:192:168:1::/64")}
# How far an inferred prefix may be widened to hold all that was seen.
_SHORTEST = {4: 8, 6: 32}

FLANNEL_BACKEND_TYPE = "flannel.alpha.coreos.com/backend-type"
CALICO_PREFIX = "projectcalico.org/"
CALICO_BLOCK_SIZE = {4: 26, 6: 122}  # defaults of Calico's IPPool


def derive_config(collected: Collected) -> ClusterConfig:
    """The cluster's configuration with every CIDR filled in; inferred ones are noted in ``collected.inferred``."""
    config = collected.config or ClusterConfig(cni=_detect_cni(collected.nodes))
    pods = config.pod_cidrs or _pod_cidrs(collected, config.cni)
    versions = list(dict.fromkeys(network.version for network in pods))
    services = config.service_cidrs or _service_cidrs(collected, pods)
    underlay = config.underlay
    if not underlay.cidrs:
        cidrs = _underlay_cidrs(collected, underlay.default_gateways, versions)
        underlay = replace(underlay, cidrs=cidrs, default_gateways=underlay.default_gateways or _gateways(collected, cidrs))
    cni = config.cni
    if cni.name == "calico":
        cni = replace(cni, ip_pools=_ip_pools(cni, pods))
    proxy = config.proxy
    if not proxy.cluster_cidrs:
        proxy = replace(proxy, cluster_cidrs=pods)
    return replace(config, pod_cidrs=pods, service_cidrs=services, underlay=underlay, cni=cni, proxy=proxy)


def _detect_cni(nodes: Sequence[Node]) -> Cni:
    """The CNI whose annotations the nodes carry; Flannel where there are none."""
    names = {name for node in nodes for name in node.annotations}
    if any(name.startswith(CALICO_PREFIX) for name in names) and FLANNEL_BACKEND_TYPE not in names:
        return Cni(name="calico", config={}, ip_pools=_tunnel_modes(names))
    for node in nodes:
        if node.annotations.get(FLANNEL_BACKEND_TYPE):
            return Cni(config={"Backend": {"Type": node.annotations[FLANNEL_BACKEND_TYPE]}})
    return Cni()


def _tunnel_modes(names: set[str]) -> tuple[dict[str, Any], ...]:
    """One pool without a cidr, which says by which encapsulation Calico's nodes have a tunnel address."""
    ipip = f"{CALICO_PREFIX}IPv4IPIPTunnelAddr" in names
    vxlan = f"{CALICO_PREFIX}IPv4VXLANTunnelAddr" in names
    return ({"ipipMode": "Always" if ipip else "Never", "vxlanMode": "Always" if vxlan else "Never"},)


def _ip_pools(cni: Cni, pods: Sequence[IPNetwork]) -> tuple[dict[str, Any], ...]:
    """Calico's pools with defaults filled in; where none has a cidr, one for each pod CIDR."""
    given = [dict(pool) for pool in cni.ip_pools]
    if not any("cidr" in pool for pool in given):
        modes = given[0] if given else {}
        given = [{"cidr": str(network), "natOutgoing": True, **modes} for network in pods]
    return tuple({"blockSize": CALICO_BLOCK_SIZE[ip_network(pool["cidr"]).version], **_without_null(pool)} for pool in given)


def _without_null(pool: dict[str, Any]) -> dict[str, Any]:
    return {"ipipMode": "Never", "vxlanMode": "Never", **{key: value for key, value in pool.items() if value is not None}}


def _pod_cidrs(collected: Collected, cni: Cni) -> tuple[IPNetwork, ...]:
    written = [cni.config[key] for key in ("Network", "IPv6Network") if cni.config.get(key)]
    written += [pool["cidr"] for pool in cni.ip_pools if pool.get("cidr") and not pool.get("disabled")]
    if written:
        return tuple(ip_network(text) for text in written)
    seen = [network for node in collected.nodes for network in node.pod_cidrs]
    seen += _singles(address for pod in collected.pods if not pod.host_network for address in pod.addresses)
    avoid = _singles(_node_addresses(collected))
    found = tuple(network for version in (4, 6) for network in _enclosing(seen, version, DEFAULT_POD_CIDRS[version].prefixlen, avoid))
    collected.inferred.update(("pod", network) for network in found)
    versions = _node_versions(collected)
    return found or tuple(_clear(avoid, DEFAULT_POD_CIDRS[version], SECOND_POD_CIDRS[version]) for version in versions)


def _clear(avoid: Sequence[IPNetwork], first: IPNetwork, second: IPNetwork) -> IPNetwork:
    return second if _meets(first, avoid) else first


def _meets(network: IPNetwork, others: Iterable[IPNetwork]) -> bool:
    return any(network.overlaps(other) for other in others)


def _service_cidrs(collected: Collected, pods: Sequence[IPNetwork]) -> tuple[IPNetwork, ...]:
    nodes = _singles(_node_addresses(collected))
    seen = _singles(address for service in collected.services for address in service.cluster_ips)
    found: list[IPNetwork] = []
    for version in dict.fromkeys(network.version for network in [*pods, *seen]):
        default = DEFAULT_SERVICE_CIDRS[version]
        own = [network for network in seen if network.version == version]
        if not own:
            found.append(_clear(nodes, default, SECOND_SERVICE_CIDRS[version]))
            continue
        if all(network.network_address in default for network in own) and not _meets(default, [*nodes, *pods]):
            around = [default]
        else:
            around = _enclosing(own, version, 16 if version == 4 else 112, [*nodes, *pods])
        collected.inferred.update(("service", network) for network in around)
        found += around
    return tuple(found)


def _underlay_cidrs(collected: Collected, gateways: Sequence[IPAddress], versions: Sequence[int]) -> tuple[IPNetwork, ...]:
    seen = _singles([*_node_addresses(collected), *gateways])
    found: list[IPNetwork] = []
    for version in (4, 6):
        own = _enclosing(seen, version, DEFAULT_UNDERLAY_CIDRS[version].prefixlen, [])
        if len(own) > 1:
            networks = ", ".join(map(str, own))
            collected.warnings.append(f"node addresses lie in {networks}, not in one network; write underlay.cidrs in kind: Cluster")
        collected.inferred.update(("underlay", network) for network in own)
        found += own
    return tuple(found) or tuple(DEFAULT_UNDERLAY_CIDRS[version] for version in versions)


def _gateways(collected: Collected, cidrs: Sequence[IPNetwork]) -> tuple[IPAddress, ...]:
    """The customary gateway of each family's only network, its first address, unless it is somebody's.

    A kubelet needs a default route, and without one no node answers for the gateway of Calico's pods (Linux: net/ipv4/arp.c,
    arp_process(), which looks up a route to what it is a proxy for).
    """
    taken = {*_node_addresses(collected), *(address for host in _hosts(collected) for address in host.addresses)}
    only = [network for network in cidrs if sum(network.version == other.version for other in cidrs) == 1]
    return tuple(network[1] for network in only if network.num_addresses > 2 and network[1] not in taken)


def _hosts(collected: Collected) -> tuple[Host, ...]:
    return collected.config.underlay.hosts if collected.config else ()


def _node_addresses(collected: Collected) -> list[IPAddress]:
    return [*(a for node in collected.nodes for a in node.addresses), *(a for pod in collected.pods for a in pod.host_addresses)]


def _node_versions(collected: Collected) -> list[int]:
    return list(dict.fromkeys(address.version for address in _node_addresses(collected))) or [4]


def _singles(addresses: Iterable[IPAddress]) -> list[IPNetwork]:
    return [ip_network(address) for address in dict.fromkeys(addresses)]


def _enclosing(seen: Sequence[IPNetwork], version: int, prefix: int, avoid: Sequence[IPNetwork]) -> list[IPNetwork]:
    """Few networks of one family that hold all ``seen``: of length ``prefix``, widened as far as ``_SHORTEST`` to be one.

    None of them is made so wide that it holds one of ``avoid``.
    """
    groups: list[IPNetwork] = []
    for network in (network for network in seen if network.version == version):
        if any(_inside(network, group) for group in groups):
            continue
        for index, group in enumerate(groups):
            wider = _common(group, network)
            if wider.prefixlen >= _SHORTEST[version] and not _meets(wider, avoid):
                groups[index] = wider
                break
        else:
            groups.append(_widened(network, prefix, avoid))
    return list(collapse_addresses(groups))  # type: ignore[type-var]  # all of one family


def _widened(network: IPNetwork, prefix: int, avoid: Sequence[IPNetwork]) -> IPNetwork:
    for length in range(prefix, network.prefixlen):
        wider = network.supernet(new_prefix=length)
        if not _meets(wider, avoid):
            return wider
    return network


def _inside(network: IPNetwork, outer: IPNetwork) -> bool:
    return network.prefixlen >= outer.prefixlen and network.network_address in outer


def _common(one: IPNetwork, other: IPNetwork) -> IPNetwork:
    """The longest prefix that holds both."""
    difference = int(one.network_address) ^ int(other.network_address)
    length = min(one.prefixlen, other.prefixlen, one.max_prefixlen - difference.bit_length())
    return one.supernet(new_prefix=length)
