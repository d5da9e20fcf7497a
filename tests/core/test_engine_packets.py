"""What lives longer than one packet: fragments that wait, path MTUs, connections; and that chance is the seed's alone."""

from __future__ import annotations

import pytest

from core.provoke_tunnels import FAR_MAC, TunnelRouter
from core.worlds import (
    CLIENT,
    CLIENT_MAC,
    DONT_FRAGMENT,
    ICMP,
    MORE_FRAGMENTS,
    ROUTER0,
    ROUTER1,
    ROUTER1_MAC,
    SECOND,
    SERVER,
    SERVER_MAC,
    Router,
    ether,
    filter_table,
    fragments,
    icmp,
    ip,
    ipv4,
    nat_table,
    ping,
    tcp_packet,
    udp_packet,
    unaccounted,
)
from dataplane import _core
from dataplane._core import CT_NEW, Engine

SYN, RST, ACK = 0x02, 0x04, 0x10
REASSEMBLY_SECONDS, UDP_SECONDS, MTU_SECONDS = 30, 30, 600  # ipfrag_time, nf_conntrack_udp_timeout, mtu_expires


def tracking() -> Router:
    router = Router()
    router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[{"ctstate": CT_NEW, "target": "ACCEPT"}]))
    return router


# ---- fragments


def test_the_sender_is_told_when_the_rest_does_not_come_in_time() -> None:
    router = Router()
    first = fragments(ping(dst=ROUTER0, size=2000), 1400)[0]
    router.take(ether(first))
    router.engine.run(REASSEMBLY_SECONDS * SECOND - 1)
    assert router.seen(router.eth0, outgoing=True) == []
    router.engine.run(REASSEMBLY_SECONDS * SECOND)
    told = router.seen(router.eth0, outgoing=True)
    assert [(frame[:6], frame[23], frame[34:36]) for frame in told] == [(CLIENT_MAC, ICMP, b"\x0b\x01")]
    assert told[0][42:62] == first[:20]
    assert unaccounted(router.engine) == 0


def test_nobody_is_told_when_the_first_part_is_missing() -> None:
    """Without it there is no header to quote (RFC 792)."""
    router = Router()
    router.take(ether(fragments(ping(dst=ROUTER0, size=2000), 1400)[1]))
    router.engine.run(2 * REASSEMBLY_SECONDS * SECOND)
    assert router.seen(router.eth0, outgoing=True) == []
    assert router.dropped("defragment/timeout") == 1


def test_parts_in_any_order_become_one_datagram() -> None:
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        router = Router()
        parts = fragments(ping(dst=ROUTER0, size=2000), 800)
        router.take(*(ether(parts[number]) for number in order))
        answers = router.seen(router.eth0, outgoing=True)
        assert sum(len(frame) - 34 for frame in answers) == 2008, order
        assert unaccounted(router.engine) == 0


def test_a_late_part_begins_a_new_datagram() -> None:
    router = Router()
    parts = fragments(ping(dst=ROUTER0, size=2000), 1400)
    router.take(ether(parts[0]))
    router.engine.run((REASSEMBLY_SECONDS + 1) * SECOND)
    router.engine.frames()
    router.take(ether(parts[1]))
    assert router.seen(router.eth0, outgoing=True) == []
    assert router.engine.counters()["held"] == 1


def test_datagrams_given_up_at_one_instant_go_in_the_order_in_which_they_began() -> None:
    """Whatever the timers of datagrams that were completed at that instant find in the memory that those had."""
    router = Router()
    parts = [fragments(udp_packet(bytes(40), dst=ROUTER0, ident=ident), 24) for ident in range(60)]
    begun, completed, late = parts[:40], parts[:30], parts[40:]
    router.take(*(ether(one[0]) for one in begun), *(ether(one[1]) for one in completed), *(ether(one[0]) for one in late))
    router.engine.run((REASSEMBLY_SECONDS + 1) * SECOND)
    expired = [drop for drop in router.engine.drops() if _core.drop_reasons()[drop.reason].name == "defragment/timeout"]
    assert [int.from_bytes(drop.data[18:20]) for drop in expired] == list(range(30, 60))


