"""Megaflows: first packets of connections that go the way of those before them, and what makes one leave a packet to the stages.

A router translates a virtual address to one of two ends by chance. Whatever the cache makes of it, frames, connections and counters
are those of the slow path.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.worlds import (
    CLIENT,
    MILLISECOND,
    ROUTER1,
    ROUTER1_MAC,
    SCTP,
    SECOND,
    SERVER,
    SERVER_MAC,
    Bridge,
    Router,
    ether,
    filter_table,
    ip,
    mac,
    nat_table,
    tcp_packet,
    udp_packet,
)  # fmt: skip
from dataplane._core import CT_ESTABLISHED, Engine
from dataplane._core import Chain as RuleChain
from dataplane.encap import registry

if TYPE_CHECKING:
    from dataplane._core import Match

for KIND in ("ipip", "vxlan"):
    registry.ensure(KIND)

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

    def carry(self, *frames: bytes, step: int = MILLISECOND) -> None:
        """The same in one batch."""
        first, lengths = self.router.engine.now + step, [len(frame) for frame in frames]
        devices, starts = array("i", [self.router.client_eth]) * len(frames), [sum(lengths[:i]) for i in range(len(frames))]
        times = array("q", range(first, first + step * len(frames), step))
        refused = bytearray(len(frames))
        taken = self.router.engine.carry(b"".join(frames), devices, array("Q", starts), array("I", lengths), times, refused)
        assert taken == len(frames)

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
            world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for _ in range(2)))
    before = fast.router.engine.flow_cache()
    for world in (fast, slow):
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in range(1000, 1060)))
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


SERVICES = 300  # so many that what a batch's first packets will need of their rules is asked for before


def large() -> tuple[World, World]:
    """Services with 0 to 5 ends each."""
    chains: dict[str, list[Match]] = {"PREROUTING": []}
    for number in range(SERVICES):
        ends, name = number % 6, f"SVC-{number}"
        chains["PREROUTING"].append({"dst": (ip(f"10.97.{number >> 8}.{number & 255}"), 32), "proto": 6, "dport": (80, 80), "target": name})
        chains[name] = [{"src": (ip("10.0.0.0"), 8), "src_not": True, "target": "MARK", "set_mark": (1, 1)}]
        for end in range(ends):
            choice: Match = {"target": f"SEP-{number}-{end}"}
            chains[name].append({**choice, "probability": 1 / (ends - end)} if end < ends - 1 else choice)
            chains[f"SEP-{number}-{end}"] = [{"proto": 6, "target": "DNAT", "to": (ip(SERVER), ip(SERVER), 8080 + end, 8080 + end)}]
    fast, slow = pair()
    for world in (fast, slow):
        built_in = nat_table(**{name: rules for name, rules in chains.items() if name == "PREROUTING"})
        own = [RuleChain(name, "", rules) for name, rules in chains.items() if name != "PREROUTING"]
        world.router.engine.set_rules(world.router.ns, 4, "nat", [*built_in, *own])
    return fast, slow


def test_a_batch_of_first_packets_to_many_services_is_spread_as_ever() -> None:
    fast, slow = large()
    numbers = Random(1).choices(range(SERVICES), k=400)
    for world in (fast, slow):
        world.carry(*(syn(1000 + i, f"10.97.{number >> 8}.{number & 255}") for i, number in enumerate(numbers)))
    assert fast.wide > 300
    assert fast.everything() == slow.everything()
    assert {entry["reply"]["sport"] for entry in fast.router.engine.conntrack(fast.router.ns)} >= {*range(8080, 8085)}


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


@pytest.mark.parametrize("name", REFUSALS)
def test_a_batch_is_no_different(name: str) -> None:
    """Frames that no megaflow takes are asked about once."""
    fast, slow, single = *pair(**REFUSALS[name]), World(Router(engine=Engine(7)), **REFUSALS[name])
    frames = [syn(sport) for sport in range(1000, 1080)]
    frames += [ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in range(1000, 1060)]
    frames += [ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(1000, 1080)] + [b"\0" * 12, syn(999)]
    for world in (fast, slow):
        world.carry(*frames)
    single.send(*frames[:-2], *frames[-1:])
    assert fast.everything() == slow.everything()
    assert fast.router.engine.flow_cache() == single.router.engine.flow_cache()
    assert name == "a list of addresses" or fast.wide > 60


def damaged(frame: bytes) -> bytes:
    """With another checksum than its TCP segment has."""
    return frame[:50] + bytes([frame[50] ^ 0x55]) + frame[51:]


@pytest.mark.parametrize("batch", [False, True])
def test_a_segment_with_a_wrong_checksum_opens_no_connection(batch: bool) -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1040)))
    before = fast.wide
    assert before > 30
    for world in (fast, slow):
        go = world.carry if batch else world.send
        go(*(damaged(syn(sport)) if sport % 2 else syn(sport) for sport in range(1040, 1060)))
    assert fast.wide == before + 10
    assert fast.everything() == slow.everything()
    opened = {entry["orig"]["sport"] for entry in fast.router.engine.conntrack(fast.router.ns)}
    assert opened == {*range(1000, 1040), *range(1040, 1060, 2)}


def test_a_connection_sees_a_packet_once_that_a_later_rule_refuses() -> None:
    """Segments that come again are counted: the fourth shortens the timeout. Which rule refuses is found out behind the connection."""
    fast, slow = pair()
    ports = range(1000, 1040)
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_tcp_timeout_max_retrans", 100)
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in ports))
        refusal: list[Match] = [{"sport": (1030, 1039), "proto": 6, "target": "REJECT"}]
        world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=refusal))
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(1000, 1030)))
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(1030, 1040) for _ in range(sport - 1029)))
    assert fast.wide > 40
    wide = fast.wide
    for world in (fast, slow):
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(1040, 1060)))
    assert fast.wide == wide + 20, "and what the sender's others do is known still"
    assert fast.everything() == slow.everything()


def test_a_port_that_chance_chooses_is_drawn_once() -> None:
    """A rule that translates the source, too, is come upon behind the destination's translation: no megaflow may have begun to draw."""
    snat: Match = {"sport": (1050, 1069), "proto": 6, "target": "SNAT", "to": (ip("10.0.1.9"), ip("10.0.1.9"), 0, 0), "random": True}
    fast, slow = pair(postrouting=[snat])
    for world in (fast, slow):
        world.send(*(syn(sport) for sport in range(1000, 1080)))
    assert fast.wide > 40
    assert fast.everything() == slow.everything()


