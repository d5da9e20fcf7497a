"""The objects of one load on their way from the parsers through derivation to ``Manifests``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dataplane.k8s.objects import (
    ClusterConfig,
    EndpointSlice,
    IPNetwork,
    Manifests,
    Namespace,
    NetworkPolicy,
    Node,
    Origin,
    Pod,
    Service,
)


@dataclass(slots=True)
class Collected:
    """Mutable until everything is derived. Lists keep the order written; derived objects come last."""

    config: ClusterConfig | None = None  # None until derived where no kind: Cluster was written
    nodes: list[Node] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    endpoint_slices: list[EndpointSlice] = field(default_factory=list)
    endpoints: list[tuple[EndpointSlice, ...]] = field(default_factory=list)  # mirrors of the old kind, one tuple for each object
    policies: list[NetworkPolicy] = field(default_factory=list)
    namespaces: list[Namespace] = field(default_factory=list)
    extra: list[tuple[Mapping[str, Any], Origin]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    recorded: set[str] = field(default_factory=set)  # Origin.what of the objects that an API server has stored
    inferred: set[tuple[str, IPNetwork]] = field(default_factory=set)  # "pod", "service", "underlay" CIDRs guessed from addresses

    def is_recorded(self, origin: Origin) -> bool:
        return origin.what in self.recorded

    def manifests(self) -> Manifests:
        """The frozen result; only for a collection whose config has been derived."""
        assert self.config is not None
        return Manifests(
            config=self.config,
            nodes=tuple(self.nodes),
            pods=tuple(self.pods),
            services=tuple(self.services),
            endpoint_slices=tuple(self.endpoint_slices),
            policies=tuple(self.policies),
            namespaces=tuple(self.namespaces),
            warnings=tuple(self.warnings),
            extra=tuple(self.extra),
        )
