"""IPv6 in recordings: what is masked, how flows are pinned, what the generated frames are; without a kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.sctp import SCTP

from . import broken6, discovery, dual, extensions, generate, masks, record, rules, sctp, wire
from .oracle import Outcome
from .record import Flaky, Run, Step
from .taps import Seen
from .topology import MODES, Topology, cluster_file, load
from .traffic6 import Traffic6, multicast_mac, solicited_node
from .wire import Ip6

PORT = 8472
ENDS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
OUTER = Ip6("fd00::1", "fd00::2", wire.UDP, b"")


def frame(packet: Ip6) -> bytes:
    return wire.ethernet(*ENDS, packet.build(), wire.IP6_TYPE)


def echo(label: int = 0) -> Ip6:
    return Ip6("fd01::1", "fd01::2", wire.ICMP6, wire.icmp6("fd01::1", "fd01::2", 128, 0, bytes(4), b"x"), label=label)


def tunnel(sport: int, *, label: int = 0, check: int | None = None) -> Ip6:
    body = wire.udp(OUTER.source, OUTER.target, sport, PORT, wire.vxlan(8, 0, 1, 0, frame(echo(label))), check=check)
    return replace(OUTER, payload=body)


def mask(packet: Ip6, *sent: Ip6) -> list[tuple[int, int]]:
    """Of a frame that two runs agree on, after these were sent in."""
    seen = Seen(0.0, "node1", "eth0", True, frame(packet))
    known = masks.Sent(PORT)
    for earlier in sent:
        known.note(frame(earlier))
    return record.mask_of(seen, seen, known)


@pytest.fixture(scope="module", params=MODES)
def topology(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Topology:
    return load(dual.write(cluster_file(request.param), tmp_path_factory.mktemp("clusters") / f"{request.param}.yaml"))


def test_a_flow_label_that_a_node_drew_is_masked() -> None:
    assert mask(echo(0x11111), echo(0x22222)) == [(15, 3)]


def test_flow_labels_that_were_sent_in_are_compared() -> None:
    assert mask(echo(0x11111), echo(0x11111)) == mask(echo(0x11111), tunnel(1, label=0x11111)) == mask(echo(0)) == []


def test_a_tunnel_port_is_masked_with_the_checksum() -> None:
    assert mask(tunnel(40000), tunnel(40001)) == [(54, 2), (60, 2)]


def test_a_tunnel_frame_that_was_sent_in_is_compared_whole() -> None:
    assert mask(tunnel(40000), tunnel(40000)) == []


def test_a_tunnel_frame_without_udp_checksum_keeps_the_zero() -> None:
    assert mask(tunnel(40000, check=0)) == [(54, 2)]


def test_a_label_inside_a_tunnel_frees_the_checksum_outside() -> None:
    assert mask(tunnel(40000, label=1), tunnel(40000)) == [(60, 2), (85, 3)]


def test_a_label_in_a_quote_frees_the_icmpv6_checksum() -> None:
    error = Ip6("fd01::9", "fd01::1", wire.ICMP6, wire.icmp6("fd01::9", "fd01::1", 3, 0, bytes(4), echo(5).build()))
    assert mask(error, echo()) == [(56, 2), (63, 3)]
    assert mask(error, echo(5)) == []


def test_a_label_in_a_redirected_header_frees_the_icmpv6_checksum() -> None:
    options = bytes([2, 1]) + wire.mac(ENDS[0]) + bytes([4, 7]) + bytes(6) + echo(5).build()
    body = wire.icmp6("fe80::1", "fd01::1", wire.REDIRECT, 0, bytes(4), bytes(32) + options)
    redirect = Ip6("fe80::1", "fd01::1", wire.ICMP6, body)
    assert mask(redirect, echo()) == [(56, 2), (111, 3)]
    assert mask(redirect, echo(5)) == []


def differing(first: Ip6, second: Ip6) -> list[tuple[int, int]]:
    one, two = (Seen(0.0, "node1", "eth0", True, frame(packet)) for packet in (first, second))
    return record.mask_of(one, two, masks.Sent(PORT))


def test_the_identification_of_fragments_that_a_node_cut_is_masked() -> None:
    first, second = (replace(echo(), ident=ident).piece(0, 8, more=True) for ident in (5, 6))
    assert differing(first, second) == [(58, 4)]


@pytest.mark.parametrize("changed", [replace(echo(), tos=4), replace(echo(), target="fd01::3"), replace(echo(), ttl=63)])
def test_other_fields_that_differ_are_refused(changed: Ip6) -> None:
    with pytest.raises(Flaky, match="frames differ"):
        differing(echo(), changed)


LINE = "tcp      6 SYN_SENT src=fd00::9 dst=fd00::10 sport=4000 dport=80 [UNREPLIED] src=fd00::2 dst=fd00::9 sport=8080 dport=4001 id=1"


def test_a_translated_flow_is_pinned_with_brackets(topology: Topology) -> None:
    run = Run([Step("shop-a", "eth0", bytes(60), "")], [Outcome([], {"east": [LINE]}, [], None, 0.0)], 0.1)
    case = record.case_of(topology, run, run, record.pins_of(run), {"name": "name", "doc": "", "cluster": ""})
    assert case["pins"] == [
        {"ns": "east", "proto": "tcp", "original": "[fd00::9]:4000>[fd00::10]:80", "reply": "[fd00::2]:8080>[fd00::9]:4001"}
    ]
    assert record.pins_in(case) == record.pins_of(run)


def test_a_pin_makes_the_choice_and_the_port_in_ip6tables() -> None:
    text = (
        "-A POSTROUTING -j KUBE-POSTROUTING\n"
        "-A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-1\n-A KUBE-SVC-A -j KUBE-SEP-2\n"
        "-A KUBE-SEP-1 -p tcp -j DNAT --to-destination [fd00::1]:8080\n-A KUBE-SEP-2 -p tcp -j DNAT --to-destination [fd00::2]:8080\n"
    )
    pin = rules.Pin("east", "tcp", ("fd00::9", 4000, "fd00::10", 80), ("fd00::2", 8080, "fd00::9", 4001))
    flow = "-p tcp -m conntrack --ctorigsrc fd00::9 --ctorigsrcport 4000 --ctorigdst fd00::10 --ctorigdstport 80"
    lines = rules.pinned(text, [pin], only=False).splitlines()
    assert lines[0] == f"-A POSTROUTING {flow} -j SNAT --to-source [fd00::9]:4001"
    assert lines[2] == f"-A KUBE-SVC-A {flow} -j KUBE-SEP-2"


def test_a_twin_has_both_families_of_everything(topology: Topology) -> None:
    four, six = topology.views[4], topology.views[6]
    assert [(s.name, s.port, s.node_port, len(s.outside), len(s.endpoints)) for s in four.services] == [
        (s.name, s.port, s.node_port, len(s.outside), len(s.endpoints)) for s in six.services
    ]
    addresses = [p.address for p in six.pods.values()] + [s.address for s in {s.address: s for s in six.services}.values()]
    assert len(set(addresses)) == len(addresses)
    assert all(ip_address(p.address) in six.nodes[p.node].block for p in six.pods.values())


def test_names_of_link_layer_and_solicited_nodes() -> None:
    """The examples of RFC 4291 section 2.7.1 and RFC 2464 section 7."""
    assert solicited_node("4037::01:800:200e:8c6c") == "ff02::1:ff0e:8c6c"
    assert multicast_mac("ff02::1:ff0e:8c6c") == "33:33:ff:0e:8c:6c"


def test_sctp_checksums() -> None:
    """The checksum of "123456789" that catalogues of CRCs give for CRC-32C; scapy's for a packet."""
    assert sctp.crc32c(b"123456789") == 0xE3069283
    made = sctp.packet(1000, 2000, sctp.COOKIE_ACK, Random(3))
    parsed = SCTP(made)
    assert (parsed.sport, parsed.dport, parsed.tag) == (1000, 2000, sctp.tag(2000))
    del parsed.chksum
    assert bytes(parsed) == made