def test_in_a_full_table_first_packets_make_the_same_connections_go() -> None:
    fast, slow = pair()
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 40)
        world.send(*(syn(sport) for sport in range(1000, 1080)))
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(1030, 1060)))
    assert fast.wide > 90
    assert fast.everything() == slow.everything()


@pytest.mark.parametrize("name", REFUSALS)
def test_a_first_packet_that_a_later_rule_refuses_makes_one_connection_go_not_two(name: str) -> None:
    fast, slow = pair(**REFUSALS[name])
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 30)
        world.send(*(syn(sport) for sport in range(1000, 1120)))
        assert len(world.router.engine.conntrack(world.router.ns)) == 30
    assert fast.everything() == slow.everything()


@pytest.mark.parametrize("name", ["for another host", "too long"])
def test_a_packet_that_is_dropped_before_anybody_tracks_it_makes_no_connection_go(name: str) -> None:
    """Else it is like those of its sender that opened connections in the full table."""
    fast, slow = pair()
    for world in (fast, slow):
        engine = world.router.engine
        engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 20)
        engine.set_device(world.router.eth0, mtu=600)
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in range(1000, 1040)))
        before = engine.conntrack(world.router.ns)
        data, to_mac = (b"x", mac(0x55)) if name == "for another host" else (bytes(1000), ether(b"")[:6])
        world.send(*(ether(udp_packet(data, dst=VIRTUAL, sport=sport, dport=80), dst=to_mac) for sport in range(1040, 1043)))
        left = [entry["orig"] for entry in engine.conntrack(world.router.ns)]
        assert left == [entry["orig"] for entry in before] and len(left) == 20
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in range(1043, 1050)))
    assert fast.everything() == slow.everything()
    assert fast.wide > 30


