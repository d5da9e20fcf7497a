"""Worlds made by hand of two sites with a tunnel between them, or one in another: any encapsulation with any outer header, a narrow way."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from dataplane.control.iptables import IptablesTables

from . import plugins
from .changes import RULES, recorded
from .handmade import FAR, Made, Maker, mac, made
from .terrain import Door, Station, packed

Options = Mapping[str, int]
OUTER: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("ttl", (0, 0, 1, 3, 64, 255)),
    ("ttl_inherit", (0, 1)),
    ("tos", (0, 1, 1, 2, 0xB8)),
    ("df", (0, 1, 2)),
)
GRE: tuple[tuple[str, tuple[int, ...]], ...] = (*OUTER, ("key", (7,)), ("checksum", (0, 0, 0, 1)), ("sequence", (0, 0, 0, 1)))
UDP: tuple[tuple[str, tuple[int, ...]], ...] = (*OUTER, ("udp_checksum", (0, 1)), ("port", (5000, 4789)), ("port_min", (1, 60_000)))
KINDS: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "ipip": OUTER, "gre": GRE, "gretap": GRE, "vxlan": UDP, "vxlan_gpe": UDP, "geneve": UDP, "fou": (*UDP, ("gre", (0, 1))),
    "gue": UDP, "erspan": OUTER, "mpls_gre": (*OUTER, ("ttl_propagate", (0, 1))), "mpls_udp": UDP,
    "declared_fou": UDP, "declared_gre": OUTER, "declared_gre_key": (*OUTER, ("key", (7,))), "declared_gre_checksum": OUTER,
    "numba_tag": (("tag", (5,)),), "tolled_udp": (),
}  # fmt: skip
COMMON = ("ipip", "vxlan", "vxlan", "geneve", "gre")
OUTSIDE, FIRST = "192.168.{}.{}", 172  # addresses between the sites; first byte of those at both ends of a tunnel
VIRTUAL = "10.96.0.{}"
SITES = (1, 2)


def two_sites(rng: Random) -> Made:
    """Two routers with stations behind them. What one has for the other goes through the tunnel; between them a third one passes it on."""
    maker, families = Maker(), rng.choice(([4], [4], [4], [4, 6]))
    latency = rng.choice((0, 0, 10_000))
    between = _router(maker, "between", rng)
    ends = []
    for site in SITES:
        node = _router(maker, f"site{site}", rng)
        uplink = maker.do("add_device", node, "eth0", "veth", mac=mac(10 + site), mtu=1500)
        towards = maker.do("add_device", between, f"eth{site - 1}", "veth", mac=mac(20 + site), mtu=rng.choice((1500, 1500, 1400, 700)))
        maker.cable(uplink, towards, latency)
        maker.do("add_address", uplink, packed(OUTSIDE.format(site, 1)), 24)
        maker.do("add_address", towards, packed(OUTSIDE.format(site, 254)), 24)
        maker.do("add_route", node, bytes(4), 0, via=packed(OUTSIDE.format(site, 254)))
        if rng.random() < 0.7:
            maker.do("add_neighbour", uplink, packed(OUTSIDE.format(site, 254)), mac(20 + site))
        ends.append(node)
        for number in range(2, rng.choice((3, 4)) + 1):
            _station(maker, rng, node, site, number, families)
    doors = _tunnels(maker, rng, ends, families) + _rules(maker, rng, ends, families)
    gateways = {station.device: mac(100 + int(station.name[3:])) for station in maker.stations}
    return made("tunnels", maker, families, doors, gateways, [], [*ends, between])


def _router(maker: Maker, name: str, rng: Random) -> int:
    node: int = maker.do("add_namespace", name)
    maker.do("set_sysctl", node, "net.ipv4.ip_forward", 1)
    maker.do("set_sysctl", node, "net.ipv6.conf.all.forwarding", 1)
    if rng.random() < 0.5:
        maker.do("set_sysctl", node, "net.ipv4.route.mtu_expires", rng.choice((1, 5, 30)))
    return node


def _station(maker: Maker, rng: Random, node: int, site: int, number: int, families: list[int]) -> Station:
    """It answers what it is asked for, or is silent and known."""
    own = 10 * site + number
    port = maker.do("add_device", node, f"port{number}", "veth", mac=mac(100 + own), mtu=rng.choice((1500, 1500, 9000)))
    addresses = [(FAR[family].format(site, number, 2), 24 if family == 4 else 64) for family in families]
    gateways = [packed(FAR[family].format(site, number, 1)) for family in families]
    for (_, length), gateway in zip(addresses, gateways, strict=True):
        maker.do("add_address", port, gateway, length)
    station = maker.station(f"end{own}", 200 + own, port, rng.choice((0, 0, 5_000)), addresses)
    for (text, _), gateway in zip(addresses, gateways, strict=True):
        maker.do("add_route", station.namespace, bytes(len(gateway)), 0, via=gateway)
        if rng.random() < 0.6:
            maker.do("add_neighbour", port, packed(text), station.mac)
    return station


def _tunnels(maker: Maker, rng: Random, ends: list[int], families: list[int]) -> list[Door]:
    """One between the sites, or a second one through it, which the way to the other site's stations leads into."""
    near = [OUTSIDE.format(site, 1) for site in SITES]
    for depth in range(rng.choice((1, 1, 1, 2))):
        kind = rng.choice((*COMMON, *KINDS))
        options = {name: rng.choice(values) for name, values in KINDS[kind] if rng.random() < 0.3}
        near = _tunnel(maker, rng, ends, near, kind, depth, options, families)
    doors = [packed(text) for text in (*near, *(OUTSIDE.format(site, 1) for site in SITES))]
    return [Door(address, 53, "", "end of a tunnel") for address in doors]


