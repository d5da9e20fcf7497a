"""Kubernetes objects as ``kubectl get`` shows them: pods, nodes, services and endpoints.

Columns: kubernetes, pkg/printers/internalversion/printers.go (printPod, printNode, printService, printEndpoints).
There is no clock here, so every AGE is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from dataplane.errors import InputError
from dataplane.k8s.objects import EndpointSlice, IPAddress, Manifests, Node, Origin, Pod, Service
from dataplane.report.tables import NONE, UNKNOWN, Listing, Row

ALL_NAMESPACES = None
ORIGIN_ANNOTATION = "dataplane/origin"
_SHOWN_ENDPOINTS = 3
_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"

Namespaced = TypeVar("Namespaced", Pod, Service)


def place_of(origin: Origin) -> str:
    """``file:line``, or ``derived``."""
    return f"{origin.file}:{origin.line}" if origin.line else "derived"


def pods(manifests: Manifests, namespace: str | None, names: Sequence[str]) -> Listing:
    """Pods of ``namespace`` (None: all), those called ``names`` or all. InputError for a name that is not there."""
    found = _in_namespace(manifests.pods, namespace, names, "pods")
    rows = [Row(pod.name, _lead(pod, namespace) + _pod_cells(pod), _pod_wide(pod), _pod_data(pod)) for pod in found]
    columns = ("NAME", "READY", "STATUS", "RESTARTS", "AGE")
    wide = ("IP", "NODE", "NOMINATED NODE", "READINESS GATES", "ALL IPS", "ORIGIN")
    return Listing("pod", _lead_column(namespace) + columns, wide, rows)


def nodes(manifests: Manifests, names: Sequence[str]) -> Listing:
    """All nodes, or those called ``names``. InputError for a name that is not there."""
    found = _named({node.name: node for node in sorted(manifests.nodes, key=lambda node: node.name)}, names, "nodes", "")
    rows = [Row(node.name, _node_cells(node), _node_wide(node), _node_data(node)) for node in found]
    wide = ("INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME", "ALL IPS", "ORIGIN")
    return Listing("node", ("NAME", "STATUS", "ROLES", "AGE", "VERSION"), wide, rows)


def services(manifests: Manifests, namespace: str | None, names: Sequence[str]) -> Listing:
    """Services of ``namespace`` (None: all), those called ``names`` or all. InputError for a name that is not there."""
    found = _in_namespace(manifests.services, namespace, names, "services")
    rows = [_service_row(service, namespace) for service in found]
    columns = ("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE")
    return Listing("service", _lead_column(namespace) + columns, ("SELECTOR", "ALL CLUSTER-IPS", "ORIGIN"), rows)


def endpoints(manifests: Manifests, namespace: str | None, names: Sequence[str]) -> Listing:
    """The ready addresses of each service that has EndpointSlices, of all address families."""
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for one in manifests.endpoint_slices:
        if one.service and namespace in (ALL_NAMESPACES, one.namespace):
            slices.setdefault((one.namespace, one.service), []).append(one)
    keyed = {_shown_key(key, namespace): (key, slices[key]) for key in sorted(slices)}
    rows = []
    for (owner, name), parts in _named(keyed, names, "endpoints", _where(namespace)):
        addresses = [text for part in parts for text in _endpoint_texts(part)]
        lead = (owner,) if namespace is ALL_NAMESPACES else ()
        origins = list(dict.fromkeys(place_of(part.origin) for part in parts))
        data = _object("Endpoints", owner, name, ",".join(origins)) | {"endpoints": addresses}
        cells = (*lead, name, _shortened(addresses), UNKNOWN)
        rows.append(Row(name, cells, (",".join(addresses) or NONE, ",".join(origins)), data))
    return Listing("endpoints", _lead_column(namespace) + ("NAME", "ENDPOINTS", "AGE"), ("ALL ENDPOINTS", "ORIGIN"), rows)


# ---- which
def _where(namespace: str | None) -> str:
    return "" if namespace is ALL_NAMESPACES else f" in namespace {namespace}"


def _in_namespace(objects: Iterable[Namespaced], namespace: str | None, names: Sequence[str], plural: str) -> list[Namespaced]:
    kept = sorted((each for each in objects if namespace in (ALL_NAMESPACES, each.namespace)), key=lambda each: (each.namespace, each.name))
    return _named({_shown_key((each.namespace, each.name), namespace): each for each in kept}, names, plural, _where(namespace))


def _shown_key(key: tuple[str, str], namespace: str | None) -> str:
    return "/".join(key) if namespace is ALL_NAMESPACES else key[1]


_Thing = TypeVar("_Thing")


def _named(things: Mapping[str, _Thing], names: Sequence[str], plural: str, where: str) -> list[_Thing]:
    """All things, or the named ones in the order asked for."""
    for name in names:
        if name not in things:
            known = list(things)
            shown = f"{', '.join(known[:8]) or 'none'}{' and more' if len(known) > 8 else ''}"
            raise InputError(f"{plural} {name!r} not found{where}: there are {shown}")
    return [things[name] for name in names or things]


def _lead_column(namespace: str | None) -> tuple[str, ...]:
    return ("NAMESPACE",) if namespace is ALL_NAMESPACES else ()


def _lead(thing: Pod | Service, namespace: str | None) -> tuple[str, ...]:
    return (thing.namespace,) if namespace is ALL_NAMESPACES else ()


# ---- how
def _object(kind: str, namespace: str, name: str, origin: str, **metadata: Any) -> dict[str, Any]:
    annotations = {**metadata.pop("annotations", {}), ORIGIN_ANNOTATION: origin}
    place = {"namespace": namespace} if namespace else {}
    filled = {key: dict(value) for key, value in metadata.items() if value}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **place, **filled, "annotations": annotations}}


def _first(addresses: Sequence[IPAddress]) -> str:
    return str(addresses[0]) if addresses else NONE


def _all(addresses: Sequence[IPAddress]) -> str:
    """Of both families; kubectl's own columns show the first alone."""
    return ",".join(map(str, addresses)) or NONE