def test_flows_that_become_known_by_one_megaflow_count_the_rules_that_each_of_them_walks() -> None:
    early: Match = {"sport": (1000, 1019), "proto": 17, "target": "ACCEPT"}
    others: Match = {"proto": SCTP, "target": "DROP"}
    fast, slow = pair(forward=[early, *[others] * 7])
    ports = [*range(1000, 1010), *range(1030, 1040), *range(1010, 1020), *range(1040, 1050)]
    for world in (fast, slow):
        for _ in range(4):
            world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in ports))
    assert fast.everything() == slow.everything()
    counts = fast.router.engine.flow_cache()
    assert counts["wide"] > 50 and counts["hits"] - counts["wide"] > 50


def test_a_flow_is_another_one_for_rules_once_it_is_answered() -> None:
    """Which rules decide depends on it, and so does what is counted; flows that were known before must be learnt anew."""
    replied: Match = {"ctstate": CT_ESTABLISHED, "target": "ACCEPT"}
    refused: Match = {"sport": (1010, 1019), "proto": 17, "target": "DROP"}
    others: Match = {"proto": SCTP, "target": "DROP"}
    fast, slow = pair(forward=[replied, refused, *[others] * 5])
    ports = range(1000, 1010)
    for world in (fast, slow):
        for _ in range(4):
            world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in ports))
        ends = {entry["orig"]["sport"]: entry["reply"] for entry in world.router.engine.conntrack(world.router.ns)}
        for port, end in ends.items():
            source = SERVER if end["src"] == ip(SERVER) else OTHER
            answer = udp_packet(src=source, dst=CLIENT, sport=end["sport"], dport=port)
            world.send(ether(answer, src=SERVER_MAC, dst=ROUTER1_MAC), back=True)
        for _ in range(4):
            world.send(*(ether(udp_packet(dst=VIRTUAL, sport=sport, dport=80)) for sport in ports))
    assert len(ends) == len(ports)
    assert fast.everything() == slow.everything()
    assert fast.router.engine.flow_cache()["hits"] > 40


def test_a_reset_of_an_unanswered_connection_is_asked_about_once() -> None:
    """Conntrack forgets such a connection at once: asked twice, it would not know what the second one is about, nor where to send it."""
    fast, slow = pair(choice=[{"dst": (ip(VIRTUAL), 32), "proto": 6, "target": "DNAT", "to": to(SERVER)}])
    answered = range(1000, 1020)
    for world in (fast, slow):
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=sport, seq=2)) for sport in answered))
        answers = (tcp_packet(ACK, src=SERVER, dst=CLIENT, sport=8080, dport=sport, seq=9, ack=2) for sport in answered)
        world.send(*(ether(answer, src=SERVER_MAC, dst=ROUTER1_MAC) for answer in answers), back=True)
        world.send(*(ether(tcp_packet(RST, dst=VIRTUAL, sport=sport, seq=2)) for _ in range(4) for sport in answered))
        world.send(*(syn(sport) for sport in range(2000, 2020)))
        world.router.engine.frames()
        world.send(*(ether(tcp_packet(RST, dst=VIRTUAL, sport=sport, seq=2)) for sport in range(2000, 2020)))
        assert [frame[30:34] for frame in world.router.seen(world.router.eth1, outgoing=True)] == [ip(SERVER)] * 20
    assert fast.everything() == slow.everything()


