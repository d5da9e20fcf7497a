"""The data paths that can be compared, by name, and the ``spec.cni`` that each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from dataplane.control.cni.calico_tunnels import OVERLAYS
from dataplane.control.cni.flannel import BACKENDS
from dataplane.encap import registry
from dataplane.errors import InputError
from dataplane.k8s.objects import ClusterConfig, Cni

FLANNEL = "flannel-"
CALICO = {
    "calico": {},  # routes that BGP spreads, no encapsulation
    "calico-ipip": {"ipipMode": "Always"},
    "calico-ipip-crosssubnet": {"ipipMode": "CrossSubnet"},
    "calico-vxlan": {"vxlanMode": "Always"},
    "calico-vxlan-crosssubnet": {"vxlanMode": "CrossSubnet"},
}


def known_paths() -> list[str]:
    """Flannel's backends, Calico's modes, then every other encapsulation as a backend of Flannel."""
    own = [f"{FLANNEL}{backend}" for backend in BACKENDS]
    others = [name for name in (f"{FLANNEL}{kind}" for kind in registry.known()) if name not in own]
    return [*own, *CALICO, *others]


def cni_of(path: str, config: ClusterConfig, pod_mtu: int = 0) -> Cni:
    """The CNI of a data path for a cluster whose own is ``config.cni``. Raises InputError for a name that is none.

    What the cluster says of the same CNI (net-conf.json, options of the same backend, pools) stays, but for the pods' MTU: it is
    ``pod_mtu``, or 0: what the underlay and the tunnel leave.
    """
    if path not in known_paths():
        raise InputError(f"{path!r} is no data path: choose from {', '.join(known_paths())}")
    name = path.partition("-")[0]
    own = config.cni if config.cni.name == name else Cni(name=name)
    if name == "calico":
        return replace(own, ip_pools=tuple(_pools(config, CALICO[path])), mtu=pod_mtu)
    kind = path.removeprefix(FLANNEL)
    backend = own.config.get("Backend") or {}
    same = str(backend.get("Type", "vxlan")).lower() == kind
    return replace(own, config={**own.config, "Backend": backend if same else {"Type": kind}}, mtu=pod_mtu)


def _pools(config: ClusterConfig, modes: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The cluster's pools, or one for each pod CIDR; a mode that is not for a pool's IP version is left out."""
    fresh: list[Mapping[str, Any]] = [{"cidr": str(network), "natOutgoing": True} for network in config.pod_cidrs]
    for pool in config.cni.ip_pools if config.cni.name == "calico" else fresh:
        version = ip_network(pool["cidr"]).version
        fitting = {key: mode for key, mode in modes.items() if version in OVERLAYS[key].names}
        yield {**pool, "ipipMode": "Never", "vxlanMode": "Never", **fitting}
