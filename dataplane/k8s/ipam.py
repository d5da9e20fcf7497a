"""Address management as the cluster's own components do it: kube-controller-manager, host-local, Calico, the API server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

from dataplane.errors import InputError
from dataplane.k8s.fields import place
from dataplane.k8s.objects import ClusterConfig, IPAddress, IPNetwork, Node, Pod

NODE_MASK_SIZES = {4: 24, 6: 64}  # kube-controller-manager --node-cidr-mask-size-ipv4, -ipv6
NODE_PORTS = range(30000, 32768)  # kube-apiserver --service-node-port-range


def stable_number(text: str) -> int:
    """A number that depends on the text alone: what the cluster draws at random is taken from it."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def free_subnets(network: IPNetwork, prefix: int, taken: Iterable[IPNetwork]) -> Iterator[IPNetwork]:
    """The subnets of the given prefix length, in order, that overlap with none of ``taken``."""
    same_family = [other for other in taken if other.version == network.version]
    small = {other.supernet(new_prefix=prefix) for other in same_family if other.prefixlen >= prefix}
    wide = [other for other in same_family if other.prefixlen < prefix]
    if prefix < network.prefixlen:
        return
    for subnet in network.subnets(new_prefix=prefix):
        if subnet not in small and not any(subnet.overlaps(other) for other in wide):
            yield subnet


class NodeCidrs:
    """Hands each node without podCIDRs one of every family (kube-controller-manager's RangeAllocator).

    It is the one that holds the address of a pod on the node, if there is such a pod, else the lowest free one. Where the
    cluster's pod CIDR is only inferred, or the CNI hands out blocks of its own, a node may be left without.
    """

    def __init__(self, config: ClusterConfig, nodes: Sequence[Node], pods: Sequence[Pod], inferred: set[tuple[str, IPNetwork]]) -> None:
        self._may_lack = {network for network in config.pod_cidrs if config.cni.name == "calico" or ("pod", network) in inferred}
        self._seen = _seen_cidrs(config, nodes, pods)
        taken = [*(network for node in nodes for network in node.pod_cidrs), *self._seen.values()]
        self._pools: dict[int, tuple[IPNetwork, Iterator[IPNetwork]]] = {}
        for network in config.pod_cidrs:
            if network.version not in self._pools:
                self._pools[network.version] = network, free_subnets(network, NODE_MASK_SIZES[network.version], taken)

    def assign(self, node: Node) -> tuple[IPNetwork, ...]:
        found = []
        for version, (network, free) in self._pools.items():
            subnet = self._seen.get((node.name, version)) or next(free, None)
            if subnet is None and network in self._may_lack:
                continue
            if subnet is None:
                wrong = f"no /{NODE_MASK_SIZES[version]} is left in pod CIDR {network}"
                raise InputError(f"{place(node.origin)}: {wrong}; write a shorter prefix in podCIDRs or give the nodes spec.podCIDRs")
            found.append(subnet)
        return tuple(found)


def _seen_cidrs(config: ClusterConfig, nodes: Sequence[Node], pods: Sequence[Pod]) -> dict[tuple[str, int], IPNetwork]:
    """By node and family: the subnet of the first pod address, for nodes that do not say their own."""
    silent = {node.name for node in nodes if not node.pod_cidrs}
    taken = {network for node in nodes for network in node.pod_cidrs}
    found: dict[tuple[str, int], IPNetwork] = {}
    for pod in pods:
        for address in pod.addresses if pod.node in silent and not pod.host_network else ():
            subnet = ip_network(address).supernet(new_prefix=NODE_MASK_SIZES[address.version])
            fits = any(network.version == subnet.version and subnet.subnet_of(network) for network in config.pod_cidrs)  # type: ignore[arg-type]
            if fits and (pod.node, address.version) not in found and subnet not in taken:
                found[pod.node, address.version] = subnet
                taken.add(subnet)
    return found


class Ipam(Protocol):
    """What hands out pod addresses."""

    def assign(self, pod: Pod) -> tuple[IPAddress, ...]:
        """Addresses for a pod, one of each family; raises InputError where none is left."""

    def blocks(self, node: str) -> tuple[IPNetwork, ...]:
        """What the node's pods have their addresses from."""


