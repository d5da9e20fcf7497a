"""Dual-stack twins of IPv4 cluster files: every address, network, endpoint and setting gets its IPv6 counterpart."""

from __future__ import annotations

import copy
import json
from ipaddress import IPv6Address
from pathlib import Path

import yaml

from .topology import TUNNEL_DEVICES, Document

SYSCTLS = {
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.conf.*.accept_dad": 0,
    "net.ipv6.conf.*.dad_transmits": 0,
    "net.ipv6.conf.*.accept_ra": 0,
    "net.ipv6.conf.*.router_solicitations": 0,
    "net.ipv6.neigh.*.retrans_time_ms": 30,
    "net.ipv6.neigh.*.delay_first_probe_time": 600,
    "net.ipv6.neigh.*.proxy_delay": 0,  # the kernel's delay is random, also for anycast addresses
}
PREFIX_LENGTHS = {"16": 48, "24": 64, "26": 122}
CALICO_BLOCK = 120  # wide enough for the host parts of the IPv4 pods


def twin(address: str) -> str:
    """10.42.8.21 and fd00:10:42:8::21."""
    a, b, c, d = address.split(".")
    return str(IPv6Address(f"fd00:{a}:{b}:{c}::{d}"))


def network_twin(network: str) -> str:
    address, length = network.split("/")
    return f"{twin(address)}/{PREFIX_LENGTHS[length]}"


def service_twin(address: str) -> str:
    """Service networks are at least /108, so the host part stays small (kube-apiserver, --service-cluster-ip-range)."""
    a, b, c, d = address.split(".")
    return str(IPv6Address(f"fd00:{a}:{b}::{int(c) << 8 | int(d):x}"))


def write(source: Path, target: Path) -> Path:
    """Write the dual-stack twin of the cluster file ``source`` to ``target``, and return that."""
    documents = [d for d in yaml.safe_load_all(source.read_text()) if d]
    makers = {"Cluster": _cluster, "Node": _node, "Pod": _pod, "Service": _service}
    made: list[Document] = []
    for document in documents:
        if document["kind"] in makers:
            makers[document["kind"]](document)
        made.append(document)
        if document["kind"] == "EndpointSlice":
            made.append(_slice_twin(document))
    target.write_text(yaml.safe_dump_all(made, sort_keys=False))
    return target


def _cluster(document: Document) -> None:
    spec, cni = document["spec"], document["spec"]["cni"]
    pods = spec.pop("podCIDR")
    services = spec.pop("serviceCIDR")
    spec["podCIDRs"] = [pods, network_twin(pods)]
    spec["serviceCIDRs"] = [services, f"{service_twin(services.split('/')[0])}/112"]
    spec["proxy"]["clusterCIDR"] = ",".join(spec["podCIDRs"])
    underlay = spec["underlay"]
    network, gateway = underlay.pop("cidr"), underlay.pop("defaultGateway")
    underlay["cidrs"], underlay["defaultGateways"] = [network, network_twin(network)], [gateway, twin(gateway)]
    for host in underlay["hosts"]:
        address = host.pop("address")
        host["addresses"] = [address, twin(address)]
    if "config" in cni:
        cni["config"] |= {"IPv6Network": network_twin(pods), "EnableIPv4": True, "EnableIPv6": True}
    for pool in list(cni.get("ipPools", [])):
        cni["ipPools"].append(pool | {"cidr": network_twin(pool["cidr"]), "blockSize": CALICO_BLOCK})
    spec["sysctls"] |= SYSCTLS


def _node(document: Document) -> None:
    notes, spec, status = document["metadata"]["annotations"], document["spec"], document["status"]
    interfaces = json.loads(notes["dataplane/interfaces"])
    if TUNNEL_DEVICES[4] in interfaces:
        mac = interfaces[TUNNEL_DEVICES[4]]["mac"]
        interfaces[TUNNEL_DEVICES[6]] = {"mac": mac.replace(":f1:", ":f6:")}
    notes["dataplane/interfaces"] = json.dumps(interfaces)
    spec["podCIDRs"].append(network_twin(spec["podCIDR"]))
    own = next(a["address"] for a in status["addresses"] if a["type"] == "InternalIP")
    status["addresses"].append({"type": "InternalIP", "address": twin(own)})


def _pod(document: Document) -> None:
    document["status"]["podIPs"].append({"ip": twin(document["status"]["podIP"])})


def _service(document: Document) -> None:
    spec = document["spec"]
    spec["clusterIPs"].append(service_twin(spec["clusterIP"]))
    spec |= {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    for name, of in (("externalIPs", twin), ("loadBalancerSourceRanges", network_twin)):
        if name in spec:
            spec[name] += [of(value) for value in spec[name]]
    ingress = document.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    ingress += [{"ip": twin(i["ip"])} for i in list(ingress)]


def _slice_twin(document: Document) -> Document:
    made = copy.deepcopy(document)
    made["metadata"]["name"] += "-six"
    made["addressType"] = "IPv6"
    for end in made["endpoints"]:
        end["addresses"] = [twin(address) for address in end["addresses"]]
    return made
