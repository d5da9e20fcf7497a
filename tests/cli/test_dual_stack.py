"""``run`` and ``replay`` on a dual-stack cluster: both families arrive, and stock Wireshark finds nothing wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw
from scapy.utils import PcapWriter

from cli.recorded import DUAL_STACK, fields, run_scenario, tool, wrong_frames
from dataplane.capture.open import open_capture
from dataplane.cli.main import main

CLUSTER, SCENARIO = str(DUAL_STACK / "cluster.yaml"), str(DUAL_STACK / "scenario.yaml")
MAPS = ["--map", "2001:db8::10=pod/default/shell", "--map", "2001:db8::20=pod/default/web-1"]
V6 = IPv6(src="2001:db8::10", dst="2001:db8::20")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "sample6.pcapng"
    run_scenario(out, scenario=SCENARIO)
    return out


@pytest.fixture(scope="module")
def plain_routes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cluster and traffic with Flannel's host-gw."""
    folder = tmp_path_factory.mktemp("routed")
    text = Path(CLUSTER).read_text(encoding="utf-8").replace("{Type: vxlan}", "{Type: host-gw}")
    (folder / "cluster.yaml").write_text(text, encoding="utf-8")
    (folder / "scenario.yaml").write_text(Path(SCENARIO).read_text(encoding="utf-8"), encoding="utf-8")
    run_scenario(folder / "out.pcapng", scenario=str(folder / "scenario.yaml"))
    return folder / "out.pcapng"


def test_flows_of_both_families_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", SCENARIO, "-q", "-w", str(tmp_path / "x.pcapng")]) == 0
    rows = {line[:20].strip(): line for line in capsys.readouterr().out.splitlines()}
    refused = rows.pop("no endpoints")
    assert "0 of 1" in refused
    assert "ICMPv6 port unreachable (type 1 code 4) from fd00:10:244:1::1" in refused
    flows = [
        re.search(r"(\d+) of (\d+) .*<none>$", line) for name, line in rows.items() if re.match(r"(ping|stats|web)[46]|IPv6 first", name)
    ]
    assert len(flows) == 13
    assert all(found is not None and found[1] == found[2] for found in flows)


def test_stock_wireshark_finds_nothing_wrong(sample: Path, plain_routes: Path) -> None:
    assert wrong_frames(sample) == wrong_frames(plain_routes) == []


WAY = [
    ("shell/eth0", True), ("node1/veth", False), ("node1/cni0", False), ("node1/flannel-v6.1", True), ("node1/eth0", True),
    ("node2/eth0", False), ("node2/flannel-v6.1", False), ("node2/cni0", True), ("node2/veth", True), ("web-1/eth0", False),
]  # fmt: skip


def way(capture: Path) -> tuple[str, list[tuple[str, bool]]]:
    """Packet id and hops of the first echo request that reached the pod on the other node; pods' host ends without their hashes."""
    (first, *_) = fields(capture, 'icmpv6.type == 128 && frame.interface_name == "web-1/eth0"', "frame.packet_id")
    hops = fields(capture, f"frame.packet_id == {first[0]}", "frame.interface_name", "frame.packet_flags_direction")
    return first[0], [(re.sub("veth[0-9a-f]+", "veth", name), int(direction, 16) == 2) for name, direction in hops]


def test_one_ipv6_packet_has_one_id_from_pod_to_pod(sample: Path, plain_routes: Path) -> None:
    assert way(sample)[1] == WAY
    assert way(plain_routes)[1] == [hop for hop in WAY if "flannel" not in hop[0]]


def test_flannel_carries_ipv6_in_a_tunnel_over_ipv6(sample: Path) -> None:
    first, _ = way(sample)
    outer = fields(sample, f'frame.packet_id == {first} && frame.interface_name == "node1/eth0"', "ipv6.src", "ipv6.dst", "ipv6.hlim")
    assert outer == [("fd00:192:168::11,fd00:10:244:1::5", "fd00:192:168::12,fd00:10:244:2::5", "64,63")]
    told = fields(sample, 'ipv6 && frame.comment contains "encap: flannel-v6.1"', "frame.interface_name", "udp.dstport")
    assert {name for name, _ in told} == {"node1/eth0", "node2/eth0"}
    assert {ports.split(",")[0] for _, ports in told} == {"8472"}


