"""One cluster, several CNIs: what stays and what is derived anew."""

from __future__ import annotations

from pathlib import Path

from dataplane.k8s.objects import Cni, Manifests
from dataplane.k8s.other_cni import WrittenCluster
from k8s.helpers import NODES, cluster, pod, service

HOST_GW = Cni(config={"Backend": {"Type": "host-gw"}})
BGP = Cni("calico", ip_pools=({"cidr": "10.244.0.0/16", "ipipMode": "Never", "vxlanMode": "Never"},))
IPIP = Cni("calico", ip_pools=({"cidr": "10.244.0.0/16", "ipipMode": "Always", "vxlanMode": "Never"},))
CALICO = "podCIDR: 10.244.0.0/16, cni: {name: calico, ipPools: [{cidr: 10.244.0.0/16}]}"
NODE = """
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.1.10}]}
"""


def written(tmp_path: Path, *documents: str) -> WrittenCluster:
    path = tmp_path / "cluster.yaml"
    path.write_text("\n---\n".join(documents))
    return WrittenCluster.load([str(path)])


def addresses(manifests: Manifests) -> list[str]:
    return [str(address) for each in manifests.pods for address in each.addresses]


def test_derived_addresses_are_those_that_each_cni_hands_out(tmp_path: Path) -> None:
    found = written(tmp_path, NODES, pod("a"), pod("b", "n2"), cluster("podCIDR: 10.244.0.0/16"))
    assert addresses(found.manifests) == ["10.244.0.2", "10.244.1.2"]
    assert addresses(found.under(BGP)) == ["10.244.0.0", "10.244.1.0"]
    assert addresses(found.under(IPIP)) == ["10.244.0.1", "10.244.1.1"]  # the first of a block is the tunnel's
    assert addresses(found.under(HOST_GW)) == ["10.244.0.2", "10.244.1.2"]
    assert addresses(found.manifests) == ["10.244.0.2", "10.244.1.2"]


def test_devices_are_named_as_each_cni_does(tmp_path: Path) -> None:
    found = written(tmp_path, NODES, pod("a"), cluster("podCIDR: 10.244.0.0/16"))
    assert (found.under(HOST_GW).pods[0].host_interface or "").startswith("veth")
    calico = found.under(BGP).pods[0]
    assert (calico.host_interface or "").startswith("cali")
    assert calico.host_mac == "ee:ee:ee:ee:ee:ee"


def test_written_addresses_stay_where_the_cni_could_have_given_them(tmp_path: Path) -> None:
    found = written(tmp_path, NODE, pod("a", status="podIP: 10.244.1.77"), cluster("podCIDR: 10.244.0.0/16"))
    for cni in (HOST_GW, BGP, IPIP):
        assert (addresses(found.under(cni)), found.under(cni).warnings) == (["10.244.1.77"], ())
    (block,) = found.under(IPIP).nodes[0].ipam_blocks
    assert str(block) == "10.244.1.64/26"


def test_a_bridge_gives_addresses_of_its_own_to_pods_of_foreign_blocks_and_slices_follow(tmp_path: Path) -> None:
    outside = pod("a", status="podIP: 10.244.99.5")
    slices = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.99.5], conditions: {ready: true}}]
ports: [{port: 8080, protocol: TCP}]
"""
    found = written(tmp_path, NODE, outside, pod("b", status="podIP: 10.244.1.9"), service("web"), slices, cluster(CALICO))
    assert addresses(found.under(BGP)) == ["10.244.99.5", "10.244.1.9"]
    bridged = found.under(HOST_GW)
    assert addresses(bridged) == ["10.244.1.2", "10.244.1.9"]
    assert [str(each) for end in bridged.endpoint_slices[0].endpoints for each in end.addresses] == ["10.244.1.2"]
    assert bridged.warnings == ("pod/default/a has 10.244.1.2 instead of 10.244.99.5: this CNI hands out other addresses",)


def test_nobody_has_the_bridges_or_the_tunnels_own_address(tmp_path: Path) -> None:
    bridge = pod("a", status="podIP: 10.244.1.1")  # Calico hands it out, under a bridge it is the gateway's
    tunnel = pod("b", status="podIP: 10.244.1.64")  # the first of its block
    found = written(tmp_path, NODE, bridge, cluster(CALICO))
    assert addresses(found.under(HOST_GW)) == ["10.244.1.2"]
    found = written(tmp_path, NODE, tunnel, cluster(CALICO))
    assert addresses(found.under(BGP)) == ["10.244.1.64"]
    assert addresses(found.under(IPIP)) != ["10.244.1.64"]
    assert len(found.under(IPIP).warnings) == 1


def test_cidrs_services_and_the_underlay_are_the_same_in_all(tmp_path: Path) -> None:
    found = written(tmp_path, NODES, pod("a"), service("web"), cluster("cni: {name: flannel}"))
    own = found.manifests
    for cni in (HOST_GW, BGP, IPIP):
        other = found.under(cni)
        assert (other.config.pod_cidrs, other.config.service_cidrs) == (own.config.pod_cidrs, own.config.service_cidrs)
        assert (other.config.underlay, other.config.proxy) == (own.config.underlay, own.config.proxy)
        assert [each.cluster_ips for each in other.services] == [each.cluster_ips for each in own.services]
        assert [node.addresses for node in other.nodes] == [node.addresses for node in own.nodes]
