"""Changes of a built world at the present point of virtual time, at a cost that grows with the change alone.

A Service, an EndpointSlice or a Pod comes, goes or changes, and the world's tables become those of a cluster that had been like that
from the start: rules, routes, neighbours, FDB entries. What traffic has left behind stays, but for the conntrack entries that
kube-proxy deletes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dataplane.control.addrconf import add_own_address
from dataplane.control.build import CNIS, finish
from dataplane.control.firewall import books_of, use_books
from dataplane.control.proxy.cleanup import stale_entries
from dataplane.control.proxy.service_ports import ports_of
from dataplane.control.sysctl import apply_written_to, uses_ipv6
from dataplane.control.topology import Topology
from dataplane.control.wiring import Wiring
from dataplane.k8s.changed import Changeable, Changing, Difference
from dataplane.k8s.objects import Manifests, Node, Pod

if TYPE_CHECKING:
    from dataplane._core import Engine

UDP = 17


class Changes:
    """A world that may change. Making one takes a look at the whole cluster, each change then only at what it concerns."""

    def __init__(self, engine: Engine, topology: Topology) -> None:
        self._engine = engine
        self._topology = topology
        self._wiring = Wiring(engine, topology)
        self._objects = Changing(topology.manifests)
        self._nodes = {node.name: node for node in topology.manifests.nodes}
        self._passing: Manifests | None = None  # those that the last change has led to
        books_of(topology)  # what a change builds upon
        self._pods: dict[str, list[Pod]] = {node: [] for node in self._nodes}
        for pod in topology.manifests.pods:
            if has_network(pod):
                self._pods[pod.node].append(pod)

    def apply(self, put: Iterable[Changeable] = (), delete: Iterable[Changeable] = ()) -> None:
        """Raises InputError for what cannot be; the world is then what it was."""
        put, delete = list(put), list(delete)
        self._objects.check(put, delete)
        for pod in put:
            if isinstance(pod, Pod) and has_network(pod):
                CNIS[self._topology.manifests.config.cni.name].check(self._nodes[pod.node], pod)
        found = self._objects.apply(put, delete)
        self._move_on(found)
        pods = [each for each in found.pods if not self._is_attached_alike(*each)]
        for before, _ in pods:
            if before is not None:
                self._take(before)
        for _, now in pods:
            if now is not None:
                self._bring(now)
        if found.services:
            self._clean_conntrack(found)
            self._rewrite_rules()

    def _move_on(self, found: Difference) -> None:
        """The manifests are others now, and what was found out from them and still holds is kept."""
        before = self._topology.manifests
        now = self._objects.manifests(before, found)
        changed = {key: self._objects.slices_of(key) for key in found.services}
        books = books_of(self._topology)
        now.remembered("uses IPv6", lambda: uses_ipv6(before))
        now.memo["rule books"] = books.after(now, changed) if changed else books
        self._topology.follow(now)
        if before is self._passing:
            before.memo.clear()  # nobody else has seen these manifests: let go of their tables at once
        self._passing = now
        if self._topology.sites is not None:
            self._topology.sites.follow(self._pods)

    def _made(self) -> list[Node]:
        sites = self._topology.sites
        return list(self._nodes.values()) if sites is None else sites.made

    def named(self, documents: Iterable[Mapping[str, Any]]) -> list[Changeable]:
        """The objects of the cluster, as it is now, that have these kinds and names. Raises InputError where there is none."""
        return self._objects.named(documents)

    # ---- rules
    def _rewrite_rules(self) -> None:
        for namespace in [each for each in self._topology.firewalls if self._topology.machines[each].kind == "node"]:
            del self._topology.firewalls[namespace]
        for node in self._made():
            use_books(self._engine, self._topology, self._topology.endpoint(f"node/{node.name}").namespace, node)

    def _clean_conntrack(self, found: Difference) -> None:
        services = [self._objects.services[key] for key in found.services if key in self._objects.services]
        services = [service for service in services if any(port.protocol == "UDP" for port in service.ports)]
        for node in self._made() if services else ():
            namespace = self._topology.endpoint(f"node/{node.name}").namespace
            ports = [
                port for service in services for family in (4, 6)
                for port in ports_of(service, self._objects.slices_of(service.key), node.name, family)
            ]  # fmt: skip
            for entry in stale_entries(self._engine.conntrack(namespace), ports):
                self._engine.del_conntrack(namespace, UDP, entry["orig"])

    # ---- pods
    def _is_attached_alike(self, before: Pod | None, now: Pod | None) -> bool:
        """Such a pod stays where it is."""
        if before is None or now is None or network_of(before) != network_of(now):
            return False
        if has_network(now):
            pods = self._pods[now.node]
            pods[next(number for number, pod in enumerate(pods) if pod.key == now.key)] = now
        return True

    def _bring(self, pod: Pod) -> None:
        node, topology = self._nodes[pod.node], self._topology
        machine = topology.endpoint(f"node/{node.name}")
        if pod.host_network:
            topology.add_alias(f"pod/{pod.key}", machine)
        if not has_network(pod):
            return
        self._pods[node.name].append(pod)
        cni = CNIS[topology.manifests.config.cni.name]
        cni.announce(self._wiring, node, pod, self._others(node))
        if topology.sites is not None and not self._engine.is_made(machine.namespace):
            topology.sites.describe_pod(pod, node)
            return
        cni.attach(self._wiring, node, pod)
        assert pod.host_interface
        apply_written_to(self._wiring, machine.namespace, pod.host_interface)
        own = next(each for each in self._engine.devices(machine.namespace) if each["name"] == pod.host_interface)
        add_own_address(self._wiring, machine.namespace, own)
        finish(self._wiring, [topology.endpoint(f"pod/{pod.key}")])

    def _take(self, pod: Pod) -> None:
        topology = self._topology
        if pod.host_network:
            topology.forget_alias(f"pod/{pod.key}")
        if not has_network(pod):
            return
        node, pods = self._nodes[pod.node], self._pods[pod.node]
        del pods[next(number for number, each in enumerate(pods) if each.key == pod.key)]
        namespace, machine = topology.endpoint(f"node/{node.name}").namespace, topology.endpoint(f"pod/{pod.key}")
        assert pod.host_interface
        cni = CNIS[topology.manifests.config.cni.name]
        cni.withdraw(self._wiring, node, pod, self._others(node))
        if topology.sites is None or self._engine.is_made(namespace):
            cni.detach(self._wiring, node, pod)
            for device in (topology.described_device(namespace, pod.host_interface), machine.eth0):
                self._engine.del_device(device)
        topology.forget_device(namespace, pod.host_interface)
        topology.forget_machine(machine)

    def _others(self, node: Node) -> list[Node]:
        return [other for other in self._made() if other is not node]


def has_network(pod: Pod) -> bool:
    """Of its own, as ``pods.networked_pods`` has it."""
    return not pod.host_network and pod.phase == "Running" and bool(pod.node) and bool(pod.addresses)


def network_of(pod: Pod) -> tuple[object, ...]:
    """What of a pod decides how it is attached."""
    return has_network(pod), pod.host_network, pod.node, pod.addresses, pod.mac, pod.host_interface, pod.host_mac
