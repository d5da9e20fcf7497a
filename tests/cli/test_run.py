"""``dataplane run``: the sample scenario end to end, and what a user is told about one that cannot be."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from cli.recorded import CLUSTER, SCENARIO, fields, one_line, run_scenario, tool, wrong_frames
from dataplane.capture.open import open_capture
from dataplane.capture.packet import Packet
from dataplane.cli.main import main

PING = """
apiVersion: dataplane/v1alpha1
kind: Traffic
metadata: {name: t}
spec:
  flows:
  - {name: one, from: pod/default/shell, to: pod/shop/web-1, kind: ping}
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture of the sample scenario."""
    out = tmp_path_factory.mktemp("run") / "sample.pcapng"
    run_scenario(out)
    return out


@pytest.fixture(scope="module")
def packets(sample: Path) -> list[Packet]:
    return list(open_capture(sample))


def ways(packets: list[Packet]) -> dict[int, list[Packet]]:
    """Frames by packet id."""
    found = defaultdict(list)
    for packet in packets:
        assert packet.packet_id is not None
        found[packet.packet_id].append(packet)
    return found


def test_the_report_names_every_flow_and_drop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.pcapng"
    assert main(["run", SCENARIO, "-w", str(out)]) == 0
    text = capsys.readouterr().out
    rows = {line[:25].strip(): line for line in text.splitlines()}
    assert re.search(r"web by NodePort +tcp +15 +9 +3 of 3 +0\.\d{3}/0\.\d{3}/0\.\d{3} ms +<none>", text)
    assert "0 of 1" in rows["service without endpoints"]
    assert "ICMP port unreachable (type 3 code 3) from 10.244.1.1" in rows["service without endpoints"]
    assert re.search(r"^1 +rules/rejected +node1/cni0 +\S+cluster.yaml:\d+ \(Service shop/billing\)$", text, re.MULTILINE)
    assert f"tshark -r {out} -d udp.port==8472,vxlan" in text
    assert f"({len(list(open_capture(out)))} frames)" in text


def test_packets_balance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_scenario(tmp_path / "x.pcapng")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Packets: "))
    count = {name: int(number) for name, number in re.findall(r"([a-z ]+) (\d+)", line.removeprefix("Packets:"))}
    count = {name.strip(): number for name, number in count.items()}
    made = sum(count[name] for name in ("in", "generated", "copies", "fragments made"))
    assert made == sum(count[name] for name in ("out", "dropped", "consumed", "fragments merged", "held"))


def test_stock_wireshark_finds_nothing_wrong(sample: Path) -> None:
    assert wrong_frames(sample) == []
    assert "nanoseconds" in tool("capinfos", str(sample))
    assert "Strict time order:   True" in tool("capinfos", str(sample))


def test_one_packet_has_one_id_from_pod_to_pod(sample: Path) -> None:
    (first, *_) = fields(sample, 'icmp.type == 8 && frame.interface_name == "shop/web-1/eth0"', "frame.packet_id")
    hops = fields(sample, f"frame.packet_id == {first[0]}", "frame.interface_name", "frame.packet_flags_direction")
    names = [(re.sub("veth[0-9a-f]+", "veth", name), int(direction, 16) == 2) for name, direction in hops]
    assert names == [
        ("shell/eth0", True), ("node1/veth", False), ("node1/cni0", False), ("node1/flannel.1", True), ("node1/eth0", True),
        ("node2/eth0", False), ("node2/flannel.1", False), ("node2/cni0", True), ("node2/veth", True), ("shop/web-1/eth0", False),
    ]  # fmt: skip


def test_changes_stand_on_the_first_frame_that_shows_them(sample: Path) -> None:
    rows = fields(sample, 'frame.comment contains "dnat: destination is now 10.244"', "frame.comment", "ip.dst", "frame.interface_name")
    assert rows
    for comment, destination, _ in rows:
        said = re.findall(r"destination is now ([0-9.]+)", comment)
        assert destination.split(",")[-1] in said
    first = [(comment, name) for comment, _, name in rows if "cluster.yaml:" in comment]
    assert first, "the first packet of a connection names the rule's line"
    encapsulated = fields(sample, 'frame.comment contains "encap: "', "frame.interface_name", "udp.dstport")
    assert {name for name, _ in encapsulated} == {"node1/eth0", "node2/eth0", "node3/eth0"}
    assert {ports.split(",")[0] for _, ports in encapsulated} == {"8472"}


def test_every_fragment_tells_of_its_encapsulation(sample: Path) -> None:
    """An echo request of 3000 bytes and its answer: two cuts and three outer packets each way."""
    rows = fields(sample, "vxlan && ip.flags.mf == 1 || vxlan && ip.frag_offset > 0", "frame.interface_name", "frame.comment")
    leaving = [(name, comment) for name, comment in rows if comment and name in ("node1/eth0", "node3/eth0")]
    assert sorted(name for name, comment in leaving if comment.startswith("encap: ")) == ["node1/eth0"] * 3 + ["node3/eth0"] * 3


def test_every_translation_of_a_connection_is_told(packets: list[Packet]) -> None:
    """On a NodePort that masquerades, both directions are translated twice."""
    told = [" ".join(comment for packet in way for comment in packet.comments) for way in ways(packets).values()]
    double = [text for text in told if "dnat: " in text and "snat: " in text]
    assert any("destination is now 192.168.0.200" in text and "source is now 192.168.0.11" in text for text in double)


def test_drops_carry_verdict_and_reason_where_they_happened(packets: list[Packet]) -> None:
    (rejected,) = [packet for packet in packets if any("rules/rejected" in comment for comment in packet.comments)]
    assert (rejected.interface, rejected.verdict) == ("node1/cni0", 2)
    assert "cluster.yaml:" in rejected.comments[-1]
    (closed,) = [packet for packet in packets if any("local/udp_no_socket" in comment for comment in packet.comments)]
    assert (closed.interface, closed.outgoing, closed.verdict) == ("shop/db-0/eth0", False, 2)


def test_names_of_pods_and_services_are_in_the_file(sample: Path) -> None:
    output = tool("tshark", "-N", "n", "-r", str(sample), "-Y", 'frame.interface_name == "shell/eth0" && tcp.flags.syn == 1')
    assert "shell.default.pod → web.shop.svc" in output


def test_the_same_seed_gives_the_same_file(sample: Path, tmp_path: Path) -> None:
    run_scenario(tmp_path / "again.pcapng")
    assert (tmp_path / "again.pcapng").read_bytes() == sample.read_bytes()
    run_scenario(tmp_path / "other.pcapng", "--seed", "2")
    assert (tmp_path / "other.pcapng").read_bytes() != sample.read_bytes()


def test_only_chosen_interfaces_are_recorded(tmp_path: Path, packets: list[Packet]) -> None:
    chosen = run_scenario(tmp_path / "x.pcapng", "--capture", "node?/eth0", "--capture", "client/*")
    wanted = [packet for packet in packets if re.fullmatch(r"node./eth0|client/.*", packet.interface)]
    assert [(packet.interface, packet.data) for packet in chosen] == [(packet.interface, packet.data) for packet in wanted]


def test_a_file_for_each_interface(tmp_path: Path, packets: list[Packet], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", SCENARIO, "-q", "--per-interface", str(tmp_path / "all")]) == 0
    assert {path.name for path in (tmp_path / "all").iterdir()} == {f"{packet.interface.replace('/', '_')}.pcapng" for packet in packets}
    alone = [packet.data for packet in open_capture(tmp_path / "all" / "node1_cni0.pcapng")]
    assert alone == [packet.data for packet in packets if packet.interface == "node1/cni0"]


def test_all_comments_tell_every_step_and_none_only_drops(tmp_path: Path, packets: list[Packet]) -> None:
    full = run_scenario(tmp_path / "all.pcapng", "--comments", "all")
    few = run_scenario(tmp_path / "none.pcapng", "--comments", "none")
    assert [packet.data for packet in full] == [packet.data for packet in few] == [packet.data for packet in packets]
    stages = {comment.partition(":")[0] for packet in full for comment in packet.comments}
    assert stages >= {"route", "conntrack", "rules", "bridge", "neighbour", "forward", "dnat", "encap"}
    assert {packet.verdict for packet in few if packet.comments} == {2}


def test_until_stops_the_run(tmp_path: Path) -> None:
    packets = run_scenario(tmp_path / "x.pcapng", "--until", "50")
    assert 0 < packets[-1].time_ns <= 50_000_000


def test_a_scenario_may_hold_its_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "all.yaml"
    scenario.write_text(Path(CLUSTER).read_text() + "---" + PING)
    assert run_scenario(tmp_path / "x.pcapng", scenario=str(scenario))
    assert "1 of 1" in capsys.readouterr().out


def test_manifests_come_from_options_too(tmp_path: Path) -> None:
    scenario = tmp_path / "traffic.yaml"
    scenario.write_text(PING)
    assert run_scenario(tmp_path / "x.pcapng", "-f", CLUSTER, scenario=str(scenario))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("apiVersion: v1\nkind: Node\nmetadata: {name: n}\n", "no kind: Traffic document"),
        (PING, "pod/default/shell: there is no such pod"),
        (
            PING + "---\napiVersion: dataplane/v1alpha1\nkind: Scenario\nspec:\n  cluster: [none.yaml]\n",
            "s.yaml:12: Scenario: spec.cluster[0]",
        ),
    ],
)
def test_a_scenario_that_cannot_be_is_one_line(tmp_path: Path, text: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(text)
    line = one_line(capsys, ["run", str(tmp_path / "s.yaml"), "-w", str(tmp_path / "x.pcapng")])
    assert complaint in line
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--capture", "nod1/*", "-w", "{}/x.pcapng"], "--capture 'nod1/*' matches no interface; there are node1/lo"),
        (["--capture", "node1/*"], "--capture chooses what is written"),
        (["-w", "{}/none/x.pcapng"], "cannot be written: No such file or directory"),
        (["-f", "{}/none.yaml", "-w", "{}/x.pcapng"], "cannot be read: No such file or directory"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = one_line(capsys, ["run", SCENARIO, "-q", *(option.format(tmp_path) for option in options)])
    assert complaint in line
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_of_an_encapsulation_of_ones_own(tmp_path: Path, checkout: Path) -> None:
    """In a process of its own: a kind is registered once for the life of a process."""
    (tmp_path / "scenario.yaml").write_text(PING)
    (tmp_path / "cluster.yaml").write_text(re.sub("Type: vxlan.*", "Type: declared_gre_key, key: 77}", Path(CLUSTER).read_text()))
    out = tmp_path / "out.pcapng"
    plugin = checkout / "docs" / "samples" / "declared_gre.py"
    command = [sys.executable, "-m", "dataplane.cli.main", "run", "scenario.yaml", "-f", "cluster.yaml"]
    done = subprocess.run([*command, "--plugin", str(plugin), "-w", str(out)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ways = fields(out, "gre", "ip.proto", "gre.key", "icmp.type")
    assert set(ways) == {("47,1", "0x0000004d", "8"), ("47,1", "0x0000004d", "0")}
