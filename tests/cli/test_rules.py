"""``dataplane rules``: what iptables-restore takes, with the manifest line behind each rule."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.cli.main import main


@pytest.fixture(params=["cluster-flannel-vxlan.yaml", "cluster-calico-bgp.yaml", "cluster-bgp.yaml"])
def cluster(cases: Path, request: pytest.FixtureRequest) -> str:
    return str(cases / "kernel" / request.param)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A fresh network namespace."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("iptables-restore") is None:
        pytest.skip("iptables-restore is not installed")
    name = f"rules-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def rules_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["rules", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.kernel
@pytest.mark.parametrize("origins", [False, True])
def test_iptables_restore_takes_the_rules_of_a_node(
    capsys: pytest.CaptureFixture[str], cluster: str, namespace: str, origins: bool
) -> None:
    text = rules_of(capsys, "-f", cluster, "--node", "node1", *(["--origins"] if origins else []))
    inside = ["ip", "netns", "exec", namespace]
    subprocess.run([*inside, "iptables-restore"], input=text, text=True, check=True)
    saved = subprocess.run([*inside, "iptables-save"], capture_output=True, text=True, check=True).stdout
    wanted = [line for line in text.splitlines() if line.startswith("-A")]
    assert sorted(line for line in saved.splitlines() if line.startswith("-A")) == sorted(wanted)
    assert any("KUBE-SVC-" in line for line in wanted)


def test_a_rule_stands_below_the_line_of_its_service(capsys: pytest.CaptureFixture[str], cluster: str) -> None:
    lines = rules_of(capsys, "-f", cluster, "--node", "node1", "--origins").splitlines()
    plain = rules_of(capsys, "-f", cluster, "--node", "node1").splitlines()
    (number,) = [n for n, line in enumerate(lines) if line.startswith("-A KUBE-SERVICES") and "default/hair:http cluster IP" in line]
    source = lines[number - 1]
    place, what = source.removeprefix("# ").split(" ", 1)
    file, line = place.rsplit(":", 1)
    assert (file, what) == (cluster, "(Service default/hair)")
    document = Path(cluster).read_text(encoding="utf-8").splitlines()[int(line) - 1 :]
    assert document[:5] == ["apiVersion: v1", "kind: Service", "metadata:", "  name: hair", "  namespace: default"]
    assert [line for line in lines if not line.startswith("#")] == plain


def test_a_pod_on_another_node_makes_no_local_endpoint_there(capsys: pytest.CaptureFixture[str], cluster: str) -> None:
    """externalTrafficPolicy: Local of a service whose one endpoint is on node1: node2 has nothing to lead outside traffic to."""
    refused = "default/etplocal:http has no local endpoints"
    assert refused in rules_of(capsys, "-f", cluster, "--node", "node2")
    assert refused not in rules_of(capsys, "-f", cluster, "--node", "node1")


def test_table(capsys: pytest.CaptureFixture[str], cluster: str) -> None:
    head, *lines = rules_of(capsys, "-f", cluster, "--node", "node2", "--format", "table").splitlines()
    assert head.split() == ["MACHINE", "FAMILY", "TABLE", "CHAIN", "RULE"]
    saved = rules_of(capsys, "-f", cluster, "--node", "node2").splitlines()
    shown = [line.split(None, 4) for line in lines]
    assert [f"-A {chain} {rule}" for _, _, _, chain, rule in shown] == [line for line in saved if line.startswith("-A")]
    assert {(machine, family) for machine, family, *_ in shown} == {("node2", "IPv4")}


def test_a_family_that_the_node_lacks_is_refused(capsys: pytest.CaptureFixture[str], cluster: str) -> None:
    assert main(["rules", "-f", cluster, "--node", "node1", "--family", "6"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dataplane: {cluster}:")
    assert error.endswith("(Node node1): no IPv6 address, so no rules of that family: choose 4\n")


def test_an_unknown_node_lists_the_nodes(capsys: pytest.CaptureFixture[str], cluster: str) -> None:
    assert main(["rules", "-f", cluster, "--node", "node7"]) == 2
    assert capsys.readouterr().err == "dataplane: node/node7: there is no such node: there are node/node1, node/node2\n"
