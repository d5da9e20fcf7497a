"""Two nodes with a pod each, and flows between the pods, as manifests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

POD_CIDRS = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
UNDERLAY_CIDRS = {4: "192.168.1.0/24", 6: "fd00:192:168:1::/64"}
NODE_CIDRS = {4: "10.244.{}.0/24", 6: "fd00:10:244:{}::/64"}
NODE_ADDRESSES = {4: "192.168.1.{}", 6: "fd00:192:168:1::{}"}
NODES = (1, 2)
PORT = 9000  # no protocol of tshark's

CLUSTER = """\
apiVersion: dataplane/v1alpha1
kind: Cluster
metadata: {{name: c}}
spec:
  podCIDRs: [{pods}]
  cni: {{name: flannel, mtu: {mtu}, config: {{Backend: {backend}}}}}
  underlay: {{cidrs: [{underlay}]}}
"""
NODE = """\
---
apiVersion: v1
kind: Node
metadata: {{name: node{number}}}
spec: {{podCIDRs: [{cidrs}]}}
status: {{addresses: [{addresses}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: pod{number}}}
spec: {{nodeName: node{number}, containers: [{{name: c, ports: [{{containerPort: {port}}}]}}]}}
"""
TRAFFIC = """\
---
apiVersion: dataplane/v1alpha1
kind: Traffic
metadata: {name: t}
spec:
  flows:
"""
FLOW = """\
  - {{name: {kind}{family}-{source}, from: pod/default/pod{source}, to: pod/default/pod{target}, ipFamily: IPv{family}, kind: {kind},
     count: 2, rate: 10, start: {start}{more}}}
"""
DETAILS = {
    "ping": "",
    "udp": f", port: {PORT}, requestBytes: 600, responseBytes: 1000",
    "tcp": f", port: {PORT}, requestBytes: 3000, responseBytes: 5000",
}


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def small_cluster(backend: str, families: Sequence[int], *, mtu: int = 0) -> str:
    """With Flannel's ``Backend`` as YAML, and the IP versions of nodes and pods."""
    pods, underlay = quoted(POD_CIDRS[family] for family in families), quoted(UNDERLAY_CIDRS[family] for family in families)
    text = CLUSTER.format(pods=pods, underlay=underlay, backend=backend, mtu=mtu)
    for number in NODES:
        addresses = [NODE_ADDRESSES[family].format(number + 1) for family in families]
        listed = ", ".join(f'{{type: InternalIP, address: "{address}"}}' for address in addresses)
        cidrs = quoted(NODE_CIDRS[family].format(number) for family in families)
        text += NODE.format(number=number, cidrs=cidrs, addresses=listed, port=PORT)
    return text


def traffic(families: Sequence[int]) -> str:
    """Pings, datagrams and connections from each pod to the other; the second pod begins later, so that WireGuard's handshakes
    do not cross, of which both would be lost."""
    flows = TRAFFIC
    for family in families:
        for source, target in (NODES, NODES[::-1]):
            start = 500 * (source - 1)
            for kind, more in DETAILS.items():
                flows += FLOW.format(kind=kind, family=family, source=source, target=target, start=start, more=more)
    return flows
