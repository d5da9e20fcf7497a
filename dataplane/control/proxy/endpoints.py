"""Which endpoints of a service a node uses: readiness, topology hints and traffic policies.

Source: kube-proxy, pkg/proxy/topology.go (CategorizeEndpoints); KEP-1669 (terminating endpoints),
KEP-2086 (internal traffic policy), KEP-2433 (topology hints), KEP-3015 (same zone, same node).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dataplane.k8s.objects import IPAddress, Origin


@dataclass(frozen=True, slots=True)
class ProxyEndpoint:
    """One address and port that a service port can lead to, as one node sees it."""

    address: IPAddress
    port: int
    origin: Origin
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    local: bool = False  # runs on the node in question
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    text: str = field(init=False)  # 10.0.0.1:80 or [fd00::1]:80

    def __post_init__(self) -> None:
        text = f"{self.address}:{self.port}" if self.address.version == 4 else f"[{self.address}]:{self.port}"
        object.__setattr__(self, "text", text)

    @property
    def fallback(self) -> bool:
        """Used while no endpoint is ready: it still serves, though it is on its way out."""
        return self.serving and self.terminating


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """What of a service port decides which endpoints it uses."""

    internal_local: bool = False
    external_local: bool = False
    externally_accessible: bool = False  # has a node port, an external address or a load balancer's

    @property
    def uses_cluster(self) -> bool:
        # External traffic with policy Local still needs them: pods and the node itself are led past the policy.
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)


@dataclass(frozen=True, slots=True)
class Categories:
    """Endpoints by use; None: the service does not use that set."""

    cluster: tuple[ProxyEndpoint, ...] | None
    local: tuple[ProxyEndpoint, ...] | None
    reachable: tuple[ProxyEndpoint, ...]  # from this node: the union of both
    any_usable: bool  # somewhere in the cluster, even if not reachable from this node


def categorize(endpoints: Sequence[ProxyEndpoint], policy: TrafficPolicy, node_name: str, zone: str) -> Categories:
    """Choose the endpoints for traffic with policy Cluster and for traffic with policy Local.

    ``zone`` is the node's label ``topology.kubernetes.io/zone`` ("" if it has none). The order of ``endpoints`` is kept.
    """
    cluster = _prefer_ready(endpoints, _hinted(endpoints, node_name, zone)) if policy.uses_cluster else None
    local = _prefer_ready([e for e in endpoints if e.local], _everything) if policy.uses_local else None
    chosen = {endpoint.text for endpoint in (*(cluster or ()), *(local or ()))}
    return Categories(
        cluster=cluster,
        local=local,
        reachable=tuple(endpoint for endpoint in endpoints if endpoint.text in chosen),
        any_usable=bool(cluster) or (policy.uses_local and any(e.ready or e.fallback for e in endpoints)),
    )


def _everything(endpoint: ProxyEndpoint) -> bool:
    return True


def _prefer_ready(endpoints: Sequence[ProxyEndpoint], available: Callable[[ProxyEndpoint], bool]) -> tuple[ProxyEndpoint, ...]:
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready and available(endpoint))
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.fallback)


def _hinted(endpoints: Sequence[ProxyEndpoint], node_name: str, zone: str) -> Callable[[ProxyEndpoint], bool]:
    """Hints count only if every ready endpoint has some and one of them names this node, or else its zone."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if all(endpoint.node_hints for endpoint in ready) and any(node_name in endpoint.node_hints for endpoint in ready):
        return lambda endpoint: node_name in endpoint.node_hints
    if all(endpoint.zone_hints for endpoint in ready) and any(zone in endpoint.zone_hints for endpoint in ready):
        return lambda endpoint: zone in endpoint.zone_hints
    return _everything
