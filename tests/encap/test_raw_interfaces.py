"""Interfaces whose frames have no Ethernet header: captures, walks and golden captures show IP packets on them."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from cli.recorded import fields, tool, wrong_frames
from dataplane.capture.open import open_capture
from dataplane.cli.main import main
from dataplane.emulator import Cluster, Emulator
from dataplane.testing.golden import golden_differences, golden_frame, read_golden, write_golden
from dataplane.traffic.packets import PROTO_ICMP, PROTO_ICMP6, echo_request, ip_packet

from .small_cluster import small_cluster, traffic

PODS = {4: ("10.244.1.2", "10.244.2.2"), 6: ("fd00:10:244:1::2", "fd00:10:244:2::2")}
TUNNELS = {
    "ipip": ("flannel.ipip", "flannel-v6.ipip"), "gre": ("flannel.gre", "flannel6.gre"), "wireguard": ("flannel-wg", "flannel-wg-v6"),
}  # fmt: skip


def cluster_file(folder: Path, kind: str, families: tuple[int, ...] = (4, 6)) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(small_cluster(f"{{Type: {kind}}}", families), encoding="utf-8")
    return path


def emulated(folder: Path, kind: str, family: int) -> Emulator:
    """A ping from pod1 to pod2, carried to the end."""
    emulator = Emulator(Cluster.load(cluster_file(folder, kind)))
    source, target = (ip_address(pod).packed for pod in PODS[family])
    echo = echo_request(source, target, 1, 1, b"0123456789abcdef")
    emulator.send("pod/default/pod1", ip_packet(source, target, PROTO_ICMP if family == 4 else PROTO_ICMP6, echo))
    emulator.run()
    return emulator


@pytest.mark.parametrize("kind", list(TUNNELS))
def test_one_file_holds_interfaces_of_both_link_types(tmp_path: Path, kind: str) -> None:
    scenario, out = tmp_path / "scenario.yaml", tmp_path / "out.pcapng"
    scenario.write_text(small_cluster(f"{{Type: {kind}}}", (4, 6)) + traffic((4, 6)), encoding="utf-8")
    assert main(["run", str(scenario), "-q", "-w", str(out)]) == 0
    assert wrong_frames(out) == []
    for family, name in zip(("ip", "ipv6"), TUNNELS[kind], strict=True):
        lines = fields(out, f'frame.interface_name == "node1/{name}"', "frame.protocols")
        assert {tuple(line[0].split(":")[:2]) for line in lines} == {("raw", family)}
    lines = fields(out, 'frame.interface_name == "node1/eth0"', "frame.protocols")
    assert {line[0].split(":")[0] for line in lines} == {"eth"}


def test_each_file_of_a_folder_has_the_link_type_of_its_interface(tmp_path: Path) -> None:
    scenario, folder = tmp_path / "scenario.yaml", tmp_path / "frames"
    scenario.write_text(small_cluster("{Type: gre}", (4,)) + traffic((4,)), encoding="utf-8")
    assert main(["run", str(scenario), "-q", "--per-interface", str(folder), "--capture", "node1/*"]) == 0
    kinds = {path.name: tool("capinfos", "-E", "-T", "-r", str(path)).split("\t")[1].strip() for path in sorted(folder.iterdir())}
    assert kinds.pop("node1_flannel.gre.pcapng") == "rawip"
    assert set(kinds.values()) == {"ether"}


def test_what_is_dropped_on_such_an_interface_is_an_ip_packet_there(tmp_path: Path) -> None:
    """No peer of the WireGuard device has this address of the pod network."""
    scenario, out = tmp_path / "scenario.yaml", tmp_path / "out.pcapng"
    flow = "{name: f, from: pod/default/pod1, to: 10.244.9.9, kind: ping, count: 1}"
    document = f"---\napiVersion: dataplane/v1alpha1\nkind: Traffic\nmetadata: {{name: t}}\nspec: {{flows: [{flow}]}}\n"
    scenario.write_text(small_cluster("{Type: wireguard}", (4,)) + document, encoding="utf-8")
    assert main(["run", str(scenario), "-q", "-w", str(out)]) == 0
    (dropped,) = [packet for packet in open_capture(out) if any("wireguard/no_peer" in comment for comment in packet.comments)]
    assert (dropped.interface, dropped.is_l3, IP(dropped.data).dst) == ("node1/flannel-wg", True, "10.244.9.9")
    assert wrong_frames(out) == []


@pytest.mark.parametrize("family", [4, 6])
def test_a_trace_shows_addresses_on_them_and_tells_a_hidden_packets_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: int
) -> None:
    path = cluster_file(tmp_path, "wireguard")
    where = ["--from", "pod/default/pod1", "--to", "pod/default/pod2", "--port", "9000", "--family", str(family)]
    assert main(["trace", "-f", str(path), *where]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    name = TUNNELS["wireguard"][family == 6]
    source, target = PODS[family]
    ends = f"{source}:40000 > {target}:9000" if family == 4 else f"[{source}]:40000 > [{target}]:9000"
    assert f"{name} out {ends} TCP SYN" in lines
    assert f"{name} in {ends} TCP SYN" in lines
    around = lines[next(number for number, line in enumerate(lines) if line.startswith(f"{name} encap")) + 1]
    assert around.startswith(f"+ IPv{family} (source ")
    assert around.endswith(f"+ UDP (destination port {51820 + (family == 6)})")
    assert f"- Ethernet; - IPv{family}; - UDP" in lines


def test_a_trace_into_a_file_brings_the_keys_and_the_handshake_that_decrypt_it(tmp_path: Path) -> None:
    path, out = cluster_file(tmp_path, "wireguard", (4,)), tmp_path / "out.pcapng"
    where = ["--from", "pod/default/pod1", "--to", "pod/default/pod2", "--proto", "icmp", "--reply"]
    assert main(["trace", "-f", str(path), *where, "-w", str(out), "-q"]) == 0
    seen = fields(out, 'frame.interface_name == "node1/eth0" && wg', "wg.type", "ip.src", "icmp.type")
    assert [line[0] for line in seen[:2]] == ["1", "2"]
    assert [line[1:] for line in seen[2:]] == [("192.168.1.2,10.244.1.2", "8"), ("192.168.1.3,10.244.2.2", "0")]
    assert fields(out, "wg.type < 3 && frame.comment contains LOST", "frame.number") == []
    assert wrong_frames(out) == []


@pytest.mark.parametrize(("family", "layer"), [(4, IP), (6, IPv6)])
def test_frames_of_an_emulator_say_what_they_begin_with(tmp_path: Path, family: int, layer: type) -> None:
    frames = [frame for frame in emulated(tmp_path, "gre", family).frames if frame.interface == f"node1/{TUNNELS['gre'][family == 6]}"]
    assert [frame.direction for frame in frames] == ["out", "in"]
    assert [(frame.ethernet, type(frame.scapy)) for frame in frames] == [(False, layer)] * 2
    assert [(frame.scapy.src, frame.scapy.dst) for frame in frames] == [PODS[family], PODS[family][::-1]]


def test_a_golden_capture_keeps_both_link_types(tmp_path: Path) -> None:
    frames = [golden_frame(frame) for frame in emulated(tmp_path, "gre", 4).frames]
    write_golden(tmp_path / "kept.pcapng", frames)
    kept = read_golden(tmp_path / "kept.pcapng")
    assert golden_differences(kept, frames) == []
    assert {frame.interface for frame in kept if frame.ethertype} == {"node1/flannel.gre", "node2/flannel.gre"}
    broken = [frame._replace(data=frame.data[:2] + bytes(2) + frame.data[4:]) if frame.ethertype else frame for frame in frames]
    assert {line.partition(": ")[2].partition(":")[0] for line in golden_differences(kept, broken)} == {"IPv4 total length", "after IPv4"}