def test_a_masqueraded_connection_does_not_follow_others_out_of_another_device() -> None:
    """nf_nat_masquerade_inet_... gives an address of the device; behind another one such a connection ends (nf_nat_oif_changed())."""
    fast, slow = pair(postrouting=[{"target": "MASQUERADE"}], choice=[])
    for world in (fast, slow):
        engine, ns = world.router.engine, world.router.ns
        eth2, far = engine.add_device(ns, "eth2", "veth", mac=mac(0x22), mtu=1500), engine.add_namespace("elsewhere")
        engine.connect(eth2, engine.add_device(far, "eth0", "veth", mac=mac(0x23), mtu=1500))
        engine.add_address(eth2, ip("10.0.2.1"), 24)
        engine.add_neighbour(eth2, ip("10.0.2.2"), mac(0x23))
        world.send(*(ether(tcp_packet(ACK, sport=sport, seq=2)) for sport in range(1000, 1020) for _ in range(3)))
        engine.add_route(ns, ip(SERVER), 32, via=ip("10.0.2.2"))
        world.send(*(ether(tcp_packet(ACK, sport=sport, seq=2)) for sport in range(2000, 2020) for _ in range(3)))
        world.send(*(ether(tcp_packet(ACK, sport=sport, seq=2)) for sport in range(1000, 1020)))
    assert fast.everything() == slow.everything()
    ended = fast.router.engine.counters()["dropped"] - fast.router.dropped("route/no_forwarding")
    assert ended == 20


def test_a_packet_for_another_host_tells_a_connection_nothing() -> None:
    """Each is like one that is asked about, and dropped before conntrack: no timeout begins anew, nothing is closed, no answer is seen."""
    fast, slow = pair()
    ports = range(1000, 1040)
    answers = [ether(udp_packet(src=SERVER, dst=CLIENT, sport=2000, dport=port), src=SERVER_MAC, dst=ROUTER1_MAC) for port in ports]
    for world in (fast, slow):
        world.send(*(ether(tcp_packet(ACK, dst=VIRTUAL, sport=port, seq=2)) for port in ports))
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=port, dport=80)) for port in ports))
        world.send(*(ether(udp_packet(sport=port)) for port in ports))
        world.send(*answers[:20], back=True)
        world.router.engine.run(world.router.engine.now + 9 * SECOND)
        before = world.router.engine.conntrack(world.router.ns)
        for flags in (ACK, FIN_ACK, RST, SYN):
            world.send(*(ether(tcp_packet(flags, dst=VIRTUAL, sport=port, seq=2), dst=mac(0x55)) for port in ports), step=0)
        world.send(*(ether(udp_packet(dst=VIRTUAL, sport=port, dport=80), dst=mac(0x55)) for port in ports), step=0)
        world.send(*(mac(0x55) + answer[6:] for answer in answers[20:]), step=0, back=True)
        assert world.router.engine.conntrack(world.router.ns) == before
    assert fast.everything() == slow.everything()
    assert fast.wide > 100


def test_a_table_full_of_assured_connections_takes_no_more() -> None:
    fast, slow = pair()
    ports = range(1000, 1020)
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 20)
        world.send(*(ether(tcp_packet(ACK, sport=sport, seq=2)) for sport in ports))
        answers = (tcp_packet(ACK, src=SERVER, dst=CLIENT, sport=80, dport=sport, seq=2) for sport in ports)
        world.send(*(ether(answer, src=SERVER_MAC, dst=ROUTER1_MAC) for answer in answers), back=True)
        world.send(*(ether(tcp_packet(ACK, sport=sport, seq=2)) for sport in ports))
        world.send(*(syn(sport) for sport in range(1000, 1040)))
    assert fast.everything() == slow.everything()
    entries = fast.router.engine.conntrack(fast.router.ns)
    assert [(entry["orig"]["sport"], entry["assured"]) for entry in entries] == [(port, True) for port in ports]


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


