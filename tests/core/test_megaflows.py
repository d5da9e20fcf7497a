"""Megaflows: first packets of connections that go the way of those before them, and what makes one leave a packet to the stages.

A router translates a virtual address to one of two ends by chance. Whatever the cache makes of it, frames, connections and counters
are those of the slow path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.worlds import MILLISECOND, SCTP, SECOND, SERVER, Router, ether, filter_table, ip, mac, nat_table, tcp_packet, udp_packet
from dataplane._core import Engine

if TYPE_CHECKING:
    from dataplane._core import Match

SYN, ACK, FIN_ACK, RST, SYN_ACK = 0x02, 0x10, 0x11, 0x04, 0x12
VIRTUAL, OTHER = "10.96.0.10", "10.0.1.3"


def to(address: str) -> tuple[bytes, bytes, int, int]:
    return (ip(address), ip(address), 8080, 8080)


def spread(proto: int) -> list[Match]:
    service: Match = {"dst": (ip(VIRTUAL), 32), "proto": proto, "dport": (80, 80), "target": "DNAT"}
    return [{**service, "to": to(SERVER), "probability": 0.5}, {**service, "to": to(OTHER)}]


CHOICE = [*spread(6), *spread(17)]


@dataclass
class World:
    """The router with its rules; frames go in one after the other, a millisecond apart."""

    router: Router = field(default_factory=Router)
    postrouting: Sequence[Match] = ()
    forward: Sequence[Match] = ()
    choice: Sequence[Match] = tuple(CHOICE)

    def __post_init__(self) -> None:
        engine, ns = self.router.engine, self.router.ns
        engine.add_neighbour(self.router.eth1, ip(OTHER), mac(5))
        engine.set_rules(ns, 4, "nat", nat_table(PREROUTING=list(self.choice), POSTROUTING=list(self.postrouting)))
        engine.set_rules(ns, 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}, *self.forward]))

    def send(self, *frames: bytes, step: int = MILLISECOND, back: bool = False) -> None:
        engine = self.router.engine
        for frame in frames:
            at = engine.now + step
            engine.inject(self.router.server_eth if back else self.router.client_eth, frame, at=at)
            engine.run(at)

    @property
    def wide(self) -> int:
        return self.router.engine.flow_cache()["wide"]

    def everything(self) -> tuple[object, ...]:
        engine = self.router.engine
        seen = [(frame.time, frame.device, frame.outgoing, frame.data) for frame in engine.frames()]
        return (seen, engine.conntrack(self.router.ns), engine.counters())


def pair(**rules: Sequence[Match]) -> tuple[World, World]:
    return World(Router(engine=Engine(7)), **rules), World(Router(engine=Engine(7, slow_path_only=True)), **rules)


def syn(sport: int, dst: str = VIRTUAL) -> bytes:
    return ether(tcp_packet(SYN, dst=dst, sport=sport))


def test_first_packets_go_the_way_of_those_before_them_and_are_spread_as_ever() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1100)))
    assert fast.wide >= 90, "two ends: two ways to learn, the second end's neighbour perhaps late"
    assert slow.wide == 0
    assert fast.everything() == slow.everything()
    ends = {entry["reply"]["src"] for entry in fast.router.engine.conntrack(fast.router.ns)}
    assert ends == {ip(SERVER), ip(OTHER)}


def test_datagrams_of_new_flows_go_that_way_too() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in range(1000, 1060)))
    assert fast.wide >= 50
    assert fast.everything() == slow.everything()


def test_a_second_packet_makes_its_flow_known_without_the_stages() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        for sport in range(1000, 1060):
            world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for _ in range(2)))  # picked up where it is
    before = fast.router.engine.flow_cache()
    for world in (fast, slow):
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(1000, 1060)))
    after = fast.router.engine.flow_cache()
    assert fast.everything() == slow.everything()
    assert before["learnt"] >= 50, "one flow for each connection, of which the stages have seen few second packets"
    assert before["wide"] >= 100, "first and second packets"
    assert after["hits"] - before["hits"] >= 50 and after["wide"] - before["wide"] <= 10


def test_a_closing_connection_goes_that_way_and_its_state_with_it() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        for sport in range(1000, 1010):
            for flags, seq in ((SYN, 1), (ACK, 2), (FIN_ACK, 2)):
                world.send(ether(tcp_packet(flags, dst=VIRTUAL, sport=sport, seq=seq)))
    assert fast.wide > 10
    assert fast.everything() == slow.everything()


def test_a_connection_that_is_opened_anew_is_left_to_the_stages() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1010)))
        world.send(ether(tcp_packet(RST, dst=VIRTUAL, sport=1009, seq=2)))
        world.send(syn(1009), syn(1009), syn(1008), step=SECOND)
    assert fast.everything() == slow.everything()


REFUSALS: dict[str, dict[str, Sequence[Match]]] = {
    "a source that is translated": {"postrouting": [{"sport": (1050, 1069), "proto": 6, "target": "MASQUERADE"}]},
    "a translation that is dropped": {"postrouting": [{"sport": (1050, 1069), "proto": 6, "target": "DROP"}]},
    "a rule that drops": {"forward": [{"sport": (1050, 1069), "proto": 6, "target": "DROP"}]},
    "a rule that rejects": {"forward": [{"sport": (1050, 1069), "proto": 6, "target": "REJECT"}]},
    "a list of addresses": {"forward": [{"recent": ("set", "seen", 0, False), "target": ""}]},
    "a mark": {"forward": [{"sport": (1050, 1069), "proto": 6, "target": "MARK", "set_mark": (1, 1)}, {"mark": (1, 1), "target": "DROP"}]},
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_was_begun_is_taken_back_where_a_later_rule_decides_otherwise(name: str) -> None:
    """The draws too: the connections behind are spread over the ends as if nothing had been begun."""
    fast, slow = pair(**REFUSALS[name])
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1120)))
    assert fast.everything() == slow.everything()
    assert name == "a list of addresses" or fast.wide > 60


def test_a_full_table_is_left_to_the_stages() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 40)
        world.send(*(syn(sport) for sport in range(1000, 1080)))
    assert 10 < fast.wide < 40
    assert fast.everything() == slow.everything()


def test_answers_that_are_taken_already_are_found_out() -> None:
    """A connection straight to an end has the answers that a translated one from the same port would have."""
    fast, slow = pair(choice=[{"dst": (ip(VIRTUAL), 32), "proto": 6, "target": "DNAT", "to": (ip(SERVER), ip(SERVER), 80, 80)}])
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1010)))
        world.send(*(syn(sport, SERVER) for sport in range(1005, 1020)))
        world.send(*(syn(sport) for sport in range(1010, 1025)))
    assert fast.wide > 10
    assert fast.everything() == slow.everything()


def test_after_a_change_ways_are_learnt_anew() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1020)))
        world.router.engine.add_neighbour(world.router.eth1, ip(SERVER), mac(0x77))
        world.router.engine.add_route(world.router.ns, ip(OTHER), 32, via=ip(SERVER))
        world.send(*(syn(sport) for sport in range(1020, 1040)))
    assert fast.everything() == slow.everything()
    assert {frame[:6] for frame in fast.router.seen(fast.router.eth1, outgoing=True)} <= {mac(4), mac(5), mac(0x77)}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([SYN, SYN, SYN, ACK, ACK, FIN_ACK, RST, SYN_ACK, -1]),
        st.integers(1000, 1006),
        st.sampled_from([VIRTUAL, VIRTUAL, SERVER, OTHER]),
        st.integers(1, 4),
        st.sampled_from([0, MILLISECOND, 40 * SECOND]),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, refusal=st.sampled_from([None, *REFUSALS]), seed=st.integers(0, 3))
def test_any_mixture_is_carried_as_the_slow_path_does(events: list[tuple[int, int, str, int, int]], refusal: str | None, seed: int) -> None:
    fast, slow = pair(**(REFUSALS[refusal] if refusal else {}))
    rng = Random(seed)
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(2000, 2006)))
    for flags, sport, dst, seq, step in events:
        ack = rng.randrange(3)
        packet = udp_packet(dst=dst, sport=sport, dport=80) if flags < 0 else tcp_packet(flags, dst=dst, sport=sport, seq=seq, ack=ack)
        for world in (fast, slow):
            world.send(ether(packet), step=step)
    assert fast.everything() == slow.everything()
