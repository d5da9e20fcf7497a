"""EndpointSlices as the EndpointSlice controller makes them from a Service's selector (pkg/controller/endpointslice)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from dataplane.k8s.objects import Endpoint, EndpointPort, EndpointSlice, Node, Origin, Pod, Service
from dataplane.k8s.pod import ENDED

ZONE_LABEL = "topology.kubernetes.io/zone"


class PodIndex:
    """Pods by namespace and label, so that thousands of selectors need not look at every pod."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        self._pods = pods
        self._by_label: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for index, pod in enumerate(pods):
            for name, value in pod.labels.items():
                self._by_label[pod.namespace, name, value].append(index)

    def select(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        """Pods with all labels of a non-empty selector, in the order loaded."""
        lists = [self._by_label.get((namespace, name, value), []) for name, value in selector.items()]
        shortest = min(lists, key=len)
        chosen = (self._pods[index] for index in shortest)
        return [pod for pod in chosen if all(pod.labels.get(name) == value for name, value in selector.items())]


def resolve_ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    """The service's ports at this pod; a named target port that the pod lacks is left out, as the controller does."""
    found = []
    for port in service.ports:
        number = port.target_port if isinstance(port.target_port, int) else named_port(pod, port.target_port, port.protocol)
        if number is not None:
            found.append(EndpointPort(port.name, port.protocol, number))
    return tuple(found)


def named_port(pod: Pod, name: str, protocol: str) -> int | None:
    """Number of the first container port with this name and protocol (pkg/api/v1/pod FindPort)."""
    return next((port.port for port in pod.ports if port.name == name and port.protocol == protocol), None)


def derive_slices(service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node]) -> list[EndpointSlice]:
    """The slices of a service with a selector: one for each family, and for each set of port numbers where pods differ."""
    pods = list(pods)
    slices = []
    for family in service.ip_families:
        groups: dict[tuple[EndpointPort, ...], list[Endpoint]] = {}
        for pod in pods:
            endpoint = _endpoint(service, pod, family, nodes)
            if endpoint is not None:
                groups.setdefault(resolve_ports(service, pod), []).append(endpoint)
        for index, (ports, endpoints) in enumerate((groups or {(): []}).items()):
            name = f"{service.name}-{family.lower()}-{index}"
            origin = Origin(service.origin.file, 0, f"EndpointSlice {service.namespace}/{name} from the selector of {service.origin}")
            slices.append(EndpointSlice(service.namespace, name, service.name, family, tuple(endpoints), ports, origin))
    return slices


def _endpoint(service: Service, pod: Pod, family: str, nodes: Mapping[str, Node]) -> Endpoint | None:
    """The pod as an endpoint, or None while it has no address or once it has ended.

    serving is the pod's readiness; a terminating pod is not ready, unless the service publishes unready addresses
    (KEP-1672).
    """
    addresses = tuple(address for address in pod.addresses if f"IPv{address.version}" == family)[:1]
    if not addresses or pod.phase in ENDED:
        return None
    node = nodes.get(pod.node)
    return Endpoint(
        addresses=addresses,
        ready=service.publish_not_ready or (pod.ready and not pod.terminating),
        serving=pod.ready,
        terminating=pod.terminating,
        node=pod.node,
        zone=node.labels.get(ZONE_LABEL, "") if node else "",
        target=pod.key,
    )
