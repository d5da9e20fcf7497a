"""Captures of a sender whose network card cuts TCP segments: long packets at the sender, segments everywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.capture.open import open_capture
from dataplane.capture.pcapng_write import Record
from dataplane.cli import main as command
from dataplane.report.segmentation import before_segmentation
from explain.mtu_clusters import cluster_text, flannel
from explain.partial_checksum import pseudo_header_sum

RESPONSE = 20_000


def captured(folder: Path, version: int, faults: dict[str, bool]) -> dict[str, list[Ether]]:
    """Outgoing frames of c's eth0 and incoming ones of n1's and a's with TCP data, when c answers a with 20000 bytes."""
    folder.mkdir()
    manifests = folder / "cluster.yaml"
    manifests.write_text(cluster_text(flannel("host-gw", dual=True), dual=True, faults=faults), encoding="utf-8")
    flow = {"from": "pod/default/a", "to": "pod/default/c", "kind": "tcp", "port": 8080, "responseBytes": RESPONSE}
    flow["ipFamily"] = f"IPv{version}"
    documents = [
        {"apiVersion": "dataplane/v1alpha1", "kind": "Scenario", "metadata": {"name": "x"}, "spec": {"cluster": ["cluster.yaml"]}},
        {"apiVersion": "dataplane/v1alpha1", "kind": "Traffic", "metadata": {"name": "x"}, "spec": {"flows": [flow]}},
    ]
    (folder / "scenario.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    assert command.main(["run", str(folder / "scenario.yaml"), "-w", str(folder / "out.pcapng"), "-q"]) == 0
    found: dict[str, list[Ether]] = {"c/eth0": [], "a/eth0": [], "n1/eth0": []}
    for packet in open_capture(folder / "out.pcapng"):
        frame = Ether(packet.data)
        outgoing = packet.interface == "c/eth0"
        if packet.interface in found and packet.outgoing == outgoing and TCP in frame and frame[TCP].sport == 8080:
            found[packet.interface].append(frame)
    return found


def stream(frames: list[Ether]) -> bytes:
    return b"".join(bytes(frame[TCP].payload) for frame in frames)


@pytest.mark.parametrize("version", [4, 6])
def test_the_sender_shows_what_the_wire_has_in_segments(version: int, tmp_path: Path) -> None:
    cut = captured(tmp_path / "plain", version, {})
    uncut = captured(tmp_path / "offload", version, {"capturedBeforeSegmentation": True})
    layer = IP if version == 4 else IPv6
    assert max(len(frame[layer]) for frame in cut["c/eth0"]) <= 1500 < max(len(frame[layer]) for frame in uncut["c/eth0"])
    assert [bytes(frame) for frame in uncut["n1/eth0"]] == [bytes(frame) for frame in cut["n1/eth0"]]
    assert [bytes(frame) for frame in uncut["a/eth0"]] == [bytes(frame) for frame in cut["a/eth0"]]
    assert stream(uncut["c/eth0"]) == stream(cut["c/eth0"]) == stream(uncut["a/eth0"])
    assert len(stream(uncut["c/eth0"])) == RESPONSE


def test_a_long_packet_says_its_whole_length_and_has_an_unfinished_checksum(tmp_path: Path) -> None:
    frames = captured(tmp_path / "offload", 4, {"capturedBeforeSegmentation": True})["c/eth0"]
    long = [frame for frame in frames if len(frame[IP]) > 1500]
    assert long
    for frame in long:
        assert frame[IP].len == len(bytes(frame)) - 14
        assert frame[TCP].chksum == pseudo_header_sum(frame[IP], frame[TCP])
        assert IP(bytes(frame[IP])).chksum == IP(bytes(IP(**{**frame[IP].fields, "chksum": None}) / frame[TCP])).chksum


def test_segments_of_other_connections_instants_and_senders_stay_apart() -> None:
    def record(sequence: int, *, sport: int = 80, time: int = 0, source: str = "10.0.0.1", flags: str = "A", size: int = 100) -> Record:
        tcp = TCP(sport=sport, dport=9, seq=sequence, ack=1, flags=flags) / bytes(size)
        return Record(
            0, time, bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src=source, dst="10.0.0.2") / tcp), True, sequence
        )

    def lengths(*records: Record) -> list[int]:
        return [len(found.data) - 54 for found in before_segmentation(records, {0: {bytes((10, 0, 0, 1))}})]

    assert lengths(record(0), record(100), record(200, size=50)) == [250]
    assert lengths(record(0), record(100, size=50), record(150)) == [150, 100]
    assert lengths(record(0), record(101)) == [100, 100]
    assert lengths(record(0), record(100, sport=81)) == [100, 100]
    assert lengths(record(0), record(100, time=1)) == [100, 100]
    assert lengths(record(0, source="10.0.0.3"), record(100, source="10.0.0.3")) == [100, 100]
    assert lengths(record(0, flags="PA"), record(100)) == [100, 100]
    assert lengths(record(0, flags="S"), record(100)) == [100, 100]
    assert lengths(*(record(number * 1000, size=1000) for number in range(70))) == [65000, 5000]
