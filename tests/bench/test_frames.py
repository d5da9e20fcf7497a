"""Frames of the benchmark are right to a judge of their own: Scapy computes every checksum again."""

from __future__ import annotations

from array import array

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from dataplane.bench import flows as tcp
from dataplane.bench.checksum import checksum, word_sum
from dataplane.bench.cluster import Shape, client_address, service_address
from dataplane.bench.flows import ETHERNET, Ends, scattered, structured
from dataplane.bench.outer import TUNNELS
from dataplane.bench.service import Service
from dataplane.bench.slots import Frames

COUNT = 300


def rebuilt(packet: Packet) -> bytes:
    """With checksums that Scapy computes."""
    copy = packet.copy()
    for layer in (IP, UDP, TCP):
        number = 1
        while (found := copy.getlayer(layer, number)) is not None:
            del found.chksum
            number += 1
    return bytes(copy)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("data", [0, 10, 65_520])
def test_checksums_stay_right_as_sequence_numbers_advance(family: int, data: int) -> None:
    flows = scattered(COUNT, 200, 7, seed=1)
    frames = Frames(tcp.segment(family, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT), COUNT, 0)
    clients = Ends([client_address(family, number) for number in range(200)], flows.clients, flows.ports)
    services = Ends([service_address(family, number) for number in range(7)], flows.services, array("H", [80]) * COUNT)
    tcp.fill(frames, family, clients, services)
    tcp.advance(frames, ETHERNET, family, data, 0, COUNT)
    for number in range(COUNT):
        packet = Ether(frames[number])
        network = packet[IP if family == 4 else IPv6]
        assert rebuilt(packet) == frames[number]
        assert packet[TCP].seq == tcp.CLIENT_DATA + data
        assert (packet[TCP].sport, packet[TCP].dport) == (flows.ports[number], 80)
        assert network.src == network.__class__(src=network.src).src
    assert len({frames[number] for number in range(COUNT)}) == COUNT


def test_tunnelled_frames_have_the_checksums_of_a_sender() -> None:
    flows = structured(COUNT, 200, 5)
    service = Service(flows, Shape(services=5, backend=TUNNELS["vxlan"].backend), TUNNELS["vxlan"], seed=0)
    servers = array("H", (service.shape.servers(number)[0] for number in flows.services))
    frames = service.from_servers(flows, servers, tcp.ACK, tcp.SERVER_DATA, tcp.CLIENT_DATA, tcp.SEGMENT)
    for number in range(COUNT):
        packet = Ether(frames[number])
        packet[UDP].decode_payload_as(VXLAN)
        assert packet[VXLAN].vni == 1
        assert rebuilt(packet) == frames[number]


@pytest.mark.parametrize("draw", [lambda: structured(5000, 20, 3), lambda: scattered(5000, 20, 3, seed=3)])
def test_no_client_uses_a_port_twice(draw: object) -> None:
    flows = draw()  # type: ignore[operator]
    assert len(set(zip(flows.clients, flows.ports, strict=True))) == 5000
    assert set(flows.services) == {0, 1, 2}


def test_more_connections_than_ports_are_refused() -> None:
    with pytest.raises(ValueError, match="no ports"):
        structured(2 * tcp.PORTS + 1, 2, 1)


def test_a_sum_of_sixteen_bit_words_is_folded_as_rfc_1071_says() -> None:
    words = bytes.fromhex("0001f203f4f5f6f7")  # RFC 1071, 3
    assert word_sum(words) == 0x2DDF0
    assert checksum(word_sum(words)) == 0xFFFF ^ 0xDDF2


def test_frames_are_written_column_by_column() -> None:
    frames = Frames(bytes(70), 3, 5)
    frames.column(1, 2, b"aabbcc")
    frames.constant(69, b"!", 1, 2)
    assert [frames[number][:4] for number in range(3)] == [b"\0aa\0", b"\0bb\0", b"\0cc\0"]
    assert [frames[number][69:] for number in range(3)] == [b"\0", b"!", b"!"]
    some = frames.chosen([2, 0])
    assert [some[number] for number in range(2)] == [frames[2], frames[0]]
    assert list(some.devices) == [5, 5]
