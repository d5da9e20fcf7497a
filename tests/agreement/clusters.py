"""Random clusters as manifests: every data path there is, services of every kind, settings that change what packets meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import yaml

from dataplane._core import Engine

from .script import Call, World
from .services import NODE_ADDRESSES, UNDERLAY_CIDRS, services

Document = dict[str, Any]


class Path(NamedTuple):
    """A data path between nodes, and the sets of address families it carries."""

    name: str
    cni: Document
    families: tuple[tuple[int, ...], ...] = ((4,), (4, 6), (6,))
    routed: bool = False  # what it does depends on whether nodes are on one subnet


def _flannel(**backend: Any) -> Document:
    return {"name": "flannel", "config": {"Backend": backend}}


def _calico(**modes: Any) -> Document:
    return {"name": "calico", "modes": modes}


PATHS = (
    Path("flannel-vxlan", _flannel(Type="vxlan")),
    Path("flannel-host-gw", _flannel(Type="host-gw")),
    Path("flannel-vxlan-direct", _flannel(Type="vxlan", DirectRouting=True), ((4,),)),
    Path("calico", _calico()),
    Path("calico-ipip", _calico(ipipMode="Always"), ((4,),)),
    Path("calico-ipip-crosssubnet", _calico(ipipMode="CrossSubnet"), ((4,),), routed=True),
    Path("calico-vxlan", _calico(vxlanMode="Always")),
    Path("calico-vxlan-crosssubnet", _calico(vxlanMode="CrossSubnet"), routed=True),
    Path("flannel-ipip", _flannel(Type="ipip")),
    Path("geneve", _flannel(Type="geneve", VNI=7)),
    Path("geneve-checksum", _flannel(Type="geneve", VNI=9, udp_checksum=1, ttl=33)),
    Path("vxlan-gpe", _flannel(Type="vxlan_gpe", VNI=7)),
    Path("gre", _flannel(Type="gre")),
    Path("gre-key-checksum", _flannel(Type="gre", key=9, checksum=1)),
    Path("gre-sequence", _flannel(Type="gre", sequence=1)),
    Path("gretap", _flannel(Type="gretap", key=4)),
    Path("erspan", _flannel(Type="erspan", session=5)),
    Path("fou", _flannel(Type="fou")),
    Path("gue", _flannel(Type="gue")),
    Path("mpls-udp", _flannel(Type="mpls_udp", label=100)),
    Path("mpls-gre", _flannel(Type="mpls_gre")),
    Path("srv6", _flannel(Type="srv6"), ((6,),)),
    Path("srv6-l2", _flannel(Type="srv6_l2"), ((6,),)),
    Path("sleeve", _flannel(Type="sleeve"), ((4,),)),
    Path("wireguard", _flannel(Type="wireguard"), ((4,), (4, 6))),
    Path("declared-fou", _flannel(Type="declared_fou"), ((4,),)),
    Path("declared-gre-checksum", _flannel(Type="declared_gre_checksum", key=3), ((4,),)),
    Path("numba-tag", _flannel(Type="numba_tag", tag=9), ((4,), (4, 6))),
    Path("tolled", _flannel(Type="tolled_udp"), ((4,), (4, 6))),
)
FAMILIES = {(4,): 4, (4, 6): 3, (6,): 1}  # how often: packets of IPv6 take the slow path everywhere
COMMON = 8  # of the paths are chosen more often
MADE_AT_ONCE = ("sleeve", "wireguard")  # whose devices do something by themselves

SYSCTLS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("net.bridge.bridge-nf-call-iptables", (0,)),
    ("net.ipv4.conf.*.rp_filter", (1, 2)),
    ("net.netfilter.nf_conntrack_checksum", (0,)),
    ("net.netfilter.nf_conntrack_max", (3, 8, 40)),
    ("net.netfilter.nf_conntrack_tcp_be_liberal", (1,)),
    ("net.netfilter.nf_conntrack_tcp_loose", (0,)),
    ("net.netfilter.nf_conntrack_tcp_timeout_established", (2, 20)),
    ("net.netfilter.nf_conntrack_tcp_timeout_max_retrans", (3,)),
    ("net.netfilter.nf_conntrack_tcp_max_retrans", (1,)),
    ("net.netfilter.nf_conntrack_tcp_timeout_time_wait", (1,)),
    ("net.netfilter.nf_conntrack_udp_timeout", (1, 3)),
    ("net.netfilter.nf_conntrack_udp_timeout_stream", (2, 5)),
    ("net.netfilter.nf_conntrack_icmp_timeout", (1,)),
    ("net.ipv4.neigh.*.base_reachable_time_ms", (50, 1000)),
    ("net.ipv4.neigh.*.delay_first_probe_time", (1,)),
    ("net.ipv4.neigh.*.retrans_time_ms", (5, 200)),
    ("net.ipv6.neigh.*.base_reachable_time_ms", (50, 1000)),
    ("net.ipv6.neigh.*.retrans_time_ms", (20,)),
    ("net.ipv4.icmp_ratelimit", (0, 50)),
    ("net.ipv4.icmp_msgs_per_sec", (3,)),
    ("net.ipv4.conf.*.send_redirects", (0,)),
    ("net.ipv4.route.mtu_expires", (2,)),
    ("net.ipv4.ipfrag_time", (1,)),
    ("net.ipv4.conf.all.route_localnet", (1,)),
    ("net.ipv4.conf.*.proxy_arp", (1,)),
)

POD_CIDRS, SERVICE_CIDRS = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}, {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
NODE_CIDRS = {4: "10.244.{}.0/24", 6: "fd00:10:244:{}::/64"}
SECOND_SUBNET = "192.168.1.{}"
BLOCK_SIZES = {4: 26, 6: 122}


def waiting(rng: Random) -> World:
    """One whose machines are made as frames come to them, with rules that are written as packets meet them."""
    paths = [path for path in PATHS if path.name not in MADE_AT_ONCE]
    return replace(random_cluster(rng, paths), waiting=True)


def random_cluster(rng: Random, paths: Sequence[Path] = PATHS) -> World:
    """One of the clusters that ``rng`` can choose; the first paths are those that most clusters have."""
    path = rng.choice(paths[: rng.choice((COMMON, len(paths)))])
    families = rng.choices(path.families, [FAMILIES[each] for each in path.families])[0]
    subnets = 2 if path.routed and families == (4,) and rng.random() < 0.7 else 1
    nodes = rng.choice((2, 3, 4) if path.name == "sleeve" or subnets > 1 else (2, 1, 3, 4))  # a sleeve of one node is refused
    documents = [_cluster(rng, path, families, subnets)]
    documents += [_node(number, families, number % subnets) for number in range(1, nodes + 1)]
    apps = ("web", "dns", "lone")
    documents += [_pod(rng, number, rng.randint(1, nodes), apps) for number in range(1, rng.randint(2, 6) + 1)]
    documents += services(rng, families, apps)
    world = World(f"{path.name} IPv{'+'.join(map(str, families))}", yaml.safe_dump_all(documents, sort_keys=False))
    return _between_subnets(world) if subnets > 1 else world


def _between_subnets(world: World) -> World:
    """The gateway forwards, and every machine has the route to it that belongs to its subnet: ``defaultGateways`` are the same for all."""
    topology = world.put_into(Engine())
    assert topology is not None
    gateway = topology.endpoint("host/gateway")
    calls = [Call("set_sysctl", (gateway.namespace, "net.ipv4.ip_forward", 1))]
    for machine in topology.machines.values():
        if machine.kind != "pod" and machine is not gateway:
            via = next(address for address in gateway.addresses if address.packed[:3] == machine.addresses[0].packed[:3])
            calls.append(Call("add_route", (machine.namespace, bytes(4), 0), {"via": via.packed}))
    return World(f"{world.name}, two subnets", world.cluster, tuple(calls))


def _cluster(rng: Random, path: Path, families: tuple[int, ...], subnets: int) -> Document:
    spec: Document = {
        "podCIDRs": [POD_CIDRS[family] for family in families],
        "serviceCIDRs": [SERVICE_CIDRS[family] for family in families],
        "cni": _cni(rng, path, families),
        "underlay": _underlay(rng, families, subnets),
        "endSystems": rng.choice(("answer", "silent")),
        "neighbours": rng.choice(("resolve", "static")),
        "sysctls": {name: rng.choice(values) for name, values in rng.sample(SYSCTLS, rng.choice((0, 1, 3, 6)))},
        "proxy": _proxy(rng, families),
    }
    if rng.random() < 0.1:
        spec["faults"] = {rng.choice(("tooBigFiltered", "unfinishedTunnelChecksums")): True}
    return {"apiVersion": "dataplane/v1alpha1", "kind": "Cluster", "metadata": {"name": "random"}, "spec": spec}


def _proxy(rng: Random, families: tuple[int, ...]) -> Document:
    proxy: Document = {"masqueradeAll": rng.random() < 0.2, "masqueradeRandomFully": rng.random() < 0.5}
    if rng.random() < 0.15:
        proxy["detectLocalMode"] = "NodeCIDR"
    if rng.random() < 0.15:
        proxy["nodePortAddresses"] = rng.choice((["primary"], [UNDERLAY_CIDRS[family] for family in families]))
    return proxy


def _cni(rng: Random, path: Path, families: tuple[int, ...]) -> Document:
    cni = dict(path.cni)
    if cni["name"] == "calico":
        modes = cni.pop("modes")
        nat, six = rng.random() < 0.5, {} if "ipipMode" in modes else modes
        cni["ipPools"] = [
            {"cidr": POD_CIDRS[family], "blockSize": BLOCK_SIZES[family], "natOutgoing": nat} | (modes if family == 4 else six)
            for family in families
        ]
    else:
        cni["delegate"] = {"hairpinMode": rng.random() < 0.7}
    if rng.random() < 0.1:
        cni["masquerade"] = "flannel"
    if 4 in families and len(families) == 1 and rng.random() < 0.15:
        cni["mtu"] = rng.choice((600, 1280, 1500))
    return cni


def _underlay(rng: Random, families: tuple[int, ...], subnets: int) -> Document:
    hosts: list[Document] = [{"name": "desk", "addresses": [NODE_ADDRESSES[f].format(77) for f in families], "mac": "06:00:00:00:00:77"}]
    underlay: Document = {
        "cidrs": [UNDERLAY_CIDRS[family] for family in families],
        "mtu": rng.choice((1500, 1500, 1450, 1400, 9000)),
        "latency": rng.choice((0, 0, "10us", "3ms")),
        "hosts": hosts,
    }
    gateways = [NODE_ADDRESSES[family].format(200) for family in families]
    if subnets > 1:
        gateways.append(SECOND_SUBNET.format(200))
        underlay["cidrs"] = ["192.168.0.0/24", "192.168.1.0/24"]
    else:
        underlay["defaultGateways"] = gateways
    behind = {"behind": "desk"} if subnets == 1 and rng.random() < 0.4 else {}
    hosts.append({"name": "gateway", "addresses": gateways, "mac": "06:00:00:00:00:c8"} | behind)
    return underlay


def _node(number: int, families: tuple[int, ...], subnet: int) -> Document:
    cidrs = [NODE_CIDRS[family].format(number) for family in families]
    texts = [SECOND_SUBNET] if subnet else [NODE_ADDRESSES[family] for family in families]
    addresses = [{"type": "InternalIP", "address": text.format(number + 10)} for text in texts]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node{number}"},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": addresses},
    }


def _pod(rng: Random, number: int, node: int, apps: tuple[str, ...]) -> Document:
    spec: Document = {"nodeName": f"node{node}", "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]}
    if rng.random() < 0.05 and number > 2:
        spec["hostNetwork"] = True
    app = apps[number % 2] if number < 5 else rng.choice(apps)
    pod: Document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod{number}", "labels": {"app": app}}, "spec": spec}
    if rng.random() < 0.07:
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
    return pod
