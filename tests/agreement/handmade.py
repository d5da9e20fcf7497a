"""Worlds made by hand on the core alone: a router with many routes, a bridge whose stations move, both with rules or without."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from dataplane._core import Engine
from dataplane.control.iptables import IptablesTables

from .changes import RULES, recorded
from .script import Call, World
from .terrain import Door, Station, Terrain, multicast_mac, packed

PORTS = (53, 80, 4789)
FAR = {4: "10.{}.{}.{}", 6: "fd00:{:x}:{:x}::{:x}"}


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5)


class Maker:
    """Calls on an engine, and the numbers that they will return: an engine is made along the way."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.engine = Engine(0, slow_path_only=True)
        self.stations: list[Station] = []
        self.tables: dict[tuple[int, int], IptablesTables] = {}

    def do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(Call(name, args, kwargs))
        return getattr(self.engine, name)(*args, **kwargs)

    def cable(self, one: int, other: int, latency: int) -> None:
        self.do("connect", one, other, latency=latency)

    def station(self, name: str, number: int, port: int, latency: int, addresses: list[tuple[str, int]], mtu: int = 1500) -> Station:
        """A namespace at the other end of the cable of ``port``."""
        namespace = self.do("add_namespace", name)
        device = self.do("add_device", namespace, "eth0", "veth", mac=mac(number), mtu=mtu)
        self.cable(port, device, latency)
        for address, length in addresses:
            self.do("add_address", device, packed(address), length)
        made = Station(name, namespace, device, mac(number), tuple(packed(address) for address, _ in addresses), "pod")
        self.stations.append(made)
        return made

    def tables_of(self, namespace: int, family: int) -> IptablesTables:
        return self.tables.setdefault((namespace, family), IptablesTables(family))

    def rules(self, rng: Random, namespace: int, families: list[int]) -> None:
        """A few rules in each table of each family, some of them of chance, of memory or of marks."""
        for family in families:
            tables = self.tables_of(namespace, family)
            for table, chain, text in rng.sample(RULES, rng.choice((1, 3, 6))):
                tables.append(table, chain, text.replace("-p icmp ", "-p ipv6-icmp ") if family == 6 else text)
            for call in recorded(namespace, tables):
                self.do(call.name, *call.args, **call.kwargs)


Made = tuple[World, Terrain]


def router(rng: Random) -> Made:
    """One router, two to four stations that answer or not, and many routes to networks behind them."""
    maker, families = Maker(), rng.choice(([4], [4, 6], [6]))
    node = maker.do("add_namespace", "router")
    maker.do("set_sysctl", node, "net.ipv4.ip_forward", 1)
    maker.do("set_sysctl", node, "net.ipv6.conf.all.forwarding", 1)
    answering, latency = rng.random() < 0.5, rng.choice((0, 0, 5_000))
    networks: list[tuple[bytes, int]] = []
    for number in range(1, rng.choice((2, 3, 4)) + 1):
        port = maker.do("add_device", node, f"eth{number}", "veth", mac=mac(100 + number), mtu=rng.choice((1500, 1500, 1400)))
        addresses = [(FAR[f].format(0, number, 2), 24 if f == 4 else 64) for f in families]
        station = maker.station(f"end{number}", number, port, latency, addresses if answering else [])
        if not answering:
            maker.stations[-1] = station = replace(station, addresses=tuple(packed(text) for text, _ in addresses))
        for family, (text, length) in zip(families, addresses, strict=True):
            gateway = packed(FAR[family].format(0, number, 1))
            maker.do("add_address", port, gateway, length)
            if rng.random() < 0.7 or not answering:
                maker.do("add_neighbour", port, packed(text), station.mac, permanent=rng.random() < 0.7 or not answering)
            if answering:
                maker.do("add_route", station.namespace, bytes(len(gateway)), 0, via=gateway)
            networks += _routes(rng, maker, node, family, number, packed(text))
    if rng.random() < 0.6:
        maker.rules(rng, node, families)
    chosen = rng.sample(networks, min(12, len(networks)))
    doors = [Door(_inside(rng, net, length), rng.choice(PORTS), "", "network") for net, length in chosen]
    gateways = {station.device: mac(100 + int(station.name[3:])) for station in maker.stations}
    return made("router", maker, families, doors, gateways, networks, [0])


