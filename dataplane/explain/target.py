"""What a trace starts from and goes to: names to addresses and ports, and who listens where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dataplane.control.topology import Machine, Topology
from dataplane.errors import InputError
from dataplane.k8s.fields import plain_address
from dataplane.k8s.objects import ContainerPort, IPAddress, Manifests, Pod, Service, ServicePort

DEFAULT_PORTS = {"tcp": 80, "udp": 53, "sctp": 9899, "icmp": 0}
_REFERENCE = re.compile(r"(?P<kind>pod|service|svc|node|host)/(?P<name>[^:]+)(?::(?P<port>.+))?")
_BRACKETED = re.compile(r"\[(?P<address>[^]]+)\](?::(?P<port>.+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a probe is sent."""

    label: str  # as the user named it, with the namespace
    address: IPAddress
    protocol: str  # tcp udp icmp sctp
    port: int  # 0: icmp
    what: str = ""  # "port http of Service default/web", "" if there is no more to say


def parse_reference(text: str, namespace: str) -> str:
    """``pod/NAME`` of the given Kubernetes namespace as ``pod/NAMESPACE/NAME``; node/ and host/ as they are."""
    kind, _, name = text.partition("/")
    kind = "service" if kind == "svc" else kind
    if kind in ("pod", "service") and name and "/" not in name:
        return f"{kind}/{namespace}/{name}"
    return f"{kind}/{name}"


def find_source(topology: Topology, text: str, namespace: str) -> Machine:
    """The machine of ``pod/[NAMESPACE/]NAME``, ``node/NAME`` or ``host/NAME``. InputError names those that are there."""
    return topology.endpoint(parse_reference(text, namespace))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user says of a destination beside its name."""

    protocol: str = ""  # tcp udp icmp sctp; "": the service's own, else TCP
    port: str = ""  # a number or a name; "": the destination says it
    family: int = 0  # 4, 6; 0: that of the destination's first address that the source can have sent to


def find_target(topology: Topology, text: str, namespace: str, source: Machine, wanted: Wanted) -> Target:
    """Address, protocol and port of a destination. InputError where something does not exist or is not clear."""
    reference, written = _split(text)
    if written and wanted.port and written != wanted.port:
        raise InputError(f"{text} names port {written} and --port says {wanted.port}: give one")
    wanted = replace(wanted, port=written or wanted.port)
    if "/" not in reference:
        address = _reachable(source, (_address(reference),), text, wanted.family)
        chosen = wanted.protocol or "tcp"
        return Target(reference, address, chosen, _plain_port(chosen, wanted.port, text))
    label = parse_reference(reference, namespace)
    if label.startswith("service/"):
        return _service_target(topology.manifests, label, source, wanted)
    machine = topology.endpoint(label)
    chosen = wanted.protocol or "tcp"
    address = _reachable(source, machine.addresses, label, wanted.family)
    return Target(label, address, chosen, _machine_port(topology.manifests, label, chosen, wanted.port))


def _split(text: str) -> tuple[str, str]:
    """What is named, and the port behind it."""
    found = _REFERENCE.fullmatch(text)
    if found:
        return f"{found['kind']}/{found['name']}", found["port"] or ""
    found = _BRACKETED.fullmatch(text)
    if found:
        return found["address"], found["port"] or ""
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address, port
    return text, ""


def _address(text: str) -> IPAddress:
    try:
        return plain_address(text)
    except ValueError:
        known = "an IP address, pod/NAMESPACE/NAME, service/NAMESPACE/NAME[:PORT], node/NAME or host/NAME"
        raise InputError(f"--to {text}: write {known}") from None


def _reachable(source: Machine, addresses: tuple[IPAddress, ...], label: str, family: int) -> IPAddress:
    """The first address of the wanted family, or of any that the source has too: of a service the one of its first ipFamily."""
    own = {address.version for address in source.addresses} & ({family} if family else {4, 6})
    for address in addresses:
        if address.version in own:
            return address
    wanted = f"IPv{family} address in common with {source.ref}" if family else f"address of a family that {source.ref} has too"
    has = ", ".join(map(str, addresses))
    raise InputError(f"{label}: there is no {wanted} (it has {has}): choose other ends{' or another --family' if family else ''}")


# ---- ports


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and 1 <= int(text) <= 65535 else None


def _plain_port(protocol: str, port: str, label: str) -> int:
    if protocol == "icmp":
        return 0
    number = _number(port) if port else DEFAULT_PORTS[protocol]
    if number is None:
        raise InputError(f"{label}: port {port!r} is no number from 1 to 65535")
    return number


def _pod_ports(manifests: Manifests, label: str, protocol: str) -> list[ContainerPort]:
    pod = next((pod for pod in manifests.pods if f"pod/{pod.key}" == label), None)
    return [each for each in (pod.ports if pod else ()) if each.protocol == protocol.upper()]


def _machine_port(manifests: Manifests, label: str, protocol: str, port: str) -> int:
    """A pod's port may be named, and goes without saying if it declares one."""
    declared = _pod_ports(manifests, label, protocol)
    named = next((each.port for each in declared if port and each.name == port), None)
    if named is not None:
        return named
    if not port and protocol != "icmp" and len({each.port for each in declared}) == 1:
        return declared[0].port
    return _plain_port(protocol, port, label)