def test_pods_are_told_what_the_tunnel_over_ipv6_takes(sample: Path) -> None:
    """Flannel gives pods what VXLAN over IPv4 leaves of 1500 bytes, 1450; VXLAN over IPv6 leaves 1430 (RFC 8200 5, RFC 4443 3.2)."""
    told = fields(sample, 'icmpv6.type == 2 && frame.interface_name == "web-1/eth0"', "ipv6.src", "icmpv6.mtu", "frame.len")
    assert set(told) == {("fd00:10:244:2::1,fd00:10:244:2::5", "1430", str(14 + 1280))}
    (last_told,) = fields(sample, 'icmpv6.type == 2 && frame.interface_name == "web-1/eth0"', "frame.number")[-1]
    sent = fields(sample, 'tcp.len > 0 && ipv6 && frame.interface_name == "web-1/eth0"', "frame.number", "ipv6.dst", "frame.len")
    to_shell = [(int(number) > int(last_told), int(length)) for number, to, length in sent if to == "fd00:10:244:1::5"]
    assert max(length for late, length in to_shell if not late) == 14 + 1450
    assert max(length for late, length in to_shell if late) == 14 + 1430


def test_fragments_arrive_as_the_sender_cut_them(plain_routes: Path) -> None:
    """RFC 8200 5: routers cut nothing; a node that put the packet together for conntrack cuts it where it was cut."""
    requests = {
        place: fields(plain_routes, f'ipv6.fraghdr && ipv6.src == fd00:10:244:1::5 && frame.interface_name == "{place}"', "ipv6.plen")
        for place in ("shell/eth0", "node1/eth0", "web-1/eth0")
    }
    # 3008 bytes of ICMPv6 for an MTU of 1500: 1448 and 8 of the fragment header, twice, and the rest.
    assert list(requests.values()) == [[("1456",), ("1456",), ("120",)]] * 3


def test_neighbours_are_discovered(sample: Path) -> None:
    asked = fields(sample, "icmpv6.type == 135", "icmpv6.nd.ns.target_address", "ipv6.hlim")
    assert "fd00:192:168::12" in {target for target, _ in asked}
    assert {limit.rpartition(",")[2] for _, limit in asked} == {"255"}


def test_names_of_pods_and_services_stand_for_ipv6_addresses(sample: Path) -> None:
    output = tool("tshark", "-N", "n", "-r", str(sample), "-Y", 'ipv6 && frame.interface_name == "shell/eth0" && tcp.flags.syn == 1')
    assert "shell.default.pod → web.default.svc" in output


def test_changes_stand_on_the_frames_that_show_them(sample: Path) -> None:
    rows = fields(sample, 'ipv6 && frame.comment contains "dnat: destination is now fd00"', "frame.comment", "ipv6.dst")
    assert rows
    for comment, destination in rows:
        assert destination.split(",")[-1] in re.findall(r"destination is now ([0-9a-f:]+)", comment)


def test_drops_carry_verdict_and_reason(sample: Path) -> None:
    rejected = [packet for packet in open_capture(sample) if any("rules/rejected" in comment for comment in packet.comments)]
    assert [(packet.interface, packet.verdict, packet.data[12:14].hex()) for packet in rejected] == [("node1/cni0", 2, "86dd")]
    assert "(Service default/billing)" in rejected[0].comments[-1]


def only_ipv6(value: Any) -> Any:
    """A document without its IPv4 addresses, prefixes and flows."""
    ipv4, ipv6 = re.compile(r"\d+(\.\d+){3}|IPv4"), re.compile("fd00:")
    if isinstance(value, dict):
        return {key: only_ipv6(each) for key, each in value.items() if not (isinstance(each, str) and ipv4.match(each))}
    if isinstance(value, list):
        return [only_ipv6(each) for each in value if not ipv4.search(str(each)) or ipv6.search(str(each))]
    return value


def test_a_cluster_may_have_ipv6_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (CLUSTER, SCENARIO):
        text = re.sub("RequireDualStack|PreferDualStack", "SingleStack", Path(path).read_text(encoding="utf-8"))
        text = text.replace("EnableIPv6: true", "EnableIPv6: true\n      EnableIPv4: false")
        documents = [only_ipv6(document) for document in yaml.safe_load_all(text)]
        (tmp_path / Path(path).name).write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    run_scenario(tmp_path / "out.pcapng", scenario=str(tmp_path / "scenario.yaml"))
    rows = [line for line in capsys.readouterr().out.splitlines() if re.search(r" \d+ of \d+ ", line)]
    assert len(rows) == 9
    assert [row[:12] for row in rows if not re.search(r"(\d+) of \1 .* <none>$", row)] == ["no endpoints"]
    assert fields(tmp_path / "out.pcapng", "ip || arp", "frame.number") == []
    assert wrong_frames(tmp_path / "out.pcapng") == []


