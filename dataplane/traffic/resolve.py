"""From the names in a flow to addresses, and to the applications that must listen for it to be answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane.control.topology import Machine, Topology
from dataplane.errors import InputError
from dataplane.k8s.fields import place
from dataplane.k8s.objects import ContainerPort, IPAddress, Pod, Service, ServicePort
from dataplane.traffic.model import Flow, Reference, Traffic


@dataclass(frozen=True, slots=True)
class Listener:
    """An application of a namespace that answers on a port."""

    namespace: int
    port: int


@dataclass(frozen=True, slots=True)
class ResolvedFlow:
    """A flow with everything looked up."""

    number: int  # in the run, from 0
    flow: Flow
    namespace: int
    destination: bytes  # network byte order, either family
    port: int  # 0: a ping
    listeners: tuple[Listener, ...]


def resolve(documents: Iterable[Traffic], topology: Topology) -> list[ResolvedFlow]:
    """Look up the flows of all documents, in order. InputError, with file and line, for one that names nothing."""
    flows = [flow for document in documents for flow in document.flows]
    resolver = _Resolver(topology)
    return [resolver.resolve(flow, number) for number, flow in enumerate(flows)]


def _error(flow: Flow, text: str) -> InputError:
    return InputError(f"{place(flow.origin)}: {text}")


class _Resolver:
    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._services = {service.key: service for service in topology.manifests.services}
        self._pods = {pod.key: pod for pod in topology.manifests.pods}
        self._owners = {address: machine for machine in topology.machines.values() for address in machine.addresses}
        self._node_addresses = {address for node in topology.manifests.nodes for address in node.addresses}

    def resolve(self, flow: Flow, number: int) -> ResolvedFlow:
        source = self._machine(flow, flow.source)
        destination, port, listeners = self._target(flow, source)
        wanted = () if flow.kind == "ping" or not flow.listen else tuple(dict.fromkeys(listeners))
        return ResolvedFlow(number, flow, source.namespace, destination.packed, port, wanted)

    def _machine(self, flow: Flow, reference: Reference) -> Machine:
        try:
            return self._topology.endpoint(str(reference))
        except InputError as error:
            raise _error(flow, str(error)) from None

    def _target(self, flow: Flow, source: Machine) -> tuple[IPAddress, int, Iterable[Listener]]:
        if not isinstance(flow.target, Reference):
            self._check_family(flow, source, (flow.target,))
            port = self._number(flow, None)
            return flow.target, port, self._listeners_at(flow, flow.target, port)
        if flow.target.kind == "service":
            return self._service_target(flow, flow.target, source)
        machine = self._machine(flow, flow.target)
        address = self._check_family(flow, source, machine.addresses)
        port = self._number(flow, self._pods.get(flow.target.key) if flow.target.kind == "pod" else None)
        return address, port, [Listener(machine.namespace, port)]

    def _check_family(self, flow: Flow, source: Machine, addresses: tuple[IPAddress, ...]) -> IPAddress:
        """The first address of the wanted family, or of any that the source has too."""
        versions = [int(flow.family[-1])] if flow.family else sorted({address.version for address in source.addresses})
        for address in addresses:
            if address.version in versions and any(own.version == address.version for own in source.addresses):
                return address
        families = flow.family or "a family that both ends have"
        raise _error(flow, f"from {flow.source} to {flow.target} there is no address of {families}; choose other ends or another ipFamily")

    def _number(self, flow: Flow, pod: Pod | None) -> int:
        """The destination port of a flow to a pod, a machine or an address."""
        if flow.kind == "ping":
            return 0
        if isinstance(flow.port, int):
            return flow.port
        declared = [port for port in (pod.ports if pod else ()) if _carries(port, flow)]
        if flow.port is not None:
            declared = [port for port in declared if port.name == flow.port]
        numbers = {port.port for port in declared}
        if len(numbers) != 1:
            wanted = "several ports" if numbers else f"no port {flow.port!r}" if flow.port else "no port"
            raise _error(flow, f"{flow.target} declares {wanted} for {flow.kind}; write the number under port")
        return numbers.pop()

    # ---- services
    def _service_target(self, flow: Flow, target: Reference, source: Machine) -> tuple[IPAddress, int, Iterable[Listener]]:
        service = self._services.get(target.key)
        if service is None:
            raise _error(flow, f"{target}: there is no such service; there are {', '.join(list(self._services)[:8]) or 'none'}")
        if not service.cluster_ips:
            raise _error(flow, f"{target} has no cluster IP; name one of its pods, as DNS would")
        address = self._check_family(flow, source, service.cluster_ips)
        if flow.kind == "ping":
            return address, 0, ()
        port = _service_port(flow, service)
        # A port that the service has not is tried all the same: kube-proxy has no rule for it.
        return address, port.port if port else self._number(flow, None), self._endpoints(service, port, address.version)

    def _endpoints(self, service: Service, port: ServicePort | None, version: int) -> Iterator[Listener]:
        """Where the service's traffic may end: every endpoint, ready or not."""
        if port is None:
            return
        for endpoint_slice in self._topology.manifests.endpoint_slices:
            if (endpoint_slice.namespace, endpoint_slice.service) != (service.namespace, service.name):
                continue
            numbers = [each.port for each in endpoint_slice.ports if (each.name, each.protocol) == (port.name, port.protocol)]
            for endpoint in endpoint_slice.endpoints:
                owners = [self._owners[each] for each in endpoint.addresses if each.version == version and each in self._owners]
                yield from (Listener(owner.namespace, number) for owner in owners for number in numbers)

    def _listeners_at(self, flow: Flow, address: IPAddress, port: int) -> Iterator[Listener]:
        """Whoever answers at an address: the endpoints of a service that has it, or the machine that does."""
        for service in self._services.values():
            for each in service.ports:
                if each.protocol == flow.kind.upper() and self._is_at(service, each, address, port):
                    yield from self._endpoints(service, each, address.version)
        owner = self._owners.get(address)
        if owner is not None:
            yield Listener(owner.namespace, port)

    def _is_at(self, service: Service, port: ServicePort, address: IPAddress, number: int) -> bool:
        if port.node_port == number and address in self._node_addresses:
            return True
        virtual = (*service.cluster_ips, *service.external_ips, *(ingress.address for ingress in service.load_balancer))
        return port.port == number and address in virtual


def _carries(port: ContainerPort | ServicePort, flow: Flow) -> bool:
    return port.protocol == flow.kind.upper()


def _service_port(flow: Flow, service: Service) -> ServicePort | None:
    """The service's port that the flow means; None for a number that the service has not."""
    candidates = [port for port in service.ports if _carries(port, flow)]
    if isinstance(flow.port, int):
        return next((port for port in candidates if port.port == flow.port), None)
    if flow.port is not None:
        candidates = [port for port in candidates if port.name == flow.port]
    if len(candidates) != 1:
        has = ", ".join(f"{port.name or port.port}/{port.protocol}" for port in service.ports) or "none"
        raise _error(flow, f"{flow.target}: which port for {flow.kind}? The service has {has}; write one of them under port")
    return candidates[0]


def describe(resolved: ResolvedFlow) -> str:
    """One line: ``web: tcp pod/default/a -> 10.96.0.10:80``."""
    flow = resolved.flow
    address = ip_address(resolved.destination)
    where = str(address) if address.version == 4 or flow.kind == "ping" else f"[{address}]"
    if flow.kind != "ping":
        where += f":{resolved.port}"
    return f"{flow.name}: {flow.kind} {flow.source} -> {where}"
