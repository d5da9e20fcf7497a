"""Packets that only pass through a router: which go by their destination's route alone. That they fare as in the stages, whatever they
are, is tests/agreement's matter; here it is looked at for a table that is too large for that."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from core.worlds import (
    CLIENT,
    DONT_FRAGMENT,
    MILLISECOND,
    MORE_FRAGMENTS,
    OUTSIDE,
    ROUTER1,
    ROUTER1_MAC,
    SCTP,
    SERVER,
    SERVER_MAC,
    Router,
    ether,
    filter_table,
    ip,
    ipv4,
    mac,
    ping,
    tcp_packet,
    udp,
    udp_packet,
)  # fmt: skip
from dataplane._core import Engine

SYN = 2
MANY = 20_000  # routes: the table's root is as wide as it gets


def gateway(engine: Engine | None = None) -> Router:
    """A router whose default route leads to the server, which has been sent a packet."""
    router = Router(engine=engine or Engine())
    router.engine.add_route(router.ns, bytes(4), 0, via=ip(SERVER))
    send(router, ether(udp_packet()))
    return router


def send(router: Router, *frames: bytes) -> int:
    """How many of the frames that the client sends go by their routes alone."""
    engine = router.engine
    before = engine.flow_cache()["routed"]
    for frame in frames:
        at = engine.now + MILLISECOND
        engine.inject(router.client_eth, frame, at=at)
        engine.run(at)
    return engine.flow_cache()["routed"] - before


def to(address: str, **header: Any) -> bytes:
    return ether(udp_packet(dst=address, **header))


def test_flows_that_come_but_once_go_by_their_destinations_routes() -> None:
    router = gateway()
    router.engine.frames()
    frames = [to(f"198.51.100.{number}", ttl=number) for number in range(2, 200)]
    assert send(router, *frames) == len(frames)
    passed = [SERVER_MAC + ROUTER1_MAC + to(f"198.51.100.{number}", ttl=number - 1)[12:] for number in range(2, 200)]
    assert router.seen(router.eth1, outgoing=True) == passed
    assert router.engine.flow_cache()["learnt"] <= 1 + len(frames), "and no flow in the router is learnt from them"


def test_the_first_packet_to_a_neighbour_is_the_stages_work() -> None:
    router = Router()
    router.engine.add_route(router.ns, bytes(4), 0, via=ip(SERVER))
    assert send(router, to(OUTSIDE)) == 0
    assert send(router, to(OUTSIDE), to(SERVER)) == 2


PASSING: dict[str, bytes] = {
    "no TCP or UDP": ether(ping(dst=OUTSIDE)),
    "a TCP segment that begins a connection": ether(tcp_packet(SYN, dst=OUTSIDE)),
    "a wrong UDP checksum": ether(ipv4(udp(dst=OUTSIDE, bad_checksum=True), dst=OUTSIDE)),
    "a fragment": to(OUTSIDE, fragment=MORE_FRAGMENTS),
    "may not be cut": to(OUTSIDE, fragment=DONT_FRAGMENT),
    "padding behind the packet": to(OUTSIDE) + bytes(20),
    "another sender's MAC": ether(udp_packet(dst=OUTSIDE), src=mac(0x77)),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_does_not_matter_to_a_router(name: str) -> None:
    assert send(gateway(), PASSING[name]) == 1


STAGES: dict[str, bytes] = {
    "the end of its time": to(OUTSIDE, ttl=1),
    "options": ether(udp_packet(dst=OUTSIDE, options=b"\x01" * 4)),
    "a wrong header checksum": ether(udp_packet(dst=OUTSIDE, bad_checksum=True)),
    "longer than the next link takes": ether(udp_packet(bytes(1473), dst=OUTSIDE)),
    "the router's own source": ether(udp_packet(src=ROUTER1, dst=OUTSIDE)),
    "a source of loopback": ether(udp_packet(src="127.0.0.1", dst=OUTSIDE)),
    "a group": to("224.0.0.5"),
    "the router itself": to(ROUTER1),
    "back where it came from": to("10.0.0.9"),
    "another host's MAC": ether(udp_packet(dst=OUTSIDE), dst=mac(0x55)),
    "cut off": to(OUTSIDE)[:-1],
}


@pytest.mark.parametrize("name", STAGES)
def test_what_a_router_has_to_look_at(name: str) -> None:
    assert send(gateway(), STAGES[name]) == 0


CHANGES: dict[str, Callable[[Router], object]] = {
    "rules": lambda router: router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}])),
    "reverse path filter": lambda router: router.engine.set_sysctl(router.ns, "net.ipv4.conf.eth0.rp_filter", 2),
    "no forwarding": lambda router: router.engine.set_sysctl(router.ns, "net.ipv4.ip_forward", 0),
    "a neighbour that has to be asked": lambda router: router.engine.add_neighbour(router.eth1, ip(SERVER), SERVER_MAC, permanent=False),
    "several routes": lambda router: router.engine.add_route(router.ns, bytes(4), 0, via=ip(SERVER), metric=5),
    "a blackhole": lambda router: router.engine.add_route(router.ns, ip(OUTSIDE), 32, kind="blackhole"),
    "steps are told": lambda router: router.engine.trace(True),
    "times are taken": lambda router: router.engine.profile(True),
    "a bridge": lambda router: router.engine.set_device(
        router.eth0, master=router.engine.add_device(router.ns, "br0", "bridge", mac=mac(9), mtu=1500)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_leaves_packets_to_the_stages(name: str) -> None:
    router = gateway()
    assert send(router, to(OUTSIDE)) == 1
    CHANGES[name](router)
    assert send(router, to(OUTSIDE)) == 0


def test_rules_that_say_nothing_change_nothing() -> None:
    router = gateway()
    router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[]))
    assert send(router, to(OUTSIDE)) == 1


def test_the_slow_path_alone_does_without() -> None:
    assert send(gateway(Engine(slow_path_only=True)), to(OUTSIDE), to(OUTSIDE)) == 0


# ---- a large table


def large_table(rng: Random) -> list[tuple[bytes, int]]:
    found: dict[tuple[bytes, int], None] = {}
    while len(found) < MANY:
        length = rng.choice((12, 16, 20, 22, 24, 24, 24, 25, 28, 31, 32))
        number = rng.randrange(20 << 24, 100 << 24) >> (32 - length) << (32 - length)
        found[number.to_bytes(4), length] = None
    return list(found)


def carried(engine: Engine, routes: list[tuple[bytes, int]], frames: list[bytes], doors: list[int]) -> Router:
    """The frames have gone through a router whose routes lead to five next hops, by the client's device or by the server's."""
    router = gateway(engine)
    for number, (prefix, length) in enumerate(routes):
        engine.add_route(router.ns, prefix, length, via=ip(f"10.0.1.{2 + number % 5}"), dev=router.eth1)
    for number in range(1, 5):
        engine.add_neighbour(router.eth1, ip(f"10.0.1.{2 + number}"), mac(0x80 + number))
    starts = [0]
    for frame in frames:
        starts.append(starts[-1] + len(frame))
    devices = array("i", [(router.client_eth, router.server_eth)[door] for door in doors])
    times = array("q", range(engine.now + 1, engine.now + 1 + len(frames)))
    places = array("Q", starts[:-1]), array("I", map(len, frames))
    assert engine.carry(b"".join(frames), devices, *places, times, bytearray(len(frames))) == len(frames)
    engine.run()
    return router


@pytest.mark.parametrize("doors", [1, 2])
def test_a_large_table_leads_where_it_does_in_the_stages(doors: int) -> None:
    rng = Random(doors)
    routes = large_table(rng)
    targets = [number for prefix, length in routes[:300] for number in _around(prefix, length, rng)]
    rng.shuffle(targets)
    chosen = [rng.randrange(doors) for _ in targets]
    frames = [
        ether(ipv4(bytes(8), src=CLIENT if door == 0 else "9.9.9.9", dst=".".join(map(str, target))), dst=mac((1, 3)[door]))
        for target, door in zip(targets, chosen, strict=True)
    ]
    fast, slow = (carried(Engine(slow_path_only=each), routes, frames, chosen) for each in (False, True))
    assert fast.engine.frames() == slow.engine.frames()
    assert fast.engine.counters() == slow.engine.counters()
    assert fast.engine.flow_cache()["routed"] > len(frames) // 3


def _around(prefix: bytes, length: int, rng: Random) -> list[bytes]:
    """Addresses in and just outside of a prefix."""
    first, size = int.from_bytes(prefix), 1 << (32 - length)
    return [number.to_bytes(4) for number in (first - 1, first, first + rng.randrange(size), first + size - 1, first + size)]
