"""Kind Pod: placement, addresses, ports, readiness and the annotations ``dataplane/mac``, ``-/host-interface``, ``-/host-mac``."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.k8s import api_fields
from dataplane.k8s.fields import PROTOCOLS, Fields
from dataplane.k8s.metadata import Item
from dataplane.k8s.node import check_device_name
from dataplane.k8s.objects import ContainerPort, IPAddress, Pod

MAC_ANNOTATION = "dataplane/mac"
HOST_INTERFACE_ANNOTATION = "dataplane/host-interface"
HOST_MAC_ANNOTATION = "dataplane/host-mac"
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
ENDED = frozenset({"Succeeded", "Failed"})


def parse_pod(item: Item) -> Pod:
    """Read a Pod as it stands; what is missing is derived later.

    A pod that has ended has no addresses: its status still shows the last one, which another pod may have by now.
    """
    fields, metadata = item.fields, item.metadata
    fields.warn_unknown(api_fields.TOP)
    spec, status = fields.child("spec"), fields.child("status")
    spec.warn_unknown(api_fields.POD_SPEC)
    status.warn_unknown(api_fields.POD_STATUS)
    annotations = fields.child("metadata").child("annotations")
    host_interface = annotations.text(HOST_INTERFACE_ANNOTATION) or None
    if host_interface is not None:
        check_device_name(annotations, HOST_INTERFACE_ANNOTATION, host_interface)
    phase = status.choice("phase", "Running", PHASES)
    ready = _is_ready(status, phase)
    containers, ready_containers, restarts = _containers(spec, status, ready)
    return Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        node=spec.text("nodeName"),
        addresses=() if phase in ENDED else _addresses(status, "podIP", "podIPs"),
        origin=item.origin,
        labels=metadata.labels,
        annotations=metadata.annotations,
        ports=tuple(_ports(spec)),
        host_network=spec.boolean("hostNetwork", False),
        phase=phase,
        ready=ready,
        terminating=metadata.terminating,
        mac=annotations.mac(MAC_ANNOTATION),
        host_interface=host_interface,
        host_mac=annotations.mac(HOST_MAC_ANNOTATION),
        node_selector=spec.string_map("nodeSelector"),
        host_addresses=_addresses(status, "hostIP", "hostIPs"),
        containers=containers,
        ready_containers=ready_containers,
        restarts=restarts,
    )


def _addresses(status: Fields, single: str, plural: str) -> tuple[IPAddress, ...]:
    several = tuple(entry.parse_address("ip", entry.required_text("ip")) for entry in status.children(plural))
    status.one_per_family(plural, several)
    one = status.address(single)
    if one is not None and several and several[0] != one:
        raise status.error(single, f"is {one}, but {plural} begins with {several[0]}", "make them equal or remove one")
    return several or ((one,) if one is not None else ())


def _is_ready(status: Fields, phase: str) -> bool:
    """Condition Ready; a running pod without conditions was written by hand and is taken as ready."""
    states = [entry.text("status") for entry in status.children("conditions") if entry.text("type") == "Ready"]
    return states[0] == "True" if states else phase == "Running"


def _containers(spec: Fields, status: Fields, ready: bool) -> tuple[int, int, int]:
    """How many containers there are, how many are ready, and how often they restarted, as kubectl counts (printers.go, printPod).

    Without states (a pod written by hand) they are as ready as the pod.
    """
    sidecars = {entry.text("name") for entry in spec.children("initContainers") if entry.text("restartPolicy") == "Always"}
    total = spec.count("containers") + len(sidecars)
    states = [*status.children("containerStatuses")]
    states += [entry for entry in status.children("initContainerStatuses") if entry.text("name") in sidecars]
    if not states:
        return total, total if ready else 0, 0
    are_ready = sum(entry.boolean("ready", False) for entry in states)
    return total, are_ready, sum(entry.integer("restartCount", 0, 0, 2**31 - 1) for entry in states)


def _ports(spec: Fields) -> Iterator[ContainerPort]:
    """Ports of the containers, then of sidecars (init containers that restart, KEP-753), in the order named ports are searched."""
    for container in spec.children("containers"):
        container.warn_unknown(api_fields.CONTAINER)
        yield from _container_ports(container)
    for container in spec.children("initContainers"):
        container.warn_unknown(api_fields.CONTAINER)
        if container.text("restartPolicy") == "Always":
            yield from _container_ports(container)


def _container_ports(container: Fields) -> Iterator[ContainerPort]:
    for port in container.children("ports"):
        port.warn_unknown(api_fields.CONTAINER_PORT)
        if not port.has("containerPort"):
            raise port.error("containerPort", "is missing", "add it")
        yield ContainerPort(
            name=port.text("name"),
            port=port.integer("containerPort", 0, 1, 65535),
            protocol=port.choice("protocol", "TCP", PROTOCOLS),
            host_port=port.integer("hostPort", 0, 0, 65535),
        )