def _service_target(manifests: Manifests, label: str, source: Machine, wanted: Wanted) -> Target:
    key = label.removeprefix("service/")
    service = next((each for each in manifests.services if each.key == key), None)
    if service is None:
        there = [f"service/{each.key}" for each in manifests.services]
        raise InputError(
            f"{label}: there is no such service: there are {', '.join(there[:8]) or 'none'}{' and more' if len(there) > 8 else ''}"
        )
    if not service.cluster_ips:
        raise InputError(f"{label} ({service.origin}) has no cluster IP: name one of its pods, as DNS would")
    address = _reachable(source, service.cluster_ips, label, wanted.family)
    protocol, port = wanted.protocol, wanted.port
    if protocol == "icmp":
        return Target(label, address, protocol, 0)
    chosen = _service_port(service, protocol, port)
    if chosen is None:
        number = _plain_port(protocol or "tcp", port, label)
        return Target(label, address, protocol or "tcp", number, f"not a port of {service.origin.what}")
    name = f"port {chosen.name or chosen.port}"
    return Target(label, address, chosen.protocol.lower(), chosen.port, f"{name} of {service.origin.what}")


def _service_port(service: Service, protocol: str, port: str) -> ServicePort | None:
    """The port that is meant; None for a number that the service has not. InputError if it is not clear."""
    fitting = [each for each in service.ports if not protocol or each.protocol == protocol.upper()]
    if port:
        found = [each for each in fitting if port in (each.name, str(each.port))]
        if found or _number(port):
            return found[0] if found else None
    elif len(fitting) == 1:
        return fitting[0]
    has = ", ".join(f"{each.name or each.port} ({each.port}/{each.protocol})" for each in service.ports) or "none"
    raise InputError(f"service/{service.key}: which port? It has {has}: write service/{service.key}:PORT")


# ---- who listens


def listeners(topology: Topology, protocol: str, port: int) -> Iterator[tuple[int, int]]:
    """Namespace and port of every application that the manifests let us expect.

    A port listens if a container declares it or an EndpointSlice sends traffic there. Of a pod or host that declares
    no port of this protocol nothing is known: it is taken to listen on ``port`` too. A node is not.
    """
    known = _known_ports(topology, protocol)
    declaring = {f"pod/{pod.key}" for pod in topology.manifests.pods if any(each.protocol == protocol.upper() for each in pod.ports)}
    for namespace, machine in topology.machines.items():
        ports = known.get(namespace, set())
        if machine.kind != "node" and machine.ref not in declaring:
            ports = ports | {port}
        yield from ((namespace, number) for number in sorted(ports))


def _known_ports(topology: Topology, protocol: str) -> dict[int, set[int]]:
    owners = {address: machine.namespace for machine in topology.machines.values() for address in machine.addresses}
    found: dict[int, set[int]] = {}
    for pod in topology.manifests.pods:
        for address in _where(pod):
            if address in owners:
                found.setdefault(owners[address], set()).update(each.port for each in pod.ports if each.protocol == protocol.upper())
    for each in topology.manifests.endpoint_slices:
        numbers = {port.port for port in each.ports if port.protocol == protocol.upper()}
        for endpoint in each.endpoints:
            for address in endpoint.addresses:
                if address in owners:
                    found.setdefault(owners[address], set()).update(numbers)
    return found


def _where(pod: Pod) -> tuple[IPAddress, ...]:
    return pod.host_addresses or pod.addresses if pod.host_network else pod.addresses
