"""Lookups in FIBs large enough for the fast table, against a model that looks at every route."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

import pytest

from core.worlds import OUTSIDE, SERVER, SERVER_MAC, Router, ether, ip, udp_packet
from core.worlds6 import Router6, ip6, ipv6, udp6
from dataplane._core import Engine

REFUSING = {"blackhole", "unreachable", "prohibit"}
KINDS = ["unicast"] * 12 + ["blackhole", "unreachable", "prohibit", "throw", "local", "local", "broadcast"]
Route = dict[str, Any]


def number(address: bytes) -> int:
    return int.from_bytes(address, "big")


def contains(route: Route, dst: bytes) -> bool:
    bits = len(dst) * 8
    return len(route["prefix"]) == len(dst) and (number(route["prefix"]) ^ number(dst)) >> (bits - route["prefix_len"]) == 0


def chosen(routes: list[Route], dst: bytes) -> Route | None:
    """Linux' rules: table local before main, longest prefix first, then metric, then age; dead routes are passed over, and a throw
    route ends its table. ``routes`` come by table, prefix, metric and age."""
    for table in ("local", "main"):
        fitting = [route for route in routes if route["table"] == table and contains(route, dst)]
        for route in sorted(fitting, key=lambda route: -int(route["prefix_len"])):
            if route["kind"] == "throw":
                break
            if route["kind"] in REFUSING or not route["dead"]:
                return route
    return None


class Fib:
    """A namespace with three devices, and routes of one family that come and go by chance."""

    def __init__(self, family: int, rng: random.Random) -> None:
        self.size, self.rng, self.engine = {4: 4, 6: 16}[family], rng, Engine()
        self.ns = self.engine.add_namespace("router")
        self.devices = [self.engine.add_device(self.ns, f"eth{i}", "veth", mac=bytes([2, 0, 0, 0, 0, i]), mtu=1500) for i in range(3)]
        self.added: list[tuple[bytes, int, str, int]] = []

    def prefix(self) -> tuple[bytes, int]:
        """Within few blocks, so that prefixes nest and meet; every length, and each end of it."""
        digits = [self.rng.choice([0, 0, 1, 127, 128, 255]) for _ in range(self.size)]
        return bytes([self.rng.choice([10, 172]), *digits[1:]]), self.rng.randint(0, self.size * 8)

    def add(self) -> None:
        address, length = self.prefix()
        kind, metric = self.rng.choice(KINDS), self.rng.choice([0, 0, 0, 10, 20])
        device = -1 if kind in REFUSING or kind == "throw" else self.rng.choice(self.devices)
        try:
            self.engine.add_route(self.ns, address, length, kind=kind, dev=device, metric=metric, scope=0, mtu=self.rng.choice([0, 1400]))
        except ValueError as error:
            assert "exists" in str(error)
            return
        self.added.append((address, length, kind, metric))

    def delete(self) -> None:
        if self.added:
            address, length, kind, metric = self.added.pop(self.rng.randrange(len(self.added)))
            assert self.engine.del_route(self.ns, address, length, kind=kind, metric=metric)

    def change_device(self) -> None:
        self.engine.set_device(self.rng.choice(self.devices), up=self.rng.random() < 0.6)

    def wrong(self) -> list[str]:
        """Destinations for which the engine's answer is not the model's."""
        routes = [route for route in self.engine.routes(self.ns) if len(route["prefix"]) == self.size]
        near = [(number(address) ^ self.rng.getrandbits(4)).to_bytes(self.size, "big") for address, _, _, _ in self.added]
        found = []
        for dst in [*near, bytes(self.size), bytes([255] * self.size), *(self.prefix()[0] for _ in range(20))]:
            got, want = self.engine.lookup_route(self.ns, dst), chosen(routes, dst)
            if want is None:
                same = got == {"kind": "unreachable", "dev": -1, "via": None, "src": None, "mtu": 0, "origin": 0}
            else:
                same = all(got[key] == want[key] for key in want if key not in ("src", "mtu"))
            if not same:
                found.append(f"{ip_address(dst)}: {got}, not {want}")
        return found


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_every_lookup_is_the_models(family: int, seed: int) -> None:
    fib = Fib(family, random.Random(f"{family} {seed}"))
    for turn in range(40):
        for _ in range(6):
            fib.add()
        if turn % 3 == 0:
            fib.change_device()
        if turn % 4 == 0:
            for _ in range(4):
                fib.delete()
        assert fib.wrong() == []
    while fib.added:
        fib.delete()
        if len(fib.added) % 20 == 0:
            assert fib.wrong() == []


def test_addresses_come_and_go_among_many_routes() -> None:
    """A local address within a remote prefix goes before it, and what it covered is found again."""
    fib = Fib(4, random.Random(1))
    for i in range(100):
        fib.engine.add_route(fib.ns, bytes([10, 0, i, 0]), 24, dev=fib.devices[1])
    for _ in range(2):
        assert fib.engine.lookup_route(fib.ns, bytes([10, 0, 7, 9]))["kind"] == "unicast"
        fib.engine.add_address(fib.devices[0], bytes([10, 0, 7, 9]), 22)
        assert fib.engine.lookup_route(fib.ns, bytes([10, 0, 7, 9]))["kind"] == "local"
        assert fib.engine.lookup_route(fib.ns, bytes([10, 0, 7, 255]))["kind"] == "broadcast"
        assert fib.engine.lookup_route(fib.ns, bytes([10, 0, 7, 8]))["dev"] == fib.devices[1]
        fib.engine.del_address(fib.devices[0], bytes([10, 0, 7, 9]), 22)
    assert fib.wrong() == []


def test_a_walk_names_the_prefix_among_many_routes() -> None:
    router = Router()
    for i in range(200):
        router.engine.add_route(router.ns, bytes([198, 51, i, 0]), 24, via=ip(SERVER))
    router.engine.trace(True)
    router.take(ether(udp_packet(dst=OUTSIDE)))
    details = [event.detail for event in router.engine.events() if event.what == "route" and event.namespace == router.ns]
    assert f"{OUTSIDE} matches 198.51.100.0/24 unicast via {SERVER} dev eth1" in details


@pytest.mark.parametrize("others", [0, 200])
def test_of_two_routes_for_an_ipv6_prefix_the_one_out_of_the_incoming_device_is_taken(others: int) -> None:
    """rt6_score_route(); eth1's is the older one."""
    router = Router6()
    for device, address in ((router.eth1, "2001:db8:9::1"), (router.eth0, "2001:db8:9::2")):
        router.engine.add_address(device, ip6(address), 64)
        router.engine.add_neighbour(device, ip6("2001:db8:9::77"), SERVER_MAC)
    for i in range(others):
        router.engine.add_route(router.ns, ip6(f"2001:db8:a:{i:x}::"), 64, dev=router.eth1)
    router.take(ipv6(udp6(dst="2001:db8:9::77"), dst="2001:db8:9::77"))
    sent = [frame.device for frame in router.engine.frames() if frame.outgoing and frame.data[:6] == SERVER_MAC]
    assert sent == [router.eth0]
