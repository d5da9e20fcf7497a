"""Who is where in a world: what can send, what can be sent to, and by which MAC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from dataplane._core import Engine
from dataplane.control.firewall import firewall_of
from dataplane.control.iptables import IptablesTables
from dataplane.control.nexthop import next_hop_mac
from dataplane.control.topology import Topology
from dataplane.k8s.objects import Service, ServicePort

OUTSIDE = {4: ("203.0.113.9", "8.8.8.8"), 6: ("2001:db8:77::9", "2001:4860:4860::8888")}
SPECIAL = {
    4: ("255.255.255.255", "224.0.0.251", "127.0.0.1", "0.0.0.0", "169.254.1.1", "240.0.0.1"),
    6: ("ff02::1", "ff02::fb", "::1", "fe80::1", "::", "ff0e::101"),
}


@dataclass(frozen=True)
class Station:
    """Something that sends by its device ``eth0``."""

    name: str
    namespace: int
    device: int
    mac: bytes
    addresses: tuple[bytes, ...]
    kind: str  # node, pod, host

    def address(self, family: int) -> bytes | None:
        return next((address for address in self.addresses if len(address) == (4 if family == 4 else 16)), None)


@dataclass(frozen=True)
class Door:
    """An address that traffic goes to. ``proto`` "": any."""

    address: bytes
    port: int
    proto: str
    what: str

    @property
    def family(self) -> int:
        return 4 if len(self.address) == 4 else 6


@dataclass
class Terrain:
    """``next_hop`` tells the MAC a station sends to, ``tables`` the rules of a namespace and family. ``routers``: namespaces whose
    tables are changed while traffic goes on."""

    stations: list[Station]
    doors: list[Door]
    families: list[int]
    routers: list[int]
    next_hop: Callable[[Station, bytes], bytes]
    tables: Callable[[int, int], IptablesTables]
    networks: list[tuple[bytes, int]] = field(default_factory=list)  # prefixes that routes are for


def packed(address: str) -> bytes:
    return ip_address(address).packed


def multicast_mac(address: bytes) -> bytes | None:
    """RFC 1112 section 6.4, RFC 2464 section 7; None for an address that is no group."""
    if len(address) == 4 and address[0] >> 4 == 14:
        return bytes((1, 0, 0x5E, address[1] & 0x7F)) + address[2:]
    if len(address) == 16 and address[0] == 0xFF:
        return b"\x33\x33" + address[12:]
    return b"\xff" * 6 if address == b"\xff" * 4 else None


def of_cluster(engine: Engine, topology: Topology) -> Terrain:
    """Stations and doors of a cluster as it was built."""
    stations = [
        Station(m.name, m.namespace, m.eth0, m.mac, tuple(a.packed for a in m.addresses), m.kind) for m in topology.machines.values()
    ]
    families = sorted({4 if len(address) == 4 else 6 for station in stations for address in station.addresses})
    nodes = [station for station in stations if station.kind == "node"]
    doors = [door for service in topology.manifests.services for port in service.ports for door in _service_doors(service, port, nodes)]
    doors += [Door(address, port, "", station.kind) for station in stations for address in station.addresses for port in (8080, 53)]
    doors += [Door(packed(text), 80, "", "outside") for family in families for text in OUTSIDE[family]]

    def next_hop(station: Station, address: bytes) -> bytes:
        known = multicast_mac(address) or next_hop_mac(topology, engine.lookup_route(station.namespace, address), address)
        others = [other.mac for other in nodes if other is not station]
        return known or (others[0] if others else b"\xff" * 6)

    networks = [(cidr.network_address.packed, cidr.prefixlen) for node in topology.manifests.nodes for cidr in node.pod_cidrs]

    def tables(namespace: int, family: int) -> IptablesTables:
        return firewall_of(topology, namespace)[family]

    return Terrain(stations, doors, families, [node.namespace for node in nodes], next_hop, tables, networks)


def _service_doors(service: Service, port: ServicePort, nodes: list[Station]) -> list[Door]:
    proto, what = port.protocol.lower(), f"service {service.key}"
    ingress = [entry.address for entry in service.load_balancer]
    doors = [Door(address.packed, port.port, proto, what) for address in (*service.cluster_ips, *service.external_ips, *ingress)]
    if port.node_port:
        doors += [Door(address, port.node_port, proto, f"{what} by node port") for node in nodes for address in node.addresses]
    return doors