class HostLocal:
    """The CNI plug-in host-local under a bridge: each node's podCIDR from its second address on; the first is the gateway's."""

    def __init__(self, nodes: Sequence[Node], used: set[IPAddress]) -> None:
        self._cidrs = {node.name: node.pod_cidrs for node in nodes}
        self._free = {node.name: [(cidr, _host_local_range(cidr)) for cidr in node.pod_cidrs] for node in nodes}
        self._used = used

    def assign(self, pod: Pod) -> tuple[IPAddress, ...]:
        found = []
        if not self._free[pod.node]:
            raise InputError(f"{place(pod.origin)}: node {pod.node} has no podCIDR to give the pod an address; write its spec.podCIDRs")
        for cidr, free in self._free[pod.node]:
            address = next((address for address in free if address not in self._used), None)
            if address is None:
                raise InputError(f"{place(pod.origin)}: podCIDR {cidr} of node {pod.node} has no address left; move pods to other nodes")
            found.append(address)
        return tuple(found)

    def blocks(self, node: str) -> tuple[IPNetwork, ...]:
        return self._cidrs[node]


def _host_local_range(cidr: IPNetwork) -> Iterator[IPAddress]:
    """All but the network's own, the gateway's and, in IPv4, the broadcast address (plugins/ipam/host-local, Range.Canonicalize)."""
    end = cidr.num_addresses - (1 if cidr.version == 4 else 0)
    return (cidr.network_address + index for index in _count(2, end))


def _count(start: int, end: int) -> Iterator[int]:
    while start < end:  # IPv6 sizes are too large for len() of a range
        yield start
        start += 1


class CalicoIpam:
    """Calico's IPAM: a node claims blocks of an IP pool and hands out their addresses from the lowest on.

    Where Calico starts looking for a block at a place that depends on the node's name, the lowest free one is taken here,
    inside the node's podCIDR if that lies in the pool. With a tunnel, the first address of a node is the tunnel device's.
    """

    def __init__(self, config: ClusterConfig, nodes: Sequence[Node], pods: Sequence[Pod], used: set[IPAddress]) -> None:
        self._pools = [_Pool(spec) for spec in config.cni.ip_pools if not spec.get("disabled")]
        self._nodes = {node.name: node for node in nodes}
        self._blocks: dict[str, list[IPNetwork]] = {node.name: [] for node in nodes}
        self._claimed: set[IPNetwork] = set()
        self._used = used
        self._next: dict[IPNetwork, int] = {}  # ordinal after the last address handed out
        for node in nodes:
            for pool in self._pools:
                for cidr in node.pod_cidrs:
                    if cidr.prefixlen == pool.block_size and pool.holds(cidr):
                        self._claim(node.name, cidr)
        self._adopt(pods)
        for node in nodes:
            for pool in self._pools:
                if pool.tunnel and not self._blocks_in(node.name, pool):
                    self._claim_next(node.name, pool)

    def _adopt(self, pods: Sequence[Pod]) -> None:
        """Blocks follow from the addresses that pods have; a block belongs to the first node with a pod in it, others borrow."""
        for pod in pods:
            for address in pod.addresses if pod.node in self._blocks and not pod.host_network else ():
                pool = next((pool for pool in self._pools if pool.version == address.version and address in pool.cidr), None)
                if pool is not None:
                    block = ip_network(address).supernet(new_prefix=pool.block_size)
                    if block not in self._claimed:
                        self._claim(pod.node, block)

    def _claim(self, node: str, block: IPNetwork) -> None:
        self._claimed.add(block)
        self._blocks[node].append(block)

    def _blocks_in(self, node: str, pool: _Pool) -> list[IPNetwork]:
        return [block for block in self._blocks[node] if pool.holds(block)]

    def _claim_next(self, node: str, pool: _Pool) -> IPNetwork | None:
        places = [cidr for cidr in self._nodes[node].pod_cidrs if pool.holds(cidr)]
        for network in [*places, pool.cidr]:
            block = next(free_subnets(network, pool.block_size, self._claimed), None)
            if block is not None:
                first = not self._blocks_in(node, pool)
                self._claim(node, block)
                self._next[block] = 1 if first and pool.tunnel else 0
                return block
        return None

    def assign(self, pod: Pod) -> tuple[IPAddress, ...]:
        found = []
        for version in dict.fromkeys(pool.version for pool in self._pools):
            pools = [pool for pool in self._pools if pool.version == version]
            address = next((address for pool in pools if (address := self._from_pool(pod.node, pool)) is not None), None)
            if address is None:
                cidrs = ", ".join(str(pool.cidr) for pool in pools)
                raise InputError(f"{place(pod.origin)}: IP pool {cidrs} has no address left; write a shorter prefix in ipPools")
            found.append(address)
        return tuple(found)

    def _from_pool(self, node: str, pool: _Pool) -> IPAddress | None:
        for block in self._blocks_in(node, pool):
            address = self._from_block(block)
            if address is not None:
                return address
        claimed = self._claim_next(node, pool)
        return self._from_block(claimed) if claimed is not None else None

    def _from_block(self, block: IPNetwork) -> IPAddress | None:
        for ordinal in range(self._next.get(block, 0), block.num_addresses):
            address = block.network_address + ordinal
            if address not in self._used:
                self._next[block] = ordinal + 1
                return address
        return None

    def blocks(self, node: str) -> tuple[IPNetwork, ...]:
        return tuple(self._blocks[node])


