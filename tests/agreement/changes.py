"""What changes in a cluster while traffic goes on: routes, neighbours, forwarding databases, rules, settings, devices, sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from dataplane._core import Chain, Engine
from dataplane.control.iptables import IptablesTables
from dataplane.errors import InputError

from .rules import random_rule
from .script import Call
from .terrain import OUTSIDE, Terrain, packed

STATES = ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait", "close", "max_retrans")
SETTINGS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("net.ipv4.ip_forward", (0, 1, 1)),
    ("net.bridge.bridge-nf-call-iptables", (0, 1)),
    ("net.ipv4.conf.all.rp_filter", (0, 1, 2)),
    ("net.ipv4.ip_default_ttl", (64, 33)),
    ("net.netfilter.nf_conntrack_checksum", (0, 1)),
    ("net.netfilter.nf_conntrack_max", (2, 5, 1000)),
    ("net.netfilter.nf_conntrack_tcp_be_liberal", (0, 1)),
    ("net.netfilter.nf_conntrack_tcp_loose", (0, 1)),
    ("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", (0, 1)),
    ("net.netfilter.nf_conntrack_tcp_timeout_established", (1, 432000)),
    ("net.netfilter.nf_conntrack_tcp_timeout_unacknowledged", (1, 300)),
    ("net.netfilter.nf_conntrack_udp_timeout", (1, 30)),
    ("net.netfilter.nf_conntrack_udp_timeout_stream", (2, 120)),
    ("net.netfilter.nf_conntrack_icmp_timeout", (1, 30)),
    ("net.netfilter.nf_conntrack_generic_timeout", (1, 600)),
    ("net.netfilter.nf_conntrack_tcp_max_retrans", (0, 1, 3)),
    *((f"net.netfilter.nf_conntrack_tcp_timeout_{state}", (1, 5, 60)) for state in STATES),
    ("net.ipv4.conf.all.accept_local", (0, 1)),
    ("net.ipv4.conf.all.route_localnet", (0, 1)),
    ("net.ipv4.conf.all.send_redirects", (0, 1)),
    ("net.ipv4.conf.all.drop_unicast_in_l2_multicast", (0, 1)),
    ("net.ipv4.conf.default.rp_filter", (0, 1, 2)),
    ("net.bridge.bridge-nf-call-ip6tables", (0, 1)),
    ("net.ipv4.icmp_ratelimit", (0, 1000)),
    ("net.ipv4.route.min_pmtu", (552, 1000)),
    ("net.ipv4.neigh.eth0.base_reachable_time_ms", (20, 30000)),
    ("net.ipv4.neigh.eth0.delay_first_probe_time", (0, 1, 5)),
    ("net.ipv4.neigh.eth0.ucast_solicit", (0, 3)),
    ("net.ipv4.conf.eth0.forwarding", (0, 1, 1)),
    ("net.ipv6.conf.all.forwarding", (0, 1, 1)),
    ("net.ipv6.conf.eth0.hop_limit", (64, 20)),
    ("net.ipv6.conf.eth0.disable_ipv6", (0, 0, 1)),
)

RULES = (
    ("filter", "FORWARD", "-p udp -j REJECT"),
    ("filter", "FORWARD", "-p tcp -j REJECT --reject-with tcp-reset"),
    ("filter", "FORWARD", "-p tcp --tcp-flags PSH PSH -j DROP"),
    ("filter", "FORWARD", "-m conntrack --ctstate INVALID -j DROP"),
    ("filter", "FORWARD", "-m conntrack --ctstate ESTABLISHED -j ACCEPT"),
    ("filter", "FORWARD", "-m mark --mark 0x7/0xf -j DROP"),
    ("filter", "FORWARD", "-m statistic --mode random --probability 0.5 -j DROP"),
    ("filter", "FORWARD", "-m recent --name seen --update --seconds 2 -j ACCEPT"),
    ("filter", "FORWARD", "-m recent --name seen --set"),
    ("filter", "INPUT", "-p icmp -j DROP"),
    ("mangle", "PREROUTING", "-p udp -j MARK --set-xmark 0x7/0xf"),
    ("mangle", "FORWARD", "-p tcp -j MARK --set-xmark 0x3/0xff"),
    ("mangle", "POSTROUTING", "-m mark --mark 0x3/0xff -j DROP"),
    ("raw", "PREROUTING", "-p udp --dport 53 -j DROP"),
    ("nat", "POSTROUTING", "-p udp -j MASQUERADE --random-fully"),
    ("nat", "POSTROUTING", "-p tcp -j MASQUERADE"),
)


def recorded(namespace: int, tables: IptablesTables) -> list[Call]:
    """The calls that make a namespace follow ``tables``."""
    return [
        Call("set_rules", (namespace, tables.family, table, tuple(_plain_chain(chain) for chain in chains)))
        for table, chains in tables.compile().items()
    ]


def _plain_chain(chain: Chain) -> Chain:
    return Chain(chain.name, chain.policy, [dict(rule) for rule in chain.rules])  # type: ignore[misc]


Change = Callable[[Random, Terrain, Engine], list[Call]]


def change(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """One change, of what ``engine`` holds now; nothing where there is nothing of its kind."""
    changes: tuple[Change, ...] = (
        *(_settings, _device, _rules),
        *(_add_route, _del_route, _mtu_route),
        *(_neighbour, _lose_neighbours, _fdb),
        *(_flush, _flush, _capture, _capture_all, _trace, _address),
        *(_forget, _proxy, _cable, _profile),
    )
    return rng.choice(changes)(rng, terrain, engine)


def _settings(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    name, values = rng.choice(SETTINGS)
    return [Call("set_sysctl", (rng.choice(terrain.routers), name, rng.choice(values)))]


def _rules(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """A node's tables loaded again, the same or with rules more at the beginning of a chain, which the next time may take away."""
    family, namespace = rng.choice(terrain.families), rng.choice(terrain.routers)
    tables = terrain.tables(namespace, family)
    extra = [(table, chain, text) for table, chain, text, origin in tables.lines() if origin == 0 and rng.random() < 0.5]
    for table, chain, text in extra:
        tables.delete(table, chain, text)
    if rng.random() < 0.4:
        table, chain, text = rng.choice(RULES)
        tables.insert(table, chain, text.replace("-p icmp ", "-p ipv6-icmp " if family == 6 else "-p icmp "))
    for _ in range(rng.choice((0, 1, 1, 4))):
        with suppress(InputError):
            tables.insert(*random_rule(rng, terrain, engine, namespace, family))
    return recorded(namespace, tables)