def _tunnel(
    maker: Maker, rng: Random, ends: list[int], near: list[str], kind: str, depth: int, options: Options, families: list[int]
) -> list[str]:
    """The addresses at its ends."""
    plugins.ensure(kind)
    given: dict[str, Any] = dict(options) | ({"id": 7 + depth} if kind in ("vxlan", "vxlan_gpe", "geneve") else {})
    inside = [f"{FIRST}.{16 + depth}.0.{site}" for site in SITES]
    mtu = rng.choice((1500, 1450, 1400, 1200, 1000))
    for number, node in enumerate(ends):
        own = mac(50 + 2 * depth + number)
        remote = {} if _finds_remote(kind) and depth == 0 and rng.random() < 0.2 else {"remote": packed(near[1 - number])}
        if rng.random() < 0.9:
            remote["local"] = packed(near[number])
        device = maker.do("add_device", node, f"tun{depth}", kind, mac=own, mtu=mtu, **remote, **given)
        maker.do("add_address", device, packed(inside[number]), 24)
        ethernet = next(row["ethernet"] for row in maker.engine.devices(node) if row["id"] == device)
        if ethernet and rng.random() < 0.6:
            maker.do("add_neighbour", device, packed(inside[1 - number]), mac(50 + 2 * depth + 1 - number))
        for family in families:
            prefix = packed(FAR[family].format(SITES[1 - number], 0, 0))
            via = packed(inside[1 - number]) if "remote" in remote else packed(near[1 - number])
            way: dict[str, Any] = {"dev": device} if family == 6 else {"via": via, "dev": device, "onlink": True}
            maker.do("add_route", node, prefix, 16 if family == 4 else 32, replace=True, metric=0, mtu=rng.choice((0, 0, 0, 900)), **way)
    return inside


def _finds_remote(kind: str) -> bool:
    """By the route's gateway, where no remote end is given."""
    return kind in ("ipip", "gre", "fou", "gue")


def _rules(maker: Maker, rng: Random, ends: list[int], families: list[int]) -> list[Door]:
    """A virtual address for stations of both sites, masquerading, and a few rules of chance or memory."""
    doors: list[Door] = []
    for site, node in zip(SITES, ends, strict=True):
        if rng.random() < 0.25:
            continue
        tables = maker.tables_of(node, 4)
        targets = [station for station in maker.stations if len(station.addresses[0]) == 4]
        for proto in ("tcp", "udp"):
            for number, station in enumerate(rng.sample(targets, 2)):
                text = ".".join(map(str, station.addresses[0]))
                chance = "" if number else " -m statistic --mode random --probability 0.5"
                rule = f"-d {VIRTUAL.format(site)}/32 -p {proto} -m {proto} --dport 80{chance} -j DNAT --to-destination {text}:8080"
                tables.append("nat", "PREROUTING", rule)
            doors.append(Door(packed(VIRTUAL.format(site)), 80, proto, "service of a site"))
        for rule in rng.choice(((), ("-o tun0 -j MASQUERADE",), ("-o eth0 -j MASQUERADE --random-fully",), ("-p tcp -j MASQUERADE",))):
            tables.append("nat", "POSTROUTING", rule)
        for table, chain, rule in rng.sample(RULES, rng.choice((0, 0, 1, 3))):
            tables.append(table, chain, rule)
        _load(maker, node, tables)
    return doors


def _load(maker: Maker, node: int, tables: IptablesTables) -> None:
    for call in recorded(node, tables):
        maker.do(call.name, *call.args, **call.kwargs)
