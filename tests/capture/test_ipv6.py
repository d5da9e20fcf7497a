"""IPv6 as we read it, with tshark as the judge: layers, checksums, names of ICMPv6 messages; and reads without dissection."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dataplane.capture.checksums import checksums
from dataplane.capture.dissect import dissect, summary
from dataplane.capture.headers import bare_ip_version, flow_key, upper_layer
from dataplane.capture.pcapng_write import CaptureWriter, Interface

from .conftest import Tool

MAC = "02:00:00:00:00:09"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V6 = IPv6(src="fd00::a", dst="fd00::b")
BACK = IPv6(src="fd00::b", dst="fd00::a")
ABOUT = V6 / UDP(sport=1, dport=53) / Raw(b"question")

SUMMARIES: dict[str, Packet] = {
    "[fd00::a]:40000 > [fd00::b]:80 TCP SYN": V6 / TCP(sport=40000, dport=80),
    "[fd00::a]:5 > [fd00::b]:6 SCTP": V6 / SCTP(sport=5, dport=6),
    "[fd00::a]:1 > [fd00::b]:53 UDP": V6 / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=53) / Raw(b"x"),
    "[fd00::a]:1 > [fd00::b]:2 TCP SYN": V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting(segleft=0) / TCP(sport=1, dport=2),
    "[fd00::a]:3 > [fd00::b]:4 TCP SYN": V6 / AH(nh=6, payloadlen=4, spi=1, icv=bytes(12)) / TCP(sport=3, dport=4, chksum=0),
    "[fd00::a]:5 > [fd00::b]:7 UDP fragment 0+": V6 / IPv6ExtHdrFragment(m=1, nh=17) / UDP(sport=5, dport=7, chksum=1) / Raw(bytes(8)),
    "fd00::a > fd00::b UDP fragment 1448": V6 / IPv6ExtHdrFragment(offset=181, nh=17) / Raw(bytes(8)),
    "[fd00::a]:5 > [fd00::b]:8 UDP": V6 / IPv6ExtHdrFragment(nh=17, id=3) / UDP(sport=5, dport=8) / Raw(b"atom"),
    "fd00::a > fd00::b no next header": IPv6(src="fd00::a", dst="fd00::b", nh=59),
    "fd00::a > fd00::b ICMPv6 echo request id 7 seq 9": V6 / ICMPv6EchoRequest(id=7, seq=9, data=b"x"),
    "fd00::a > fd00::b ICMPv6 echo reply id 7 seq 9": V6 / ICMPv6EchoReply(id=7, seq=9),
    "fd00::a > ff02::1:ff00:b ICMPv6 neighbour solicitation fd00::b": IPv6(src="fd00::a", dst="ff02::1:ff00:b", hlim=255)
    / ICMPv6ND_NS(tgt="fd00::b") / ICMPv6NDOptSrcLLAddr(lladdr=MAC),
    f"fd00::b > fd00::a ICMPv6 neighbour advertisement fd00::b is at {MAC}": IPv6(src="fd00::b", dst="fd00::a", hlim=255)
    / ICMPv6ND_NA(tgt="fd00::b", R=1, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC),
    "fd00::b > fd00::a ICMPv6 neighbour advertisement fd00::b": IPv6(src="fd00::b", dst="fd00::a", hlim=255) / ICMPv6ND_NA(tgt="fd00::b"),
    "fe80::1 > fd00::a ICMPv6 redirect fe80::2": IPv6(src="fe80::1", dst="fd00::a", hlim=255)
    / ICMPv6ND_Redirect(tgt="fe80::2", dst="fd00::b") / ICMPv6NDOptDstLLAddr(lladdr=MAC),
    "fe80::1 > ff02::2 ICMPv6 router solicitation": IPv6(src="fe80::1", dst="ff02::2", hlim=255) / ICMPv6ND_RS(),
    "fe80::1 > ff02::1 ICMPv6 router advertisement": IPv6(src="fe80::1", dst="ff02::1", hlim=255)
    / ICMPv6ND_RA(routerlifetime=1800) / ICMPv6NDOptMTU(mtu=1400) / ICMPv6NDOptPrefixInfo(prefix="fd00::", prefixlen=64),
    "fe80::1 > ff02::16 ICMPv6 multicast listener report v2": IPv6(src="fe80::1", dst="ff02::16", hlim=1)
    / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2(),
    "fe80::1 > ff02::1 ICMPv6 multicast listener query": IPv6(src="fe80::1", dst="ff02::1", hlim=1) / ICMPv6MLQuery(),
    "fe80::1 > ff02::5 ICMPv6 multicast listener report": IPv6(src="fe80::1", dst="ff02::5", hlim=1) / ICMPv6MLReport(mladdr="ff02::5"),
    "fe80::1 > ff02::2 ICMPv6 multicast listener done": IPv6(src="fe80::1", dst="ff02::2", hlim=1) / ICMPv6MLDone(mladdr="ff02::5"),
    **{
        f"fd00::b > fd00::a ICMPv6 {words}, about [fd00::a]:1 > [fd00::b]:53 UDP": BACK / error / ABOUT
        for words, error in {
            "no route to destination": ICMPv6DestUnreach(code=0),
            "administratively prohibited": ICMPv6DestUnreach(code=1),
            "beyond scope of source address": ICMPv6DestUnreach(code=2),
            "address unreachable": ICMPv6DestUnreach(code=3),
            "port unreachable": ICMPv6DestUnreach(code=4),
            "reject route to destination": ICMPv6DestUnreach(code=6),
            "packet too big": ICMPv6PacketTooBig(mtu=1400),
            "time exceeded": ICMPv6TimeExceeded(code=0),
            "parameter problem code 1": ICMPv6ParamProblem(code=1, ptr=40),
        }.items()
    },
    "192.0.2.1 > 192.0.2.2 IPv6 | fd00::a > fd00::b ICMPv6 echo request id 1 seq 2": IP(src="192.0.2.1", dst="192.0.2.2")
    / V6 / ICMPv6EchoRequest(id=1, seq=2),
    "fd00::a > fd00::b IPv4 | 10.0.0.1:1 > 10.0.0.2:2 TCP SYN": V6 / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2),
    "fd00::a > fd00::b IPv6 | [fd01::1]:1 > [fd01::2]:2 UDP": V6 / IPv6(src="fd01::1", dst="fd01::2") / UDP(sport=1, dport=2) / Raw(b"x"),
    "[fd00::a]:50000 > [fd00::b]:8472 VXLAN 1 | [fd01::1]:1 > [fd01::2]:2 TCP SYN": V6 / UDP(sport=50000, dport=8472)
    / VXLAN(vni=1, flags=8) / ETHER / IPv6(src="fd01::1", dst="fd01::2") / TCP(sport=1, dport=2),
}  # fmt: skip
BROKEN = [
    V6 / TCP(sport=1, dport=2, chksum=1),
    V6 / UDP(sport=1, dport=2, chksum=1),
    V6 / ICMPv6EchoRequest(cksum=1),
    V6 / UDP(sport=1, dport=2, chksum=0) / Raw(b"x"),
    BACK / ICMPv6DestUnreach(code=4, cksum=1) / ABOUT,
]
FRAMES = [bytes(ETHER / packet) for packet in (*SUMMARIES.values(), *BROKEN)]

_LAYERS = {
    "Ethernet": "eth", "IPv4": "ip", "IPv6": "ipv6", "IPv6 hop-by-hop": "ipv6.hopopts", "IPv6 destination options": "ipv6.dstopts",
    "IPv6 routing": "ipv6.routing", "IPv6 fragment": "ipv6.fraghdr", "AH": "ah", "TCP": "tcp", "UDP": "udp", "SCTP": "sctp",
    "ICMPv6": "icmpv6", "VXLAN": "vxlan",
}  # fmt: skip
_STATES = {"0": "invalid", "1": "valid", "2": "unknown", "3": "absent", "4": "absent"}  # 4: zero, which UDP over IPv6 may not have
_CHECKSUMS = {"TCP": "tcp.checksum.status", "UDP": "udp.checksum.status", "ICMPv6": "icmpv6.checksum.status"}
_FIELDS = ("frame.protocols", "_ws.col.Info", "icmpv6.type", *_CHECKSUMS.values())
_OPTIONS = ["-d", "udp.port==8472,vxlan", "-o", "ipv6.defragment:FALSE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]

Judged = list[tuple[bytes, dict[str, list[str]]]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, wireshark_tool: Tool) -> Judged:
    """Each frame, and what tshark says of it."""
    path = Path(tmp_path_factory.mktemp("ipv6")) / "x.pcapng"
    with CaptureWriter(path, [Interface("n/eth0")]) as writer:
        for number, frame in enumerate(FRAMES):
            writer.write(0, number, frame, False, number)
    names = list(itertools.chain.from_iterable(("-e", name) for name in _FIELDS))
    theirs = json.loads(wireshark_tool(["tshark", "-n", "-r", path, *_OPTIONS, "-T", "json", *names]))
    return [(frame, record["_source"]["layers"]) for frame, record in zip(FRAMES, theirs, strict=True)]


@pytest.mark.parametrize(("line", "packet"), SUMMARIES.items(), ids=list(SUMMARIES))
def test_summary_in_one_line(line: str, packet: Packet) -> None:
    assert summary(bytes(ETHER / packet)) == line
    if isinstance(packet, IPv6):
        assert summary(bytes(packet), ethertype=0x86DD) == line


def test_layers_are_those_that_tshark_finds(judged: Judged) -> None:
    for frame, fields in judged:
        ours = [_LAYERS[layer.name] for layer in dissect(frame) if layer.name in _LAYERS]
        theirs = [name for name in fields["frame.protocols"][0].split(":") if name in _LAYERS.values()]
        assert ours == theirs, summary(frame)


def test_checksums_are_judged_as_tshark_judges_them(judged: Judged) -> None:
    seen: set[str] = set()
    for frame, fields in judged:
        ours = [item for item in checksums(frame) if "quoted" not in item.label]
        for protocol, field in _CHECKSUMS.items():
            mine = [item.state for item in ours if item.label.split()[-1] == protocol]
            theirs = [_STATES[value] for value in fields.get(field, [])]  # those of quotes, which come last, included
            told = [pair for pair in zip(mine, theirs, strict=False) if "unknown" not in pair]
            assert all(a == b for a, b in told), (summary(frame), protocol, told)
            seen |= {f"{protocol} {state}" for state, _ in told}
    states = {"TCP valid", "TCP invalid", "UDP valid", "UDP invalid", "UDP absent", "ICMPv6 valid", "ICMPv6 invalid"}
    assert seen == states


def test_messages_have_the_names_that_tshark_gives_them(judged: Judged) -> None:
    seen = set()
    for frame, fields in judged:
        icmp = next((layer for layer in dissect(frame) if layer.name == "ICMPv6"), None)
        if icmp is None:
            continue
        number, _, name = icmp.text("type").partition(" ")
        theirs = fields["_ws.col.Info"][0].lower().replace("(ping) ", "").replace("message ", "")
        assert number == fields["icmpv6.type"][0]
        assert theirs.startswith(name.strip("()").replace("neighbour", "neighbor")), summary(frame)
        seen.add(int(number))
    assert seen >= {1, 2, 3, 4, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143}


def test_every_byte_of_a_frame_belongs_to_a_field() -> None:
    for frame in FRAMES:
        shown = {at for layer in dissect(frame) for field in layer.fields for at in range(field.offset, field.offset + field.length)}
        assert shown == set(range(len(frame))), summary(frame)


def test_frames_cut_anywhere_show_what_is_there() -> None:
    for frame in FRAMES:
        for size in range(len(frame)):
            layers = dissect(frame[:size])
            assert all(field.offset + field.length <= size for layer in layers for field in layer.fields)
            assert summary(frame[:size])
            checksums(frame[:size])


# ---- reads without dissection


@pytest.mark.parametrize(
    ("packet", "ports", "fragmented"),
    [
        (V6 / UDP(sport=5, dport=7), (5, 7), False),
        (V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=7), (5, 7), False),
        (V6 / AH(nh=17, payloadlen=4, spi=1, icv=bytes(12)) / UDP(sport=5, dport=7), (5, 7), False),
        (V6 / IPv6ExtHdrFragment(m=1) / UDP(sport=5, dport=7) / Raw(bytes(8)), (5, 7), True),
        (V6 / IPv6ExtHdrFragment() / UDP(sport=5, dport=7), (5, 7), False),
        (V6 / IPv6ExtHdrFragment(offset=9, nh=17) / Raw(bytes(40)), None, True),
    ],
    ids=["plain", "options", "authenticated", "first fragment", "atomic fragment", "later fragment"],
)
def test_a_flow_is_told_behind_extension_headers(packet: Packet, ports: tuple[int, int] | None, fragmented: bool) -> None:
    key = flow_key(bytes(packet))
    assert key is not None
    assert (key.protocol, key.fragmented) == (17, fragmented)
    assert (key.source_port + key.destination_port).hex() == ("" if ports is None else f"{ports[0]:04x}{ports[1]:04x}")


def test_only_a_routing_header_with_segments_left_routes() -> None:
    assert upper_layer(bytes(V6 / IPv6ExtHdrRouting(addresses=["fd00::c"]) / UDP())).routed
    assert not upper_layer(bytes(V6 / IPv6ExtHdrRouting(addresses=["fd00::c"], segleft=0) / UDP())).routed


def test_a_bare_packet_is_told_from_a_frame() -> None:
    for frame in FRAMES:
        assert bare_ip_version(frame) == 0
        assert bare_ip_version(frame[14:]) == frame[14] >> 4


@given(next_header=st.sampled_from([0, 43, 44, 51, 60, 17]), rest=st.binary(max_size=120))
def test_any_chain_of_extension_headers_ends(next_header: int, rest: bytes) -> None:
    packet = bytes((0x60, 0, 0, 0, 0, len(rest), next_header, 64)) + bytes(32) + rest
    upper = upper_layer(packet)
    assert upper.start >= 40
    assert flow_key(packet) is not None
