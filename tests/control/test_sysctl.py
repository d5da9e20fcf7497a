"""Patterns of settings: which names they stand for and which one wins."""

from __future__ import annotations

import pytest

from dataplane.control.sysctl import expand, resolve
from dataplane.errors import InputError

DEVICES = ["lo", "eth0", "cali1", "flannel/1"]


def test_a_pattern_stands_for_all_default_and_every_device_it_fits() -> None:
    assert expand("net.ipv4.conf.*.rp_filter", DEVICES) == [
        f"net.ipv4.conf.{name}.rp_filter" for name in ("all", "default", "lo", "eth0", "cali1", "flannel/1")
    ]
    assert expand("net.ipv4.conf.cali*.proxy_arp", DEVICES) == ["net.ipv4.conf.cali1.proxy_arp"]
    assert expand("net.ipv4.neigh.*.retrans_time_ms", ["eth0"]) == [
        "net.ipv4.neigh.default.retrans_time_ms", "net.ipv4.neigh.eth0.retrans_time_ms",
    ]  # fmt: skip


def test_slashes_separate_as_dots_do() -> None:
    assert expand("net/ipv4/conf/flannel.1/rp_filter", DEVICES) == ["net.ipv4.conf.flannel/1.rp_filter"]


def test_a_pattern_for_anything_but_devices_is_refused() -> None:
    with pytest.raises(InputError, match="can only stand for devices"):
        expand("net.ipv4.tcp_*", DEVICES)


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_pattern_wins_wherever_it_stands(order: int) -> None:
    written = [("net.ipv4.conf.*.rp_filter", 0), ("net.ipv4.conf.cali*.rp_filter", 1), ("net.ipv4.conf.eth0.rp_filter", 2)]
    found = resolve(dict(written[::order]), DEVICES)
    assert [found[f"net.ipv4.conf.{name}.rp_filter"] for name in ("all", "lo", "cali1", "eth0")] == [0, 0, 1, 2]


def test_settings_that_overwrite_those_of_devices_are_written_before_them() -> None:
    written = {"net.ipv4.conf.eth0.forwarding": 0, "net.ipv4.conf.all.forwarding": 1, "net.ipv4.ip_forward": 1}
    assert list(resolve(written, DEVICES)) == ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv4.conf.eth0.forwarding"]
