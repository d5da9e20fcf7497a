"""``neighbours: static``: who on the underlay knows whom from the start.

Every node and host has a permanent entry for every other one, hosts behind others included. The entries
between a pod and its node, and those of tunnel ends, are the CNI's (``control/cni``).
"""

from __future__ import annotations

from collections.abc import Iterable

from dataplane.control.topology import Machine
from dataplane.control.underlay import host_mac
from dataplane.control.wiring import Wiring
from dataplane.k8s.objects import IPAddress, Origin


def add_underlay_neighbours(wiring: Wiring, machines: Iterable[Machine]) -> None:
    """To those of ``machines`` that hang on the switch."""
    if wiring.manifests.config.neighbours != "static":
        return
    known: list[tuple[IPAddress, bytes, Origin]] = []
    for machine in wiring.topology.machines.values():
        if machine.kind != "pod":
            known += [(address, machine.mac, machine.origin) for address in machine.addresses]
    for host in wiring.manifests.config.underlay.hosts:
        if host.behind is not None:
            known += [(address, host_mac(host), host.origin) for address in host.addresses]
    for machine in machines:
        if machine.kind == "pod":
            continue
        families = {address.version for address in machine.addresses}
        for address, mac, origin in known:
            if address not in machine.addresses and address.version in families:
                wiring.neighbour(machine.eth0, address, mac, origin)
