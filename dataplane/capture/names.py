"""Names for the addresses and interfaces of a cluster, as captures and summaries show them."""

from __future__ import annotations

from collections.abc import Iterable

from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW
from dataplane.capture.pcapng_write import Interface
from dataplane.control.topology import Topology
from dataplane.k8s.objects import Manifests


def address_names(manifests: Manifests) -> dict[bytes, str]:
    """Packed address (4 or 16 bytes, network byte order) to name.

    A node or a host of the underlay keeps its name, a pod is ``web-0.default.pod``, a service
    ``web.default.svc`` on every address it answers on. Of two owners of one address the first kind in this
    order wins: a pod on its node's network does not rename the node.
    """
    names: dict[bytes, str] = {}
    for node in manifests.nodes:
        for address in (*node.addresses, *node.external_addresses):
            names.setdefault(address.packed, node.name)
    for host in manifests.config.underlay.hosts:
        for address in host.addresses:
            names.setdefault(address.packed, host.name)
    for pod in manifests.pods:
        for address in pod.addresses:
            names.setdefault(address.packed, f"{pod.name}.{pod.namespace}.pod")
    for service in manifests.services:
        balanced = (ingress.address for ingress in service.load_balancer)
        for address in (*service.cluster_ips, *service.external_ips, *balanced):
            names.setdefault(address.packed, f"{service.name}.{service.namespace}.svc")
    return names


def interfaces(topology: Topology, devices: Iterable[int]) -> list[Interface]:
    """The devices as interfaces of a capture; those whose frames have no Ethernet header are of link type raw IP."""
    found = []
    for device in devices:
        owner = topology.machines.get(topology.device_namespace(device))
        link_type = LINKTYPE_ETHERNET if topology.has_ethernet(device) else LINKTYPE_RAW
        found.append(Interface(topology.device_name(device), owner.ref if owner else "", link_type))
    return found
