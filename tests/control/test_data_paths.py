"""Names of data paths, and the CNI that each of them makes of a cluster's own."""

from __future__ import annotations

import pytest

from dataplane.control.cni.data_paths import cni_of, known_paths
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig
from k8s.helpers import NODES, cluster, load

FLANNEL = "podCIDR: 10.244.0.0/16, cni: {name: flannel, mtu: 1400, config: {Network: 10.244.0.0/16, Backend: {Type: vxlan, VNI: 7}}}"
CALICO = "cni: {name: calico, ipPools: [{cidr: 10.244.0.0/16, blockSize: 27, ipipMode: Always, natOutgoing: true}]}"


def config(spec: str) -> ClusterConfig:
    return load(NODES, cluster(spec)).config


def test_the_ones_that_cnis_have_come_first_and_every_encapsulation_is_there() -> None:
    names = known_paths()
    assert names[:4] == ["flannel-vxlan", "flannel-host-gw", "flannel-ipip", "flannel-wireguard"]
    assert {"calico", "calico-ipip", "calico-ipip-crosssubnet", "calico-vxlan", "calico-vxlan-crosssubnet"} <= set(names)
    assert {"flannel-geneve", "flannel-gre", "flannel-fou", "flannel-srv6", "flannel-sleeve"} <= set(names)
    assert len(names) == len(set(names))


def test_an_unknown_name_is_answered_with_all_of_them() -> None:
    with pytest.raises(InputError, match=r"^'weave' is no data path: choose from flannel-vxlan, flannel-host-gw, .*calico-vxlan"):
        cni_of("weave", config(FLANNEL))


def test_options_of_the_same_backend_stay_and_the_mtu_is_derived_anew() -> None:
    assert cni_of("flannel-vxlan", config(FLANNEL)).config["Backend"] == {"Type": "vxlan", "VNI": 7}
    other = cni_of("flannel-geneve", config(FLANNEL))
    assert other.config == {"Network": "10.244.0.0/16", "Backend": {"Type": "geneve"}}
    assert (other.mtu, cni_of("flannel-geneve", config(FLANNEL), 1300).mtu) == (0, 1300)


def test_pools_keep_all_but_their_modes() -> None:
    (pool,) = cni_of("calico-vxlan-crosssubnet", config(CALICO)).ip_pools
    assert (pool["blockSize"], pool["ipipMode"], pool["vxlanMode"]) == (27, "Never", "CrossSubnet")


def test_a_cluster_of_another_cni_gets_a_pool_for_each_pod_cidr() -> None:
    both = config('podCIDRs: [10.244.0.0/16, "fd00:10:244::/48"], cni: {name: flannel}')
    four, six = cni_of("calico-ipip", both).ip_pools
    assert (four["cidr"], four["ipipMode"]) == ("10.244.0.0/16", "Always")
    assert (six["cidr"], six["ipipMode"], six["vxlanMode"]) == ("fd00:10:244::/48", "Never", "Never")  # IPIP is for IPv4 alone