def _pod_status(pod: Pod) -> str:
    ended = pod.phase in ("Succeeded", "Failed")
    return "Terminating" if pod.terminating and not ended else pod.phase


def _pod_cells(pod: Pod) -> tuple[str, ...]:
    return (pod.name, f"{pod.ready_containers}/{pod.containers}", _pod_status(pod), str(pod.restarts), UNKNOWN)


def _pod_wide(pod: Pod) -> tuple[str, ...]:
    return (_first(pod.addresses), pod.node or NONE, NONE, NONE, _all(pod.addresses), place_of(pod.origin))


def _pod_data(pod: Pod) -> dict[str, Any]:
    data = _object("Pod", pod.namespace, pod.name, place_of(pod.origin), labels=pod.labels, annotations=pod.annotations)
    data["spec"] = {"nodeName": pod.node, "hostNetwork": pod.host_network}
    data["status"] = {
        "phase": pod.phase,
        "conditions": [{"type": "Ready", "status": str(pod.ready)}],
        "podIPs": [{"ip": str(address)} for address in pod.addresses],
    }
    if pod.addresses:
        data["status"]["podIP"] = str(pod.addresses[0])
    return data


def _node_roles(node: Node) -> str:
    roles = {label.removeprefix(_ROLE_PREFIX) for label in node.labels if label.startswith(_ROLE_PREFIX)}
    roles.add(node.labels.get(_ROLE_LABEL, ""))
    return ",".join(sorted(roles - {""})) or NONE


def _node_cells(node: Node) -> tuple[str, ...]:
    return (node.name, "Ready" if node.ready else "NotReady", _node_roles(node), UNKNOWN, UNKNOWN)


def _node_wide(node: Node) -> tuple[str, ...]:
    every = _all((*node.addresses, *node.external_addresses))
    return (_first(node.addresses), _first(node.external_addresses), UNKNOWN, UNKNOWN, UNKNOWN, every, place_of(node.origin))


def _node_data(node: Node) -> dict[str, Any]:
    data = _object("Node", "", node.name, place_of(node.origin), labels=node.labels, annotations=node.annotations)
    data["spec"] = {"podCIDRs": [str(prefix) for prefix in node.pod_cidrs]}
    addresses = [("InternalIP", address) for address in node.addresses] + [("ExternalIP", address) for address in node.external_addresses]
    data["status"] = {
        "addresses": [{"type": kind, "address": str(address)} for kind, address in addresses],
        "conditions": [{"type": "Ready", "status": str(node.ready)}],
    }
    return data


def _service_row(service: Service, namespace: str | None) -> Row:
    selector = ",".join(f"{key}={value}" for key, value in sorted(service.selector.items())) or NONE
    cells = (service.name, service.type, _cluster_ip(service), _external(service), _ports(service), UNKNOWN)
    wide = (selector, "None" if service.headless else _all(service.cluster_ips), place_of(service.origin))
    return Row(service.name, _lead(service, namespace) + cells, wide, _service_data(service))


def _cluster_ip(service: Service) -> str:
    return "None" if service.headless else _first(service.cluster_ips)


def _external(service: Service) -> str:
    if service.type == "ExternalName":
        return UNKNOWN  # the name has no part in the network and is not read
    is_balanced = service.type == "LoadBalancer"
    balancer = sorted(str(ingress.address) for ingress in service.load_balancer) if is_balanced else []
    found = ",".join([*balancer, *map(str, service.external_ips)])
    return found or ("<pending>" if is_balanced else NONE)


def _ports(service: Service) -> str:
    numbers = ((f"{port.port}:{port.node_port}" if port.node_port else f"{port.port}", port.protocol) for port in service.ports)
    texts = [f"{number}/{protocol}" for number, protocol in numbers]
    return ",".join(texts) or NONE


def _service_data(service: Service) -> dict[str, Any]:
    data = _object(
        "Service", service.namespace, service.name, place_of(service.origin), labels=service.labels, annotations=service.annotations
    )
    data["spec"] = {
        "type": service.type,
        "clusterIPs": ["None"] if service.headless else [str(address) for address in service.cluster_ips],
        "ipFamilies": list(service.ip_families),
        "ipFamilyPolicy": service.ip_family_policy,
        "externalIPs": [str(address) for address in service.external_ips],
        "ports": [
            {"name": port.name, "protocol": port.protocol, "port": port.port, "targetPort": port.target_port, "nodePort": port.node_port}
            for port in service.ports
        ],
        "selector": dict(service.selector),
    }
    data["status"] = {"loadBalancer": {"ingress": [{"ip": str(each.address), "ipMode": each.mode} for each in service.load_balancer]}}
    return data


def _endpoint_texts(part: EndpointSlice) -> list[str]:
    addresses = [endpoint.addresses[0] for endpoint in part.endpoints if endpoint.ready]
    hosts = [str(address) if address.version == 4 else f"[{address}]" for address in addresses]
    if not part.ports:
        return [str(address) for address in addresses]
    return [f"{host}:{port.port}" for port in part.ports for host in hosts]


def _shortened(addresses: Sequence[str]) -> str:
    more = len(addresses) - _SHOWN_ENDPOINTS
    shown = ",".join(addresses[:_SHOWN_ENDPOINTS]) or NONE
    return f"{shown} + {more} more..." if more > 0 else shown
