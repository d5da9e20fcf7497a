"""Data paths side by side. Bytes are derived here from the sizes of headers that the RFCs give, not from the code under test."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataplane.errors import InputError
from dataplane.explain.compare import PathReport, Report, Row, Wanted, compare
from dataplane.explain.compare_sizes import parse_rate, parse_sizes
from dataplane.k8s.other_cni import WrittenCluster
from explain.mtu_clusters import calico, cluster_text, flannel

ETHERNET, IPV4, IPV6, UDP, TCP, FCS = 14, 20, 40, 8, 20, 4
GAPS = 20  # preamble and start delimiter 8, interframe gap 12 (IEEE 802.3)
VXLAN = GENEVE = ETHERNET + IPV4 + UDP + 8  # the inner Ethernet header, and RFC 7348 or RFC 8926 before it
IPIP = IPV4  # RFC 2003
GRE = IPV4 + 4  # RFC 2784, no options
FOU = IPV4 + UDP
RATE = 10**10
KIND = "pod to pod, other node"
ADDED = {
    "flannel-vxlan": VXLAN,
    "flannel-host-gw": 0,
    "flannel-ipip": IPIP,
    "flannel-geneve": GENEVE,
    "flannel-gre": GRE,
    "flannel-fou": FOU,
    "calico": 0,
    "calico-ipip": IPIP,
    "calico-ipip-crosssubnet": 0,  # nodes of one subnet
    "calico-vxlan": VXLAN,
    "calico-vxlan-crosssubnet": 0,
}


@pytest.fixture
def compared(tmp_path: Path) -> Any:
    """The report for the text of a cluster."""

    def run(text: str, paths: str, sizes: str = "64", **more: Any) -> Report:
        path = tmp_path / "cluster.yaml"
        path.write_text(text)
        wanted = Wanted(tuple(paths.split(",")), parse_sizes(sizes), RATE, **{"packets": 12, "timed": False, **more})
        return compare(WrittenCluster.load([str(path)]), wanted, lambda line: None)

    return run


def row(path: PathReport, size: str, kind: str = KIND, *, dont_fragment: bool = False) -> Row:
    (found,) = (
        each
        for each in path.rows
        if (each.flow.kind, each.size.label) == (kind, size) and (each.size.is_tcp or each.dont_fragment == dont_fragment)
    )
    return found


def test_each_path_adds_its_headers_and_nothing_else(compared: Any) -> None:
    report = compared(cluster_text(flannel("vxlan")), ",".join(ADDED), "64,512")
    assert [path.name for path in report.paths] == list(ADDED)
    for path in report.paths:
        for size in (64, 512):
            tally = row(path, str(size)).tally
            assert (tally.sent, tally.arrived, tally.forward_frames) == (12, 12, 12)
            assert tally.forward_bytes == 12 * (size + ADDED[path.name]), path.name
            assert tally.wire_bytes == tally.forward_bytes  # nothing came back
            assert tally.added == ADDED[path.name]
            data = size - ETHERNET - FCS - IPV4 - UDP
            assert tally.goodput(RATE) == pytest.approx(RATE * data / (size + ADDED[path.name] + GAPS))


def test_a_64_byte_frame_of_a_10_gbit_link_comes_14880952_times_a_second(compared: Any) -> None:
    (path,) = compared(cluster_text(flannel("host-gw")), "calico").paths
    assert row(path, "64").tally.goodput(RATE) == pytest.approx(14_880_952.38 * 18 * 8)


def test_wireguard_pads_to_16_and_adds_a_header_and_a_tag(compared: Any) -> None:
    pytest.importorskip("cryptography")
    (path,) = compared(cluster_text(flannel("vxlan")), "flannel-wireguard", "64").paths
    inside = 48  # 46 bytes of IP, padded (the WireGuard paper, 5.4.6)
    assert path.pod_mtu == 1420
    assert row(path, "64").tally.forward_bytes == 12 * (ETHERNET + IPV4 + UDP + 16 + inside + 16 + FCS)


def test_ipv6_has_longer_headers_outside_too(compared: Any) -> None:
    paths = compared(cluster_text(flannel("vxlan", dual=True), dual=True), "flannel-vxlan,calico", "64,512,imix", family=6).paths
    assert [row(path, "512").tally.added for path in paths] == [ETHERNET + IPV6 + UDP + 8, 0]
    assert row(paths[1], "64").tally.error == f"frames of IPv6 and UDP have at least {ETHERNET + IPV6 + UDP + FCS} bytes"
    assert row(paths[1], "imix").tally.forward_bytes == 7 * 66 + 4 * 594 + 1518  # the mix is lifted to what headers want
    assert not any(each.dont_fragment for path in paths for each in path.rows)


def test_imix_is_7_to_4_to_1(compared: Any) -> None:
    (path,) = compared(cluster_text(flannel("vxlan")), "calico", "imix").paths
    assert row(path, "imix").tally.forward_bytes == 7 * 64 + 4 * 594 + 1518


def test_what_does_not_fit_is_cut_by_its_sender_or_refused(compared: Any) -> None:
    (path,) = compared(cluster_text(flannel("vxlan")), "flannel-vxlan", "1518").paths
    assert path.pod_mtu == 1450
    cut = row(path, "1518").tally
    first = (1450 - IPV4) // 8 * 8  # RFC 791: fragments begin at multiples of 8
    pieces = (IPV4 + first, IPV4 + 1500 - IPV4 - first)
    assert (cut.arrived, cut.forward_frames) == (12, 24)
    assert cut.forward_bytes == 12 * sum(piece + ETHERNET + FCS + VXLAN for piece in pieces)
    refused = row(path, "1518", dont_fragment=True).tally
    assert (refused.sent, refused.arrived, refused.frames, refused.goodput(RATE)) == (12, 0, 0, None)
    assert refused.drops == {"output/too_big": 12}


def test_an_mtu_that_is_too_high_costs_a_packet_and_an_icmp_message(compared: Any) -> None:
    (path,) = compared(cluster_text(flannel("vxlan")), "flannel-vxlan", "1518,tcp", pod_mtu=1500).paths
    assert path.pod_mtu == 1500
    told = row(path, "1518", dont_fragment=True).tally
    assert (told.arrived, told.too_big, told.told_mtu) == (0, 1, 1450)
    assert told.drops == {"forward/too_big": 1, "output/too_big": 11}  # the sender knows by then
    connection = row(path, "tcp").tally
    assert connection.retransmitted > 0
    assert (connection.payload, connection.error) == (1_000_000, "")


def test_tcp_fills_the_mtu_of_each_path(compared: Any) -> None:
    """Timestamps take 12 bytes of each segment (RFC 7323); handshake, close and the last segment cost less than 0.2 %."""
    text = cluster_text(flannel("vxlan"))
    for path in compared(text, "flannel-vxlan,calico,calico-ipip", "tcp").paths:
        data = path.pod_mtu - IPV4 - TCP - 12
        full = path.pod_mtu + ADDED[path.name] + ETHERNET + FCS + GAPS
        goodput = row(path, "tcp").tally.goodput(RATE)
        assert goodput is not None
        assert 0.998 * data / full < goodput / RATE <= data / full
        assert row(path, "tcp").tally.wire_bytes > row(path, "tcp").tally.forward_bytes  # acknowledgements come back


def test_the_flows_are_chosen_by_the_order_of_the_manifests(compared: Any) -> None:
    report = compared(cluster_text(flannel("vxlan")), "calico,flannel-vxlan")
    assert [(flow.kind, flow.name, flow.protocol) for flow in report.flows] == [
        (KIND, "pod/default/a to pod/default/c", "udp"),
        ("pod to pod, same node", "pod/default/a to pod/default/b", "udp"),
        ("pod to service, other node", "pod/default/a to service/default/web:80 (pod/default/c)", "tcp"),
    ]
    for path in report.paths:
        same = row(path, "64", "pod to pod, same node").tally
        assert (same.arrived, same.frames) == (12, 0)
        service = row(path, "64", "pod to service, other node").tally
        assert (service.arrived, service.forward_bytes) == (12, 12 * (64 + ADDED[path.name]))
        assert service.payload == 12 * (64 - ETHERNET - FCS - IPV4 - TCP)
    assert [flow.kind for flow in report.crossing] == [KIND, "pod to service, other node"]


def test_a_user_names_flows(compared: Any) -> None:
    text = cluster_text(flannel("vxlan"))
    flows = ("pod/c,pod/b", "pod/a,service/web", "node/n1,pod/c", "pod/a,host/out")
    (path,) = (report := compared(text, "flannel-vxlan", flows=flows)).paths
    assert [flow.name for flow in report.flows][:2] == [
        "pod/default/c to pod/default/b",
        "pod/default/a to service/default/web:80 (pod/default/c)",
    ]
    assert [each.tally.arrived for each in path.rows] == [12] * 8
    added = {each.flow.target: each.tally.added for each in path.rows}
    assert (added["pod/default/b"], added["host/out"]) == (VXLAN, 0)  # no tunnel leads out of the cluster


@pytest.mark.parametrize(
    ("flow", "wrong"),
    [
        ("pod/a", "write FROM,TO such as"),
        ("pod/a,pod/a", "name two different pods, nodes or hosts"),
        ("pod/a,pod/nobody", "there is no such pod"),
        ("pod/a,10.9.9.9", "name two different pods, nodes or hosts"),
        ("pod/a,service/web:81", "no ready endpoint with UDP or TCP"),
    ],
)
def test_a_flow_that_cannot_be_is_refused(compared: Any, flow: str, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        compared(cluster_text(flannel("vxlan")), "calico", flows=(flow,))


def test_the_same_seed_gives_the_same_report_and_time_changes_nothing_else(compared: Any) -> None:
    text = cluster_text(calico())
    first, again, timed = (compared(text, "flannel-vxlan,calico", "64,imix,tcp", timed=on) for on in (False, False, True))
    assert first.paths == again.paths
    assert [dataclasses.replace(path, times=()) for path in timed.paths] == list(first.paths)
    for path in timed.paths:
        assert [flow for flow, _ in path.times] == list(timed.flows)
        stages = path.times[0][1].stages
        assert ("tunnel_out" in stages) == (path.name == "flannel-vxlan")
        assert stages["forward"][0] == 2  # on both nodes
        assert all(ns >= 0 for _, ns in stages.values())


def test_traffic_of_the_manifests_is_carried_under_each_path(compared: Any) -> None:
    flows = [{"name": "x", "kind": "udp", "from": "pod/default/a", "to": "pod/default/c", "port": 4000, "count": 5, "responseBytes": 0}]
    document = {"apiVersion": "dataplane/v1alpha1", "kind": "Traffic", "metadata": {"name": "t"}, "spec": {"flows": flows}}
    text = f"{cluster_text(flannel('vxlan'))}\n---\n{yaml.safe_dump(document)}"
    vxlan, plain = compared(text, "flannel-vxlan,flannel-host-gw").paths
    assert vxlan.scenario is not None
    assert plain.scenario is not None
    assert [flow.completed for flow in vxlan.scenario[1]] == [5]
    assert vxlan.scenario[0].wire_bytes - plain.scenario[0].wire_bytes == 5 * VXLAN


def one_node(text: str) -> str:
    documents = [each for each in yaml.safe_load_all(text) if each.get("metadata", {}).get("name") not in ("n2", "c")]
    return yaml.safe_dump_all(documents)


def test_a_cluster_with_pods_on_one_node_is_refused(compared: Any) -> None:
    said = "path calico: there is nothing to compare between nodes: pods with an IPv4 address run on n1 of 1 nodes; two nodes need pods"
    with pytest.raises(InputError, match=f"^{said}$"):
        compared(one_node(cluster_text(flannel("vxlan"))), "calico")


def test_a_path_that_cannot_be_says_which(compared: Any) -> None:
    with pytest.raises(InputError, match=r"^path flannel-srv6: .*cluster\.yaml:\d+ \(Node n1\): srv6 needs IPv6 below"):
        compared(cluster_text(flannel("vxlan")), "flannel-srv6")


def test_a_flow_that_nothing_carries_is_told_and_the_others_go_on(compared: Any) -> None:
    faults = {"unfinishedTunnelChecksums": True}  # the far node calls packets inside of tunnels invalid
    vxlan, plain = compared(cluster_text(flannel("vxlan"), faults=faults), "flannel-vxlan,flannel-host-gw").paths
    assert [(flow.kind, why) for flow, why in vxlan.unreached] == [(KIND, "rules/denied"), ("pod to service, other node", "rules/denied")]
    assert {each.flow.kind for each in vxlan.rows} == {"pod to pod, same node"}
    assert plain.unreached == ()


def test_calico_without_a_default_route_is_warned_of(compared: Any) -> None:
    with_gateway = cluster_text(flannel("vxlan"))
    without = with_gateway.replace("defaultGateways:\n    - 192.168.0.50", "defaultGateways: []")
    assert without != with_gateway
    bridge, routed = compared(without, "flannel-host-gw,calico").paths
    assert (bridge.unreached, bridge.warnings) == ((), ())
    assert len(routed.unreached) == 3
    assert [warning.startswith("nodes have no IPv4 default route") for warning in routed.warnings] == [True]
    assert compared(with_gateway, "calico").paths[0].warnings == ()


@pytest.mark.parametrize(("text", "rate"), [("10Gbit/s", 10**10), ("2.5G", 2_500_000_000), ("100 Mbps", 10**8), ("9600", 9600)])
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "10Q", "0", "-1G", "1e9"])
def test_no_rates(text: str) -> None:
    with pytest.raises(InputError, match="write a number and bit/s"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["", "63", "64,", "65554", "big", "6 4"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="write bytes of an Ethernet frame with FCS"):
        parse_sizes(text)
