"""Neighbour Discovery messages (RFC 4861), right and wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from random import Random

from . import wire
from .extensions import options as options_header
from .taps import Seen
from .topology import CALICO_GATEWAY, Topology
from .traffic import Packet, Station
from .traffic6 import Traffic6, link_local, multicast_mac, solicited_node

ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
SOURCE_LINK, TARGET_LINK, PREFIX, REDIRECTED, MTU, NONCE = 1, 2, 3, 4, 5, 14
KINDS = {
    wire.NEIGHBOUR_SOLICITATION: 64,
    wire.NEIGHBOUR_ADVERTISEMENT: 16,
    wire.ROUTER_SOLICITATION: 6,
    wire.ROUTER_ADVERTISEMENT: 6,
    wire.REDIRECT: 8,
}


def link_option(kind: int, mac: str) -> bytes:
    return bytes([kind, 1]) + wire.mac(mac)


def _known(topology: Topology, station: Station) -> list[str]:
    """Addresses that somebody may ask for: of nodes, pods, hosts, tunnels, services, and of nobody."""
    found = [link_local(mac) for node in topology.nodes.values() for mac in node.macs.values()]
    for node in topology.nodes.values():
        found += [node.address, node.gateway, node.tunnel, str(node.network[99])]
    found += [p.address for p in topology.pods.values()] + [h.address for h in topology.hosts.values()]
    found += [CALICO_GATEWAY[6]] * (1 if topology.bridged else 8)
    found += [str(topology.underlay[99]), topology.services[0].address, "::", "ff02::1", "::1", "2001:db8::1", station.address]
    return found


def _options(rng: Random, kind: int, station: Station) -> bytes:
    """The link-layer address option that is due, another one, none, several, or one of a wrong length."""
    due = TARGET_LINK if kind in (wire.NEIGHBOUR_ADVERTISEMENT, wire.REDIRECT) else SOURCE_LINK
    mac = rng.choices([station.mac, "02:de:ad:be:ef:01", wire.BROADCAST], [90, 8, 2])[0]
    return rng.choices(
        [
            link_option(due, mac),
            b"",
            link_option(3 - due, mac),
            bytes([due, 0]) + wire.mac(mac),
            bytes([due, 2]) + wire.mac(mac) + bytes(8),
            bytes([due, 9]) + wire.mac(mac),
            bytes([NONCE, 1]) + bytes(range(6)) + link_option(due, mac),
            bytes([200, 1]) + bytes(6) + link_option(due, mac),
            link_option(due, mac) + link_option(due, "02:de:ad:be:ef:02"),
            link_option(due, mac)[: rng.randrange(1, 8)],
        ],
        [72, 8, 2, 3, 3, 3, 3, 3, 2, 3],
    )[0]


def message(traffic: Traffic6) -> Packet:
    """Some message from some station."""
    rng, topology, station = traffic.rng, traffic.topology, traffic.client()
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    known = _known(topology, station)
    wanted = rng.choice(known)
    source = rng.choices([station.address, link_local(station.mac), "::", rng.choice(known)], [55, 20, 15, 10])[0]
    near = rng.choice([ALL_NODES, link_local(traffic.facing(station)), wanted, rng.choice(known)])
    if kind == wire.NEIGHBOUR_SOLICITATION:
        target, body = rng.choices([solicited_node(wanted), wanted, ALL_NODES, near], [66, 22, 4, 8])[0], bytes(4) + wire.packed(wanted)
        mine = b"" if source == "::" and rng.random() < 0.8 else _options(rng, kind, station)
    elif kind == wire.NEIGHBOUR_ADVERTISEMENT:
        claimed = rng.choice([station.address, link_local(station.mac), wanted])
        target, body = near, bytes([rng.randrange(8) << 5, 0, 0, 0]) + wire.packed(claimed)
        mine = _options(rng, kind, station)
    elif kind == wire.REDIRECT:
        target, body = near, bytes(4) + wire.packed(rng.choice(known)) + wire.packed(rng.choice(known))
        mine = _options(rng, kind, station)
    elif kind == wire.ROUTER_SOLICITATION:
        target, body, mine = rng.choice([ALL_ROUTERS, ALL_ROUTERS, near]), bytes(4), _options(rng, kind, station)
    else:
        prefix = bytes([PREFIX, 4, 64, 0xC0]) + struct.pack(">III", 600, 300, 0) + wire.packed("2001:db8:5::")
        body = struct.pack(">BBHII", 64, 0, 1800, 0, 0)
        target, mine = near, _options(rng, kind, station) + rng.choice([b"", prefix, bytes([MTU, 1, 0, 0]) + struct.pack(">I", 1400)])
    return _packet(traffic, station, source, target, kind, body + mine, f"discovery {kind} from {source} to {target} for {wanted}")


def unresolved(traffic: Traffic6) -> Packet:
    """A packet for an address on some link that nobody has."""
    rng, topology, station = traffic.rng, traffic.topology, traffic.client()
    node = rng.choice(list(topology.nodes.values()))
    near = [str(node.network[99]), str(node.network[98])] if topology.bridged else []
    target = rng.choice([*near, str(topology.underlay[99]), str(topology.underlay[98])])
    source = traffic.source(station)
    body = wire.icmp6(source, target, 128, 0, bytes(4), traffic.payload())
    return traffic.packet(station, source, target, wire.ICMP6, body, f"to {target}, which is to be resolved")


def claim(traffic: Traffic6, frames: Sequence[Seen]) -> Packet | None:
    """An advertisement for what a node has asked for, from a station that heard it; None if no node asks."""
    rng = traffic.rng
    for seen in frames:
        station, parsed = traffic.by_name.get(seen.ns), wire.parse(seen.data)
        if station is None or seen.outgoing or station.ns in traffic.topology.nodes or parsed is None or parsed.proto != wire.ICMP6:
            continue
        if parsed.payload[0] != wire.NEIGHBOUR_SOLICITATION or len(parsed.payload) < 24:
            continue
        flags = rng.choices([0x60, 0x40, 0x20, 0, 0xE0], [60, 15, 15, 5, 5])[0]
        wanted = str(ip_address(parsed.payload[8:24]))
        options = _options(rng, wire.NEIGHBOUR_ADVERTISEMENT, station)
        body = wire.icmp6(wanted, parsed.source, wire.NEIGHBOUR_ADVERTISEMENT, 0, bytes([flags, 0, 0, 0]), wire.packed(wanted) + options)
        ip = wire.Ip6(wanted, parsed.source, wire.ICMP6, body, 255)
        return Packet(station, seen.data[6:12].hex(":"), ip, f"claims {wanted}, flags 0x{flags:02x}")
    return None


def _packet(traffic: Traffic6, station: Station, source: str, target: str, kind: int, body: bytes, note: str) -> Packet:
    rng = traffic.rng
    if rng.random() < 0.05:
        body = body[: rng.randrange(4, len(body) + 1)]
    code = rng.choices([0, 1], [97, 3])[0]
    made = wire.icmp6(source, target, kind, code, body[:4], body[4:], check_error=rng.choices([0, 1], [97, 3])[0])
    hops = rng.choices([255, 64, 254, 1], [94, 2, 2, 2])[0]
    extensions: tuple[tuple[int, bytes], ...] = ()
    if rng.random() < 0.05:
        extensions = rng.choice([((wire.FRAGMENT, bytes(8)),), ((wire.DESTINATION_OPTIONS, options_header(rng)),)])
    ip = wire.Ip6(source, target, wire.ICMP6, made, hops, extensions=extensions)
    if wire.packed(target)[0] == 0xFF and rng.random() < 0.96:
        mac = multicast_mac(target)
    else:
        mac = rng.choices([traffic.next_hop(station, target), traffic.facing(station)], [70, 30])[0]
    return Packet(station, mac, ip, note)
