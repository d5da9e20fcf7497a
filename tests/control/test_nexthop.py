"""The next hop's MAC: what a replayed frame is addressed to."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from control.clusters import build_fake, cluster
from dataplane.control.nexthop import next_hop_mac


@pytest.mark.parametrize(
    ("owner", "destination", "route", "hop"),
    [
        ("a", "8.8.8.8", {"kind": "unicast", "via": "10.1.1.1"}, "n1/cni0"),
        ("n1", "192.168.0.2", {"kind": "unicast"}, "n2/eth0"),
        ("n1", "10.1.1.2", {"kind": "unicast"}, "a/eth0"),
        ("n1", "192.168.0.200", {"kind": "unicast"}, None),
        ("n1", "203.0.113.1", {"kind": "blackhole"}, None),
        ("n1", "203.0.113.1", {}, None),
    ],
)
def test_the_next_hop_is_the_gateway_or_the_destination_itself(
    monkeypatch: pytest.MonkeyPatch, owner: str, destination: str, route: dict[str, Any], hop: str | None
) -> None:
    fake, topology = build_fake(cluster())
    engine: Any = fake
    answer = {key: ip_address(value).packed if key == "via" else value for key, value in route.items()}
    monkeypatch.setattr(fake, "lookup_route", lambda namespace, address: answer, raising=False)
    found = next_hop_mac(engine, topology, topology.namespace_id(owner), ip_address(destination).packed)
    assert (found.hex(":") if found else None) == (fake.device(hop).mac if hop else None)
