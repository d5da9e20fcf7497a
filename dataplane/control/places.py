"""Names and numbers of machines and devices before they are made: what a large cluster costs until frames reach its nodes."""

from __future__ import annotations

from dataplane.control.pods import pod_mac, pod_name
from dataplane.control.topology import Machine, Topology
from dataplane.control.underlay import UPLINK
from dataplane.k8s.objects import IPAddress, Node, Origin, Pod


class Places:
    """Hands out the numbers that namespaces and devices will have in the core, in the order in which they would be made."""

    def __init__(self, topology: Topology, namespaces: int, devices: int) -> None:
        """``namespaces``, ``devices``: how many numbers are taken."""
        self.topology = topology
        self.namespaces = namespaces
        self.devices = devices
        self.site_of: dict[int, str] = {}  # by namespace: the name of the node that it is made with
        self._nodes: dict[str, int] = {}

    def device(self, namespace: int, name: str, *, ethernet: bool = True) -> int:
        number = self.devices
        self.devices += 1
        self.topology.add_device(namespace, name, number, ethernet=ethernet)
        return number

    def machine(self, name: str, ref: str, mac: bytes, addresses: tuple[IPAddress, ...], origin: Origin) -> Machine:
        """A namespace with its ``eth0``."""
        namespace = self.namespaces
        self.namespaces += 1
        self.topology.add_namespace(namespace, name)
        self.device(namespace, "lo")
        machine = Machine(namespace, name, ref.partition("/")[0], ref, self.device(namespace, UPLINK), mac, addresses, origin)
        self.topology.add_machine(machine)
        return machine

    def node(self, node: Node) -> int:
        """The namespace of a node that is described already."""
        if node.name not in self._nodes:
            self._nodes[node.name] = self.topology.endpoint(f"node/{node.name}").namespace
        return self._nodes[node.name]

    def pod(self, pod: Pod, node: Node) -> None:
        """A pod and both ends of its veth pair; its node is described already."""
        assert pod.host_interface  # the loader derives it for every pod with an address
        machine = self.machine(pod_name(self.topology, pod), f"pod/{pod.key}", pod_mac(pod), pod.addresses, pod.origin)
        self.device(self.node(node), pod.host_interface)
        self.site_of[machine.namespace] = node.name
