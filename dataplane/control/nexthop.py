"""Which MAC a machine would address a packet to: what a foreign frame's destination is rewritten to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataplane.control.topology import Topology

if TYPE_CHECKING:
    from dataplane._core import Engine


def next_hop_mac(engine: Engine, topology: Topology, namespace: int, destination: bytes) -> bytes | None:
    """The MAC of the gateway, or of ``destination`` (4 or 16 bytes) itself where it is on the link.

    None: the namespace has no route to it, or nobody has the next hop's address.
    """
    route = engine.lookup_route(namespace, destination)
    if route.get("kind") != "unicast":
        return None
    return topology.mac_of(route.get("via") or destination)
