"""Our own kind Cluster, ``apiVersion: dataplane/v1alpha1``. ``cluster.schema.json`` describes the same fields to editors."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from dataplane.k8s import api_fields
from dataplane.k8s.fields import Fields
from dataplane.k8s.metadata import Item
from dataplane.k8s.objects import ClusterConfig, Cni, Faults, Host, IPAddress, IPNetwork, Origin, Proxy, Underlay

SPEC_FIELDS = frozenset("podCIDR podCIDRs serviceCIDR serviceCIDRs cni proxy underlay endSystems neighbours sysctls faults".split())
CNI_FIELDS = frozenset("name config ipPools masquerade delegate mtu".split())
DELEGATE_FIELDS = frozenset({"hairpinMode", "isDefaultGateway"})
IP_POOL_FIELDS = frozenset(
    """cidr blockSize ipipMode vxlanMode natOutgoing disabled nodeSelector allowedUses disableBGPExport assignmentMode
    namespaceSelector""".split()
)
PROXY_FIELDS = frozenset(
    """mode clusterCIDR detectLocalMode masqueradeAll masqueradeRandomFully nodePortAddresses localhostNodePorts""".split()
)
UNDERLAY_FIELDS = frozenset("kind cidr cidrs mtu defaultGateway defaultGateways hosts latency".split())
FAULT_FIELDS = frozenset({"tooBigFiltered", "unfinishedTunnelChecksums", "capturedBeforeSegmentation"})
HOST_FIELDS = frozenset("name address addresses mac behind".split())

PROXY_MODES = ("iptables", "ipvs", "nftables")
DETECT_LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
ENCAPSULATION_MODES = ("Never", "Always", "CrossSubnet")
BLOCK_SIZES = {4: (20, 32), 6: (116, 128)}  # Calico's IPPool: blockSize
_POD_AND_SERVICE_SIZES = {4: 30, 6: 126}  # longest prefixes with room for an address
SMALLEST_MTU = 68  # RFC 791: every link carries 68 bytes
LARGEST_MTU = 65535

_LATENCY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ns|us|µs|ms|s)")
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_LONGEST_LATENCY_NS = 60 * 1_000_000_000


def parse_cluster(item: Item) -> ClusterConfig:
    """Read a Cluster as it stands; CIDRs that are missing are derived later."""
    item.fields.warn_unknown(api_fields.TOP - {"status"})
    spec = item.fields.child("spec")
    spec.warn_unknown(SPEC_FIELDS)
    return ClusterConfig(
        name=item.metadata.name,
        pod_cidrs=_own_networks(spec, "podCIDR", "podCIDRs"),
        service_cidrs=_own_networks(spec, "serviceCIDR", "serviceCIDRs"),
        cni=_cni(spec.child("cni")),
        proxy=_proxy(spec.child("proxy")),
        underlay=_underlay(spec.child("underlay")),
        end_systems=spec.choice("endSystems", "answer", ("answer", "silent")),
        neighbours=spec.choice("neighbours", "resolve", ("resolve", "static")),
        sysctls=_sysctls(spec.child("sysctls")),
        faults=_faults(spec.child("faults")),
        origin=item.origin,
    )


def _own_networks(spec: Fields, single: str, plural: str) -> tuple[IPNetwork, ...]:
    networks = spec.single_and_list(single, plural, strict=True)
    for network in networks:
        if network.prefixlen > _POD_AND_SERVICE_SIZES[network.version]:
            raise spec.error(plural if spec.has(plural) else single, f"holds {network}, which has no room", "write a shorter prefix")
    return networks


def _cni(fields: Fields) -> Cni:
    fields.warn_unknown(CNI_FIELDS)
    delegate = fields.child("delegate")
    delegate.warn_unknown(DELEGATE_FIELDS)
    for key in sorted(DELEGATE_FIELDS):
        delegate.boolean(key, False)
    config = fields.child("config")
    _check_net_conf(config)
    return Cni(
        name=fields.text("name") or "flannel",
        config=config.data,
        ip_pools=tuple(_ip_pool(pool) for pool in fields.children("ipPools")),
        masquerade=fields.choice("masquerade", "", ("", "flannel")),
        delegate=delegate.data,
        mtu=fields.integer("mtu", 0, 0, LARGEST_MTU),
    )


def _check_net_conf(config: Fields) -> None:
    """Flannel's net-conf.json; options of a backend that are not known here are the backend's affair."""
    for key, version in (("Network", 4), ("IPv6Network", 6)):
        network = config.network(key, strict=True)
        if network is not None and network.version != version:
            raise config.error(key, f"is {network}", f"write a prefix of IPv{version}")
    for key in ("EnableIPv4", "EnableIPv6"):
        config.boolean(key, False)
    backend = config.child("Backend")
    backend.text("Type")
    backend.integer("VNI", 0, 0, 0xFFFFFF)
    backend.integer("Port", 0, 0, 65535)


def _ip_pool(pool: Fields) -> dict[str, Any]:
    pool.warn_unknown(IP_POOL_FIELDS)
    if not pool.has("cidr"):
        raise pool.error("cidr", "is missing", "add it")
    cidr = pool.parse_network("cidr", pool.text("cidr"), strict=True)
    low, high = BLOCK_SIZES[cidr.version]
    pool.integer("blockSize", high, max(low, cidr.prefixlen), high)
    for key in ("ipipMode", "vxlanMode"):
        pool.choice(key, "Never", ENCAPSULATION_MODES)
    for key in ("natOutgoing", "disabled"):
        pool.boolean(key, False)
    return dict(pool.data)


def _proxy(fields: Fields) -> Proxy:
    fields.warn_unknown(PROXY_FIELDS)
    return Proxy(
        mode=fields.choice("mode", "iptables", PROXY_MODES),
        cluster_cidrs=_cluster_cidrs(fields),
        detect_local_mode=fields.choice("detectLocalMode", "ClusterCIDR", DETECT_LOCAL_MODES),
        masquerade_all=fields.boolean("masqueradeAll", False),
        masquerade_random_fully=fields.boolean("masqueradeRandomFully", True),
        node_port_addresses=_node_port_addresses(fields),
        localhost_node_ports=fields.boolean("localhostNodePorts", True),
    )


def _cluster_cidrs(fields: Fields) -> tuple[IPNetwork, ...]:
    """kube-proxy's clusterCIDR: one prefix, or one for each family with a comma between them."""
    parts = [part.strip() for part in fields.text("clusterCIDR").split(",") if part.strip()]
    return tuple(fields.parse_network("clusterCIDR", part, strict=True) for part in parts)


