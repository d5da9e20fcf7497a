"""Filters in tcpdump's language, on captures of Ethernet and of raw IP."""

from __future__ import annotations

import sys

import pytest

from dataplane.capture.bpf import packet_filter
from dataplane.capture.packet import LINKTYPE_ETHERNET, LINKTYPE_RAW, Packet
from dataplane.errors import InputError


def _packet(data: bytes, link_type: int) -> Packet:
    return Packet(0, data, link_type, "", 1, len(data))


@pytest.mark.parametrize(
    ("expression", "matches"), [("tcp port 80", True), ("", True), ("udp", False), ("host 10.244.1.5", True), ("ip6", False)]
)
def test_a_filter_means_the_same_on_frames_and_on_packets(syn: bytes, expression: str, matches: bool) -> None:
    pytest.importorskip("pcapy")
    test = packet_filter(expression)
    assert test(_packet(syn, LINKTYPE_ETHERNET)) is matches
    assert test(_packet(syn[14:], LINKTYPE_RAW)) is matches


@pytest.mark.parametrize("expression", ["tcp prot 80", "host", "a\0b", "port 70000"])
def test_a_wrong_filter_is_one_line(expression: str) -> None:
    pytest.importorskip("pcapy")
    with pytest.raises(InputError, match=r"^filter '.*pcap-filter\(7\)$") as error:
        packet_filter(expression)
    assert "\n" not in str(error.value)


def test_without_pcapy_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pcapy", None)
    with pytest.raises(InputError, match="install it with: pip install pcapy-ng"):
        packet_filter("tcp")
