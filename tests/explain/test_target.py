"""Which address of a dual-stack destination a probe is sent to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from control.fake_engine import FakeEngine
from dataplane import k8s
from dataplane.control.build import build
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.explain.target import Target, Wanted, find_source, find_target


@pytest.fixture(scope="module")
def topology(checkout: Path) -> Topology:
    engine: Any = FakeEngine()
    return build(k8s.load([str(checkout / "pcaps" / "sample6" / "cluster.yaml")]), engine)


def target(topology: Topology, to: str, source: str = "pod/shell", **wanted: Any) -> Target:
    return find_target(topology, to, "default", find_source(topology, source, "default"), Wanted(**wanted))


@pytest.mark.parametrize(
    ("to", "family", "address", "port"),
    [
        ("service/web:http", 0, "10.96.0.80", 80),
        ("service/web:http", 6, "fd00:10:96::80", 80),
        ("service/modern", 0, "fd00:10:96::90", 80),
        ("service/modern", 4, "10.96.0.90", 80),
        ("pod/web-1", 0, "10.244.2.5", 8080),
        ("pod/web-1", 6, "fd00:10:244:2::5", 8080),
        ("node/node2:22", 6, "fd00:192:168::12", 22),
        ("host/client:443", 6, "fd00:192:168::200", 443),
        ("[fd00:192:168::12]:30080", 0, "fd00:192:168::12", 30080),
        ("fd00:192:168::12", 0, "fd00:192:168::12", 80),
        ("[fd00:192:168::12]", 6, "fd00:192:168::12", 80),
    ],
)
def test_the_first_address_decides_unless_a_family_is_wanted(topology: Topology, to: str, family: int, address: str, port: int) -> None:
    found = target(topology, to, family=family)
    assert (str(found.address), found.port) == (address, port)


@pytest.mark.parametrize(
    ("to", "family", "told"),
    [
        (
            "[fd00::1]:80",
            4,
            "there is no IPv4 address in common with pod/default/shell (it has fd00::1): choose other ends or another --family",
        ),
        ("10.96.0.80", 6, "there is no IPv6 address in common with pod/default/shell"),
        ("[fd00::1:80", 0, "--to [fd00::1:80: write an IP address, "),
        ("[fd00::12345]:80", 0, "--to fd00::12345: write an IP address, "),
        ("fe80::1%eth0", 0, "--to fe80::1%eth0: write an IP address, "),
        ("[::ffff:10.0.0.1]:80", 0, "--to ::ffff:10.0.0.1: write an IP address, "),
        ("[fd00::1]:0", 0, "port '0' is no number from 1 to 65535"),
    ],
)
def test_what_cannot_be_reached_is_one_line(topology: Topology, to: str, family: int, told: str) -> None:
    with pytest.raises(InputError) as caught:
        target(topology, to, family=family)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