def test_who_is_sent_to_a_group_tells_nothing_of_the_way_to_others() -> None:
    """A router without rules takes what is for all hosts without seeking a route."""
    seen = []
    for slow in (False, True):
        router = Router(engine=Engine(7, slow_path_only=slow))
        for dst in ("224.0.0.1", "224.0.0.1", SERVER, "127.0.0.1", "255.255.255.255", "255.255.255.255", SERVER, OTHER, "0.0.0.0"):
            at = router.engine.now + MILLISECOND
            router.engine.inject(router.client_eth, ether(udp_packet(dst=dst, sport=1000 + at // MILLISECOND)), at=at)
            router.engine.run(at)
        seen.append(([frame.data for frame in router.engine.frames()], router.engine.counters()))
    assert seen[0] == seen[1]
    assert seen[0][1]["drop/route/martian_destination"] == 2


def test_an_entry_that_expires_while_something_is_taken_back_is_gone_for_good() -> None:
    """It was the first that might make room in a full table, and the packet that finds it expired is dropped by a later rule."""
    through = [{"dst": (ip(VIRTUAL), 32), "proto": 17, "target": "DNAT", "to": (ip(SERVER), ip(SERVER), 8080, 8080)}]
    fast, slow = pair(choice=through)  # type: ignore[arg-type]
    for world in (fast, slow):
        world.router.engine.set_sysctl(world.router.ns, "net.netfilter.nf_conntrack_max", 12)
        world.send(ether(udp_packet(dst=VIRTUAL, sport=3000, dport=80)))
        world.send(*(ether(udp_packet(sport=sport, dport=8080)) for sport in (1, 2, 3)), step=5 * SECOND)
        refused: Match = {"sport": (3000, 3000), "proto": 17, "target": "DROP"}
        world.router.engine.set_rules(world.router.ns, 4, "filter", filter_table(FORWARD=[refused]))
        world.send(*(ether(udp_packet(sport=sport, dport=8080)) for sport in (4, 5)), step=6 * SECOND)
        world.send(ether(udp_packet(sport=3000, dport=8080)), step=5 * SECOND)
        world.send(*(ether(udp_packet(sport=sport, dport=8080)) for sport in range(10, 26)))
    assert fast.everything() == slow.everything()
    assert [entry["orig"]["sport"] for entry in fast.router.engine.conntrack(fast.router.ns)] == list(range(14, 26))


@dataclass
class Chain:
    """Routers in a row, all of which track connections: router k is 10.k.0.1 towards the client and 10.k+1.0.2 behind; frames between
    them take ``latency``."""

    engine: Engine
    routers: int
    latency: int = 0

    def __post_init__(self) -> None:
        engine = self.engine
        client = self.sender = engine.add_namespace("client")
        self.client = before = engine.add_device(client, "eth0", "veth", mac=mac(2), mtu=9000)
        self.ns, self.front, self.back = [], [], []
        for k in range(1, self.routers + 1):
            ns = engine.add_namespace(f"router{k}")
            front = engine.add_device(ns, "eth0", "veth", mac=mac(100 + k), mtu=9000)
            back = engine.add_device(ns, "eth1", "veth", mac=mac(200 + k), mtu=9000)
            engine.connect(before, front, latency=self.latency if k > 1 else 0)
            engine.set_sysctl(ns, "net.ipv4.ip_forward", 1)
            engine.add_address(front, ip(f"10.{k}.0.1"), 24)
            engine.add_address(back, ip(f"10.{k + 1}.0.2"), 24)
            engine.add_route(ns, ip("10.0.0.0"), 24, dev=front)
            engine.add_neighbour(back, ip(f"10.{k + 1}.0.1"), mac(101 + k))
            engine.set_rules(ns, 4, "nat", nat_table())
            engine.set_rules(ns, 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}]))
            self.ns.append(ns)
            self.front.append(front)
            self.back.append(before := back)
        engine.connect(before, engine.add_device(client, "eth1", "veth", mac=mac(101 + self.routers), mtu=9000))

    def translate(self, router: int, *ends: tuple[str, str]) -> None:
        rules: list[Match] = [{"dst": (ip(dst), 32), "proto": 17, "target": "DNAT", "to": to(end)} for dst, end in ends]
        self.engine.set_rules(self.ns[router], 4, "nat", nat_table(PREROUTING=rules))

    def send(self, dst: str, *sports: int) -> None:
        for sport in sports:
            at = self.engine.now + MILLISECOND
            self.engine.inject(self.client, ether(udp_packet(dst=dst, sport=sport, dport=80), dst=mac(101)), at=at)
            self.engine.run(at)

    def everything(self) -> tuple[object, ...]:
        engine = self.engine
        engine.run(engine.now + SECOND)
        seen = [(frame.time, frame.device, frame.outgoing, frame.data) for frame in engine.frames()]
        return (seen, [engine.conntrack(ns) for ns in self.ns], engine.counters())


