"""Names and numbers of machines and devices before they are made: what a large cluster costs until frames reach its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from dataplane.control.pods import pod_mac, pod_name
from dataplane.control.topology import Machine, Topology
from dataplane.control.underlay import UPLINK
from dataplane.k8s.objects import IPAddress, Node, Origin, Pod


@dataclass(slots=True)
class Places:
    """Hands out the numbers that namespaces and devices will have in the core, in the order in which they would be made."""

    topology: Topology
    namespaces: int  # how many numbers are taken
    devices: int
    site_of: dict[int, str] = field(default_factory=dict)  # by namespace: the name of the node that it is made with

    def device(self, namespace: int, name: str, *, ethernet: bool = True) -> int:
        number = self.devices
        self.devices += 1
        self.topology.add_device(namespace, name, number, ethernet=ethernet)
        return number

    def namespace(self, name: str) -> int:
        number = self.namespaces
        self.namespaces += 1
        self.topology.add_namespace(number, name)
        self.device(number, "lo")
        return number

    def machine(self, name: str, ref: str, mac: bytes, addresses: tuple[IPAddress, ...], origin: Origin) -> Machine:
        """A namespace with its ``eth0``."""
        namespace = self.namespace(name)
        machine = Machine(namespace, name, ref.partition("/")[0], ref, self.device(namespace, UPLINK), mac, addresses, origin)
        self.topology.add_machine(machine)
        return machine

    def node(self, node: Node) -> int:
        """The namespace of a node that is described already."""
        return self.topology.endpoint(f"node/{node.name}").namespace

    def pod(self, pod: Pod) -> None:
        """A pod and both ends of its veth pair; its node is described already."""
        assert pod.host_interface  # the loader derives it for every pod with an address
        node = self.topology.endpoint(f"node/{pod.node}").namespace
        machine = self.machine(pod_name(self.topology, pod), f"pod/{pod.key}", pod_mac(pod), pod.addresses, pod.origin)
        self.device(node, pod.host_interface)
        self.site_of[machine.namespace] = pod.node
