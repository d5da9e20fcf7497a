"""Service ports of one address family, joined with their endpoints over all slices, as kube-proxy sees them.

Source: kube-proxy v1.30, pkg/proxy/serviceport.go (newBaseServiceInfo), pkg/proxy/endpointslicecache.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dataplane.control.proxy.endpoints import ProxyEndpoint, TrafficPolicy
from dataplane.k8s.objects import Endpoint, EndpointPort, EndpointSlice, IPAddress, IPNetwork, Manifests, Origin, Service, ServicePort

_PortKey = tuple[str, str, str, str]  # namespace, service, port name, protocol


@dataclass(frozen=True, slots=True)
class ProxyServicePort:
    """One port of one service in one family; protocols are lower case (tcp, udp, sctp)."""

    name: str  # namespace/service:port, without ":port" where the port has no name
    protocol: str
    port: int
    cluster_ip: IPAddress
    policy: TrafficPolicy
    origin: Origin
    node_port: int = 0
    external_ips: tuple[IPAddress, ...] = ()
    load_balancer_ips: tuple[IPAddress, ...] = ()  # those whose traffic arrives with the address still in it (ipMode VIP)
    source_ranges: tuple[IPNetwork, ...] = ()
    affinity_seconds: int = 0  # 0: no session affinity
    health_check_node_port: int = 0
    endpoints: tuple[ProxyEndpoint, ...] = ()  # in the order of their text


def service_ports(manifests: Manifests, node_name: str, family: int) -> list[ProxyServicePort]:
    """All ports that node ``node_name`` proxies for family 4 or 6, in the order written. Headless and ExternalName services have none."""
    slices = slices_by_service(manifests)
    return [port for service in manifests.services for port in ports_of(service, slices.get(service.key, ()), node_name, family)]


def slices_by_service(manifests: Manifests) -> dict[str, list[EndpointSlice]]:
    """By NAMESPACE/NAME, in the order loaded."""
    found: dict[str, list[EndpointSlice]] = {}
    for item in manifests.endpoint_slices:
        found.setdefault(f"{item.namespace}/{item.service}", []).append(item)
    return found


def ports_of(service: Service, slices: Iterable[EndpointSlice], node_name: str, family: int) -> list[ProxyServicePort]:
    """The ports of one service, whose ``slices`` these are."""
    if service.type == "ExternalName" or service.headless:
        return []
    cluster_ip = next(iter(_of_family(service.cluster_ips, family)), None)
    if cluster_ip is None:
        return []
    endpoints = _endpoints(slices, node_name, family)
    return [_service_port(service, port, cluster_ip, endpoints) for port in service.ports]


def _of_family(addresses: Iterable[IPAddress], family: int) -> tuple[IPAddress, ...]:
    return tuple(address for address in addresses if address.version == family)


def _service_port(
    service: Service, port: ServicePort, cluster_ip: IPAddress, endpoints: Mapping[_PortKey, tuple[ProxyEndpoint, ...]]
) -> ProxyServicePort:
    family = cluster_ip.version
    external_ips = _of_family(service.external_ips, family)
    load_balancer_ips = _of_family((ingress.address for ingress in service.load_balancer if ingress.mode == "VIP"), family)
    # The field means something only on services that can be reached from outside (apiserver, ExternalPolicyLocal).
    external_local = service.external_policy == "Local" and (service.type in ("NodePort", "LoadBalancer") or bool(service.external_ips))
    return ProxyServicePort(
        name=f"{service.key}:{port.name}" if port.name else service.key,
        protocol=port.protocol.lower(),
        port=port.port,
        cluster_ip=cluster_ip,
        policy=TrafficPolicy(
            internal_local=service.internal_policy == "Local",
            external_local=external_local,
            externally_accessible=bool(port.node_port or external_ips or load_balancer_ips),
        ),
        origin=service.origin,
        node_port=port.node_port,
        external_ips=external_ips,
        load_balancer_ips=load_balancer_ips,
        source_ranges=tuple(prefix for prefix in service.source_ranges if prefix.version == family),
        affinity_seconds=service.affinity_seconds,
        health_check_node_port=service.health_check_node_port if service.type == "LoadBalancer" and external_local else 0,
        endpoints=endpoints.get((service.namespace, service.name, port.name, port.protocol), ()),
    )


def _endpoints(slices: Iterable[EndpointSlice], node_name: str, family: int) -> dict[_PortKey, tuple[ProxyEndpoint, ...]]:
    joined: dict[_PortKey, dict[str, ProxyEndpoint]] = {}
    for endpoint_slice in slices:
        if endpoint_slice.address_type != f"IPv{family}":
            continue
        for port in endpoint_slice.ports:
            known = joined.setdefault((endpoint_slice.namespace, endpoint_slice.service, port.name, port.protocol), {})
            for endpoint in endpoint_slice.endpoints:
                _join(known, _proxy_endpoint(endpoint, port, endpoint_slice.origin, node_name))
    return {key: tuple(known[text] for text in sorted(known)) for key, known in joined.items()}


def endpoints_named(slices: Iterable[EndpointSlice], family: int) -> dict[tuple[str, str], int]:
    """How many endpoints slices name for each port (name and protocol), those that are named twice counted twice."""
    found: dict[tuple[str, str], int] = {}
    for item in slices:
        for port in item.ports if item.address_type == f"IPv{family}" else ():
            key = port.name, port.protocol
            found[key] = found.get(key, 0) + len(item.endpoints)
    return found


def _join(known: dict[str, ProxyEndpoint], endpoint: ProxyEndpoint) -> None:
    """An endpoint that two slices hold counts once; the slice that knows it as local wins."""
    if endpoint.text not in known or endpoint.local:
        known[endpoint.text] = endpoint


def _proxy_endpoint(endpoint: Endpoint, port: EndpointPort, origin: Origin, node_name: str) -> ProxyEndpoint:
    return ProxyEndpoint(
        address=endpoint.addresses[0],  # further addresses of one endpoint have no meaning (discovery/v1, Endpoint.addresses)
        port=port.port,
        origin=origin,
        ready=endpoint.ready,
        serving=endpoint.serving,
        terminating=endpoint.terminating,
        local=endpoint.node == node_name,
        zone_hints=endpoint.zone_hints,
        node_hints=endpoint.node_hints,
    )