def chains(routers: int, latency: int = 0) -> tuple[Chain, Chain]:
    return Chain(Engine(7), routers, latency), Chain(Engine(7, slow_path_only=True), routers, latency)


def test_a_destination_that_the_second_router_translates_once_more_is_not_taken_for_what_it_made_of_another() -> None:
    fast, slow = chains(2)
    for chain in (fast, slow):
        chain.engine.add_route(chain.ns[0], bytes(4), 0, via=ip("10.2.0.1"))
        for end, number in ((SERVER, 4), (OTHER, 5)):
            chain.engine.add_route(chain.ns[1], ip(end), 32, dev=chain.back[1])
            chain.engine.add_neighbour(chain.back[1], ip(end), mac(number))
        chain.translate(1, (VIRTUAL, SERVER), (SERVER, OTHER))
        chain.send(VIRTUAL, *range(1000, 1010))
        chain.send(SERVER, *range(2000, 2010))
    assert fast.everything() == slow.everything()


def tunnelled(chain: Chain) -> int:
    """Packets to the server go from the first router to the second one in a tunnel; the tunnel that leads back."""
    ends = [ip("10.2.0.2"), ip("10.2.0.1")]
    there, back = (
        chain.engine.add_device(ns, "tun0", "ipip", mac=bytes(6), mtu=1400, local=near, remote=far)
        for ns, near, far in zip(chain.ns[:2], ends, ends[::-1], strict=True)
    )
    chain.engine.add_route(chain.ns[0], ip("10.0.1.0"), 24, dev=there)
    chain.engine.add_route(chain.ns[1], ip(SERVER), 32, dev=chain.back[1])
    chain.engine.add_neighbour(chain.back[1], ip(SERVER), mac(4))
    return back


def test_behind_a_tunnel_on_the_same_walk_the_packet_is_what_went_in() -> None:
    """The first router translates, the other end of its tunnel tracks the connection too."""
    fast, slow = chains(2)
    for chain in (fast, slow):
        back = tunnelled(chain)
        chain.engine.del_route(chain.ns[1], ip("10.0.0.0"), 24)
        chain.engine.add_route(chain.ns[1], ip("10.0.0.0"), 24, dev=back)
        chain.translate(0, (VIRTUAL, SERVER))
        chain.send(VIRTUAL, *range(1000, 1020))
    assert fast.everything() == slow.everything()
    assert fast.engine.flow_cache()["wide"] > 10
    inside = [entry["orig"]["dst"] for entry in fast.engine.conntrack(fast.ns[1]) if entry["proto"] == 17]
    assert inside == [ip(SERVER)] * 20


def test_an_identification_that_was_drawn_for_a_tunnel_is_drawn_again_where_the_far_end_refuses_the_packet() -> None:
    """Outer headers are numbered, so each packet tells how many there were before it."""
    fast, slow = chains(2)
    for chain in (fast, slow):
        back = tunnelled(chain)
        chain.engine.add_route(chain.ns[1], ip("10.0.0.0"), 16, dev=back)
        refused: list[Match] = [{"sport": (1020, 1029), "proto": 17, "target": "DROP"}]
        chain.engine.set_rules(chain.ns[1], 4, "filter", filter_table(FORWARD=refused))
        chain.send(SERVER, *range(1000, 1040))
    assert fast.everything() == slow.everything()
    assert fast.engine.counters()["drop/rules/denied"] == 10
    assert fast.engine.flow_cache()["wide"] > 15


