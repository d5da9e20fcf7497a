"""Random iptables rules about what there is in a world: every match and target that the core has, in every table and chain."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random

from dataplane._core import Engine

from .terrain import Terrain

CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING", "PREROUTING", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT", "FORWARD"),
}
STATES = ("NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "INVALID", "SNAT", "DNAT", "NEW,DNAT")
TYPES = ("LOCAL", "UNICAST", "BROADCAST", "MULTICAST", "BLACKHOLE")
FLAGS = ("SYN,ACK SYN", "PSH PSH", "FIN FIN", "RST RST", "ACK,URG ACK", "SYN,RST,ACK,FIN SYN")
REJECTS = {4: ("icmp-port-unreachable", "icmp-host-prohibited"), 6: ("icmp6-port-unreachable", "icmp6-adm-prohibited")}


def random_rule(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int) -> tuple[str, str, str]:
    """Table, chain and rule. Not each is one that iptables takes."""
    table = rng.choices(list(CHAINS), (1, 2, 4, 3))[0]
    chain = rng.choice(CHAINS[table])
    proto = rng.choice(("tcp", "tcp", "udp", "udp", "sctp", ""))
    matches = [f"-p {proto}"] if proto else []
    kinds = [
        _ends,
        _ends,
        _devices,
        _state,
        _mark,
        _types,
        _chance,
        *([_ports, _ports] if proto else []),
        *([_flags] if proto == "tcp" else []),
    ]
    for match in rng.sample(kinds, rng.choice((0, 1, 1, 2, 3))):
        matches.append(match(rng, terrain, engine, namespace, family, chain))
    return table, chain, " ".join((*matches, _target(rng, terrain, family, table, chain, proto)))


def _address(rng: Random, terrain: Terrain, family: int) -> str:
    known = [door.address for door in terrain.doors] + [address for station in terrain.stations for address in station.addresses]
    return str(ip_address(rng.choice([address for address in known if len(address) == (4 if family == 4 else 16)] or [bytes(4)])))


def _ends(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    length = rng.choice((32, 32, 31, 24, 16, 8) if family == 4 else (128, 128, 120, 64))
    return f"{rng.choice(('', '! '))}{rng.choice(('-s', '-d'))} {_address(rng, terrain, family)}/{length}"


def _devices(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    name = rng.choice(engine.devices(namespace))["name"]
    side = "-i" if chain in ("PREROUTING", "INPUT") else "-o" if chain in ("OUTPUT", "POSTROUTING") else rng.choice(("-i", "-o"))
    return f"{rng.choice(('', '! '))}{side} {rng.choice((name, name[:-1] + '+'))}"


def _ports(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    port = rng.choice((53, 80, 8080, 40_000, rng.choice(terrain.doors).port))
    return (
        f"{rng.choice(('', '! '))}{rng.choice(('--dport', '--sport', '--dport'))} {rng.choice((str(port), f'{port}:65535', f'0:{port}'))}"
    )


def _flags(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    return f"-m tcp --tcp-flags {rng.choice(FLAGS)}"


def _state(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    return f"-m conntrack {rng.choice(('', '! '))}--ctstate {rng.choice(STATES)}"


def _mark(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    return f"-m mark {rng.choice(('', '! '))}--mark {rng.choice(('0x0', '0x7/0xf', '0x3/0xff', '0x4000/0x4000'))}"


def _types(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    return f"-m addrtype {rng.choice(('', '! '))}{rng.choice(('--src-type', '--dst-type'))} {rng.choice(TYPES)}"


def _chance(rng: Random, terrain: Terrain, engine: Engine, namespace: int, family: int, chain: str) -> str:
    return f"-m statistic --mode random --probability {rng.choice((0.5, 0.5, 0.1, 0.9))}"


def _target(rng: Random, terrain: Terrain, family: int, table: str, chain: str, proto: str) -> str:
    if table == "mangle" or (table != "nat" and rng.random() < 0.1):
        return f"-j MARK --set-xmark {rng.choice(('0x7/0xf', '0x3/0xff', '0x4000/0x4000', '0x0/0xffffffff'))}"
    if table == "nat":
        return _translation(rng, terrain, family, chain, proto)
    rejects = [f"REJECT --reject-with {rng.choice(REJECTS[family])}"] if table == "filter" else []
    if table == "filter" and proto == "tcp":
        rejects.append("REJECT --reject-with tcp-reset")
    return f"-j {rng.choice(('ACCEPT', 'ACCEPT', 'DROP', 'RETURN', *rejects))}"


def _translation(rng: Random, terrain: Terrain, family: int, chain: str, proto: str) -> str:
    one, other = sorted(ip_address(_address(rng, terrain, family)) for _ in range(2))
    address = f"[{one}]" if family == 6 else f"{one}"
    if int(other) - int(one) < 1000 and rng.random() < 0.3 and family == 4:
        address = f"{one}-{other}"
    port = rng.choice((":8080", ":53", ":8080-8083", ":1024-1030", "")) if proto else ""
    if port == "" and family == 6:
        address = address.strip("[]")
    if chain in ("PREROUTING", "OUTPUT"):
        return f"-j {rng.choice((f'DNAT --to-destination {address}{port}',) * 3 + ('ACCEPT', 'RETURN'))}"
    ports = rng.choice((" --to-ports 1024-1030", " --random-fully", "", "")) if proto else ""
    return f"-j {rng.choice((f'SNAT --to-source {address}{port}', f'MASQUERADE{ports}', 'ACCEPT', 'RETURN'))}"