@given(st.integers(0, 1 << 32))
def test_the_upper_layer_is_found_behind_any_chain_of_sound_headers(seed: int) -> None:
    rng = Random(seed)
    sound = [(number, body) for number, body in extensions.chain(rng, ["fd00::1"]) if number != wire.FRAGMENT and _sound(number, body)]
    packet = Ip6("fd00::1", "fd00::2", wire.UDP, wire.udp("fd00::1", "fd00::2", 1, 2, b"data"), extensions=tuple(sound))
    parsed = wire.parse(frame(packet))
    assert parsed is not None
    assert (parsed.proto, parsed.payload) == (wire.UDP, packet.payload)


def _sound(number: int, body: bytes) -> bool:
    return len(body) == ((body[1] + 2) * 4 if number == wire.AUTHENTICATION else (body[1] + 1) * 8)


@given(st.integers(0, 1 << 32))
def test_fragments_put_together_are_the_packet(seed: int) -> None:
    rng = Random(seed)
    packet = replace(echo(), payload=rng.randbytes(rng.randrange(9, 200)), ident=7)
    cuts = sorted({8 * rng.randrange(1, 25) for _ in range(3)} & set(range(8, len(packet.payload), 8)))
    parts = [IPv6(piece.build()) for piece in packet.fragments(cuts)]
    assert b"".join(bytes(part[IPv6].payload)[8:] for part in parts) == packet.payload
    assert [bytes(part[IPv6].payload)[3] & 1 for part in parts] == [1] * (len(parts) - 1) + [0]