def test_headers_that_leave_no_room_before_the_packet_are_left_to_the_stages() -> None:
    """Tunnels in tunnels: each router has one whose far end lies behind the next router's."""
    fast, slow = chains(5, latency=1000)
    for chain in (fast, slow):
        inner = SERVER
        for k, ns in enumerate(chain.ns, 1):
            near, far, gateway = ip(f"10.{k + 1}.0.2"), f"192.168.{k}.9", ip(f"172.16.{k}.2")
            tunnel = chain.engine.add_device(ns, "tun0", "vxlan", mac=mac(300 + k), mtu=8000, local=near, remote=ip(far))
            chain.engine.add_address(tunnel, ip(f"172.16.{k}.1"), 24)
            chain.engine.add_neighbour(tunnel, gateway, mac(400 + k))
            chain.engine.add_route(ns, ip(inner), 32, via=gateway)
            chain.engine.add_route(ns, ip(far), 32, via=ip(f"10.{k + 1}.0.1"))
            inner = far
        chain.send(SERVER, *range(1000, 1040))
    assert fast.everything() == slow.everything()
    assert fast.engine.flow_cache()["wide"] > 100


def far_tunnel(chain: Chain) -> int:
    """Packets to the server leave the last router in a tunnel; its device."""
    engine, last = chain.engine, chain.routers
    tunnel = engine.add_device(
        chain.ns[-1], "far0", "vxlan", mac=mac(300), mtu=8000, local=ip(f"10.{last + 1}.0.2"), remote=ip("192.168.2.9")
    )
    engine.add_address(tunnel, ip("172.16.2.1"), 24)
    engine.add_neighbour(tunnel, ip("172.16.2.2"), mac(400))
    engine.add_route(chain.ns[-1], ip(SERVER), 32, via=ip("172.16.2.2"))
    engine.add_route(chain.ns[-1], ip("192.168.2.9"), 32, via=ip(f"10.{last + 1}.0.1"))
    return tunnel


def test_a_tunnel_tells_flows_apart_that_were_different_ones_in_the_tunnel_before() -> None:
    """Between the two a router makes one of them, now of this one and now of that one; the third never knew another."""
    fast, slow = chains(3, latency=1000)
    for chain in (fast, slow):
        tunnelled(chain)
        far_tunnel(chain)
        chain.engine.add_route(chain.ns[1], ip(SERVER), 32, via=ip("10.3.0.1"), replace=True, metric=0)
        chain.engine.set_sysctl(chain.ns[2], "net.netfilter.nf_conntrack_udp_timeout", 1000)
        chain.translate(1, ("10.0.1.7", SERVER), ("10.0.1.8", SERVER))
        for dst in ("10.0.1.7", "10.0.1.8", "10.0.1.7"):
            chain.send(dst, *[1000] * 6)
            chain.engine.run(chain.engine.now + 40 * SECOND)
    shown = fast.everything()
    assert shown == slow.everything()
    assert isinstance(shown[0], list)
    assert len({data[34:36] for _, device, _, data in shown[0] if device == fast.back[2]}) == 2


def test_what_an_application_sends_is_not_taken_for_what_came_by_a_wire() -> None:
    """The second router's tunnel leaves checksums as the sender's network card would have got them: of the latter they are right."""
    fast, slow = chains(2, latency=1000)
    for chain in (fast, slow):
        engine = chain.engine
        engine.add_route(chain.ns[0], ip(SERVER), 32, via=ip("10.2.0.1"))
        engine.set_device(far_tunnel(chain), unfinished_checksums=True)
        engine.add_address(chain.client, ip(CLIENT), 24)
        engine.add_route(chain.sender, bytes(4), 0, dev=chain.client)
        engine.add_neighbour(chain.client, ip(SERVER), mac(101))
        for sport in range(1000, 1040):
            engine.receive(chain.front[0], ether(udp_packet(dst=SERVER, sport=sport), dst=mac(101)))
            engine.run(engine.now + MILLISECOND)
        for sport in range(2000, 2010):
            engine.send(chain.sender, udp_packet(dst=SERVER, sport=sport))
            engine.run(engine.now + MILLISECOND)
    assert fast.everything() == slow.everything()
    assert fast.engine.flow_cache()["wide"] > 30


