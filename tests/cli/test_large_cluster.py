"""Clusters too large to be made at once behave like small ones."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dataplane import Cluster, Emulator, InputError, k8s
from dataplane.bench import scale_cluster
from dataplane.cli.main import main
from dataplane.control import build
from dataplane.traffic import packets
from dataplane.traffic.segment import SYN, Segment, build_segment

NODES = 12


@pytest.fixture(params=["flannel", "calico"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "cluster.json"
    with path.open("w") as stream:
        scale_cluster.write_json(scale_cluster.Size(NODES, 4, 8, request.param), stream)
    return path


def traced(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    arguments = ["trace", "-q", "-f", str(path), "--from", "pod/team-00/app-000000", "--to", "service/team-05/svc-00005", "--reply", *more]
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--all",), ("-o", "json")], ids=["one", "all", "json"])
def test_a_trace_is_the_same(
    cluster: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = traced(cluster, capsys, *more)
    monkeypatch.setattr(build, "MADE_AT_ONCE", 0)
    assert traced(cluster, capsys, *more) == whole
    assert "delivered" in whole.lower()


def test_one_cluster_in_all_formats(tmp_path: Path) -> None:
    loaded = []
    for name in ("x.json", "x.yaml"):
        text = io.StringIO()
        (scale_cluster.write_json if name == "x.json" else scale_cluster.write_yaml)(scale_cluster.Size(NODES, 4, 8), text)
        loaded.append(k8s.load_text(text.getvalue(), name))
    one, other = loaded
    assert [pod.key for pod in one.pods] == [pod.key for pod in other.pods] and len(one.pods) == 4 * NODES
    assert [each.addresses for each in one.pods] == [each.addresses for each in other.pods]
    assert [each.endpoints for each in one.endpoint_slices] == [each.endpoints for each in other.endpoint_slices]
    assert [each.ports for each in one.services] == [each.ports for each in other.services]


def test_an_emulator_follows_changes(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MADE_AT_ONCE", 0)
    emulator = Emulator(Cluster.load(cluster))
    pod, service = emulator.topology.endpoint("pod/team-00/app-000000"), emulator.topology.manifests.services[5]
    address = pod.addresses[0].packed
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "guest", "namespace": "team-05", "labels": {}}}
    guest = {**head, "spec": {"nodeName": "node-0003"}, "status": {"podIP": "10.0.3.99"}}
    item = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "metadata": {"name": "svc-00005-slice", "namespace": "team-05", "labels": {"kubernetes.io/service-name": "svc-00005"}},
        "endpoints": [{"addresses": ["10.0.3.99"], "nodeName": "node-0003"}],
    }  # fmt: skip

    def who_gets_it() -> set[str]:
        before = len(emulator.frames)
        for sport in range(2000, 2020):
            syn = build_segment(address, service.cluster_ips[0].packed, Segment(sport, 80, 1, 0, SYN, 64240))
            emulator.send("pod/team-00/app-000000", packets.ip_packet(address, service.cluster_ips[0].packed, packets.PROTO_TCP, syn))
        emulator.run(10_000_000_000)
        tcp = [frame for frame in emulator.frames[before:] if frame.data[23:24] == b"\x06" and frame.interface.endswith("/eth0")]
        return {frame.interface for frame in tcp if frame.direction == "in" and frame.interface.startswith("team-05/")}

    assert len(who_gets_it()) > 1
    emulator.change(put=[guest, item])
    assert who_gets_it() == {"team-05/guest/eth0"}
    emulator.change(delete=[{"kind": "Service", "metadata": {"name": "svc-00005", "namespace": "team-05"}}])
    assert who_gets_it() == set()
    with pytest.raises(InputError, match="there is no such object to delete"):
        emulator.change(delete=[{"kind": "Service", "metadata": {"name": "svc-00005", "namespace": "team-05"}}])
