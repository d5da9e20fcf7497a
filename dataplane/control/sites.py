"""Large clusters: every machine is named at once, and made when something concerns it.

What is made together is a site: a node with its pods. The core asks for one when a frame reaches it, or when anybody asks for its
tables. It is then what it would have been from the start, since nothing in it moves of itself (``Cni.can_wait``). The underlay's
switch, its ports and the hosts on it are made at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Network
from typing import NamedTuple

from dataplane.control.addrconf import MIN_MTU, carries_ipv6, link_local
from dataplane.control.places import Places
from dataplane.control.sysctl import apply_baseline, apply_written
from dataplane.control.topology import Machine, Topology
from dataplane.control.underlay import (
    UPLINK,
    add_switch,
    attach_hosts,
    attach_node,
    free_name,
    hinted_interfaces,
    host_mac,
    join_switch,
    port_latency,
    switch_port,
    uplink_mac,
    uplink_mtu,
)
from dataplane.control.wiring import Wiring
from dataplane.k8s.objects import ClusterConfig, Node, Pod

PodsByNode = dict[str, list[Pod]]
STAND_IN = "stand-in"
IPV6_GROUPS = IPv6Network("ff00::/8")


class Cni(NamedTuple):
    """What a CNI does for the cluster."""

    build: Callable[[Wiring, PodsByNode, Sequence[Node]], None]
    describe: Callable[[Places, Wiring, PodsByNode], None]
    can_wait: Callable[[ClusterConfig], bool]
    attach: Callable[[Wiring, Node, Pod], None]  # a pod that comes later
    detach: Callable[[Wiring, Node, Pod], None]
    check: Callable[[Node, Pod], None]  # raises InputError for a pod that cannot be attached
    announce: Callable[[Wiring, Node, Pod, Sequence[Node]], None]  # to nodes that are there already
    withdraw: Callable[[Wiring, Node, Pod, Sequence[Node]], None]


class Sites:
    """Makes nodes with their pods when the core asks for them."""

    def __init__(self, wiring: Wiring, cni: Cni, pods: PodsByNode, finish: Callable[[Wiring, Sequence[Machine]], None]) -> None:
        """``finish``: what is done to machines once their devices and addresses are there."""
        self._wiring = wiring
        self._cni = cni
        self._pods = pods
        self._finish = finish
        self._nodes = {node.name: node for node in wiring.manifests.nodes}
        self._bridge = add_switch(wiring)
        wiring.topology.sites = self
        places = self._described()
        self._site_of = dict(places.site_of)
        self.made: list[Node] = []
        wiring.engine.reserve(places.namespaces, places.devices)
        ports = {machine.ref: self._add_port(machine) for machine in wiring.topology.machines.values() if machine.kind != "pod"}
        attach_hosts(wiring, self._bridge, {name: ports[f"node/{name}"] for name in self._nodes})
        finish(wiring, [machine for machine in wiring.topology.machines.values() if machine.kind == "host"])
        self._add_stand_in()
        wiring.engine.supply_with(self._supply)

    def make_all(self) -> None:
        """For those who want the whole cluster after all."""
        for node in self._wiring.manifests.nodes:
            self._make(node)

    # ---- described
    def _described(self) -> Places:
        """Names and numbers of all machines, found once for all worlds of the same manifests."""
        topology = self._wiring.topology
        places = self._wiring.manifests.remembered("places", self._describe)
        topology.adopt(places.topology)
        return places

    def _describe(self) -> Places:
        """The machines in the order in which ``build_underlay`` and the CNI would make them."""
        topology = Topology(self._wiring.manifests)
        topology.adopt(self._wiring.topology)
        topology.switch = self._wiring.topology.switch
        places = Places(topology, topology.switch + 1, self._bridge + 1)
        for node in self._wiring.manifests.nodes:
            name = free_name(topology, node.name, f"node/{node.name}")
            machine = places.machine(name, f"node/{node.name}", uplink_mac(node), node.addresses, node.origin)
            places.site_of[machine.namespace] = node.name
            places.device(topology.switch, switch_port(self._wiring, machine.namespace).device)
        for host in self._wiring.manifests.config.underlay.hosts:
            if host.behind is None:
                name = free_name(topology, host.name, f"host/{host.name}")
                machine = places.machine(name, f"host/{host.name}", host_mac(host), host.addresses, host.origin)
                places.device(topology.switch, switch_port(self._wiring, machine.namespace).device)
        self._cni.describe(places, self._wiring, self._pods)
        return places

    def _add_port(self, machine: Machine) -> int:
        """The switch's port of a node or host, and what the core has to know of a node that is not there."""
        wiring, end = self._wiring, switch_port(self._wiring, machine.namespace)
        port = wiring.device(end.namespace, end.device, "veth", mac=end.mac, mtu=end.mtu, origin=machine.origin)
        if machine.kind == "node":
            node = self._nodes[machine.ref.partition("/")[2]]
            wiring.engine.describe_far(
                port, machine.eth0, machine.namespace, mac=machine.mac, mtu=uplink_mtu(wiring, node), addresses=self._all_addresses(node),
                always=self._is_peculiar(node), latency=port_latency(wiring),
            )  # fmt: skip
        join_switch(wiring, self._bridge, port, machine.mac, machine.origin)
        return port

    def _all_addresses(self, node: Node) -> list[bytes]:
        """Those that ``eth0`` will have, and any other that the node may answer for there."""
        own = [address.packed for address in node.addresses]
        own += [address.packed for cidr in node.pod_cidrs for address in (cidr.network_address, cidr[1])]  # the CNI's
        own += [interface.packed for hint in node.interfaces.values() for interface in hinted_interfaces(hint, node.origin)]
        return [*own, link_local(uplink_mac(node)).packed]

    def _is_peculiar(self, node: Node) -> bool:
        """Would the stand-in not receive as this node does, or might it answer for more than its own addresses?"""
        words = ("proxy", "arp_accept", "drop_gratuitous")
        answers = any(word in name for name in self._wiring.manifests.config.sysctls for word in words)
        return answers or uplink_mtu(self._wiring, node) < MIN_MTU

    def _add_stand_in(self) -> None:
        """A node without anything, for the frames that concern no node in particular."""
        aside = Wiring(self._wiring.engine, Topology(self._wiring.manifests))
        namespace = aside.namespace(STAND_IN)
        eth0 = aside.device(namespace, UPLINK, "veth", mac=bytes(6), mtu=MIN_MTU, origin=self._wiring.manifests.config.origin)
        machine = Machine(namespace, STAND_IN, "node", f"node/{STAND_IN}", eth0, bytes(6), (), self._wiring.manifests.config.origin)
        apply_baseline(aside, [machine])
        apply_written(aside, [machine])
        device = next(each for each in aside.engine.devices(namespace) if each["id"] == eth0)
        if carries_ipv6(aside.engine, namespace, device):  # what any IPv6 address brings with it
            aside.engine.add_route(namespace, IPV6_GROUPS.network_address.packed, IPV6_GROUPS.prefixlen, kind="multicast", dev=eth0)
        self._wiring.topology.warnings += aside.topology.warnings
        self._wiring.engine.stand_in(eth0)

    # ---- made
    def _supply(self, namespace: int, device: int) -> None:
        """One of the two is -1."""
        at = namespace if namespace >= 0 else self._wiring.topology.device_namespace(device)
        self._make(self._nodes[self._site_of[at]])

    def _make(self, node: Node) -> None:
        wiring, topology = self._wiring, self._wiring.topology
        machine = topology.endpoint(f"node/{node.name}")
        if wiring.engine.is_made(machine.namespace):
            return
        self.made.append(node)
        attach_node(wiring, self._bridge, node)
        self._cni.build(wiring, self._pods, [node])
        self._finish(wiring, [machine, *(topology.endpoint(f"pod/{pod.key}") for pod in self._pods[node.name])])

    # ---- changed
    def follow(self, pods: PodsByNode) -> None:
        """From now on these are the pods."""
        self._pods = pods

    def describe_pod(self, pod: Pod, node: Node) -> None:
        """A pod that comes to a node which is not made."""
        engine = self._wiring.engine
        places = Places(self._wiring.topology, *engine.places())
        places.pod(pod, node)
        engine.reserve(places.namespaces, places.devices)
        self._site_of |= places.site_of
