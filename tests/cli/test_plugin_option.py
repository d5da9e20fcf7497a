"""``--plugin FILE``: an encapsulation of the user's own carries a cluster's packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dataplane.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

MARK = "c0ffee"
PLUGIN = f"""
from dataplane.encap import python_plugin

class Marked(python_plugin.Encapsulation):
    name = "marked"
    sentence = "IP packets behind a mark of three bytes and one that tells the family"
    ip_protocols = (253,)

    def __init__(self, options, host):
        pass

    def overhead(self, family):
        return (20 if family == 4 else 40) + 4

    def push(self, outer, packet):
        outer.ip_protocol = 253
        return bytes.fromhex("{MARK}") + bytes([packet[0] >> 4]) + packet

    def pop(self, incoming, payload):
        incoming.inner_protocol = 0x0800 if payload[3] == 4 else 0x86dd
        return payload[4:]

capsule = python_plugin.capsule(Marked)
"""
CLUSTER = """
apiVersion: dataplane/v1alpha1
kind: Cluster
metadata: {name: marked}
spec:
  podCIDRs: [10.244.0.0/16]
  cni: {name: flannel, config: {Network: 10.244.0.0/16, Backend: {Type: marked}}}
  underlay: {kind: flat, cidrs: [192.168.1.0/24]}
---
apiVersion: v1
kind: Node
metadata: {name: a}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.1.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: b}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.1.2}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: left}, spec: {nodeName: a, containers: [{name: c, image: none}]}, status: {podIP: 10.244.1.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: right}, spec: {nodeName: b, containers: [{name: c, image: none}]}, status: {podIP: 10.244.2.5}}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A cluster whose overlay is the plug-in's, and the plug-in."""
    (tmp_path / "marked.py").write_text(PLUGIN)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return str(tmp_path / "cluster.yaml"), str(tmp_path / "marked.py")


def test_a_traced_packet_crosses_the_underlay_in_it(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    cluster, plugin = files
    question = ["--from", "pod/default/left", "--to", "pod/default/right", "--proto", "icmp"]
    assert main(["trace", "-f", cluster, "--plugin", plugin, "-q", *question]) == 0
    words = capsys.readouterr().out
    assert "DELIVERED" in words
    assert "marked" in words


def test_without_the_plug_in_the_cluster_names_what_it_lacks(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    cluster = files[0].replace("cluster.yaml", "other.yaml")
    text = CLUSTER.replace("Type: marked", "Type: unmarked")
    with open(cluster, "w") as file:
        file.write(text)
    assert main(["get", "-f", cluster, "routes"]) == 2
    assert "unmarked" in capsys.readouterr().err


def test_a_plug_in_that_cannot_be_run_is_one_line(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    cluster, plugin = files
    with open(plugin, "w") as file:
        file.write("capsule = 1 / 0\n")
    assert main(["get", "-f", cluster, "--plugin", plugin, "routes"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert plugin in message
