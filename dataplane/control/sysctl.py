"""Settings of nodes: what Kubernetes' components write, then the cluster's ``sysctls`` with their patterns.

A pattern stands for device names, in ``net.*.conf.DEVICE.*`` and ``net.*.neigh.DEVICE.*``; as in sysctl(8), a dot in a
device's name is written ``/``. Pods and hosts keep Linux' defaults: the settings of a node are those of its namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from dataplane.control.topology import Machine, Topology
from dataplane.control.wiring import Wiring
from dataplane.errors import InputError
from dataplane.k8s.objects import Host, Manifests, Node, Pod

PER_DEVICE = re.compile(r"(net\.ipv[46]\.(conf|neigh))\.([^.]+)\.([^.]+)")
GENERAL = {"conf": ("all", "default"), "neigh": ("default",)}
"""What Linux has beside one directory per device, in the order they are written: devices last, so that they prevail."""
WILDCARDS = frozenset("*?[")


def apply_baseline(wiring: Wiring, machines: Iterable[Machine]) -> None:
    """What kubelet, the CNI plug-ins and kube-proxy switch on before a node carries its first packet."""
    six = uses_ipv6(wiring.manifests)
    for machine in machines:
        settings: dict[str, int] = {}
        if not six:  # else every machine would announce itself with MLD and router solicitations
            settings |= {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
        if machine.kind == "node":
            settings |= {"net.ipv4.ip_forward": 1, "net.bridge.bridge-nf-call-iptables": 1}
            if six:
                settings |= {"net.ipv6.conf.all.forwarding": 1, "net.bridge.bridge-nf-call-ip6tables": 1}
            if wiring.manifests.config.proxy.localhost_node_ports:
                settings["net.ipv4.conf.all.route_localnet"] = 1
        for name, value in settings.items():
            wiring.engine.set_sysctl(machine.namespace, name, value)


def uses_ipv6(manifests: Manifests) -> bool:
    def find() -> bool:
        owners: tuple[Node | Pod | Host, ...] = (*manifests.nodes, *manifests.pods, *manifests.config.underlay.hosts)
        return any(address.version == 6 for owner in owners for address in owner.addresses)

    return manifests.remembered("uses IPv6", find)


def apply_written(wiring: Wiring, machines: Iterable[Machine]) -> None:
    """The cluster's ``sysctls``, on every node. A name that the core does not know becomes a warning.

    End systems that stay silent take the IPv6 patterns of devices too: how they discover neighbours is all that is heard of them.
    """
    config, unknown = wiring.manifests.config, set()
    discovery = {name: value for name, value in config.sysctls.items() if name.startswith("net.ipv6.") and WILDCARDS & set(name)}
    of_end_systems = discovery if config.end_systems == "silent" else {}
    for machine in machines:
        written = config.sysctls if machine.kind == "node" else of_end_systems
        for name, value in resolve(written, device_names(wiring.topology, machine.namespace)).items():
            try:
                wiring.engine.set_sysctl(machine.namespace, name, value)
            except KeyError:
                unknown.add(PER_DEVICE.sub(r"\1.*.\4", name))
    lines = [f"{config.origin}: sysctls: {name} is not emulated and has no effect" for name in sorted(unknown)]
    wiring.topology.warnings += [line for line in lines if line not in wiring.topology.warnings]


def apply_written_to(wiring: Wiring, namespace: int, device: str) -> None:
    """Of the cluster's ``sysctls`` those of one device, which has come to a node later."""
    name = device.replace(".", "/")
    for key, value in resolve(wiring.manifests.config.sysctls, [name]).items():
        match = PER_DEVICE.fullmatch(key)
        if match is not None and match[3] == name:
            wiring.engine.set_sysctl(namespace, key, value)


def device_names(topology: Topology, namespace: int) -> list[str]:
    """As they stand in a sysctl name."""
    return [name.replace(".", "/") for name in topology.devices_of(namespace)]


def resolve(written: Mapping[str, int], devices: Iterable[str]) -> dict[str, int]:
    """Concrete names with their values, in the order to write them; the most specific pattern wins, then the later one."""
    found: dict[str, tuple[int, int]] = {}
    names = list(devices)
    for pattern, value in written.items():
        for name in expand(pattern, names):
            if name not in found or specificity(pattern) >= found[name][0]:
                found[name] = (specificity(pattern), value)
    return {name: found[name][1] for name in sorted(found, key=write_order)}


def expand(pattern: str, devices: Iterable[str]) -> list[str]:
    """The concrete names that a pattern stands for; a name without wildcards stands for itself."""
    pattern = dotted(pattern)
    if not WILDCARDS & set(pattern):
        return [pattern]
    match = PER_DEVICE.fullmatch(pattern)
    if match is None or WILDCARDS & set(match[4]):
        raise InputError(f"sysctl {pattern}: a pattern can only stand for devices, as in net.ipv4.conf.*.rp_filter")
    candidates = [*GENERAL[match[2]], *devices]
    return [f"{match[1]}.{name}.{match[4]}" for name in candidates if fnmatchcase(name, match[3])]


def dotted(name: str) -> str:
    """sysctl(8) takes both ``a.b.c`` and ``a/b/c``: whichever separator comes first is the separator."""
    first = re.search(r"[./]", name)
    return name.translate(str.maketrans("./", "/.")) if first and first[0] == "/" else name


def specificity(pattern: str) -> int:
    """Characters that are no wildcard; an exact name beats every pattern."""
    literal = sum(character not in WILDCARDS for character in pattern)
    return literal if literal < len(pattern) else 1 << 16


def write_order(name: str) -> int:
    """Settings of the whole namespace first, as some (``ip_forward``, ``conf.all.*``) overwrite those of devices."""
    match = PER_DEVICE.fullmatch(name)
    if match is None:
        return 0
    return 1 if match[3] in GENERAL[match[2]] else 2