# ---- path MTU of a tunnel


def tunnel_learning(mtu: int) -> TunnelRouter:
    """A router on the way to the tunnel's other end has said that the tunnel's packet is too big."""
    world = TunnelRouter()
    world.engine.add_fdb(world.tunnel, FAR_MAC, dst=ip(SERVER))
    world.take(ether(udp_packet(bytes(1300), dst="10.1.0.9")))
    outer = world.seen(world.eth1, outgoing=True)[0][14:]
    told = ipv4(icmp(3, 4, rest=mtu.to_bytes(4), payload=outer[:28]), src=SERVER, dst=ROUTER1, proto=ICMP)
    world.engine.receive(world.eth1, ether(told, dst=ROUTER1_MAC, src=SERVER_MAC))
    world.engine.run(0)
    world.engine.frames()
    return world


def test_a_tunnel_learns_the_mtu_of_its_path() -> None:
    world = tunnel_learning(1200)
    world.take(ether(udp_packet(bytes(1300), dst="10.1.0.9")))
    assert max(len(frame) - 14 for frame in world.seen(world.eth1, outgoing=True)) <= 1200


def test_it_forgets_after_ten_minutes() -> None:
    world = tunnel_learning(1200)
    world.engine.run((MTU_SECONDS + 1) * SECOND)
    world.take(ether(udp_packet(bytes(1300), dst="10.1.0.9")))
    assert [len(frame) - 14 for frame in world.seen(world.eth1, outgoing=True)] == [20 + 8 + 8 + 14 + 20 + 8 + 1300]


def test_an_mtu_below_the_least_is_not_believed() -> None:
    world = tunnel_learning(100)
    world.take(ether(udp_packet(bytes(1300), dst="10.1.0.9")))
    sizes = [len(frame) - 14 for frame in world.seen(world.eth1, outgoing=True)]
    assert max(sizes) > 500  # net.ipv4.route.min_pmtu is 552


# ---- connections


def test_an_entry_dies_in_virtual_time() -> None:
    router = tracking()
    router.take(ether(udp_packet()))
    router.engine.run(UDP_SECONDS * SECOND - 1)
    assert [entry["timeout"] for entry in router.engine.conntrack(router.ns)] == [1]
    router.engine.run(UDP_SECONDS * SECOND)
    assert router.engine.conntrack(router.ns) == []


def test_each_packet_of_a_flow_puts_its_end_off() -> None:
    router = tracking()
    for number in range(5):
        router.take(ether(udp_packet()), at=number * 20 * SECOND)
    assert [entry["timeout"] for entry in router.engine.conntrack(router.ns)] == [UDP_SECONDS * SECOND]


def test_a_full_table_gives_up_the_oldest_connection_that_is_not_assured() -> None:
    router = tracking()
    router.engine.set_sysctl(router.ns, "net.netfilter.nf_conntrack_max", 3)
    for number in range(5):
        router.take(ether(udp_packet(sport=1000 + number)))
    assert [entry["orig"]["sport"] for entry in router.engine.conntrack(router.ns)] == [1002, 1003, 1004]
    assert router.dropped("conntrack/table_full") == 0


def test_a_full_table_of_assured_connections_takes_no_more() -> None:
    router = tracking()
    router.engine.set_sysctl(router.ns, "net.netfilter.nf_conntrack_max", 1)
    router.take(ether(tcp_packet(SYN, seq=100)))
    answer = tcp_packet(SYN | ACK, src=SERVER, dst=CLIENT, sport=80, dport=1000, seq=500, ack=101)
    router.engine.receive(router.eth1, ether(answer, dst=ROUTER1_MAC, src=SERVER_MAC))
    router.take(ether(tcp_packet(ACK, seq=101, ack=501)), ether(udp_packet()))
    assert router.dropped("conntrack/table_full") == 1
    assert [entry["state"] for entry in router.engine.conntrack(router.ns)] == ["ESTABLISHED"]