def _node_port_addresses(fields: Fields) -> tuple[str, ...]:
    found = []
    for index, (text, entry) in enumerate(fields.texts("nodePortAddresses")):
        found.append("primary" if text == "primary" else str(entry.parse_network(f"nodePortAddresses[{index}]", text)))
    return tuple(found)


def _underlay(fields: Fields) -> Underlay:
    fields.warn_unknown(UNDERLAY_FIELDS)
    return Underlay(
        kind=fields.choice("kind", "flat", ("flat",)),
        cidrs=fields.single_and_list("cidr", "cidrs", strict=True),
        mtu=fields.integer("mtu", 1500, SMALLEST_MTU, LARGEST_MTU),
        default_gateways=_one_or_several(fields, "defaultGateway", "defaultGateways"),
        hosts=tuple(_host(host) for host in fields.children("hosts")),
        latency_ns=_latency(fields),
    )


def _one_or_several(fields: Fields, single: str, plural: str) -> tuple[IPAddress, ...]:
    one, several = fields.address(single), fields.addresses(plural)
    if one is not None and several and several[0] != one:
        raise fields.error(single, f"is {one}, but {plural} begins with {several[0]}", "make them equal or remove one")
    return several or ((one,) if one is not None else ())


def _host(host: Fields) -> Host:
    host.warn_unknown(HOST_FIELDS)
    name = host.required_text("name")
    if not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name):
        raise host.error("name", f"is {name[:60]!r}", 'use at most 63 letters, digits, "-", "_" and "."')
    addresses = _one_or_several(host, "address", "addresses")
    if not addresses:
        raise host.error("address", "is missing", "add the host's address on the underlay")
    what = f"host {name} of {host.subject.what}"
    return Host(name, addresses, host.mac("mac"), host.text("behind") or None, Origin(host.subject.file, host.line, what))


def _latency(fields: Fields) -> int:
    """One-way latency in nanoseconds, from text such as ``10us``; a bare 0 needs no unit."""
    if not fields.has("latency"):
        return Underlay().latency_ns
    if fields.data["latency"] == 0 and not isinstance(fields.data["latency"], bool):
        return 0
    text = fields.text("latency")
    match = _LATENCY.fullmatch(text)
    remedy = "write a number and ns, us, ms or s, such as 10us"
    if match is None:
        raise fields.error("latency", f"is {text[:60]!r}", remedy)
    nanoseconds = Fraction(match.group(1)) * _UNITS[match.group(2)]
    if nanoseconds.denominator != 1 or nanoseconds > _LONGEST_LATENCY_NS:
        raise fields.error("latency", f"is {text}, which is no whole number of nanoseconds up to 60s", remedy)
    return int(nanoseconds)


def _faults(fields: Fields) -> Faults:
    fields.warn_unknown(FAULT_FIELDS)
    return Faults(
        too_big_filtered=fields.boolean("tooBigFiltered", False),
        unfinished_tunnel_checksums=fields.boolean("unfinishedTunnelChecksums", False),
        captured_before_segmentation=fields.boolean("capturedBeforeSegmentation", False),
    )


def _sysctls(fields: Fields) -> dict[str, int]:
    found = {}
    for name, value in fields.data.items():
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            found[name] = int(value)
        else:
            found[name] = fields.integer(name, 0, -(2**63), 2**63 - 1)
    return found
