"""Frozen objects for everything the loader reads: Kubernetes' own kinds and ``kind: Cluster``.

Addresses and prefixes are ``ipaddress`` objects of either family. Every object has an ``origin``:
the file and line of the manifest it was written in, or ``derived`` where the loader made it up
as the cluster would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object stands: ``file:line`` and what it is, for example ``Service default/web``."""

    file: str
    line: int  # 1-based; 0: derived, not written anywhere
    what: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else "derived"
        return f"{place} ({self.what})"


@dataclass(frozen=True, slots=True)
class InterfaceHint:
    """What annotation ``dataplane/interfaces`` says of one device."""

    mac: str | None = None
    mtu: int | None = None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    addresses: tuple[IPAddress, ...]  # InternalIP, in the order written
    origin: Origin
    external_addresses: tuple[IPAddress, ...] = ()
    pod_cidrs: tuple[IPNetwork, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    interfaces: Mapping[str, InterfaceHint] = field(default_factory=dict)
    ready: bool = True
    ipam_blocks: tuple[IPNetwork, ...] = ()  # what its pods get addresses from: Calico's blocks, else the podCIDRs


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str
    port: int
    protocol: str  # TCP UDP SCTP
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    node: str  # "" while not scheduled
    addresses: tuple[IPAddress, ...]  # empty: none yet, or the pod has ended
    origin: Origin
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ContainerPort, ...] = ()
    host_network: bool = False
    phase: str = "Running"
    ready: bool = True
    terminating: bool = False
    mac: str | None = None  # annotation dataplane/mac, else derived; None: no network of its own
    host_interface: str | None = None  # annotation dataplane/host-interface, else derived
    host_mac: str | None = None  # annotation dataplane/host-mac, else derived
    node_selector: Mapping[str, str] = field(default_factory=dict)
    host_addresses: tuple[IPAddress, ...] = ()  # status.hostIPs: addresses of its node
    containers: int = 0  # sidecars included
    ready_containers: int = 0
    restarts: int = 0  # of all containers

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    protocol: str  # TCP UDP SCTP
    port: int
    target_port: int | str
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class LoadBalancerIngress:
    address: IPAddress
    mode: str = "VIP"  # VIP | Proxy


@dataclass(frozen=True, slots=True)
class Service:
    namespace: str
    name: str
    type: str  # ClusterIP NodePort LoadBalancer ExternalName
    cluster_ips: tuple[IPAddress, ...]  # empty: headless or ExternalName
    ports: tuple[ServicePort, ...]
    origin: Origin
    headless: bool = False
    external_ips: tuple[IPAddress, ...] = ()
    load_balancer: tuple[LoadBalancerIngress, ...] = ()
    source_ranges: tuple[IPNetwork, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    affinity_seconds: int = 0  # 0: no session affinity
    external_policy: str = "Cluster"
    internal_policy: str = "Cluster"
    health_check_node_port: int = 0
    publish_not_ready: bool = False
    ip_families: tuple[str, ...] = ()  # IPv4 IPv6, primary first; empty for ExternalName
    ip_family_policy: str = "SingleStack"
    allocate_node_ports: bool = True  # of a LoadBalancer
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    addresses: tuple[IPAddress, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    target: str = ""  # "namespace/name" of the pod


@dataclass(frozen=True, slots=True)
class EndpointPort:
    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    namespace: str
    name: str
    service: str  # label kubernetes.io/service-name
    address_type: str  # IPv4 IPv6 FQDN
    endpoints: tuple[Endpoint, ...]
    ports: tuple[EndpointPort, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    namespace: str
    name: str
    spec: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Host:
    """A machine on the underlay that is no node."""

    name: str
    addresses: tuple[IPAddress, ...]
    mac: str | None
    behind: str | None  # name of the host whose port it shares; nobody answers for it
    origin: Origin


@dataclass(frozen=True, slots=True)
class Underlay:
    kind: str = "flat"
    cidrs: tuple[IPNetwork, ...] = ()
    mtu: int = 1500
    default_gateways: tuple[IPAddress, ...] = ()
    hosts: tuple[Host, ...] = ()
    latency_ns: int = 10_000  # one way; 0 in the recorded cases, which say nothing of latency


@dataclass(frozen=True, slots=True)
class Cni:
    name: str = "flannel"  # flannel | calico | ...
    config: Mapping[str, Any] = field(default_factory=dict)  # net-conf.json of Flannel
    ip_pools: tuple[Mapping[str, Any], ...] = ()  # Calico IPPool specs
    masquerade: str = ""  # "flannel": flanneld's own chains in all data paths; "": the CNI's own
    delegate: Mapping[str, Any] = field(default_factory=dict)  # Flannel's delegate: hairpinMode, isDefaultGateway
    mtu: int = 0  # 0: derived


@dataclass(frozen=True, slots=True)
class Proxy:
    mode: str = "iptables"
    cluster_cidrs: tuple[IPNetwork, ...] = ()
    detect_local_mode: str = "ClusterCIDR"
    masquerade_all: bool = False
    masquerade_random_fully: bool = True
    node_port_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = True


@dataclass(frozen=True, slots=True)
class Faults:
    """What is broken on purpose, as it is met in the field."""

    too_big_filtered: bool = False  # ICMP messages that say "too big" do not cross the underlay
    unfinished_tunnel_checksums: bool = False  # nodes' network cards do not finish TCP's and UDP's inside of tunnels
    captured_before_segmentation: bool = False  # captures of a sender's own interface show TCP before its card cuts it


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """``kind: Cluster``, ``apiVersion: dataplane/v1alpha1``; where there is none, all defaults."""

    name: str = "cluster"
    pod_cidrs: tuple[IPNetwork, ...] = ()
    service_cidrs: tuple[IPNetwork, ...] = ()
    cni: Cni = field(default_factory=Cni)
    proxy: Proxy = field(default_factory=Proxy)
    underlay: Underlay = field(default_factory=Underlay)
    end_systems: str = "answer"  # answer | silent
    neighbours: str = "resolve"  # resolve | static
    sysctls: Mapping[str, int] = field(default_factory=dict)  # names may hold shell patterns
    faults: Faults = field(default_factory=Faults)
    origin: Origin = field(default_factory=lambda: Origin("", 0, "Cluster"))


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything that was loaded and derived, in the order written."""

    config: ClusterConfig
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    policies: tuple[NetworkPolicy, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    warnings: tuple[str, ...] = ()
    extra: tuple[tuple[Mapping[str, Any], Origin], ...] = ()  # kind: Traffic, kind: Scenario, as written
    memo: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)  # see ``remembered``

    def remembered(self, name: str, find: Callable[[], Found]) -> Found:
        """What ``find`` finds out from these objects, once for all who ask by this ``name``."""
        if name not in self.memo:
            self.memo[name] = find()
        found: Found = self.memo[name]
        return found
