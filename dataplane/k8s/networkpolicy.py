"""Kind NetworkPolicy: checked field by field, kept as it was written."""

from __future__ import annotations

from dataplane.k8s import api_fields
from dataplane.k8s.fields import PROTOCOLS, Fields
from dataplane.k8s.metadata import Item
from dataplane.k8s.objects import NetworkPolicy

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def parse_network_policy(item: Item) -> NetworkPolicy:
    """Check a NetworkPolicy and keep its spec; mappings in it know their lines (``positions.line_of``)."""
    item.fields.warn_unknown(api_fields.TOP)
    spec = item.fields.child("spec")
    spec.warn_unknown(api_fields.NETWORK_POLICY_SPEC)
    check_selector(spec.child("podSelector"))
    for index, (text, entry) in enumerate(spec.texts("policyTypes")):
        if text not in ("Ingress", "Egress"):
            raise entry.error(f"policyTypes[{index}]", f"is {text[:60]!r}", "write Ingress or Egress")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec.children(direction):
            rule.warn_unknown({peers, "ports"})
            for port in rule.children("ports"):
                _check_port(port)
            for peer in rule.children(peers):
                _check_peer(peer)
    return NetworkPolicy(item.metadata.namespace, item.metadata.name, spec.data, item.origin)


def check_selector(selector: Fields) -> None:
    """Check a label selector."""
    selector.warn_unknown(api_fields.SELECTOR)
    selector.string_map("matchLabels")
    for requirement in selector.children("matchExpressions"):
        requirement.warn_unknown(api_fields.SELECTOR_REQUIREMENT)
        requirement.required_text("key")
        operator = requirement.choice("operator", "", OPERATORS)
        values = requirement.texts("values")
        if operator in ("In", "NotIn") and not values:
            raise requirement.error("values", f"is empty, but operator {operator} compares with values", "add at least one")
        if operator in ("Exists", "DoesNotExist") and values:
            raise requirement.error("values", f"must be empty for operator {operator}", "remove it")


def _check_port(port: Fields) -> None:
    port.warn_unknown(api_fields.NETWORK_POLICY_PORT)
    port.choice("protocol", "TCP", PROTOCOLS)
    end = port.integer("endPort", 0, 1, 65535)
    if isinstance(port.data.get("port"), str):
        port.required_text("port")
        if end:
            raise port.error("endPort", "needs a number in port, which is a name", "write the first port as a number")
        return
    first = port.integer("port", 0, 1, 65535)
    if end and not first:
        raise port.error("endPort", "needs port", "add the first port of the range")
    if end and end < first:
        raise port.error("endPort", f"is {end}, which is below port {first}", "write the last port of the range")


def _check_peer(peer: Fields) -> None:
    peer.warn_unknown(api_fields.NETWORK_POLICY_PEER)
    if not any(peer.has(key) for key in api_fields.NETWORK_POLICY_PEER):
        raise peer.error("podSelector", "is missing, and so are namespaceSelector and ipBlock", "add one of the three")
    check_selector(peer.child("podSelector"))
    check_selector(peer.child("namespaceSelector"))
    if not peer.has("ipBlock"):
        return
    if peer.has("podSelector") or peer.has("namespaceSelector"):
        raise peer.error("ipBlock", "stands beside a selector", "make them two peers")
    block = peer.child("ipBlock")
    block.warn_unknown({"cidr", "except"})
    cidr = block.parse_network("cidr", block.required_text("cidr"))
    for index, hole in enumerate(block.networks("except")):
        if hole.version != cidr.version or int(hole.network_address) not in range(int(cidr[0]), int(cidr[-1]) + 1):
            raise block.error("except", f"[{index}] is {hole}, which is not inside {cidr}", "write a part of cidr")
