"""Kinds EndpointSlice and, from before it, Endpoints."""

from __future__ import annotations

from dataplane.k8s import api_fields
from dataplane.k8s.fields import PROTOCOLS, Fields
from dataplane.k8s.metadata import Item
from dataplane.k8s.objects import Endpoint, EndpointPort, EndpointSlice, IPAddress

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")


def parse_endpoint_slice(item: Item) -> EndpointSlice:
    """Read an EndpointSlice; one of type FQDN has no endpoints, since names are not resolved here (kube-proxy skips it too)."""
    fields, metadata = item.fields, item.metadata
    fields.warn_unknown(api_fields.ENDPOINT_SLICE)
    address_type = fields.choice("addressType", "", ADDRESS_TYPES)
    entries = () if address_type == "FQDN" else tuple(fields.children("endpoints"))
    return EndpointSlice(
        namespace=metadata.namespace,
        name=metadata.name,
        service=metadata.labels.get(SERVICE_NAME_LABEL, ""),
        address_type=address_type,
        endpoints=tuple(_endpoint(entry, address_type, metadata.namespace) for entry in entries),
        ports=_ports(fields),
        origin=item.origin,
    )


def _endpoint(entry: Fields, address_type: str, namespace: str) -> Endpoint:
    entry.warn_unknown(api_fields.ENDPOINT)
    conditions, hints = entry.child("conditions"), entry.child("hints")
    conditions.warn_unknown(api_fields.ENDPOINT_CONDITIONS)
    addresses = entry.addresses("addresses")
    for index, address in enumerate(addresses):
        if f"IPv{address.version}" != address_type:
            raise entry.error(f"addresses[{index}]", f"is {address}, but addressType is {address_type}", "move it to a slice of its family")
    ready = conditions.boolean("ready", True)
    return Endpoint(
        addresses=addresses,
        ready=ready,
        serving=conditions.boolean("serving", ready),
        terminating=conditions.boolean("terminating", False),
        node=entry.text("nodeName"),
        zone=entry.text("zone"),
        zone_hints=tuple(hint.required_text("name") for hint in hints.children("forZones")),
        node_hints=tuple(hint.required_text("name") for hint in hints.children("forNodes")),
        target=_target(entry, namespace),
    )


def _target(entry: Fields, namespace: str) -> str:
    reference = entry.child("targetRef")
    if reference.text("kind") != "Pod":
        return ""
    return f"{reference.text('namespace') or namespace}/{reference.required_text('name')}"


def _ports(fields: Fields) -> tuple[EndpointPort, ...]:
    """The ports; one without a number stands for all ports and serves no service."""
    found = []
    for entry in fields.children("ports"):
        entry.warn_unknown(api_fields.ENDPOINT_PORT)
        number = entry.integer("port", 0, 1, 65535)
        port = EndpointPort(entry.text("name"), entry.choice("protocol", "TCP", PROTOCOLS), number)
        if number:
            found.append(port)
    return tuple(found)


def parse_endpoints(item: Item) -> tuple[EndpointSlice, ...]:
    """Read an Endpoints object as the slices that mirror it: one for each subset and address family."""
    item.fields.warn_unknown(api_fields.ENDPOINTS)
    slices: list[EndpointSlice] = []
    for subset in item.fields.children("subsets"):
        subset.warn_unknown(api_fields.ENDPOINTS_SUBSET)
        endpoints = _subset_endpoints(subset, item.metadata.namespace)
        ports = _ports(subset)
        for version in (4, 6):
            members = tuple(endpoint for address, endpoint in endpoints if address.version == version)
            if members:
                slices.append(_mirror(item, len(slices), f"IPv{version}", members, ports))
    return tuple(slices) or (_mirror(item, 0, "IPv4", (), ()),)


def _subset_endpoints(subset: Fields, namespace: str) -> list[tuple[IPAddress, Endpoint]]:
    found = []
    for key, ready in (("addresses", True), ("notReadyAddresses", False)):
        for entry in subset.children(key):
            entry.warn_unknown(api_fields.ENDPOINTS_ADDRESS)
            address = entry.parse_address("ip", entry.required_text("ip"))
            endpoint = Endpoint(
                addresses=(address,), ready=ready, serving=ready, node=entry.text("nodeName"), target=_target(entry, namespace)
            )
            found.append((address, endpoint))
    return found


def _mirror(item: Item, index: int, address_type: str, endpoints: tuple[Endpoint, ...], ports: tuple[EndpointPort, ...]) -> EndpointSlice:
    metadata = item.metadata
    return EndpointSlice(metadata.namespace, f"{metadata.name}-{index}", metadata.name, address_type, endpoints, ports, item.origin)
