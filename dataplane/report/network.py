"""What namespaces hold before and after traffic: interfaces, routes, neighbours, FDBs and conntrack entries.

Routes, neighbours and FDB entries are worded as iproute2 words them (ip route, ip neigh, bridge fdb), without what
the core does not keep (proto, protocol-specific timers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from dataplane.control.topology import Machine, Topology
from dataplane.report.resources import place_of
from dataplane.report.tables import NONE, Listing, Row
from dataplane.report.world import World

_SCOPES = {253: "link", 254: "host"}  # include/uapi/linux/rtnetlink.h: RT_SCOPE_LINK, RT_SCOPE_HOST
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_SECOND = 1_000_000_000


def interfaces(world: World, machines: Sequence[Machine]) -> Listing:
    """Every device, in the order they were made."""
    rows = [_interface_row(world.topology, machine, device) for machine in machines for device in world.engine.devices(machine.namespace)]
    return Listing("interface", ("MACHINE", "NAME", "KIND", "MAC", "MTU", "STATE", "MASTER", "ADDRESSES"), ("PEER", "ORIGIN"), rows)


def routes(world: World, machines: Sequence[Machine], *, with_local: bool = False) -> Listing:
    """The main table, and ``with_local`` also the table local."""
    rows = [
        _worded_row(world.topology, machine, "Route", route, route_words(route, world.topology), _prefix(route))
        for machine in machines
        for route in world.engine.routes(machine.namespace)
        if with_local or route["table"] == "main"
    ]
    return Listing("route", ("MACHINE", "ROUTE"), ("ORIGIN",), rows)


def neighbours(world: World, machines: Sequence[Machine]) -> Listing:
    """The ARP and neighbour discovery tables of all devices."""
    rows = [
        _worded_row(world.topology, machine, "Neighbour", entry, neighbour_words(entry, world.topology), str(ip_address(entry["address"])))
        for machine in machines
        for entry in world.engine.neighbours(machine.namespace)
    ]
    return Listing("neighbour", ("MACHINE", "NEIGHBOUR"), ("ORIGIN",), rows)


def fdb(world: World, machines: Sequence[Machine]) -> Listing:
    """The forwarding databases of bridges and tunnels."""
    rows = [
        _worded_row(world.topology, machine, "FdbEntry", entry, fdb_words(entry, world.topology), entry["mac"].hex(":"))
        for machine in machines
        for entry in world.engine.fdb(machine.namespace)
    ]
    return Listing("fdb", ("MACHINE", "ENTRY"), ("ORIGIN",), rows)


def conntrack(world: World, machines: Sequence[Machine]) -> Listing:
    """The connection tracking tables; TIMEOUT is what is left, in whole seconds as conntrack(8) shows it."""
    rows = [
        _conntrack_row(machine, entry, number)
        for machine in machines
        for number, entry in enumerate(world.engine.conntrack(machine.namespace), 1)
    ]
    return Listing("conntrack", ("MACHINE", "PROTO", "STATE", "TIMEOUT", "ORIGINAL", "REPLY", "STATUS"), ("MARK", "ZONE"), rows)


# ---- words
def route_words(route: Mapping[str, Any], topology: Topology) -> str:
    """One route as ``ip route`` prints it."""
    words = [] if route["kind"] == "unicast" else [route["kind"]]
    words.append(_prefix(route))
    if route["via"] is not None:
        words += ["via", str(ip_address(route["via"]))]
    if route["dev"] >= 0:
        words += ["dev", topology.short_device_name(route["dev"])]
    elif len(route["prefix"]) == 16 and route["kind"] != "unicast":
        words += ["dev", "lo"]  # where Linux keeps IPv6 routes that lead nowhere
    if route["table"] != "main":
        words += ["table", route["table"]]
    if len(route["prefix"]) == 4 and route["scope"] in _SCOPES:  # IPv6 routes have no scope
        words += ["scope", _SCOPES[route["scope"]]]
    if route["src"] is not None:
        words += ["src", str(ip_address(route["src"]))]
    if route["metric"]:
        words += ["metric", str(route["metric"])]
    words += [word for word in ("dead", "onlink") if route[word]]
    if route["mtu"]:
        words += ["mtu", "lock", str(route["mtu"])] if route["mtu_lock"] else ["mtu", str(route["mtu"])]
    return " ".join(words)


def neighbour_words(entry: Mapping[str, Any], topology: Topology) -> str:
    """One entry as ``ip neigh`` prints it."""
    words = [str(ip_address(entry["address"])), "dev", topology.short_device_name(entry["dev"])]
    if entry["mac"] is not None:
        words += ["lladdr", entry["mac"].hex(":")]
    return " ".join([*words, entry["state"].upper()])


def fdb_words(entry: Mapping[str, Any], topology: Topology) -> str:
    """One entry as ``bridge fdb`` prints it: a bridge calls its own addresses permanent and configured ones static, a tunnel
    (``self``) calls the latter permanent."""
    words = [entry["mac"].hex(":"), "dev", topology.short_device_name(entry["dev"])]
    if entry["dst"] is not None:
        words += ["dst", str(ip_address(entry["dst"]))]
    if entry["master"] < 0:
        words += ["self", "permanent"] if entry["static"] else ["self"]
        return " ".join(words)
    words += ["master", topology.short_device_name(entry["master"])]
    if entry["local"]:
        words.append("permanent")
    elif entry["static"]:
        words.append("static")
    return " ".join(words)


def tuple_words(half: Mapping[str, Any]) -> str:
    """One direction of a connection: ``10.244.1.5:40000 > 10.96.0.10:80``; without ports what stands in their place follows."""
    source, destination = ip_address(half["src"]), ip_address(half["dst"])
    if "sport" in half:
        hosts = [str(each) if each.version == 4 else f"[{each}]" for each in (source, destination)]
        return f"{hosts[0]}:{half['sport']} > {hosts[1]}:{half['dport']}"
    rest = "".join(f" {key} {value}" for key, value in half.items() if key not in ("src", "dst"))
    return f"{source} > {destination}{rest}"


def _prefix(route: Mapping[str, Any]) -> str:
    address, length = ip_address(route["prefix"]), route["prefix_len"]
    if not length:
        return "default"
    return str(address) if length == address.max_prefixlen else f"{address}/{length}"


# ---- rows
def _worded_row(topology: Topology, machine: Machine, kind: str, entry: Mapping[str, Any], words: str, name: str) -> Row:
    """A row of a machine and its entry in words."""
    source = _origin(topology, entry["origin"])
    data = {"kind": kind, "machine": machine.ref, "text": words, **dict(_plain(entry, topology)), "origin": source}
    return Row(f"{machine.name}/{name}", (machine.name, words), (source,), data)


def _plain(entry: Mapping[str, Any], topology: Topology) -> Iterator[tuple[str, Any]]:
    """What the core says of an entry, with addresses as text and devices by name."""
    for key, value in entry.items():
        if key in ("dev", "master"):
            yield key, topology.short_device_name(value) if value >= 0 else None
        elif isinstance(value, bytes):
            yield key, value.hex(":") if key == "mac" else str(ip_address(value))
        elif key != "origin":
            yield "type" if key == "kind" else key, value  # kind is the object's own, as in Kubernetes


def _origin(topology: Topology, number: int) -> str:
    origin = topology.origin(number)
    return place_of(origin) if origin else NONE


def _interface_row(topology: Topology, machine: Machine, device: Mapping[str, Any]) -> Row:
    addresses = [f"{ip_address(each['address'])}/{each['prefix_len']}" for each in device["addresses"]]
    origins = dict.fromkeys(_origin(topology, each["origin"]) for each in device["addresses"] if each["origin"])
    data: dict[str, Any] = {
        "kind": "Interface",
        "machine": machine.ref,
        "name": device["name"],
        "type": device["kind"],
        "mac": device["mac"].hex(":"),
        "mtu": device["mtu"],
        "up": device["up"],
        "master": topology.short_device_name(device["master"]) if device["master"] >= 0 else None,
        "peer": topology.device_name(device["peer"]) if device["peer"] >= 0 else None,
        "addresses": addresses,
        "origin": ",".join(origins) or NONE,
    }
    state = "UP" if device["up"] else "DOWN"
    cells = (machine.name, data["name"], data["type"], data["mac"], str(data["mtu"]), state, data["master"] or NONE)
    shown = ",".join(addresses) or NONE
    return Row(f"{machine.name}/{data['name']}", (*cells, shown), (data["peer"] or NONE, data["origin"]), data)


def _conntrack_row(machine: Machine, entry: Mapping[str, Any], number: int) -> Row:
    protocol = _PROTOCOLS.get(entry["proto"], str(entry["proto"]))
    original, reply = tuple_words(entry["orig"]), tuple_words(entry["reply"])
    status = [word for word, holds in (("UNREPLIED", not entry["seen_reply"]), ("ASSURED", entry["assured"])) if holds]
    data = {
        "kind": "Connection",
        "machine": machine.ref,
        "protocol": protocol,
        "state": entry["state"],
        "timeoutNs": entry["timeout"],
        "original": _half(entry["orig"]),
        "reply": _half(entry["reply"]),
        "status": status,
        "mark": entry["mark"],
        "zone": entry["zone"],
    }
    seconds = str(entry["timeout"] // _SECOND)
    cells = (machine.name, protocol, entry["state"] or NONE, seconds, original, reply, ",".join(status) or NONE)
    return Row(f"{machine.name}/{number}", cells, (str(entry["mark"]), str(entry["zone"])), data)


def _half(half: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(ip_address(value)) if isinstance(value, bytes) else value for key, value in half.items()}
