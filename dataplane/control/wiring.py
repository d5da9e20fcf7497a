"""Writes namespaces, devices and table entries into the core, in terms of manifests: the one place where
``ipaddress`` objects become bytes and origins become integers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface
from typing import TYPE_CHECKING

from dataplane.control.topology import Machine, Topology
from dataplane.encap import registry
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, IPNetwork, Manifests, Origin

if TYPE_CHECKING:
    from dataplane._core import Engine

IPInterface = IPv4Interface | IPv6Interface
PLAIN_KINDS = ("veth", "bridge")  # all others are encapsulations
SCOPE_LINK = 253  # RT_SCOPE_LINK, include/uapi/linux/rtnetlink.h
DEFAULT_METRICS = {4: 0, 6: 1024}  # of routes that say none; IPv6: IP6_RT_PRIO_USER, include/uapi/linux/ipv6_route.h


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair, before it exists."""

    namespace: int
    device: str
    mac: bytes
    mtu: int


@contextmanager
def refused(origin: Origin, what: str) -> Iterator[None]:
    """What the core does not accept is a fault of the manifest that asked for it."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise InputError(f"{origin}: {what}: {error}") from error


def has_ethernet(engine: Engine, namespace: int, device: int) -> bool:
    """Whether the device's frames begin with an Ethernet header."""
    return next(bool(each["ethernet"]) for each in engine.devices(namespace) if each["id"] == device)


@dataclass(frozen=True, slots=True)
class Wiring:
    """An engine and the names of what is in it."""

    engine: Engine
    topology: Topology

    @property
    def manifests(self) -> Manifests:
        return self.topology.manifests

    def namespace(self, name: str) -> int:
        if self.topology.has_namespace(name):  # described before, and made now
            number = self.topology.namespace_id(name)
            return self.engine.add_namespace(name, number=number, lo=self.topology.devices_of(number)["lo"])
        namespace = self.engine.add_namespace(name)
        self.topology.add_namespace(namespace, name)
        self.topology.add_device(namespace, "lo", self.engine.find_device(namespace, "lo"))
        return namespace

    def machine(self, ref: str, eth0: int, mac: bytes, addresses: tuple[IPAddress, ...], origin: Origin) -> None:
        """Make the owner of ``eth0`` known as ``ref``."""
        namespace = self.topology.device_namespace(eth0)
        if namespace in self.topology.machines:  # described before
            return
        kind = ref.partition("/")[0]
        self.topology.add_machine(Machine(namespace, self.topology.namespace_name(namespace), kind, ref, eth0, mac, addresses, origin))

    def device(self, namespace: int, name: str, kind: str, *, mac: bytes, mtu: int, origin: Origin, **params: int | bytes) -> int:
        if kind not in PLAIN_KINDS:
            registry.ensure(kind)
        described = self.topology.described_device(namespace, name)
        with refused(origin, f"interface {name}"):
            device = self.engine.add_device(namespace, name, kind, mac=mac, mtu=mtu, up=True, number=described, **params)
        if described < 0:
            self.topology.add_device(namespace, name, device, ethernet=kind in PLAIN_KINDS or has_ethernet(self.engine, namespace, device))
        return device

    def veth_pair(self, a: End, b: End, origin: Origin, *, latency_ns: int = 0) -> tuple[int, int]:
        ends = tuple(self.device(end.namespace, end.device, "veth", mac=end.mac, mtu=end.mtu, origin=origin) for end in (a, b))
        self.engine.connect(ends[0], ends[1], latency=latency_ns)
        return ends[0], ends[1]

    def address(self, device: int, interface: IPInterface, mac: bytes, origin: Origin, *, broadcast: bool = False) -> None:
        """``broadcast``: with the subnet's broadcast address (IPv4), as ``ip addr add ... brd +`` does."""
        network = interface.network
        brd = network.broadcast_address.packed if broadcast and isinstance(network, IPv4Network) else None
        with refused(origin, f"address {interface}"):
            self.engine.add_address(device, interface.packed, network.prefixlen, broadcast=brd, origin=self.topology.origin_id(origin))
        self.topology.macs[interface.packed] = mac

    def route(self, namespace: int, network: IPNetwork, origin: Origin, *, kind: str = "unicast", via: IPAddress | None = None,
              device: int = -1, onlink: bool = False, scope: int = -1) -> None:  # fmt: skip
        with refused(origin, f"route {network}{f' via {via}' if via else ''}"):
            self.engine.add_route(
                namespace, network.network_address.packed, network.prefixlen, kind=kind, via=via.packed if via else None,
                dev=device, onlink=onlink, scope=scope, metric=DEFAULT_METRICS[network.version], origin=self.topology.origin_id(origin),
            )  # fmt: skip

    def neighbour(self, device: int, address: IPAddress, mac: bytes, origin: Origin) -> None:
        """A permanent entry."""
        self.engine.add_neighbour(device, address.packed, mac, permanent=True, origin=self.topology.origin_id(origin))

    def static_neighbour(self, device: int, address: IPAddress, mac: bytes, origin: Origin) -> None:
        """A permanent entry where the cluster says ``neighbours: static``; else the core resolves the address when needed."""
        if self.manifests.config.neighbours == "static":
            self.neighbour(device, address, mac, origin)

    def fdb(self, device: int, mac: bytes, origin: Origin, *, remote: IPAddress | None = None) -> None:
        """A static entry of a bridge port, or of a tunnel device towards ``remote``."""
        self.engine.add_fdb(device, mac, static=True, dst=remote.packed if remote else None, origin=self.topology.origin_id(origin))
