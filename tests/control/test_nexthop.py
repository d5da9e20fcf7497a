"""The next hop's MAC: what a replayed frame is addressed to."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from control.clusters import build_fake, cluster
from dataplane.control.nexthop import next_hop_mac


@pytest.mark.parametrize(
    ("destination", "route", "hop"),
    [
        ("8.8.8.8", {"kind": "unicast", "via": "10.1.1.1"}, "n1/cni0"),
        ("192.168.0.2", {"kind": "unicast"}, "n2/eth0"),
        ("10.1.1.2", {"kind": "unicast"}, "a/eth0"),
        ("192.168.0.200", {"kind": "unicast"}, None),
        ("203.0.113.1", {"kind": "blackhole"}, None),
        ("203.0.113.1", {}, None),
    ],
)
def test_the_next_hop_is_the_gateway_or_the_destination_itself(destination: str, route: dict[str, Any], hop: str | None) -> None:
    fake, topology = build_fake(cluster())
    answer = {key: ip_address(value).packed if key == "via" else value for key, value in route.items()}
    found = next_hop_mac(topology, answer, ip_address(destination).packed)
    assert (found.hex(":") if found else None) == (fake.device(hop).mac if hop else None)