@given(st.data())
def test_every_damaged_frame_says_what_was_done(topology: Topology, data: st.DataObject) -> None:
    rng = data.draw(st.randoms(use_true_random=False))
    _, what = broken6.damage(frame(tunnel(40000)), rng, topology)
    assert what


@given(st.integers(0, 1 << 32))
def test_the_same_seed_makes_the_same_frames(topology: Topology, seed: int) -> None:
    first, second = (generate.seeded(topology, seed, 8)([]) for _ in range(2))
    assert first == second


def test_somebody_claims_what_a_node_asks_for(topology: Topology) -> None:
    traffic = Traffic6(topology.views[6], Random(1))
    node, pod = next(iter(topology.views[6].nodes.values())), traffic.stations[0]
    body = wire.icmp6(node.address, "ff02::1:ff00:99", wire.NEIGHBOUR_SOLICITATION, 0, bytes(4), wire.packed("fd00::99"))
    asked = wire.ethernet(
        "33:33:ff:00:00:99", node.macs["eth0"], Ip6(node.address, "ff02::1:ff00:99", wire.ICMP6, body).build(), wire.IP6_TYPE
    )
    packet = discovery.claim(traffic, [Seen(0.0, pod.ns, "eth0", False, asked)])
    assert packet is not None
    answer = IPv6(packet.ip.build())
    assert (answer.src, answer.dst, answer[ICMPv6ND_NA].tgt) == ("fd00::99", node.address, "fd00::99")
    assert packet.frame()[:12] == wire.mac(node.macs["eth0"]) + wire.mac(pod.mac)
    assert discovery.claim(traffic, [Seen(0.0, node.name, "eth0", True, asked)]) is None


def test_sequences_reach_every_action(tmp_path: Path) -> None:
    """Over some seeds all kinds of steps come up: a weight of zero, or a crash in a rare one, would go unnoticed otherwise."""
    topology = load(dual.write(cluster_file("flannel-vxlan"), tmp_path / "dual.yaml"))
    notes, commands = [], []
    for seed in range(150):
        sequence = generate.Sequence(topology, Random(seed), 20)
        frames: list[Seen] = []
        while (step := sequence(frames)) is not None:
            notes.append(step.note)
            commands += [command for _, command in step.setup]
            stations = [s for speaker in sequence.speakers for s in speaker.stations]
            frames = [Seen(0.0, station.ns, "eth0", False, wire.mac(station.mac) + step.frame[6:]) for station in stations]
    for word in (
        "answer: icmpv6",
        "answer: sctp",
        "icmpv6 2/0 from",
        "fragment",
        "atomic",
        "discovery 135",
        "to be resolved",
        "tunnel frames too big",
        "arp op",
    ):
        assert any(word in note for note in notes), word
    for word in ("mtu lock", "unreachable", "neigh add proxy", "frag6_timeout", "ip link set cni0"):
        assert any(word in command for command in commands), word
