"""MTU budgets of clusters that are right and that are wrong, each proven by frames.

The lengths expected here are sums of header lengths as the standards give them: IPv4 20, IPv6 40, UDP 8, VXLAN 8 (RFC 7348),
Ethernet 14, IPv6's least MTU 1280.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dataplane.emulator import Cluster, Emulator
from dataplane.explain.mtu import examine
from dataplane.explain.mtu_budget import Beyond, Budget, Limit, Result
from dataplane.explain.mtu_proof import Proof
from dataplane.explain.probe import Shape, build_probe
from dataplane.k8s.objects import Manifests

from .mtu_clusters import between, calico, cluster, flannel

VXLAN_OVER_IPV4, VXLAN_OVER_IPV6 = 20 + 8 + 8 + 14, 40 + 8 + 8 + 14


GOOD = {
    "flannel vxlan": (cluster(flannel("vxlan")), 1500 - VXLAN_OVER_IPV4),
    "flannel host-gw": (cluster(flannel("host-gw")), 1500),
    "flannel ipip": (cluster(flannel("ipip")), 1500 - 20),
    "calico": (cluster(calico()), 1500),
    "calico ipip": (cluster(calico(ipipMode="Always")), 1500 - 20),
    "calico vxlan": (cluster(calico(vxlanMode="Always")), 1500 - VXLAN_OVER_IPV4),
    "jumbo": (cluster(flannel("vxlan"), mtu=9000), 9000 - VXLAN_OVER_IPV4),
}


@pytest.mark.parametrize("name", GOOD)
def test_default_mtus_carry_what_the_pods_may_send(name: str) -> None:
    manifests, largest = GOOD[name]
    report = examine(manifests)
    kinds = {path.case.kind: path for path in report.paths}
    across = kinds["pod to pod, other node"]
    assert across.budget and across.budget.largest == across.budget.sender_mtu == largest
    assert {trial.size: trial.seen.result for trial in across.trials} == {
        largest - 1: Result.DELIVERED,
        largest: Result.DELIVERED,
        largest + 1: Result.REFUSED,
    }
    assert len(kinds) == 6
    assert report.good
    assert not report.warnings
    assert all(advice.now == advice.wanted for advice in report.advice)


@pytest.mark.parametrize(("backend", "headers"), [("vxlan", VXLAN_OVER_IPV4), ("ipip", 20), ("host-gw", 0)])
def test_the_largest_packet_fills_the_underlays_frame_to_the_last_byte(backend: str, headers: int) -> None:
    manifests = cluster(flannel(backend))
    _, path = between(manifests, "pod/a", "pod/c")
    assert path.budget is not None
    emulator = Emulator(Cluster(manifests))
    source, target = (emulator.topology.endpoint(f"pod/default/{name}").addresses[0].packed for name in ("a", "c"))

    packet = build_probe(source, target, Shape("udp", 1000, 9, size=path.budget.largest))
    emulator.send("pod/default/a", packet)
    emulator.run()
    wire = [frame.data for frame in emulator.frames if frame.interface == "n2/eth0" and frame.direction == "in" and len(frame.data) > 600]
    assert [len(frame) for frame in wire] == [14 + 1500]
    arrived = [frame.data for frame in emulator.frames if frame.interface == "c/eth0" and len(frame.data) > 600]
    assert [frame[14 + 20 :] for frame in arrived] == [packet[20:]]
    assert path.budget.largest == 1500 - headers


def test_pods_with_more_than_the_tunnel_has_lose_packets_and_are_told() -> None:
    report, path = between(cluster(flannel("vxlan", mtu=1500)), "pod/a", "pod/c")
    fates = {trial.size: trial.seen for trial in path.trials}
    assert fates[1450].result is Result.DELIVERED
    assert (fates[1451].result, fates[1451].told_by, fates[1451].told_mtu, fates[1451].heard) == (Result.TOLD, "node/n1", 1450, True)
    assert fates[1501].result is Result.REFUSED
    assert [finding.split(": ")[1] for finding in report.findings] == ["packets of 1451 to 1500 bytes are lost at n1/flannel.1"]
    assert not report.errors
    assert {advice.role: (advice.now, advice.wanted) for advice in report.advice if advice.now != advice.wanted} == {
        "pods' eth0": (1500, 1450),
        "nodes' ends of pods' links": (1500, 1450),
        "bridges": (1500, 1450),
    }


def test_a_tunnel_device_with_more_than_its_link_has_fragments_outside() -> None:
    hints = {name: {"flannel.1": 1500} for name in ("n1", "n2")}
    report, path = between(cluster(flannel("vxlan", mtu=1500), hints=hints), "pod/a", "pod/c")
    fates = {trial.size: trial.seen for trial in path.trials}
    assert (fates[1450].result, fates[1450].fragmented) == (Result.DELIVERED, "")
    assert (fates[1451].result, fates[1451].fragmented) == (Result.DELIVERED, "n1/eth0")
    assert report.good
    assert [warning.split(": ")[1] for warning in report.warnings] == ["packets of 1500 bytes arrive, but in fragments from n1/eth0 on"]


def test_nodes_with_jumbo_frames_on_a_switch_without_lose_them_silently() -> None:
    jumbo = {name: {"eth0": 9000} for name in ("n1", "n2")}
    report, path = between(cluster(flannel("host-gw"), hints=jumbo), "pod/a", "pod/c")
    fates = {trial.size: trial.seen for trial in path.trials}
    assert fates[1504].result is Result.DELIVERED  # a port has room for a VLAN tag, used or not
    assert (fates[1505].result, fates[1505].reason) == (Result.SILENT, "transmit/over_mtu")
    assert "connections hang" in report.findings[0]
    assert not report.errors
    uplinks = next(advice for advice in report.advice if advice.role == "nodes' eth0")
    assert (uplinks.now, uplinks.wanted, uplinks.places) == (9000, 1500, ("n1/eth0", "n2/eth0"))


@pytest.fixture(params=[4, 6])
def narrow_bridge(request: pytest.FixtureRequest) -> tuple[int, Manifests]:
    """The far node's bridge takes less than the pods send."""
    return request.param, cluster(flannel("host-gw", dual=True), dual=True, hints={"n2": {"cni0": 1400}})


