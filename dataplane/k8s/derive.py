"""What was not written, as the cluster would have made it: CIDRs, nodes, addresses, ports, slices, MAC addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha1, sha256

from dataplane.errors import InputError
from dataplane.k8s.cidrs import derive_config
from dataplane.k8s.collected import Collected
from dataplane.k8s.fields import place
from dataplane.k8s.ipam import CalicoIpam, ClusterIps, HostLocal, Ipam, NodeCidrs, NodePorts, next_host_address, stable_number
from dataplane.k8s.objects import ClusterConfig, Host, IPAddress, Manifests, Namespace, Node, Origin, Pod, Service, ServicePort
from dataplane.k8s.slices import PodIndex, derive_slices

CALICO_HOST_MAC = "ee:ee:ee:ee:ee:ee"  # of every host end of a Calico veth
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


def derive_mac(purpose: str, name: str) -> str:
    """A locally administered unicast MAC address (IEEE 802, U/L bit set, I/G bit clear) that depends on the arguments alone."""
    digest = bytearray(sha256(f"{purpose}\0{name}".encode()).digest()[:6])
    digest[0] = digest[0] & 0xFC | 0x02
    return digest.hex(":")


def derive(collected: Collected) -> None:
    """Fill in what is missing, in place; raises InputError where there is no room for it."""
    config = derive_config(collected)
    config = replace(config, underlay=replace(config.underlay, hosts=tuple(map(_with_mac, config.underlay.hosts))))
    collected.config = config
    collected.nodes = _derive_nodes(collected, config)
    collected.pods = _derive_pods(collected, config)
    collected.services = _derive_services(collected, config)
    _derive_slices(collected)
    collected.namespaces = _derive_namespaces(collected)


def _with_mac(host: Host) -> Host:
    return host if host.mac else replace(host, mac=derive_mac("host", host.name))


# Nodes


def _derive_nodes(collected: Collected, config: ClusterConfig) -> list[Node]:
    nodes = collected.nodes or _nodes_of_pods(collected)
    used = {address for node in nodes for address in node.addresses}
    used.update(address for host in config.underlay.hosts for address in host.addresses)
    used.update(config.underlay.default_gateways)
    nodes = [node if node.addresses else replace(node, addresses=_node_addresses(node, config, used)) for node in nodes]
    cidrs = NodeCidrs(config, nodes, collected.pods, collected.inferred)
    return [node if node.pod_cidrs else replace(node, pod_cidrs=cidrs.assign(node)) for node in nodes]


def _nodes_of_pods(collected: Collected) -> list[Node]:
    """Where no node was written: the nodes that pods name, with the addresses their status gives them."""
    found: dict[str, Node] = {}
    for pod in collected.pods:
        if pod.node and pod.node not in found:
            found[pod.node] = Node(pod.node, pod.host_addresses, Origin(pod.origin.file, 0, f"Node {pod.node} of {pod.origin}"))
    if found:
        collected.warnings.append(f"no Node was given: {len(found)} derived from the pods' nodeName; add nodes for addresses of their own")
    return list(found.values())


def _node_addresses(node: Node, config: ClusterConfig, used: set[IPAddress]) -> tuple[IPAddress, ...]:
    """The lowest free address of the first underlay network of each family."""
    found = []
    for cidr in {cidr.version: cidr for cidr in reversed(config.underlay.cidrs)}.values():
        address = next_host_address(cidr, used)
        if address is None:
            raise InputError(f"{place(node.origin)}: underlay {cidr} has no address left; write a shorter prefix in underlay.cidrs")
        used.add(address)
        found.append(address)
    return tuple(reversed(found))


# Pods


def _derive_pods(collected: Collected, config: ClusterConfig) -> list[Pod]:
    nodes = {node.name: node for node in collected.nodes}
    pods = _schedule([pod for pod in collected.pods if not pod.node or pod.node in nodes], collected.nodes)
    used = {address for pod in pods for address in pod.addresses}
    ipam: Ipam = HostLocal(collected.nodes, used)
    if config.cni.name == "calico":
        ipam = CalicoIpam(config, collected.nodes, pods, used)
    pods = [_derive_pod(pod, nodes, ipam, config.cni.name) for pod in pods]
    collected.nodes = [replace(node, ipam_blocks=ipam.blocks(node.name)) for node in collected.nodes]
    return pods


def _schedule(pods: Sequence[Pod], nodes: Sequence[Node]) -> list[Pod]:
    """Give each pod that is said to run but has no node the fitting node with the fewest pods."""
    load = Counter(pod.node for pod in pods)
    placed = []
    for pod in pods:
        if not pod.node and pod.phase == "Running":
            fitting = [node for node in nodes if node.ready and pod.node_selector.items() <= node.labels.items()]
            if not fitting:
                raise InputError(f"{place(pod.origin)}: no ready node fits the pod; add a Node with the labels of its nodeSelector")
            pod = replace(pod, node=min(fitting, key=lambda node: load[node.name]).name)
            load[pod.node] += 1
        placed.append(pod)
    return placed


def _derive_pod(pod: Pod, nodes: dict[str, Node], ipam: Ipam, cni: str) -> Pod:
    if pod.phase != "Running" and not pod.addresses:
        return pod
    if pod.host_network:
        return pod if pod.addresses else replace(pod, addresses=nodes[pod.node].addresses)
    return _with_names(pod, pod.addresses or ipam.assign(pod), cni)


def complete_pod(pod: Pod, manifests: Manifests) -> Pod:
    """A pod that comes to a cluster later, with the MAC addresses and the interface that the cluster would give it."""
    if pod.host_network and not pod.addresses:
        return replace(pod, addresses=next((node.addresses for node in manifests.nodes if node.name == pod.node), ()))
    return _with_names(pod, pod.addresses, manifests.config.cni.name) if pod.addresses and not pod.host_network else pod


def _with_names(pod: Pod, addresses: tuple[IPAddress, ...], cni: str) -> Pod:
    calico = cni == "calico"
    return replace(
        pod,
        addresses=addresses,
        mac=pod.mac or (derive_mac("pod", pod.key) if calico else _bridge_mac(pod.key, addresses)),
        host_interface=pod.host_interface or (_calico_interface(pod) if calico else _bridge_interface(pod)),
        host_mac=pod.host_mac or (CALICO_HOST_MAC if calico else derive_mac("host-interface", pod.key)),
    )


def _bridge_mac(key: str, addresses: Sequence[IPAddress]) -> str:
    """0a:58 and the IPv4 address, as the CNI plug-in bridge forms it (pkg/utils/hwaddr, PrivateMACPrefix)."""
    for address in addresses:
        if address.version == 4:
            return (b"\x0a\x58" + address.packed).hex(":")
    return derive_mac("pod", key)


def _bridge_interface(pod: Pod) -> str:
    """veth and eight hexadecimal digits, which the plug-in bridge draws at random (pkg/ip, RandomVethName)."""
    return f"veth{stable_number(pod.key):016x}"[:12]


def _calico_interface(pod: Pod) -> str:
    """cali and eleven digits of SHA-1 of NAMESPACE.NAME (libcalico-go, VethNameForWorkload)."""
    return "cali" + sha1(f"{pod.namespace}.{pod.name}".encode(), usedforsecurity=False).hexdigest()[:11]


# Services


def _derive_services(collected: Collected, config: ClusterConfig) -> list[Service]:
    cluster_ips = ClusterIps(config.service_cidrs, (ip for service in collected.services for ip in service.cluster_ips))
    taken = {port.node_port for service in collected.services for port in service.ports}
    taken.update(service.health_check_node_port for service in collected.services)
    node_ports = NodePorts(taken)
    found = []
    for service in collected.services:
        if service.type != "ExternalName":
            recorded = collected.is_recorded(service.origin)
            service = _with_node_ports(service, node_ports, recorded)
            if not (recorded and service.ip_families):
                service = _with_cluster_ips(_with_families(service, cluster_ips.versions), cluster_ips)
        found.append(service)
    return found


def _with_families(service: Service, versions: tuple[int, ...]) -> Service:
    """ipFamilies by ipFamilyPolicy, the cluster's primary family first (KEP-563).

    A headless service may name families that have no service CIDR: it needs no address of them, nor does one that has its address.
    """
    available = tuple(f"IPv{version}" for version in versions)
    families = service.ip_families or available[:1]
    for family in families[len(service.cluster_ips) :]:
        if family not in available and not service.headless:
            raise InputError(f"{place(service.origin)}: there is no service CIDR for {family}; add one to serviceCIDRs of kind: Cluster")
    if service.ip_family_policy != "SingleStack":
        families += tuple(family for family in available if family not in families)
    if service.ip_family_policy == "RequireDualStack" and len(families) < 2:
        raise InputError(f"{place(service.origin)}: RequireDualStack needs two service CIDRs; add one to serviceCIDRs of kind: Cluster")
    return replace(service, ip_families=families)


def _with_cluster_ips(service: Service, allocator: ClusterIps) -> Service:
    if service.headless:
        return service
    found = list(service.cluster_ips)
    for family in service.ip_families[len(found) :]:
        address = allocator.assign(service.key, int(family[-1]))
        if address is None:
            raise InputError(f"{place(service.origin)}: the service CIDR has no address left; write a shorter prefix in serviceCIDRs")
        found.append(address)
    return replace(service, cluster_ips=tuple(found))


def _with_node_ports(service: Service, allocator: NodePorts, recorded: bool) -> Service:
    """Node ports for a service that still has none.

    A LoadBalancer that has a cluster IP went through an API server, which left the ports out on purpose.
    """
    fresh = not recorded and not service.cluster_ips
    balanced = service.type == "LoadBalancer"
    if (service.type == "NodePort" and not recorded) or (balanced and fresh and service.allocate_node_ports):
        service = replace(service, ports=tuple(_with_node_port(service, port, allocator) for port in service.ports))
    if balanced and fresh and service.external_policy == "Local" and not service.health_check_node_port:
        service = replace(service, health_check_node_port=_assigned_port(service, "health check", allocator))
    return service


def _with_node_port(service: Service, port: ServicePort, allocator: NodePorts) -> ServicePort:
    return port if port.node_port else replace(port, node_port=_assigned_port(service, f"{port.port}/{port.protocol}", allocator))


def _assigned_port(service: Service, purpose: str, allocator: NodePorts) -> int:
    port = allocator.assign(f"{service.key} {purpose}")
    if port is None:
        raise InputError(f"{place(service.origin)}: no node port is left; make some services of type ClusterIP")
    return port


# EndpointSlices and Namespaces


def _derive_slices(collected: Collected) -> None:
    """Endpoints count where there is no slice; they hold the service's first family alone (pkg/controller/endpoint)."""
    written = {(item.namespace, item.service) for item in collected.endpoint_slices}
    mirrored: dict[tuple[str, str], set[str]] = {}
    for mirrors in collected.endpoints:
        key = (mirrors[0].namespace, mirrors[0].service)
        if key not in written:
            collected.endpoint_slices += mirrors
            mirrored.setdefault(key, set()).update(item.address_type for item in mirrors)
    pods, nodes = PodIndex(collected.pods), {node.name: node for node in collected.nodes}
    for service in collected.services:
        key = (service.namespace, service.name)
        if service.selector and key not in written:
            families = service.ip_families
            if key in mirrored:
                families = tuple(family for family in families[1:] if family not in mirrored[key])
            chosen = pods.select(service.namespace, service.selector)
            collected.endpoint_slices += derive_slices(replace(service, ip_families=families), chosen, nodes)


def _derive_namespaces(collected: Collected) -> list[Namespace]:
    """Every namespace in use, with the label that the API server sets on all of them."""
    found = {item.name: replace(item, labels={**item.labels, NAMESPACE_NAME_LABEL: item.name}) for item in collected.namespaces}
    users = [(item.namespace, item.origin) for item in collected.pods]
    users += [(item.namespace, item.origin) for item in collected.services]
    users += [(item.namespace, item.origin) for item in collected.policies]
    for name, user in users:
        if name not in found:
            found[name] = Namespace(name, {NAMESPACE_NAME_LABEL: name}, Origin(user.file, 0, f"Namespace {name} of {user}"))
    return list(found.values())
