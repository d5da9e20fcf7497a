"""Connections that are seen from their middle on: what becomes of the second packet is known when the first has gone a megaflow's way.

Unless a rule says otherwise of it than of the first one. Whatever the cache makes of it, all is as it is on the slow path.
"""

from __future__ import annotations

import pytest

from core.test_megaflows import ACK, VIRTUAL, World, pair
from core.worlds import ether, ip, tcp_packet, udp_packet
from dataplane._core import CT_DNAT, Chain, Engine

PORTS = range(1000, 1060)
KNOWN = 50  # of these, at least: the stages see the first ones


def segment(sport: int, flags: int = ACK, seq: int = 2) -> bytes:
    return ether(tcp_packet(flags, dst=VIRTUAL, sport=sport, seq=seq))


def mangle(**chains: list[dict[str, object]]) -> list[Chain]:
    names = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
    return [Chain(name, "ACCEPT", chains.get(name, [])) for name in names]  # type: ignore[arg-type]


def cache(world: World) -> dict[str, int]:
    return world.router.engine.flow_cache()


@pytest.mark.parametrize("batch", [False, True])
def test_the_second_segment_goes_its_flows_way(batch: bool) -> None:
    fast, slow = pair(forward=[{"proto": 132, "target": "DROP"}] * 5)
    for world in (fast, slow):
        go = world.carry if batch else world.send
        go(*(segment(sport) for sport in PORTS))
    first = cache(fast)
    for world in (fast, slow):
        go = world.carry if batch else world.send
        go(*(segment(sport) for sport in PORTS))
    second = cache(fast)
    assert first["learnt"] >= KNOWN and first["wide"] >= KNOWN
    assert second["hits"] - first["hits"] >= KNOWN and second["wide"] - first["wide"] <= len(PORTS) - KNOWN
    assert fast.everything() == slow.everything(), "the rules of the nat table are walked for the first one alone"


def test_datagrams_come_alone() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in PORTS))
    assert cache(fast)["learnt"] <= len(PORTS) - KNOWN and fast.wide >= KNOWN
    assert fast.everything() == slow.everything()


def test_a_rule_before_the_translation_sees_that_there_is_one_of_the_second_segment() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        engine: Engine = world.router.engine
        engine.set_rules(
            world.router.ns, 4, "mangle", mangle(PREROUTING=[{"ctstate": CT_DNAT, "sport": (1030, 1059), "proto": 6, "target": "DROP"}])
        )
        for seq in (2, 2, 3):
            world.send(*(segment(sport, seq=seq) for sport in PORTS))
    assert fast.wide >= KNOWN
    assert fast.everything() == slow.everything()
    assert slow.router.engine.counters()["dropped"] >= 2 * 30


def test_a_rule_that_looks_at_flags_sees_those_of_the_second_segment() -> None:
    fast, slow = pair(forward=[{"tcp_flags": (0x08, 0x08), "proto": 6, "target": "DROP"}])
    for world in (fast, slow):
        world.send(*(segment(sport) for sport in PORTS))
        world.send(*(segment(sport, ACK | 0x08) for sport in PORTS))
        world.send(*(segment(sport) for sport in PORTS))
        world.send(*(segment(sport, ACK | 0x08) for sport in PORTS))
    assert fast.everything() == slow.everything()


def test_a_source_that_is_translated_behind_is_seen_by_the_rules_of_the_second_segment() -> None:
    snat: dict[str, object] = {"sport": (1030, 1059), "proto": 6, "target": "SNAT", "to": (ip("10.0.1.9"), ip("10.0.1.9"), 0, 0)}
    fast, slow = pair(postrouting=[snat])  # type: ignore[list-item]
    for world in (fast, slow):
        for _ in range(3):
            world.send(*(segment(sport) for sport in PORTS))
    assert fast.everything() == slow.everything()


def test_a_full_table_forgets_before_the_second_segment() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 20)
        for _ in range(3):
            world.send(*(segment(sport) for sport in PORTS))
    assert fast.everything() == slow.everything()
