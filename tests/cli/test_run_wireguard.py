"""``dataplane run`` on a cluster with Flannel's WireGuard: the capture holds the keys that stock Wireshark needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.recorded import CLUSTER, fields, wrong_frames
from dataplane.cli.main import main

SCENARIO = """
apiVersion: dataplane/v1alpha1
kind: Traffic
metadata: {name: t}
spec:
  flows:
  - {name: across, from: pod/default/shell, to: pod/shop/web-1, kind: ping, count: 3, rate: 10}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """One flow; ``cluster.yaml`` beside it is the sample cluster with another backend."""
    vxlan = "Backend: {Type: vxlan, VNI: 1, Port: 8472}"
    text = Path(CLUSTER).read_text(encoding="utf-8")
    assert vxlan in text
    (tmp_path / "cluster.yaml").write_text(text.replace(vxlan, "Backend: {Type: wireguard}"), encoding="utf-8")
    (tmp_path / "scenario.yaml").write_text(SCENARIO, encoding="utf-8")
    return tmp_path / "scenario.yaml"


def test_pings_between_nodes_show_inside_what_the_underlay_carries(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    assert main(["run", "-f", str(tmp_path / "cluster.yaml"), str(scenario), "-w", str(out)]) == 0
    lines = fields(out, 'wg && frame.interface_name == "node1/eth0"', "wg.type", "ip.src", "icmp.type")
    assert [line[0] for line in lines[:2]] == ["1", "2"]
    inside = [line[1:] for line in lines if line[2]]
    assert inside == [("192.168.0.11,10.244.1.5", "8"), ("192.168.0.12,10.244.2.5", "0")] * 3
    assert wrong_frames(out) == []


def test_a_trace_goes_on_behind_the_handshake(scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "-f", str(tmp_path / "cluster.yaml"), "--from", "pod/default/shell", "--to", "pod/shop/web-1"]) == 0
    text = capsys.readouterr().out
    assert "flannel-wg    encap      flannel-wg, remote 192.168.0.12" in text
    assert "verdict: DELIVERED to pod/shop/web-1" in text
