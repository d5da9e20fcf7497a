"""How a ``frames`` case is compared with what happened: here the happening is made up, so that each difference is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from dataplane.testing.kinds.frames import compare
from dataplane.testing.playback import Played, address_and_port

TUNNEL = "udp 17 src=1.0.0.1 dst=1.0.0.2 sport={0} dport=8472 [UNREPLIED] src=1.0.0.2 dst=1.0.0.1 sport=8472 dport={0}"
ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def frame(ns: str, direction: str, *, ttl: int = 64, dport: int = 5000) -> dict[str, Any]:
    made = ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ttl=ttl) / UDP(sport=4000, dport=dport)
    return {"ns": ns, "iface": "eth0", "dir": direction, "hex": bytes(made).hex(), "summary": f"to port {dport}"}


def tunnel_frame(sport: int) -> dict[str, Any]:
    made = ETHER / IP(src="1.0.0.1", dst="1.0.0.2") / UDP(sport=sport, dport=8472)
    return {"ns": "node1", "iface": "eth0", "dir": "out", "hex": bytes(made).hex(), "summary": "tunnel"}


def step(*frames: dict[str, Any], **changed: Any) -> dict[str, Any]:
    inject = {"ns": "p1", "iface": "eth0", "hex": "00" * 14, "note": "hello"}
    return {"inject": inject, "settle_ms": 20, "frames": list(frames), "conntrack": {"node1": [], "node2": []}, "drops": []} | changed


def judged(expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    return compare({"steps": [expected]}, Played([got], [], 0))


SENT, RECEIVED = frame("p1", "out"), frame("p2", "in", ttl=63)


def test_what_is_as_recorded_passes() -> None:
    assert judged(step(SENT, RECEIVED), step(SENT, RECEIVED)) == []


def test_interleaving_of_interfaces_is_free() -> None:
    assert judged(step(SENT, RECEIVED), step(RECEIVED, SENT)) == []


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (step(SENT, frame("p2", "in", ttl=64)), "step 1 (hello): p2/eth0 in frame 1: IPv4 ttl: expected 63, got 64"),
        (step(SENT), "step 1 (hello): p2/eth0 in frame 1 missing: to port 5000"),
        (step(SENT, RECEIVED, RECEIVED), "step 1 (hello): p2/eth0 in frame 2 not expected: "),
        (step(SENT, RECEIVED, frame("p3", "in")), "step 1 (hello): p3/eth0 in frame 1 not expected: "),
        (step(SENT, RECEIVED, send_error="refused"), "step 1 (hello): frame was refused"),
        (step(SENT, RECEIVED, conntrack={"node1": ["unknown 4 src=1.0.0.1"]}), "step 1 (hello): conntrack of node1: entry not"),
    ],
)
def test_what_differs_is_named(got: dict[str, Any], said: str) -> None:
    assert [line[: len(said)] for line in judged(step(SENT, RECEIVED), got)][:1] == [said]


def test_order_on_one_interface_counts() -> None:
    first, second = frame("p2", "in", dport=1), frame("p2", "in", dport=2)
    assert judged(step(first, second), step(second, first)) != []


def test_a_missing_frame_does_not_shift_the_others() -> None:
    frames = [frame("p2", "in", dport=port) for port in (1, 2, 3)]
    assert judged(step(*frames), step(*frames[1:])) == ["step 1 (hello): p2/eth0 in frame 1 missing: to port 1"]


def test_a_frame_that_the_kernel_refused_must_be_refused() -> None:
    accepted = judged(step(send_error="Message too long"), step())
    assert accepted == ["step 1 (hello): frame was accepted, should be refused: Message too long"]
    assert judged(step(send_error="Message too long"), step(send_error="refused")) == []


@pytest.mark.parametrize(
    ("kernel", "ours", "count"),
    [
        (["IP_CSUM@ip_rcv_core"], [], 1),
        (["IP_CSUM@ip_rcv_core"], ["parse/ipv4_checksum@node1"], 0),
        (["NETFILTER_DROP@nft_do_chain", "NOT_SPECIFIED@skb_release_data"], [], 0),
        ([], ["parse/ipv4_checksum@node1"], 0),
    ],
)
def test_what_the_kernel_dropped_needs_a_reason_here(kernel: list[str], ours: list[str], count: int) -> None:
    assert len(judged(step(drops=kernel), step(drops=ours))) == count


def masked(made: dict[str, Any]) -> dict[str, Any]:
    return made | {"mask": [[18, 2], [24, 2], [34, 1], [35, 1], [40, 2]]}


@pytest.mark.parametrize(("port_in_table", "lines"), [(41111, 0), (42222, 2)])
def test_a_free_port_must_be_the_one_of_the_tunnel_frame(port_in_table: int, lines: int) -> None:
    expected = step(masked(tunnel_frame(33333)), conntrack={"node1": [TUNNEL.format("*")], "node2": []})
    got = step(tunnel_frame(41111), conntrack={"node1": [TUNNEL.format(port_in_table)], "node2": []})
    assert len(judged(expected, got)) == lines


@pytest.mark.parametrize(("port_in_table", "lines"), [(41111, 0), (42222, 1)])
def test_a_free_port_of_a_tunnel_over_ipv6(port_in_table: int, lines: int) -> None:
    line = "udp 17 src=fd00::1 dst=fd00::2 sport={0} dport=8472 [UNREPLIED] src=fd00::2 dst=fd00::1 sport=8472 dport={0}"
    drawn, ours = (
        frame("node1", "out") | {"hex": bytes(ETHER / IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=sport, dport=8472)).hex()}
        for sport in (33333, 41111)
    )
    expected = step(drawn | {"mask": [[54, 2], [60, 2]]}, conntrack={"node1": [line.format("*")], "node2": []})
    got = step(ours, conntrack={"node1": [line.format(port_in_table)], "node2": []})
    assert bool(judged(expected, got)) is bool(lines)


OPTION = [HBHOptUnknown(otype=0x1E, optdata=b"abcd")]
OUTER = IPv6(src="fd00::1", dst="fd00::2")
ECHO = ICMPv6EchoRequest(id=1, data=b"data")


def tunnelled(outer: Packet, inner: Packet) -> Packet:
    return outer / UDP(sport=33333, dport=8472) / VXLAN(vni=1) / ETHER / inner


@pytest.mark.parametrize(
    "packet",
    [
        OUTER / UDP(sport=1, dport=2),
        OUTER / ECHO,
        OUTER / TCP(sport=1, dport=2),
        OUTER / IPv6ExtHdrHopByHop(options=OPTION) / UDP(sport=1, dport=2),
        OUTER / IPv6ExtHdrDestOpt(options=OPTION) / ECHO,
        OUTER / IPv6ExtHdrFragment(id=5) / TCP(sport=1, dport=2),
        OUTER / ICMPv6PacketTooBig(mtu=1280) / IPv6(src="fd00::9", dst="fd00::1") / UDP(sport=7, dport=8),
        tunnelled(OUTER, OUTER / IPv6ExtHdrHopByHop(options=OPTION) / TCP(sport=1, dport=2)),
        tunnelled(OUTER, IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2)),
        tunnelled(IP(src="1.0.0.1", dst="1.0.0.2"), OUTER / ECHO),
    ],
    ids=lambda packet: packet.summary().replace(" ", ""),
)
def test_a_checksum_over_free_bytes_must_be_valid(packet: Packet) -> None:
    recorded, another = bytes(ETHER / packet / b"data"), bytes(ETHER / packet / b"dat?")
    expected = frame("node1", "out") | {"hex": recorded.hex(), "mask": [[14, len(recorded) - 14]]}
    assert judged(step(expected), step(expected | {"hex": another.hex()})) == []
    lines = judged(step(expected), step(expected | {"hex": (recorded[:-1] + b"?").hex()}))
    assert lines
    assert all("checksum: expected a valid one" in line for line in lines)


def test_a_free_port_may_have_been_seen_in_an_earlier_step() -> None:
    table = {"node1": [TUNNEL.format("*")], "node2": []}
    ours = {"node1": [TUNNEL.format(41111)], "node2": []}
    expected = [step(masked(tunnel_frame(33333)), conntrack=table), step(conntrack=table)]
    assert compare({"steps": expected}, Played([step(tunnel_frame(41111), conntrack=ours), step(conntrack=ours)], [], 0)) == []


def test_pins_that_failed_and_lost_frames_are_failures() -> None:
    case = {"steps": [step()]}
    assert compare(case, Played([step()], ["node1: no rule allows 10.0.0.1"], 0)) == ["pin: node1: no rule allows 10.0.0.1"]
    assert len(compare(case, Played([step()], [], 1))) == 1


def wrong_byte(made: dict[str, Any]) -> dict[str, Any]:
    data = bytearray.fromhex(made["hex"])
    data[-1] ^= 1
    return made | {"hex": data.hex()}


@pytest.mark.parametrize("change", [copy.deepcopy, wrong_byte])
def test_one_byte_decides(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    assert bool(judged(step(RECEIVED), step(change(RECEIVED)))) is (change is wrong_byte)


@pytest.mark.parametrize(
    ("text", "parsed"), [("10.0.0.1:80", (bytes([10, 0, 0, 1]), 80)), ("[fd00::1]:53", (bytes([0xFD]) + bytes(14) + b"\1", 53))]
)
def test_both_families_in_pins(text: str, parsed: tuple[bytes, int]) -> None:
    assert address_and_port(text) == parsed
