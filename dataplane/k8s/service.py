"""Kind Service."""

from __future__ import annotations

from dataplane.k8s import api_fields
from dataplane.k8s.fields import PROTOCOLS, Fields
from dataplane.k8s.metadata import Item
from dataplane.k8s.objects import IPAddress, LoadBalancerIngress, Service, ServicePort

TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
POLICIES = ("Cluster", "Local")
DEFAULT_AFFINITY_SECONDS = 10800  # core/v1 DefaultClientIPServiceAffinitySeconds
LONGEST_AFFINITY_SECONDS = 86400  # core/v1 MaxClientIPServiceAffinitySeconds


def parse_service(item: Item) -> Service:
    """Read a Service as it stands; cluster IPs and node ports that are missing are derived later."""
    fields, metadata = item.fields, item.metadata
    fields.warn_unknown(api_fields.TOP)
    spec = fields.child("spec")
    spec.warn_unknown(api_fields.SERVICE_SPEC)
    service_type = spec.choice("type", "ClusterIP", TYPES)
    headless, cluster_ips = _cluster_ips(spec)
    external_name = service_type == "ExternalName"
    return Service(
        namespace=metadata.namespace,
        name=metadata.name,
        type=service_type,
        cluster_ips=() if external_name else cluster_ips,
        ports=() if external_name else _ports(spec),
        origin=item.origin,
        headless=headless and not external_name,
        external_ips=spec.addresses("externalIPs"),
        load_balancer=_ingress(fields.child("status")) if service_type == "LoadBalancer" else (),
        source_ranges=spec.networks("loadBalancerSourceRanges"),
        selector={} if external_name else spec.string_map("selector"),
        affinity_seconds=_affinity(spec),
        external_policy=spec.choice("externalTrafficPolicy", "Cluster", POLICIES),
        internal_policy=spec.choice("internalTrafficPolicy", "Cluster", POLICIES),
        health_check_node_port=spec.integer("healthCheckNodePort", 0, 0, 65535),
        publish_not_ready=spec.boolean("publishNotReadyAddresses", False),
        ip_families=_families(spec, cluster_ips),
        ip_family_policy=spec.choice("ipFamilyPolicy", "SingleStack", FAMILY_POLICIES),
        allocate_node_ports=spec.boolean("allocateLoadBalancerNodePorts", True),
        labels=metadata.labels,
        annotations=metadata.annotations,
    )


def _cluster_ips(spec: Fields) -> tuple[bool, tuple[IPAddress, ...]]:
    """Whether the service is headless (``None``), and its cluster IPs; empty where none is given yet."""
    single = spec.text("clusterIP")
    listed = [text for text, _ in spec.texts("clusterIPs")]
    if single and listed and single != listed[0]:
        raise spec.error("clusterIP", f"is {single[:60]!r}, but clusterIPs begins with {listed[0][:60]!r}", "make them equal or remove one")
    if single == "None" or listed[:1] == ["None"]:
        return True, ()
    if listed:
        several = spec.addresses("clusterIPs")
        spec.one_per_family("clusterIPs", several)
        return False, several
    return False, (spec.parse_address("clusterIP", single),) if single else ()


def _families(spec: Fields, cluster_ips: tuple[IPAddress, ...]) -> tuple[str, ...]:
    for index, (text, entry) in enumerate(spec.texts("ipFamilies")):
        if text not in FAMILIES:
            raise entry.error(f"ipFamilies[{index}]", f"is {text[:60]!r}", "write IPv4 or IPv6")
    written = tuple(text for text, _ in spec.texts("ipFamilies"))
    given = tuple(f"IPv{address.version}" for address in cluster_ips)
    if len(set(written)) < len(written):
        raise spec.error("ipFamilies", f"is {', '.join(written)}", "name each family once")
    if spec.text("ipFamilyPolicy") == "SingleStack" and len(max(given, written, key=len)) > 1:
        raise spec.error("ipFamilyPolicy", "is SingleStack, but there are two families", "write PreferDualStack or RequireDualStack")
    if written and given and written[: len(given)] != given:
        raise spec.error("ipFamilies", f"is {', '.join(written)}, but the cluster IPs are {', '.join(given)}", "make them agree")
    return max(given, written, key=len)


def _ports(spec: Fields) -> tuple[ServicePort, ...]:
    ports: list[ServicePort] = []
    several = len(list(spec.children("ports"))) > 1
    for entry in spec.children("ports"):
        entry.warn_unknown(api_fields.SERVICE_PORT)
        port = _port(entry)
        if several and not port.name:
            raise entry.error("name", "is missing", "name every port where a service has several")
        if any(other.name == port.name for other in ports):
            raise entry.error("name", f"is {port.name!r} for the second time", "give every port a name of its own")
        if any((other.port, other.protocol) == (port.port, port.protocol) for other in ports):
            raise entry.error("port", f"is {port.port} {port.protocol} for the second time", "remove one of the two")
        ports.append(port)
    return tuple(ports)


def _port(entry: Fields) -> ServicePort:
    if not entry.has("port"):
        raise entry.error("port", "is missing", "add it")
    number = entry.integer("port", 0, 1, 65535)
    return ServicePort(
        name=entry.text("name"),
        protocol=entry.choice("protocol", "TCP", PROTOCOLS),
        port=number,
        target_port=_target_port(entry, number),
        node_port=entry.integer("nodePort", 0, 0, 65535),
    )


def _target_port(entry: Fields, default: int) -> int | str:
    value = entry.data.get("targetPort")
    if isinstance(value, str):
        if value.isdigit():
            raise entry.error("targetPort", f"is a number in quotes, {value[:60]!r}", "write the number without quotes")
        return value or default
    return entry.integer("targetPort", default, 0, 65535) or default


def _affinity(spec: Fields) -> int:
    affinity = spec.choice("sessionAffinity", "None", ("None", "ClientIP"))
    client = spec.child("sessionAffinityConfig").child("clientIP")
    seconds = client.integer("timeoutSeconds", DEFAULT_AFFINITY_SECONDS, 1, LONGEST_AFFINITY_SECONDS)
    return seconds if affinity == "ClientIP" else 0


def _ingress(status: Fields) -> tuple[LoadBalancerIngress, ...]:
    """Addresses the load balancer has; an entry with a host name only has none that kube-proxy could serve."""
    status.warn_unknown(api_fields.SERVICE_STATUS)
    found = []
    for entry in status.child("loadBalancer").children("ingress"):
        entry.warn_unknown(api_fields.INGRESS_STATUS)
        address = entry.address("ip")
        if address is not None:
            found.append(LoadBalancerIngress(address, entry.choice("ipMode", "VIP", ("VIP", "Proxy"))))
    return tuple(found)
