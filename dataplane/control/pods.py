"""Which pods have a network of their own, and what their ends of it are called."""

from __future__ import annotations

from dataplane.control.mac import mac_of
from dataplane.control.topology import Topology
from dataplane.control.underlay import UPLINK, free_name
from dataplane.control.wiring import End, Wiring
from dataplane.errors import InputError
from dataplane.k8s.objects import Manifests, Pod

DEFAULT_NAMESPACE = "default"


def networked_pods(manifests: Manifests) -> dict[str, list[Pod]]:
    """By node, in the order written: pods that run, have an address and do not share their node's network."""
    return manifests.remembered("networked pods", lambda: _networked_pods(manifests))


def _networked_pods(manifests: Manifests) -> dict[str, list[Pod]]:
    pods: dict[str, list[Pod]] = {node.name: [] for node in manifests.nodes}
    for pod in manifests.pods:
        if pod.host_network or pod.phase != "Running" or not pod.node or not pod.addresses:
            continue
        if pod.node not in pods:
            raise InputError(f"{pod.origin}: spec.nodeName {pod.node!r} is not among the nodes: add that Node, or correct the name")
        pods[pod.node].append(pod)
    return pods


def add_host_network_pods(topology: Topology) -> None:
    """A pod with ``hostNetwork: true`` is reached as its node."""
    nodes = {machine.ref: machine for machine in topology.machines.values() if machine.kind == "node"}
    for pod in topology.manifests.pods:
        node = nodes.get(f"node/{pod.node}")
        if pod.host_network and node is not None:
            topology.add_alias(f"pod/{pod.key}", node)


def add_pod(wiring: Wiring, pod: Pod, node: int, mtu: int) -> tuple[int, int]:
    """Make the pod's namespace and the veth pair to its node's; returns the pod's and the node's device.

    Addresses and routes are the CNI's affair.
    """
    assert pod.host_interface  # the loader derives it for every pod with an address
    namespace = wiring.namespace(pod_name(wiring.topology, pod))
    mac = pod_mac(pod)
    host_end = End(node, pod.host_interface, host_mac(pod), mtu)
    eth0, host = wiring.veth_pair(End(namespace, UPLINK, mac, mtu), host_end, pod.origin)
    wiring.machine(f"pod/{pod.key}", eth0, mac, pod.addresses, pod.origin)
    return eth0, host


def pod_name(topology: Topology, pod: Pod) -> str:
    """Of its namespace in the core."""
    return free_name(topology, pod.name if pod.namespace == DEFAULT_NAMESPACE else pod.key, f"pod/{pod.key}")


def pod_mac(pod: Pod) -> bytes:
    return mac_of(pod.mac, pod.origin, "pod", pod.key)


def host_mac(pod: Pod) -> bytes:
    """Of the node's end of the pod's veth pair."""
    return mac_of(pod.host_mac, pod.origin, "veth", pod.key)
