"""Captures that other projects made, read by us and by tshark: the same packets."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from decimal import Decimal
from pathlib import Path

import pytest

from dataplane.capture.checksums import checksums
from dataplane.capture.dissect import dissect
from dataplane.capture.open import open_capture
from dataplane.capture.packet import LINKTYPE_ETHERNET, Packet
from dataplane.errors import InputError

from .conftest import Tool

_UNREADABLE = "test901.pcapng"  # its second section has a version nobody knows
_FILES = 47
_CHECKSUMS = {
    "IPv4": "ip.checksum.status",
    "UDP": "udp.checksum.status",
    "TCP": "tcp.checksum.status",
    "ICMP": "icmp.checksum.status",
}
_FIELDS = (
    "frame.len",
    "frame.time_epoch",
    "frame.md5_hash",
    "frame.section_number",
    "frame.interface_name",
    "frame.comment",
    "frame.packet_flags_direction",
    "frame.protocols",
    *_CHECKSUMS.values(),
)
_OPTIONS = ["-o", "frame.generate_md5_hash:TRUE", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
_OPTIONS += ["-o", "tcp.check_checksum:TRUE", "-d", "udp.port==8472,vxlan"]

Judged = dict[Path, list[tuple[Packet, dict[str, list[str]]]]]


@pytest.fixture(scope="module")
def judged(captures: Path, wireshark_tool: Tool) -> Judged:
    """Every capture's packets as we read them, each beside the fields tshark gives for it."""
    result: Judged = {}
    fields = list(itertools.chain.from_iterable(("-e", name) for name in _FIELDS))
    for file in sorted(captures.rglob("*.pcap*")):
        if file.name == _UNREADABLE:
            continue
        # records that are no packets (custom blocks) belong to no interface
        only = ["-Y", "frame.interface_id || !frame.cb_pen"]
        theirs = json.loads(wireshark_tool(["tshark", "-n", "-r", file, *only, *_OPTIONS, "-T", "json", *fields]))
        ours = list(open_capture(file))
        assert len(ours) == len(theirs), file
        result[file] = [(packet, record["_source"]["layers"]) for packet, record in zip(ours, theirs, strict=True)]
    return result


def test_every_packet_has_the_bytes_and_the_time_that_tshark_sees(judged: Judged) -> None:
    assert len(judged) == _FILES
    for file, packets in judged.items():
        for position, (packet, fields) in enumerate(packets, 1):
            assert packet.number == position, file
            if "frame.time_epoch" in fields:  # a simple packet block has none
                assert packet.time_ns == int(Decimal(fields["frame.time_epoch"][0]) * 1_000_000_000), (file, position)
            if packet.link_type == LINKTYPE_ETHERNET:
                assert packet.orig_len == int(fields["frame.len"][0]), (file, position)
                assert hashlib.md5(packet.data).hexdigest() == fields["frame.md5_hash"][0], (file, position)


def test_loopback_packets_start_at_their_ip_header(captures: Path) -> None:
    packets = list(open_capture(captures / "zeek" / "redis-pubsub-resp3.pcap"))
    assert len(packets) == 108
    assert all(packet.is_l3 and packet.ethertype == 0x0800 for packet in packets)
    assert all(int.from_bytes(packet.data[2:4], "big") == packet.orig_len for packet in packets)


def test_interfaces_directions_and_comments_are_those_of_the_file(judged: Judged) -> None:
    seen: collections.Counter[str] = collections.Counter()
    for file, packets in judged.items():
        for packet, fields in packets:
            assert list(packet.comments) == fields.get("frame.comment", []), file
            direction = int(fields.get("frame.packet_flags_direction", ["0"])[0], 16) & 3
            assert packet.outgoing == {0: None, 1: False, 2: True}[direction], file
            name = fields.get("frame.interface_name", [""])[0]
            # tshark 4.0 names interfaces of later sections by those of the first
            if packets[-1][1].get("frame.section_number", ["1"]) == ["1"] and not name.startswith("unknown"):
                assert packet.interface == name, file
            seen.update({"comment": len(packet.comments), "name": packet.interface != ""})
    assert seen["comment"]
    assert seen["name"]


def test_each_section_has_its_own_interfaces(captures: Path) -> None:
    names = [packet.interface for packet in open_capture(captures / "pcapng-le" / "test201.pcapng")]
    assert names == ["eth0", "silly ethernet interface 2", "silly ethernet interface 2", "null1"]


def test_a_section_of_an_unknown_version_ends_the_capture_with_a_line(captures: Path) -> None:
    packets: list[Packet] = []
    with pytest.raises(InputError, match=r"test901.pcapng: after packet 1: pcapng version 2.0 is not known") as error:
        packets.extend(open_capture(captures / "pcapng-le" / _UNREADABLE))
    assert len(packets) == 1
    assert "\n" not in str(error.value)


_LAYERS = {
    "Ethernet": "eth",
    "802.1Q": "vlan",
    "ARP": "arp",
    "IPv4": "ip",
    "IPv6": "ipv6",
    "IPv6 hop-by-hop": "ipv6.hopopts",
    "TCP": "tcp",
    "UDP": "udp",
    "ICMP": "icmp",
    "ICMPv6": "icmpv6",
    "VXLAN": "vxlan",
    "Geneve": "geneve",
    "GRE": "gre",
}


def test_layers_are_those_that_tshark_finds(judged: Judged) -> None:
    seen: set[str] = set()
    for file, packets in judged.items():
        for packet, fields in packets:
            ours = [_LAYERS[layer.name] for layer in dissect(packet.data, ethertype=packet.ethertype) if layer.name in _LAYERS]
            theirs = [name for name in fields["frame.protocols"][0].split(":") if name in _LAYERS.values()]
            assert ours == theirs, (file, packet.number)
            seen.update(ours)
    assert seen >= {"eth", "arp", "ip", "ipv6", "ipv6.hopopts", "tcp", "udp", "icmp", "icmpv6", "vxlan", "geneve", "gre"}


_STATES = {"0": "invalid", "1": "valid", "2": "unknown", "3": "absent"}


def test_checksums_are_judged_as_tshark_judges_them(judged: Judged) -> None:
    seen: set[str] = set()
    for file, packets in judged.items():
        for packet, fields in packets:
            if packet.link_type != LINKTYPE_ETHERNET:
                continue
            ours = [item for item in checksums(packet.data) if "quoted" not in item.label]
            for protocol, field in _CHECKSUMS.items():
                mine = [item.state for item in ours if item.label.split()[-1] == protocol]
                theirs = [_STATES[value] for value in fields.get(field, [])]
                # tshark calls unknown what lies in a quote or was cut off, and has its own view of what it cannot tell
                told = [pair for pair in zip(mine, theirs, strict=False) if "unknown" not in pair]
                assert all(a == b for a, b in told), (file, packet.number, protocol, told)
                seen |= {f"{protocol} {state}" for state, _ in told}
    expected = {"IPv4 valid", "IPv4 invalid", "UDP valid", "UDP invalid", "UDP absent", "TCP valid", "TCP invalid", "ICMP valid"}
    assert expected <= seen