def test_the_far_node_tells_the_sender(narrow_bridge: tuple[int, Manifests]) -> None:
    family, manifests = narrow_bridge
    report, path = between(manifests, "pod/a", "pod/c", family)
    fate = next(trial.seen for trial in path.trials if trial.size == 1401)
    assert (fate.result, fate.told_by, fate.told_mtu, fate.heard) == (Result.TOLD, "node/n2", 1400, True)
    assert not report.errors


def test_an_underlay_that_filters_too_big_makes_a_black_hole(narrow_bridge: tuple[int, Manifests]) -> None:
    family, manifests = narrow_bridge
    config = manifests.config
    filtered = replace(manifests, config=replace(config, faults=replace(config.faults, too_big_filtered=True)))
    report, path = between(filtered, "pod/a", "pod/c", family)
    fate = next(trial.seen for trial in path.trials if trial.size == 1401)
    assert (fate.result, fate.heard, fate.message_lost) == (Result.TOLD, False, "fault/too_big_filtered at underlay")
    assert not report.errors
    assert all("never reaches the sender (fault/too_big_filtered at underlay)" in finding for finding in report.findings)


def test_inside_of_a_tunnel_the_filter_sees_nothing() -> None:
    how = {"hints": {"n2": {"cni0": 1400}}, "faults": {"tooBigFiltered": True}}
    report, path = between(cluster(flannel("vxlan"), **how), "pod/a", "pod/c")
    fate = next(trial.seen for trial in path.trials if trial.size == 1401)
    assert (fate.told_by, fate.heard) == ("node/n2", True)
    assert not report.errors


