"""Kind Node: addresses, podCIDRs and the annotation ``dataplane/interfaces``."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

from dataplane.k8s import api_fields
from dataplane.k8s.fields import Fields, Subject
from dataplane.k8s.json_source import JsonSyntaxError, parse_json
from dataplane.k8s.metadata import Item
from dataplane.k8s.objects import InterfaceHint, IPAddress, Node
from dataplane.k8s.positions import to_plain

INTERFACES_ANNOTATION = "dataplane/interfaces"
# What flanneld writes on its node: the address of the VXLAN device, {"VNI":1,"VtepMAC":"..."}.
FLANNEL_BACKEND_DATA = "flannel.alpha.coreos.com/backend-data"
FLANNEL_BACKEND_V6_DATA = "flannel.alpha.coreos.com/backend-v6-data"
_INTERFACE_FIELDS = frozenset({"mac", "mtu", "addresses"})
LONGEST_DEVICE_NAME = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h


def parse_node(item: Item) -> Node:
    """Read a Node as it stands; what is missing is derived later."""
    fields, metadata = item.fields, item.metadata
    fields.warn_unknown(api_fields.TOP)
    spec, status = fields.child("spec"), fields.child("status")
    spec.warn_unknown(api_fields.NODE_SPEC)
    status.warn_unknown(api_fields.NODE_STATUS)
    internal, external = _addresses(status)
    pod_cidrs = spec.single_and_list("podCIDR", "podCIDRs", strict=False)
    spec.one_per_family("podCIDRs", pod_cidrs)
    return Node(
        name=metadata.name,
        addresses=internal,
        origin=item.origin,
        external_addresses=external,
        pod_cidrs=pod_cidrs,
        labels=metadata.labels,
        annotations=metadata.annotations,
        interfaces=_interfaces(item),
        ready=_is_ready(status),
    )


def _addresses(status: Fields) -> tuple[tuple[IPAddress, ...], tuple[IPAddress, ...]]:
    found: dict[str, list[IPAddress]] = {"InternalIP": [], "ExternalIP": []}
    for entry in status.children("addresses"):
        kind = entry.required_text("type")
        if kind in found:
            found[kind].append(entry.parse_address("address", entry.required_text("address")))
    return tuple(found["InternalIP"]), tuple(found["ExternalIP"])


def _is_ready(status: Fields) -> bool:
    """Condition Ready; a node without conditions was written by hand and is taken as ready."""
    states = [entry.text("status") for entry in status.children("conditions") if entry.text("type") == "Ready"]
    return not states or states[0] == "True"


def _interfaces(item: Item) -> dict[str, InterfaceHint]:
    hints = _flannel_hints(item)
    annotations = item.fields.child("metadata").child("annotations")
    text = annotations.text(INTERFACES_ANNOTATION)
    if not text:
        return hints
    remedy = 'write JSON such as {"eth0": {"mac": "02:00:00:00:01:00"}}'
    try:
        values = list(parse_json(text))
    except JsonSyntaxError as error:
        raise annotations.error(INTERFACES_ANNOTATION, f"is not JSON: {error}", remedy) from None
    data = to_plain(values[0][0]) if len(values) == 1 else None  # plain: lines count from the annotation's, not the text's, start
    if not isinstance(data, dict):
        raise annotations.error(INTERFACES_ANNOTATION, "is no JSON object", remedy)
    place = f"metadata.annotations[{INTERFACES_ANNOTATION}]"
    devices = Fields(data, item.fields.subject, place, annotations.line_at(INTERFACES_ANNOTATION))
    return {**hints, **{device: _hint(devices, device) for device in data}}


def _hint(devices: Fields, device: str) -> InterfaceHint:
    check_device_name(devices, device, device)
    fields = devices.child(device)
    fields.warn_unknown(_INTERFACE_FIELDS)
    addresses = []
    for index, (text, entry) in enumerate(fields.texts("addresses")):
        try:
            addresses.append(str(ip_interface(text)))
        except ValueError:
            raise entry.error(f"addresses[{index}]", f"is {text[:60]!r}, which is no address", "write it as 192.168.1.1/24") from None
    return InterfaceHint(mac=fields.mac("mac"), mtu=fields.integer("mtu", 0, 68, 65535) or None, addresses=tuple(addresses))


def _flannel_hints(item: Item) -> dict[str, InterfaceHint]:
    hints = {}
    for annotation, prefix in ((FLANNEL_BACKEND_DATA, "flannel"), (FLANNEL_BACKEND_V6_DATA, "flannel-v6")):
        data = _backend_data(item.metadata.annotations.get(annotation, ""))
        if data.get("VtepMAC"):
            place = f"metadata.annotations[{annotation}]"
            fields = Fields(data, Subject(item.origin.file, item.origin.what), place, item.origin.line)
            hints[f"{prefix}.{fields.integer('VNI', 1, 0, 0xFFFFFF)}"] = InterfaceHint(mac=fields.mac("VtepMAC"))
    return hints


def _backend_data(text: str) -> dict[str, Any]:
    """The annotation's object; backends without data write null, and what is no JSON is not for us."""
    try:
        data = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def check_device_name(fields: Fields, key: str, name: str) -> None:
    """Refuse a name that Linux refuses (net/core/dev.c dev_valid_name)."""
    if not 1 <= len(name.encode("utf-8", "replace")) <= LONGEST_DEVICE_NAME or set(name) & set("/: \t\n") or name in (".", ".."):
        wrong = f"names the device {name[:60]!r}, which Linux refuses"
        raise fields.error(key, wrong, f"use at most {LONGEST_DEVICE_NAME} characters without blanks, / or :")