def _routes(rng: Random, maker: Maker, node: int, family: int, number: int, via: bytes) -> list[tuple[bytes, int]]:
    """Nested prefixes behind one station."""
    made = []
    for _ in range(rng.choice((3, 20, 120))):
        length = rng.choice((9, 12, 16, 19, 24, 30, 32) if family == 4 else (32, 40, 48, 64, 127, 128))
        bits = 32 if family == 4 else 128
        head = (rng.randrange(64, 80) << 24 if family == 4 else 0x2001 << 112) | rng.randrange(1 << (bits - 16 if family == 6 else 24))
        net = (head >> (bits - length) << (bits - length)).to_bytes(bits // 8)
        maker.do("add_route", node, net, length, via=via, replace=True, metric=0, mtu=rng.choice((0, 0, 0, 1300)))
        made.append((net, length))
    return made


def _inside(rng: Random, network: bytes, length: int) -> bytes:
    bits = 8 * len(network)
    return (int.from_bytes(network) | rng.randrange(1 << (bits - length) if length < bits else 1)).to_bytes(len(network))


def bridge(rng: Random) -> Made:
    """A bridge whose stations talk to each other, to the bridge's own address, and move about."""
    maker, families = Maker(), rng.choice(([4], [4, 6]))
    node = maker.do("add_namespace", "node")
    maker.do("set_sysctl", node, "net.ipv4.ip_forward", rng.choice((0, 1)))
    maker.do("set_sysctl", node, "net.bridge.bridge-nf-call-iptables", rng.choice((0, 1)))
    own = maker.do("add_device", node, "br0", "bridge", mac=mac(100), mtu=1500)
    for family in families:
        maker.do("add_address", own, packed(FAR[family].format(0, 1, 1)), 24 if family == 4 else 64)
    answering, latency = rng.random() < 0.5, rng.choice((0, 0, 5_000))
    for number in range(1, rng.choice((3, 5)) + 1):
        port = maker.do("add_device", node, f"port{number}", "veth", mac=mac(200 + number), mtu=1500)
        maker.do("set_device", port, master=own, hairpin=rng.random() < 0.3, learning=rng.random() < 0.9)
        addresses = [(FAR[f].format(0, 1, 1 + number), 24 if f == 4 else 64) for f in families]
        station = maker.station(f"end{number}", number, port, latency, addresses if answering else [])
        maker.stations[-1] = replace(station, addresses=tuple(packed(text) for text, _ in addresses))
    if rng.random() < 0.6:
        maker.rules(rng, node, families)
    doors = [Door(packed(FAR[family].format(0, 1, 1)), 53, "", "bridge") for family in families]
    return made("bridge", maker, families, doors, {}, [], [0])


def made(
    name: str,
    maker: Maker,
    families: list[int],
    doors: list[Door],
    gateways: dict[int, bytes],
    networks: list[tuple[bytes, int]],
    routers: list[int],
) -> Made:
    """``gateways``: the MAC that a station sends everything to, by its device; without one all stations are on one link. ``routers``: as
    in Terrain."""
    doors += [Door(address, port, "", "station") for station in maker.stations for address in station.addresses for port in PORTS[:2]]
    by_address = {address: station.mac for station in maker.stations for address in station.addresses}

    def next_hop(station: Station, address: bytes) -> bytes:
        return multicast_mac(address) or gateways.get(station.device) or by_address.get(address, mac(100))

    terrain = Terrain(maker.stations, doors, families, routers, next_hop, maker.tables_of, networks)
    return World(f"{name} IPv{'+'.join(map(str, families))}", calls=tuple(maker.calls)), terrain
