"""What becomes of two runs of one sequence: masks, free ports, pins, and refusals; without a kernel."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import broken, generate, masks, record, rules, wire
from .oracle import Outcome
from .record import Flaky, Run, Step
from .taps import Seen
from .topology import MODES, cluster_file, load
from .wire import Ip

PORT = 8472
OUTER = Ip("10.0.0.1", "10.0.0.2", wire.UDP, b"", ident=7)
INNER = wire.ethernet(
    "02:00:00:00:00:01", "02:00:00:00:00:02", Ip("10.1.0.1", "10.1.0.2", wire.ICMP, wire.icmp(8, 0, bytes(4), b"x")).build()
)


def tunnel(sport: int, ident: int, inner: bytes = INNER, check: int | None = None) -> bytes:
    body = wire.udp(OUTER.source, OUTER.target, sport, PORT, wire.vxlan(8, 0, 1, 0, inner), check=check)
    return wire.ethernet("02:00:00:00:00:03", "02:00:00:00:00:04", replace(OUTER, payload=body, ident=ident).build())


def seen(data: bytes) -> Seen:
    return Seen(0.0, "node1", "eth0", True, data)


def test_what_a_node_draws_for_its_tunnel_frames_is_masked() -> None:
    assert record.mask_of(seen(tunnel(40000, 1)), seen(tunnel(40000, 2)), masks.Sent(PORT)) == [(18, 2), (24, 2), (34, 2), (40, 2)]


def test_a_tunnel_frame_without_udp_checksum_keeps_the_zero() -> None:
    assert record.mask_of(seen(tunnel(40000, 1, check=0)), seen(tunnel(40000, 2, check=0)), masks.Sent(PORT)) == [(18, 2), (24, 2), (34, 2)]


def test_a_tunnel_frame_that_was_sent_in_is_compared_whole() -> None:
    assert record.mask_of(seen(tunnel(40000, 1)), seen(tunnel(40000, 1)), masks.Sent(PORT)) == []


def test_an_address_that_differs_is_refused() -> None:
    other = wire.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", Ip("10.1.0.1", "10.1.0.3", wire.ICMP, b"").build())
    same_length = wire.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", Ip("10.1.0.1", "10.1.0.2", wire.ICMP, b"").build())
    with pytest.raises(Flaky, match="frames differ"):
        record.mask_of(seen(same_length), seen(other), masks.Sent(PORT))


def test_the_id_in_a_quoted_tunnel_frame_is_masked_with_the_icmp_checksum() -> None:
    first, second = (
        wire.ethernet(
            "02:00:00:00:00:01", "02:00:00:00:00:02", Ip("10.0.0.2", "10.0.0.1", wire.ICMP, wire.icmp(3, 3, bytes(4), quote)).build()
        )
        for quote in (tunnel(40000, 1)[14:], tunnel(40000, 2)[14:])
    )
    assert record.mask_of(seen(first), seen(second), masks.Sent(PORT)) == [(36, 2), (46, 2), (52, 2), (62, 2), (68, 2)]


def test_times_that_routers_fill_in_are_masked() -> None:
    packets = [Ip("10.0.0.1", "10.0.0.2", wire.UDP, b"", options=b"\x44\x08\x09\0" + bytes([0, 0, 0, now])) for now in (1, 2)]
    first, second = (wire.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet.build()) for packet in packets)
    assert record.mask_of(seen(first), seen(second), masks.Sent(PORT)) == [(24, 2), (38, 4)]


def outcome(frames: list[Seen], table: list[str]) -> Outcome:
    return Outcome(frames, {"node1": table}, [], None, 0.0)


def tables(first: str, second: str) -> record.Case:
    topology = load(cluster_file("flannel-vxlan"))
    step = Step("shop-a", "eth0", bytes(60), "")
    runs = [Run([step], [outcome([], [line])], 0.1) for line in (first, second)]
    return record.case_of(topology, runs[0], runs[1], record.pins_of(runs[0]), {"name": "name", "doc": "", "cluster": ""})


FLOW = "tcp 6 SYN_SENT src=10.1.0.1 dst=10.9.0.1 sport=4000 dport=80 [UNREPLIED] src=10.1.0.2 dst=10.1.0.1 sport=8080 dport=4000 id={}"


def test_entries_that_differ_in_their_id_only_are_the_same() -> None:
    case = tables(FLOW.format(1), FLOW.format(2))
    assert case["steps"][0]["conntrack"] == {"node1": [FLOW.format(0)[: -len(" id=0")]]}


def test_a_translated_flow_is_pinned() -> None:
    assert tables(FLOW.format(1), FLOW.format(1))["pins"] == [
        {"ns": "node1", "proto": "tcp", "original": "10.1.0.1:4000>10.9.0.1:80", "reply": "10.1.0.2:8080>10.1.0.1:4000"}
    ]


def test_tables_that_differ_are_refused() -> None:
    with pytest.raises(Flaky, match="conntrack"):
        tables(FLOW.format(1), FLOW.format(1).replace("8080", "8081"))


def test_a_tuple_used_again_has_a_pin_for_each_use() -> None:
    step = Step("shop-a", "eth0", bytes(60), "")
    run = Run([step, step], [outcome([], [FLOW.format(1)]), outcome([], [FLOW.format(2)])], 0.1)
    assert len(record.pins_of(run)) == 2


def test_only_ports_of_frames_that_nodes_made_are_free() -> None:
    ports = record.TunnelPorts(PORT)
    frame = seen(tunnel(40000, 1))
    ports.note([frame], {id(frame): record.mask_of(frame, seen(tunnel(40000, 2)), masks.Sent(PORT))})
    entry = "udp 17 src=10.0.0.1 dst=10.0.0.2 sport={0} dport=8472 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=8472 dport={0}"
    assert ports.star(entry.format(40000)) == entry.format("*")
    assert ports.star(entry.format(40001)) == entry.format(40001)


def test_a_pin_comes_before_the_random_choice_and_nothing_after_it() -> None:
    text = (
        "-A POSTROUTING -j KUBE-POSTROUTING\n"
        "-A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-1\n-A KUBE-SVC-A -j KUBE-SEP-2\n"
        "-A KUBE-SEP-1 -p tcp -j DNAT --to-destination 10.1.0.1:80\n-A KUBE-SEP-2 -p tcp -j DNAT --to-destination 10.1.0.2:80\n"
    )
    pin = rules.Pin("node1", "tcp", ("10.1.0.9", 4000, "10.9.0.1", 80), ("10.1.0.2", 80, "10.1.0.9", 4001))
    lines = rules.pinned(text, [pin], only=True).splitlines()
    flow = "-p tcp -m conntrack --ctorigsrc 10.1.0.9 --ctorigsrcport 4000 --ctorigdst 10.9.0.1 --ctorigdstport 80"
    assert lines[0] == f"-A POSTROUTING {flow} -j SNAT --to-source 10.1.0.9:4001"
    assert lines[2:4] == [f"-A KUBE-SVC-A {flow} -j KUBE-SEP-2", "-A KUBE-SVC-A -m recent --name unpinned --set -j RETURN"]


@given(st.integers(0, 1 << 32), st.sampled_from(MODES))
def test_the_same_seed_makes_the_same_frames(seed: int, mode: str) -> None:
    topology = load(cluster_file(mode))
    first, second = ([generate.seeded(topology, seed, 8)([]) for _ in range(1)] for _ in range(2))
    assert first == second


@given(st.data())
def test_every_damaged_frame_says_what_was_done(data: st.DataObject) -> None:
    topology = load(cluster_file("calico"))
    rng = data.draw(st.randoms(use_true_random=False))
    _, what = broken.damage(INNER, rng, topology)
    assert what


def test_sequences_reach_every_action() -> None:
    """Over some seeds all kinds of steps come up: a weight of zero, or a crash in a rare one, would go unnoticed otherwise."""
    topology = load(cluster_file("flannel-vxlan"))
    notes = []
    for seed in range(150):
        sequence = generate.Sequence(topology, Random(seed), 20)
        frames: list[Seen] = []
        while (step := sequence(frames)) is not None:
            notes.append(step.note)
            frames = [Seen(0.0, station.ns, "eth0", False, wire.mac(station.mac) + step.frame[6:]) for station in sequence.traffic.stations]
    for word in (
        "service",
        "answer: tcp",
        "icmp 3/4 from",
        "fragment",
        "overlap",
        "arp op",
        "tunnel frame",
        "again",
        "same source",
        "VLAN",
        "option",
    ):
        assert any(word in note for note in notes), word