def test_a_packet_that_is_dropped_leaves_no_entry() -> None:
    router = Router()
    router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[{"ctstate": CT_NEW, "target": "DROP"}]))
    router.take(ether(udp_packet()))
    assert router.engine.conntrack(router.ns) == []


# ---- chance


def balanced(seed: int) -> tuple[list[_core.Frame], list[bytes]]:
    """Twenty connections to a virtual address with two ends, masqueraded at random: frames, and the ends chosen."""
    router = Router(engine=Engine(seed))
    for last in (2, 3):
        router.engine.add_neighbour(router.eth1, bytes([10, 0, 1, last]), SERVER_MAC)
    virtual = (ip("10.96.0.1"), 32)
    ends = [(ip(f"10.0.1.{last}"), ip(f"10.0.1.{last}"), 0, 0) for last in (2, 3)]
    rules = nat_table(
        PREROUTING=[
            {"dst": virtual, "target": "DNAT", "probability": 0.5, "to": ends[0]},
            {"dst": virtual, "target": "DNAT", "to": ends[1]},
        ],
        POSTROUTING=[{"target": "MASQUERADE", "random": True}],
    )
    router.engine.set_rules(router.ns, 4, "nat", rules)
    for number in range(20):
        router.take(ether(udp_packet(dst="10.96.0.1", sport=1000 + number)))
    frames = router.engine.frames()
    return frames, [frame.data[30:34] for frame in frames if frame.device == router.eth1]


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert balanced(7) == balanced(7)


def test_another_seed_chooses_otherwise() -> None:
    assert len({tuple(balanced(seed)[1]) for seed in range(4)}) > 1


def test_a_choice_with_even_odds_takes_both_ways() -> None:
    _, ends = balanced(1)
    assert set(ends) == {ip("10.0.1.2"), ip("10.0.1.3")}


@pytest.mark.parametrize("payload", [0, 1, 1372, 1373, 4000])
def test_a_forwarded_packet_without_df_is_cut_to_fit_and_put_together_alike(payload: int) -> None:
    router = Router(mtu=9000)
    router.engine.set_device(router.eth1, mtu=1400)
    packet = udp_packet(bytes(range(256)) * 16 if payload == 4000 else bytes(payload))
    router.take(ether(packet))
    parts = [frame[14:] for frame in router.seen(router.eth1, outgoing=True)]
    assert all(len(part) <= 1400 for part in parts)
    assert b"".join(part[20:] for part in parts) == packet[20:]
    words = [int.from_bytes(part[6:8]) for part in parts]
    assert [bool(word & MORE_FRAGMENTS) for word in words] == [True] * (len(parts) - 1) + [False]
    assert not any(word & DONT_FRAGMENT for word in words)
    assert unaccounted(router.engine) == 0


def test_a_host_that_sends_to_itself_through_a_router_answers_itself() -> None:
    """Question and answer of such a connection are one tuple, and Linux takes the second packet for the answer, whatever other
    connections there have been meanwhile. (Seen on Linux 6.18: ``conntrack -L`` says UNREPLIED after the first packet alone.)"""
    router, protocols = tracking(), range(90, 130)
    itself = [ether(ipv4(b"x", src=CLIENT, dst=CLIENT, proto=proto)) for proto in protocols]
    router.take(*(ether(udp_packet(sport=port)) for port in range(3000, 3100)), *itself)
    assert not any(entry["seen_reply"] for entry in router.engine.conntrack(router.ns))
    router.engine.run((UDP_SECONDS + 1) * SECOND)
    assert len(router.engine.conntrack(router.ns)) == len(protocols)
    router.take(*itself, at=router.engine.now)
    assert all(entry["seen_reply"] for entry in router.engine.conntrack(router.ns))