def test_ipv6_through_vxlan_has_twenty_bytes_less() -> None:
    report = examine(cluster(flannel("vxlan", dual=True), dual=True))
    across = {path.family: path for path in report.paths if path.case.kind == "pod to pod, other node"}
    assert [(family, path.budget and path.budget.largest) for family, path in across.items()] == [
        (4, 1500 - VXLAN_OVER_IPV4),
        (6, 1500 - VXLAN_OVER_IPV6),
    ]
    # Flannel gives pods what IPv4's tunnel leaves, so IPv6 has to be told
    assert {finding.split(": ")[1] for finding in report.findings} == {"packets of 1431 to 1450 bytes are lost at n1/flannel-v6.1"}
    assert not report.errors
    assert {advice.wanted for advice in report.advice if advice.role == "pods' eth0"} == {1500 - VXLAN_OVER_IPV6}


def test_less_than_1280_bytes_are_too_few_for_ipv6() -> None:
    hints = {name: {"flannel-v6.1": 1300} for name in ("n1", "n2")}
    report, path = between(cluster(flannel("vxlan", dual=True, mtu=1300), dual=True, mtu=1300, hints=hints), "pod/a", "pod/c", 6)
    assert path.budget is not None
    assert path.budget.largest == 1300 - VXLAN_OVER_IPV6
    assert f"{path.name} (IPv6): the path carries 1230 bytes, and IPv6 requires 1280 (RFC 8200 5)" in report.findings
    assert not report.errors


def test_wireguard_pads_to_sixteen_bytes() -> None:
    pytest.importorskip("cryptography")
    hints = {name: {"flannel-wg": 1500} for name in ("n1", "n2")}
    _, path = between(cluster(flannel("wireguard", mtu=1500), hints=hints), "pod/a", "pod/c")
    assert path.budget is not None
    assert path.budget.largest == 1440  # 20 + 8 + 32 leave 1440, which is a multiple of 16
    assert next(trial.seen.fragmented for trial in path.trials if trial.size == 1441) == "n1/eth0"


def test_frames_that_contradict_the_computation_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Proof.budget

    def too_generous(proof: Proof, path: object) -> object:
        budget = measured(proof, path)  # type: ignore[arg-type]
        assert isinstance(budget, Budget)
        wider = [replace(limit, mtu=limit.mtu + 50, link=limit.link + 50) if limit.tunnels else limit for limit in budget.limits]
        return replace(budget, limits=tuple(wider))

    monkeypatch.setattr(Proof, "budget", too_generous)
    hints = {name: {"flannel.1": 1500} for name in ("n1", "n2")}
    report, _ = between(cluster(flannel("vxlan", mtu=1500), hints=hints), "pod/a", "pod/c")
    assert report.errors
    assert "computed: delivered; seen: delivered, fragmented at n1/eth0" in report.errors[0]
    assert not report.good


def test_alike_nodes_are_tried_once() -> None:
    report = examine(cluster(flannel("vxlan")))
    assert [(path.case.kind, path.case.alike) for path in report.paths] == [
        ("pod to pod, same node", 1),
        ("pod to its own node", 2),
        ("pod to pod, other node", 2),
        ("pod to other node", 2),
        ("pod to outside", 2),
        ("pod to service", 2),
    ]
    different = examine(cluster(flannel("vxlan"), hints={"n2": {"cni0": 1400}}))
    across = [path for path in different.paths if path.case.kind == "pod to pod, other node"]
    assert [(path.case.path.source.name, path.case.path.receiver.name) for path in across] == [("a", "c"), ("c", "a")]


def test_the_first_place_that_is_too_narrow_decides() -> None:
    def limit(place: str, mtu: int, beyond: Beyond) -> Limit:
        return Limit(place, place, f"node/{place}", mtu, mtu, (), beyond)

    budget = Budget(4, 1500, (limit("one", 1400, Beyond.SILENT), limit("two", 1300, Beyond.TOLD)))
    assert [budget.fate(size).place for size in (1300, 1301, 1400, 1401)] == ["", "two", "two", "one"]
    assert budget.largest == 1300