# ---- replay


def captured(path: Path, *packets: ScapyPacket) -> Path:
    writer = PcapWriter(str(path), linktype=1, sync=True)
    for packet in packets:
        writer.write(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
    writer.close()
    return path


def replayed(capture: Path, out: Path, *more: str) -> Path:
    assert main(["replay", "-q", "-f", CLUSTER, "-r", str(capture), "--at", "pod/default/shell", "-w", str(out), *more]) == 0
    return out


def test_ipv6_of_a_capture_is_carried_to_the_pod_it_was_mapped_to(tmp_path: Path) -> None:
    capture = captured(
        tmp_path / "in.pcap",
        V6 / ICMPv6EchoRequest(id=77, seq=1, data=b"hello"),
        V6 / IPv6ExtHdrHopByHop() / UDP(sport=4000, dport=9) / Raw(b"hello"),
        IP(src="192.0.2.10", dst="10.244.2.5") / UDP(sport=4001, dport=9) / Raw(b"hello"),
    )
    out = replayed(capture, tmp_path / "out.pcapng", *MAPS, "--map", "192.0.2.10=pod/default/shell")
    assert wrong_frames(out) == []
    at_pod = 'frame.interface_name == "web-1/eth0" && '
    assert fields(out, at_pod + "icmpv6.type == 128", "ipv6.src", "ipv6.dst", "ipv6.hlim", "icmpv6.echo.identifier") == [
        ("fd00:10:244:1::5", "fd00:10:244:2::5", "62", "0x004d")
    ]
    assert fields(out, 'frame.interface_name == "shell/eth0" && icmpv6.type == 129', "icmpv6.echo.identifier") == [("0x004d",)]
    ports = {row[0] for row in fields(out, at_pod + "udp && !icmp && !icmpv6", "udp.srcport")}
    assert ports == {"4000", "4001"}


def test_what_ipv6_multicast_and_errors_become(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups have MAC addresses of their own (RFC 2464 7), and the quote of an error is mapped with it."""
    quoted = IPv6(src="2001:db8::20", dst="2001:db8::10") / UDP(sport=9, dport=4000) / Raw(bytes(8))
    capture = captured(
        tmp_path / "in.pcap",
        IPv6(src="2001:db8::10", dst="ff02::1:ff00:20", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::20"),
        V6 / ICMPv6PacketTooBig(mtu=1400) / quoted,
        IPv6(src="2001:db8::10", dst="2001:db8:9::9") / UDP(sport=1, dport=2),
    )
    out = replayed(capture, tmp_path / "out.pcapng", *MAPS, "--map", "2001:db8:9::9=pod/default/shell")
    assert "goes to fd00:10:244:1::5, an address of pod/default/shell itself" in capsys.readouterr().out
    sent = [packet.data for packet in open_capture(out) if packet.interface == "shell/eth0" and packet.outgoing]
    solicitation, error = (Ether(data) for data in sent if data[54] in (135, 2) and b"\x20\x01\x0d\xb8" not in data)
    assert (solicitation.dst, solicitation[ICMPv6ND_NS].tgt) == ("33:33:ff:00:00:20", "fd00:10:244:2::5")
    assert (error[IPv6].dst, error[ICMPv6PacketTooBig].mtu) == ("fd00:10:244:2::5", 1400)
    assert wrong_frames(out) == []


def test_a_place_without_ipv6_carries_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = captured(tmp_path / "in.pcap", V6 / UDP(sport=1, dport=2))
    cluster = str(DUAL_STACK.parent / "sample" / "cluster.yaml")
    assert main(["replay", "-q", "-f", cluster, "-r", str(capture), "--at", "pod/default/shell", "-w", str(tmp_path / "x.pcapng")]) == 0
    assert "pod/default/shell has no route to 2001:db8::20, or nobody answers for its next hop" in capsys.readouterr().out
