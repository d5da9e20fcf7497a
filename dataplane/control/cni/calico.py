"""Calico: pods on routed veths, nodes announcing their blocks to each other, through tunnels where the pools ask for them.

Facts: the CNI plugin gives a pod a full-length address, 169.254.1.1 (IPv6: the host end's link-local address) as on-link
gateway and ee:ee:ee:ee:ee:ee as host end; Felix adds a route and a static ARP entry per pod and answers the pod's ARP by
proxy ARP; a block of addresses is affine to one node, which announces it as a whole and has a blackhole route for it; an
address borrowed from another node's block is announced on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import NamedTuple

from dataplane.control.cni.calico_tunnels import add_tunnels, pod_mtu, read_pools, route_to, tunnel_names
from dataplane.control.cni.overlay import Place, carries_frames
from dataplane.control.places import Places
from dataplane.control.pods import add_pod, host_mac, pod_mac
from dataplane.control.underlay import default_route
from dataplane.control.wiring import SCOPE_LINK, Wiring
from dataplane.k8s.objects import ClusterConfig, IPAddress, IPNetwork, Manifests, Node, Pod

GATEWAYS: dict[int, IPAddress] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::ecee:eeff:feee:eeee")}
HOST_END_SYSCTLS = {
    4: {
        "net.ipv4.conf.{device}.proxy_arp": 1,
        "net.ipv4.conf.{device}.rp_filter": 1,
        "net.ipv4.conf.{device}.route_localnet": 1,
        "net.ipv4.neigh.{device}.proxy_delay": 0,
    },
    6: {"net.ipv6.conf.{device}.proxy_ndp": 1, "net.ipv6.neigh.{device}.proxy_delay": 0},
}


class Announcement(NamedTuple):
    """A prefix that one node answers for, and whether it is a whole block."""

    network: IPNetwork
    node: Node
    is_block: bool


def build(wiring: Wiring, pods: dict[str, list[Pod]], nodes: Sequence[Node]) -> None:
    """Set up these nodes' ``pods`` (by node) and their routes to all other nodes."""
    pools = read_pools(wiring.manifests.config)
    for node in nodes:
        for pod in pods[node.name]:
            attach_pod(wiring, node, pod, pod_mtu(wiring, pools, node))
    announcements = all_announcements(wiring.manifests, pods)
    for node in nodes:
        machine = wiring.topology.endpoint(f"node/{node.name}")
        place = Place(node, machine.namespace, machine.eth0)
        tunnels = add_tunnels(wiring, pools, place)
        for network, other, is_block in announcements:
            if other is not node:
                route_to(wiring, pools, place, tunnels, other, network)
            elif is_block:
                wiring.route(machine.namespace, network, other.origin, kind="blackhole")


def describe(places: Places, wiring: Wiring, pods: dict[str, list[Pod]]) -> None:
    """Name what ``build`` would make of all nodes, in its order."""
    pools = read_pools(wiring.manifests.config)
    for node in wiring.manifests.nodes:
        for pod in pods[node.name]:
            places.pod(pod, node)
    for node in wiring.manifests.nodes:
        for name, overlay in tunnel_names(pools).items():
            places.device(places.node(node), name, ethernet=carries_frames(overlay))


def attach(wiring: Wiring, node: Node, pod: Pod) -> None:
    """A pod that comes later. Blocks stay whose they are."""
    attach_pod(wiring, node, pod, pod_mtu(wiring, read_pools(wiring.manifests.config), node))


def detach(wiring: Wiring, node: Node, pod: Pod) -> None:
    """What led to the pod through its device goes with that."""


def check(node: Node, pod: Pod) -> None:
    """A pod may have any address."""


def announce_borrowed(wiring: Wiring, node: Node, pod: Pod, others: Sequence[Node]) -> None:
    """An address from outside the blocks of its node is announced on its own."""
    pools = read_pools(wiring.manifests.config)
    for network in borrowed(node, pod):
        for other in others:
            machine = wiring.topology.endpoint(f"node/{other.name}")
            tunnels = wiring.topology.devices_of(machine.namespace)
            route_to(wiring, pools, Place(other, machine.namespace, machine.eth0), tunnels, node, network)


def withdraw_borrowed(wiring: Wiring, node: Node, pod: Pod, others: Sequence[Node]) -> None:
    for network in borrowed(node, pod):
        for other in others:
            namespace = wiring.topology.endpoint(f"node/{other.name}").namespace
            wiring.engine.del_route(namespace, network.network_address.packed, network.prefixlen)


def borrowed(node: Node, pod: Pod) -> list[IPNetwork]:
    return [announced.network for announced in announce(node, [pod]) if not announced.is_block]


def can_wait(config: ClusterConfig) -> bool:
    """Does a node do nothing until it sees a frame?"""
    return True


def all_announcements(manifests: Manifests, pods: dict[str, list[Pod]]) -> list[Announcement]:
    """Of all nodes, found once."""
    return manifests.remembered("announcements", lambda: [each for node in manifests.nodes for each in announce(node, pods[node.name])])


def attach_pod(wiring: Wiring, node: Node, pod: Pod, mtu: int) -> None:
    machine = wiring.topology.endpoint(f"node/{node.name}")
    eth0, host = add_pod(wiring, pod, machine.namespace, mtu)
    namespace, mac = wiring.topology.device_namespace(eth0), pod_mac(pod)
    for address in pod.addresses:
        set_up_host_end(wiring, host, address.version)
        gateway, alone = GATEWAYS[address.version], ip_network(address)
        wiring.address(eth0, ip_interface(address), mac, pod.origin)
        if address.version == 4:  # the IPv6 gateway is link-local: on-link as it is
            wiring.route(namespace, ip_network(gateway), pod.origin, device=eth0, scope=SCOPE_LINK)
        wiring.route(namespace, default_route(address.version), pod.origin, via=gateway, device=eth0)
        wiring.static_neighbour(eth0, gateway, host_mac(pod), pod.origin)
        wiring.topology.macs[gateway.packed] = host_mac(pod)
        wiring.route(machine.namespace, alone, pod.origin, device=host, scope=SCOPE_LINK if address.version == 4 else -1)
        wiring.neighbour(host, address, mac, pod.origin)


def set_up_host_end(wiring: Wiring, device: int, version: int) -> None:
    """The settings of one family that Felix writes for each workload interface."""
    namespace = wiring.topology.device_namespace(device)
    name = wiring.topology.short_device_name(device).replace(".", "/")
    for key, value in HOST_END_SYSCTLS[version].items():
        wiring.engine.set_sysctl(namespace, key.format(device=name), value)


def announce(node: Node, pods: list[Pod]) -> Iterator[Announcement]:
    """A node's blocks, and the addresses of its pods that lie outside them."""
    for block in node.ipam_blocks:
        yield Announcement(block, node, is_block=True)
    for address in (address for pod in pods for address in pod.addresses):
        if not any(block.version == address.version and address in block for block in node.ipam_blocks):
            yield Announcement(ip_network(address), node, is_block=False)