class _Pool:
    """An IPPool's spec."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.cidr: IPNetwork = ip_network(spec["cidr"])
        self.version = self.cidr.version
        self.block_size: int = spec["blockSize"]
        self.tunnel = spec["ipipMode"] != "Never" or spec["vxlanMode"] != "Never"

    def holds(self, network: IPNetwork) -> bool:
        return network.version == self.version and network.prefixlen >= self.cidr.prefixlen and network.network_address in self.cidr


class ClusterIps:
    """The API server's allocator of cluster IPs: a place in the upper band (KEP-3070) that depends on the service's name."""

    def __init__(self, cidrs: Sequence[IPNetwork], used: Iterable[IPAddress]) -> None:
        self._cidrs: dict[int, IPNetwork] = {cidr.version: cidr for cidr in reversed(cidrs)}  # the first of each family counts
        self._used = set(used)

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(reversed(self._cidrs))

    def assign(self, key: str, version: int) -> IPAddress | None:
        """A free address, or None; ``key`` is NAMESPACE/NAME."""
        cidr = self._cidrs[version]
        size = min(cidr.num_addresses, 1 << 20)
        fixed = {"default/kubernetes": 1, "kube-system/kube-dns": 10}.get(key)  # the API server's own; kubeadm's GetDNSIP
        if fixed is not None and fixed < size - 1 and self._take(cidr.network_address + fixed):
            return cidr.network_address + fixed
        band = min(max(16, size // 16), 256) if size > 32 else 1
        return next((ip for index in _spread(key, band, size - 1) if self._take(ip := cidr.network_address + index)), None)

    def _take(self, address: IPAddress) -> bool:
        if address in self._used:
            return False
        self._used.add(address)
        return True


class NodePorts:
    """The API server's allocator of node ports: a place in the upper band (KEP-3668) that depends on the port's name."""

    BAND = 86  # min(max(16, size / 32), 128)

    def __init__(self, used: Iterable[int]) -> None:
        self._used = set(used)

    def assign(self, key: str) -> int | None:
        """A free port number, or None; ``key`` names service and port."""
        for index in _spread(key, self.BAND, len(NODE_PORTS)):
            if NODE_PORTS[index] not in self._used:
                self._used.add(NODE_PORTS[index])
                return NODE_PORTS[index]
        return None


def _spread(key: str, band: int, end: int) -> Iterator[int]:
    """All of 1 to end - 1: from a place given by the key through the upper band, then the lower one."""
    size = max(end - band, 1)
    start = stable_number(key) % size
    yield from (band + (start + step) % size for step in _count(0, min(size, end - band)))
    yield from _count(1, min(band, end))


def next_host_address(cidr: IPNetwork, used: set[IPAddress]) -> IPAddress | None:
    """The lowest address of an underlay network that nobody has, after the first, which is customarily the gateway's."""
    end = cidr.num_addresses - (1 if cidr.version == 4 else 0)
    return next((ip for index in _count(2, end) if (ip := ip_address(int(cidr.network_address) + index)) not in used), None)
