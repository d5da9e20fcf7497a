"""WireGuard devices in the core: whole frames on the wire between two machines, and what stock Wireshark makes of a capture."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.contrib.wireguard import Wireguard
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.capture.folder import FolderWriter
from dataplane.capture.pcapng_write import CaptureWriter, Interface
from dataplane.encap.secrets import take_secrets
from dataplane.encap.wireguard.device import WireGuard
from encap.wireguard_nodes import DELAY, Nodes, question
from encap.wireguard_world import DATA, INITIATION, INSIDE, RESPONSE, SECOND

WIREGUARD_SECRETS = 0x57474B4C
WARNING = 0x600000  # PI_WARN of Wireshark's epan/proto.h


def kinds(frames: list[Ether]) -> list[tuple[str, int]]:
    return [(frame[IP].src, frame[Wireguard].message_type) for frame in frames]


def test_a_packet_makes_a_session_and_is_answered_in_it() -> None:
    nodes = Nodes()
    nodes.send(question())
    frames = nodes.engine.frames()
    wire = nodes.on_the_wire(frames)
    assert kinds(wire) == [("192.0.2.1", INITIATION), ("192.0.2.2", RESPONSE), ("192.0.2.1", DATA), ("192.0.2.2", DATA)]
    assert [frame[IP].tos for frame in wire] == [0x88, 0x88, 0, 0]
    (inner,) = nodes.inside(frames, "right")
    assert (inner.src, inner.dst, bytes(inner[UDP].payload)) == (INSIDE["left"], INSIDE["right"], bytes(10))
    (answer,) = nodes.inside(frames, "left")
    assert (answer.src, answer[ICMP].type, answer[ICMP].code) == (INSIDE["right"], 3, 3)
    assert nodes.refused() == []
    assert WireGuard.failure is None


def test_outer_packets_are_whole_udp_over_ipv4() -> None:
    """No DF (sk_buff.ignore_df of socket.c), TTL 64, a checksum that is right."""
    nodes = Nodes()
    nodes.send(question())
    for frame in nodes.on_the_wire(nodes.engine.frames()):
        packet = frame[IP]
        assert (packet.flags, packet.ttl, packet[UDP].sport, packet[UDP].dport) == (0, 64, 51820, 51820)
        again = IP(bytes(packet))
        del again.chksum, again[UDP].chksum
        assert bytes(again) == bytes(packet)


@pytest.mark.parametrize(("size", "outer"), [(1420, 1480), (1409, 1480), (1408, 1468), (28, 92)])
def test_a_packet_of_the_mtu_goes_through_whole(size: int, outer: int) -> None:
    """20 of IP, 8 of UDP, 16 of header, padding to 16 but never beyond the MTU, 16 of tag."""
    nodes = Nodes()
    nodes.send(question())
    nodes.engine.frames()
    nodes.send(question(size - 28))
    frames = nodes.engine.frames()
    assert nodes.on_the_wire(frames)[0][IP].len == outer
    assert nodes.inside(frames, "right")[0].len == size


def test_too_long_for_the_wire_is_cut_outside() -> None:
    """WireGuard never asks for smaller packets on account of the way: it has ignore_df set, and no DF."""
    nodes = Nodes(wire_mtu=1400)
    nodes.send(question())
    nodes.engine.frames()
    nodes.send(question(1392))
    frames = nodes.engine.frames()
    outside = [frame[IP] for frame in nodes.on_the_wire(frames) if frame[IP].src == "192.0.2.1"]
    assert [packet.len for packet in outside] == [1396, 104]
    assert nodes.inside(frames, "right")[0].len == 1420


def test_persistent_keepalives_go_on_by_themselves() -> None:
    nodes = Nodes(more="PersistentKeepalive = 25")
    nodes.send(question())
    nodes.engine.frames()
    nodes.engine.run(100 * SECOND)
    wire = nodes.on_the_wire(nodes.engine.frames())
    from_left = [frame for frame in wire if frame[IP].src == "192.0.2.1" and UDP in frame]
    assert len(from_left) == 4
    assert {frame[UDP].len for frame in from_left} == {8 + 32}


def test_nobodys_address_is_a_counted_drop() -> None:
    nodes = Nodes()
    nodes.send(IP(src=INSIDE["left"], dst="10.9.0.77") / UDP())
    assert nodes.refused() == ["wireguard/no_peer"]


def test_a_forged_datagram_is_a_counted_drop() -> None:
    nodes = Nodes()
    nodes.send(question())
    data = nodes.on_the_wire(nodes.engine.frames())[2]
    assert data[Wireguard].message_type == DATA
    forged = bytes(data[UDP].payload)
    body = forged[:-1] + bytes([forged[-1] ^ 1])
    packet = Ether(src=data.src, dst=data.dst) / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=51820, dport=51820) / body
    nodes.engine.receive(nodes.eth["right"], bytes(packet))
    nodes.engine.run(nodes.engine.now + DELAY)
    assert nodes.refused() == ["wireguard/not_authentic"]


def test_engines_keep_their_secrets_apart_and_hand_them_over_once() -> None:
    one, two = Nodes(), Nodes()
    one.send(question())
    secrets = take_secrets(one.engine)
    assert [kind for kind, _ in secrets] == [WIREGUARD_SECRETS] * 2
    assert take_secrets(one.engine) == []
    two.send(question())
    assert len(take_secrets(two.engine)) == 2


def shown(path: Path, *fields: str) -> list[str]:
    """One line for each packet, as stock tshark shows it."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    options = ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    wanted = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(["tshark", "-r", path, *options, "-T", "fields", *wanted], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def captured(nodes: Nodes, writer: CaptureWriter | FolderWriter) -> None:
    """A question and its answer, written as a run writes them."""
    nodes.send(question())
    for secret in take_secrets(nodes.engine):
        writer.add_secrets(*secret)
    with writer:
        for frame in nodes.engine.frames():
            if frame.device in nodes.eth.values():
                writer.write(list(nodes.eth.values()).index(frame.device), frame.time, frame.data, frame.outgoing, frame.packet)