@pytest.mark.parametrize("most", [6, 8, 24])
def test_a_connection_that_makes_room_for_its_own_tunnels_is_gone(most: int) -> None:
    """Its packets are seen by it, then by that of the tunnel's packet, which is new each time, as a rule drops it."""
    shown = []
    for slow in (False, True):
        rng, router = Random(most), Router(engine=Engine(7, slow_path_only=slow))
        engine, ns = router.engine, router.ns
        tunnel = engine.add_device(ns, "tun0", "vxlan", mac=mac(0x61), mtu=1400, id=7, local=ip(ROUTER1), remote=ip(SERVER))
        engine.add_address(tunnel, ip("10.1.0.1"), 16)
        engine.add_neighbour(tunnel, ip("10.1.0.9"), mac(0x62))
        engine.set_rules(ns, 4, "nat", nat_table())
        refused: Match = {"proto": 17, "sport": (40000, 65535), "target": "DROP"}
        engine.set_rules(ns, 4, "filter", filter_table(OUTPUT=[refused]))
        engine.set_sysctl(ns, "net.netfilter.nf_conntrack_max", most)
        for sport in (*range(3000, 3020), *(rng.randrange(1000, 1012) for _ in range(200))):
            engine.inject(router.client_eth, ether(udp_packet(dst="10.1.0.9", sport=sport)), at=engine.now + MILLISECOND)
            engine.run(engine.now + MILLISECOND)
        assert slow or engine.flow_cache()["wide"] > 10
        shown.append((engine.frames(), engine.drops(), engine.counters(), engine.conntrack(ns)))
    assert shown[0] == shown[1]
    assert shown[0][2]["drop/rules/denied"] > 100


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


def test_first_packets_refresh_what_a_bridge_has_learnt_of_their_sender() -> None:
    """A station behind a bridge that opens connections through it: its entry must not age while it does."""
    shown = []
    for slow in (False, True):
        bridge = Bridge(Engine(7, slow_path_only=slow))
        engine, ns = bridge.engine, bridge.ns
        outside = engine.add_namespace("outside")
        eth1 = engine.add_device(ns, "eth1", "veth", mac=mac(3), mtu=1500)
        engine.connect(eth1, engine.add_device(outside, "eth0", "veth", mac=mac(4), mtu=1500))
        engine.add_address(eth1, ip(ROUTER1), 24)
        engine.add_neighbour(eth1, ip(SERVER), mac(4))
        engine.set_sysctl(ns, "net.ipv4.ip_forward", 1)
        engine.set_rules(ns, 4, "nat", nat_table(PREROUTING=[{"dst": (ip(VIRTUAL), 32), "proto": 6, "target": "DNAT", "to": to(SERVER)}]))
        before = 0
        for number in range(80):
            at = engine.now + 20 * SECOND
            packet = ether(tcp_packet(SYN, dst=VIRTUAL, sport=1000 + number), dst=mac(0xB0), src=mac(0x10))
            engine.inject(bridge.stations[0], packet, at=at)
            engine.run(at)
            before = engine.flow_cache()["wide"] if number == 40 else before
        assert slow or engine.flow_cache()["wide"] - before >= 30, "more than the 300 s after which an entry ages"
        shown.append((engine.conntrack(ns), [(frame.time, frame.device, frame.data) for frame in engine.frames()]))
        engine.inject(bridge.stations[1], ether(udp_packet(), dst=mac(0x10), src=mac(0x11)))
        engine.run(engine.now)
        assert bridge.ports_out() == [0], "to that station alone"
    assert shown[0] == shown[1]
