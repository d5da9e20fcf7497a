"""Random services: every type, port, policy and kind of endpoint that kube-proxy has rules for."""

from __future__ import annotations

from random import Random
from typing import Any

Document = dict[str, Any]

NODE_ADDRESSES = {4: "192.168.0.{}", 6: "fd00:192:168::{}"}
UNDERLAY_CIDRS = {4: "192.168.0.0/22", 6: "fd00:192:168::/64"}
EXTERNAL = {4: "203.0.113.{}", 6: "2001:db8:77::{}"}
HOSTS = (77, 200)  # of the underlay: no pod's, and endpoints all the same
PORTS: tuple[Document, ...] = (
    {"name": "web", "protocol": "TCP", "port": 80, "targetPort": 8080},
    {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
    {"name": "assoc", "protocol": "SCTP", "port": 9999, "targetPort": 9999},
)
CROWD = 12  # services, so many that the proxy's rules are found by an index


def services(rng: Random, families: tuple[int, ...], apps: tuple[str, ...]) -> list[Document]:
    """A few of them, rarely many small ones more, with the slices of those that choose no pods."""
    made: list[Document] = []
    for number in range(1, rng.choice((2, 1, 0, 3, 5)) + 1):
        made += _service(rng, number, families, apps)
    if rng.random() < 0.12:
        made += [_small(rng, number, apps) for number in range(CROWD)]
    return made


def _service(rng: Random, number: int, families: tuple[int, ...], apps: tuple[str, ...]) -> list[Document]:
    name, kind = f"service{number}", rng.choice(("ClusterIP", "NodePort", "LoadBalancer"))
    ports = rng.choice((PORTS[:2], PORTS[:1], PORTS[1:2], PORTS))
    spec: Document = {"type": kind, "ports": [dict(port) for port in ports]}
    slices: list[Document] = []
    if rng.random() < 0.15:
        slices = [_slice(rng, name, family, ports) for family in families]
    else:
        spec["selector"] = {"app": rng.choice((*apps, "nobody") if rng.random() < 0.3 else apps[:2])}
    if len(families) > 1:
        spec["ipFamilyPolicy"] = rng.choice(("PreferDualStack", "SingleStack"))
    if rng.random() < 0.3:
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": rng.choice((5, 600))}}
    if kind != "ClusterIP" and rng.random() < 0.4:
        spec["externalTrafficPolicy"] = "Local"
    if rng.random() < 0.15:
        spec["internalTrafficPolicy"] = "Local"
    if rng.random() < 0.15:
        spec["externalIPs"] = [EXTERNAL[families[0]].format(40 + number)]
    if rng.random() < 0.1:
        spec["publishNotReadyAddresses"] = True
    service: Document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    if kind == "LoadBalancer":
        _balance(rng, service, number, families)
    return [service, *slices]


def _balance(rng: Random, service: Document, number: int, families: tuple[int, ...]) -> None:
    ingress = {"ip": NODE_ADDRESSES[families[0]].format(220 + number)}
    if rng.random() < 0.15:
        ingress["ipMode"] = "Proxy"
    service["status"] = {"loadBalancer": {"ingress": [ingress]}}
    if rng.random() < 0.3:
        service["spec"]["loadBalancerSourceRanges"] = [UNDERLAY_CIDRS[families[0]]]
    if rng.random() < 0.2:
        service["spec"]["allocateLoadBalancerNodePorts"] = False


def _small(rng: Random, number: int, apps: tuple[str, ...]) -> Document:
    spec = {"selector": {"app": rng.choice(apps)}, "ports": [dict(rng.choice(PORTS[:2]))]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"small{number}"}, "spec": spec}


def _slice(rng: Random, service: str, family: int, ports: tuple[Document, ...]) -> Document:
    """Endpoints that are hosts of the underlay, ready or about to go."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-{family}", "labels": {"kubernetes.io/service-name": service}},
        "addressType": f"IPv{family}",
        "ports": [{"name": port["name"], "protocol": port["protocol"], "port": port["targetPort"]} for port in ports],
        "endpoints": [
            {"addresses": [NODE_ADDRESSES[family].format(host)], "conditions": _conditions(rng), "nodeName": f"node{rng.choice((1, 2))}"}
            for host in HOSTS
        ],
    }


def _conditions(rng: Random) -> Document:
    terminating = rng.random() < 0.2
    return {"ready": not terminating and rng.random() < 0.9, "serving": rng.random() < 0.9, "terminating": terminating}