INTERFACES = [Interface("left/eth0"), Interface("right/eth0")]


def test_wireshark_shows_what_is_inside(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    captured(Nodes(), CaptureWriter(path, INTERFACES))
    lines = shown(path, "wg.type", "frame.protocols", "_ws.expert.severity")
    assert [line.split("\t")[0] for line in lines] == ["1", "1", "2", "2", "4", "4", "4", "4"]
    outside = "eth:ethertype:ip:udp:wg:"
    assert [line.split("\t")[1] for line in lines[4:]] == [f"{outside}ip:udp:data"] * 2 + [f"{outside}ip:icmp:ip:udp:data"] * 2
    assert all(int(severity or 0) < WARNING for line in lines for severity in line.split("\t")[2].split(","))
    assert shown(path, "ip.src")[4] == "192.0.2.1,10.9.0.1"


def test_each_file_of_a_folder_has_the_secrets(tmp_path: Path) -> None:
    captured(Nodes(), FolderWriter(tmp_path, INTERFACES))
    for name in ("left_eth0.pcapng", "right_eth0.pcapng"):
        assert shown(tmp_path / name, "ip.src")[2] == "192.0.2.1,10.9.0.1"


def test_without_secrets_nothing_shows(tmp_path: Path) -> None:
    nodes, path = Nodes(), tmp_path / "blind.pcapng"
    nodes.send(question())
    with CaptureWriter(path, INTERFACES) as writer:
        for frame in nodes.engine.frames():
            if frame.device == nodes.eth["left"]:
                writer.write(0, frame.time, frame.data, frame.outgoing, frame.packet)
    assert shown(path, "ip.src")[2:] == ["192.0.2.1", "192.0.2.2"]


def test_over_ipv6_with_either_version_inside() -> None:
    nodes = Nodes(version=6)
    nodes.send(question())
    nodes.send(IPv6(src="fd00:9::1", dst="fd00:9::2", tc=2) / UDP(sport=1, dport=2) / b"six")
    frames = nodes.engine.frames()
    wire = [frame for frame in nodes.on_the_wire(frames) if Wireguard in frame]
    kinds = [(frame[IPv6].src, frame[Wireguard].message_type, frame[IPv6].tc) for frame in wire]
    assert kinds[:3] == [("2001:db8::1", INITIATION, 0x88), ("2001:db8::2", RESPONSE, 0x88), ("2001:db8::1", DATA, 0)]
    assert ("2001:db8::1", DATA, 2) in kinds
    for frame in wire:
        again = IPv6(bytes(frame[IPv6]))
        del again[UDP].chksum
        assert bytes(again) == bytes(frame[IPv6])
    assert [bytes(packet[UDP].payload) for packet in nodes.inside(frames, "right")] == [bytes(10), b"six"]
    assert nodes.refused() == []


@pytest.mark.parametrize("version", [4, 6])
def test_the_first_word_of_a_silent_machine_has_its_checksum(version: int) -> None:
    """A keepalive at the start: the device does not know its own address yet, the core's route does."""
    nodes = Nodes(version=version, more="PersistentKeepalive = 25")
    nodes.engine.run(SECOND)
    first = nodes.on_the_wire(nodes.engine.frames())[0]
    assert first[Wireguard].message_type == INITIATION
    packet = first[IP if version == 4 else IPv6]
    again = type(packet)(bytes(packet))
    del again[UDP].chksum
    assert bytes(again) == bytes(packet)


def test_a_packet_that_waited_keeps_its_number() -> None:
    nodes = Nodes()
    nodes.send(question())
    frames = nodes.engine.frames()
    (waited,) = (frame.packet for frame in frames if frame.device == nodes.wg["left"] and frame.outgoing)
    devices = [frame.device for frame in frames if frame.packet == waited]
    assert devices == [nodes.wg["left"], nodes.eth["left"], nodes.eth["right"], nodes.wg["right"]]


def test_a_rekey_behind_a_packet_is_carried_with_it() -> None:
    nodes = Nodes()
    nodes.send(question())
    nodes.engine.run(130 * SECOND)
    nodes.engine.frames()
    nodes.engine.send(nodes.ns["left"], bytes(question()))
    nodes.engine.run()
    wire = [frame for frame in nodes.on_the_wire(nodes.engine.frames()) if frame[IP].src == "192.0.2.1" and Wireguard in frame]
    assert [frame[Wireguard].message_type for frame in wire][:2] == [DATA, INITIATION]
