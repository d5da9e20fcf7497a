"""Which MAC a machine would address a packet to: what a foreign frame's destination is rewritten to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataplane.control.topology import Topology


def next_hop_mac(topology: Topology, route: Mapping[str, Any], destination: bytes) -> bytes | None:
    """The MAC of the gateway, or of ``destination`` (4 or 16 bytes) itself where it is on the link.

    ``route``: that to ``destination``, in the form of ``Engine.lookup_route``. None: it leads nowhere, or nobody has that address.
    """
    if route.get("kind") != "unicast":
        return None
    return topology.mac_of(route.get("via") or destination)
