"""``dataplane mtu`` as its users call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dataplane.cli import main as command
from explain.mtu_clusters import cluster_text, flannel

Mtu = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mtu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Mtu:
    """Exit code, standard output and standard error for the text of a cluster."""

    def run(text: str, *more: str) -> tuple[int, str, str]:
        path = tmp_path / "cluster.yaml"
        path.write_text(text, encoding="utf-8")
        code = command.main(["mtu", "-f", str(path), *more])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_0_where_every_path_carries_what_its_sender_may_send(mtu: Mtu) -> None:
    code, out, _ = mtu(cluster_text(flannel("vxlan")))
    assert code == 0
    assert out.splitlines()[-1] == "every path carries what its sender's MTU allows"
    assert "1500 - 20 IPv4 - 8 UDP - 8 vxlan - 14 Ethernet = 1450" in out


def test_1_and_a_finding_where_one_does_not(mtu: Mtu) -> None:
    code, out, _ = mtu(cluster_text(flannel("vxlan", mtu=1500)), "--from", "pod/a", "--to", "pod/c")
    assert code == 1
    assert out.splitlines()[-1].startswith(
        "finding: pod/default/a to pod/default/c (IPv4): packets of 1451 to 1500 bytes are lost at n1/flannel.1: "
    )


def test_1_where_nothing_arrives_at_all(mtu: Mtu) -> None:
    text = cluster_text(flannel("vxlan"), faults={"unfinishedTunnelChecksums": True})
    code, out, _ = mtu(text, "--from", "pod/a", "--to", "pod/c")
    assert code == 1
    assert "not even a short packet arrives: rules/denied at n2/flannel.1" in out


def test_json_and_yaml_say_the_same_and_hold_each_length_tried(mtu: Mtu) -> None:
    text = cluster_text(flannel("host-gw"), hints={"n2": {"cni0": 1400}}, faults={"tooBigFiltered": True})
    code, out, _ = mtu(text, "--from", "pod/a", "--to", "pod/c", "-o", "json")
    report = json.loads(out)
    assert code == 1
    assert yaml.safe_load(mtu(text, "--from", "pod/a", "--to", "pod/c", "-o", "yaml")[1]) == report
    (path,) = report["paths"]
    assert (path["senderMtu"], path["largest"]) == (1500, 1400)
    trial = next(trial for trial in path["trials"] if trial["size"] == 1401)
    assert trial["seen"]["icmp"] == {"by": "node/n2", "mtu": 1400, "heard": False, "lost": "fault/too_big_filtered at underlay"}
    assert report["errors"] == []


def test_a_service_is_followed_to_a_pod_of_it(mtu: Mtu) -> None:
    code, out, _ = mtu(cluster_text(flannel("vxlan")), "--from", "pod/a", "--to", "service/web")
    assert code == 0
    assert "pod/default/a to service/default/web:80 (pod/default/c)" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--from", "pod/a"), "--from and --to go together"),
        (("--from", "pod/nobody", "--to", "pod/c"), "pod/default/nobody: there is no such pod"),
        (("--from", "pod/a", "--to", "10.1.2.3"), "no pod, node or host of this cluster is there to receive anything"),
    ],
)
def test_wrong_names_are_2_and_one_line(mtu: Mtu, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = mtu(cluster_text(flannel("vxlan")), *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