def _add_route(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """Nowhere, or to where another route leads."""
    family = rng.choice(terrain.families)
    targets = [(packed(text), 8 * len(packed(text))) for text in OUTSIDE[family]]
    targets += [(net, length) for net, length in terrain.networks if (len(net) == 4) == (family == 4)]
    targets += [(a, 8 * len(a)) for station in terrain.stations for a in station.addresses if (len(a) == 4) == (family == 4)]
    prefix, length = rng.choice(targets)
    namespace = rng.choice(terrain.routers)
    if rng.random() < 0.5:
        kind = rng.choice(("blackhole", "unreachable", "prohibit", "throw"))
        return [Call("add_route", (namespace, prefix, length), {"kind": kind, "metric": rng.choice((0, 5)), "replace": rng.random() < 0.5})]
    others = [row for row in engine.routes(namespace) if row["via"] is not None and len(row["via"]) == len(prefix)]
    if not others:
        return []
    other = rng.choice(others)
    kwargs = {"via": other["via"], "dev": other["dev"], "onlink": True, "replace": rng.random() < 0.5, "metric": rng.choice((0, 1, 50))}
    return [Call("add_route", (namespace, prefix, length), kwargs)]


def _main_routes(engine: Engine, namespace: int) -> list[dict[str, Any]]:
    return [row for row in engine.routes(namespace) if row["table"] == "main"]


def _del_route(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """One that is there; more often than not it comes back a little later in the same script step."""
    namespace = rng.choice(terrain.routers)
    rows = _main_routes(engine, namespace)
    if not rows:
        return []
    row = rng.choice(rows[-6:])
    return [Call("del_route", (namespace, row["prefix"], row["prefix_len"]), {"kind": row["kind"], "metric": row["metric"]})]


def _mtu_route(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """A route as it is but for its MTU, its lock or its source."""
    namespace = rng.choice(terrain.routers)
    rows = [row for row in _main_routes(engine, namespace) if row["kind"] == "unicast" and row["dev"] >= 0]
    if not rows:
        return []
    row = rng.choice(rows)
    kwargs = {key: row[key] for key in ("via", "dev", "onlink", "metric", "src")}
    kwargs |= {"mtu": rng.choice((0, 600, 1280, 1400)), "mtu_lock": rng.random() < 0.2, "replace": True}
    return [Call("add_route", (namespace, row["prefix"], row["prefix_len"]), kwargs)]


def _neighbour(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """One that is known gets another MAC or another state."""
    rows = engine.neighbours(rng.choice(terrain.routers))
    if not rows:
        return []
    row = rng.choice(rows)
    if rng.random() < 0.3:
        return [Call("del_neighbour", (row["dev"], row["address"]))]
    right = row["mac"] or rng.choice(terrain.stations).mac
    mac = right if rng.random() < 0.6 else rng.choice(terrain.stations).mac
    return [Call("add_neighbour", (row["dev"], row["address"], mac), {"permanent": rng.random() < 0.4})]


def _lose_neighbours(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    return [Call("flush", (rng.choice(terrain.stations).namespace, "neighbours"))]


def _fdb(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    rows = engine.fdb(rng.choice(terrain.routers))
    if not rows:
        return []
    row, other = rng.choice(rows), rng.choice(rows)
    if rng.random() < 0.5:
        return [Call("del_fdb", (row["dev"], row["mac"]))]
    return [Call("add_fdb", (row["dev"], other["mac"]), {"static": rng.random() < 0.5, "dst": other["dst"] if row["dst"] else None})]


def _flush(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    return [Call("flush", (rng.choice(terrain.routers), rng.choice(("conntrack", "conntrack", "neighbours", "exceptions", "recent"))))]


def _any_device(rng: Random, terrain: Terrain, engine: Engine) -> dict[str, Any]:
    return rng.choice(engine.devices(rng.choice((*terrain.routers, *terrain.routers, rng.choice(terrain.stations).namespace))))


def _device(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """Down, up, another MTU, another MAC, other settings of a bridge port."""
    row = _any_device(rng, terrain, engine)
    if not row["up"]:
        return [Call("set_device", (row["id"],), {"up": True})]
    options: list[dict[str, Any]] = [{"up": False}, {"mtu": rng.choice((row["mtu"], 600, 1280, 1400, 1500))}]
    options += [{"hairpin": not row["hairpin"]}, {"learning": not row["learning"]}, {"filters_too_big": rng.random() < 0.5}]
    options += [{"unfinished_checksums": rng.random() < 0.5}, {"wire": rng.random() < 0.5}]
    if row["kind"] == "veth":
        options.append({"mac": rng.choice((row["mac"], b"\x02\0\0\0\0" + bytes([rng.randrange(256)])))})
    if row["master"] >= 0 and rng.random() < 0.3:
        options.append({"master": -1})
    return [Call("set_device", (row["id"],), rng.choice(options))]


def _capture(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    return [Call("set_device", (_any_device(rng, terrain, engine)["id"],), {"capture": rng.random() < 0.4}) for _ in range(3)]


def _capture_all(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """Every device there is, or none."""
    made = [ns for ns in range(engine.places()[0]) if engine.is_made(ns)]
    share = rng.choice((0, 0, 0.1, 1))
    return [Call("set_device", (row["id"],), {"capture": rng.random() < share}) for ns in made for row in engine.devices(ns)]


def _trace(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    return [Call("trace", (rng.random() < 0.6,), {"changes": rng.random() < 0.7})]


def _forget(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """A connection that is there is deleted."""
    namespace = rng.choice(terrain.routers)
    rows = [row for row in engine.conntrack(namespace) if row["proto"] in (6, 17)]
    if not rows:
        return []
    row = rng.choice(rows)
    return [Call("del_conntrack", (namespace, row["proto"], row["orig"]))]


def _proxy(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    row, address = _any_device(rng, terrain, engine), rng.choice(terrain.doors).address
    return [Call(rng.choice(("add_proxy", "del_proxy")), (row["id"], address))]


def _cable(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """One that is plugged in gets another latency."""
    row = _any_device(rng, terrain, engine)
    if row["kind"] != "veth" or row["peer"] < 0:
        return []
    return [Call("connect", (row["id"], row["peer"]), {"latency": rng.choice((0, 0, 1_000, 50_000, 2_000_000))})]


def _profile(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """Stages are timed, for a while."""
    return [Call("profile", (rng.random() < 0.3,))]


def _address(rng: Random, terrain: Terrain, engine: Engine) -> list[Call]:
    """A node gets an address that traffic was for, or loses one."""
    namespace = rng.choice(terrain.routers)
    rows = [row for row in engine.devices(namespace) if row["name"] != "lo"]
    if not rows:
        return []
    row = rng.choice(rows)
    if rng.random() < 0.3 and row["addresses"]:
        address = rng.choice(row["addresses"])
        return [Call("del_address", (row["id"], address["address"], address["prefix_len"]))]
    address = packed(rng.choice(OUTSIDE[rng.choice(terrain.families)]))
    return [Call("add_address", (row["id"], address, 8 * len(address)))]


def capture_some(rng: Random, devices: Sequence[int]) -> list[Call]:
    """Only some of these devices are captured, or none."""
    silent = rng.choice((0.5, 0.5, 0.9, 1))
    return [Call("set_device", (device,), {"capture": False}) for device in devices if rng.random() < silent]
