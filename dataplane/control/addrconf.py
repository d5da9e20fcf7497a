"""The IPv6 addresses that Linux gives devices by itself, and when it takes a device's IPv6 away.

Source: net/ipv6/addrconf.c (addrconf_notify, addrconf_dev_config, init_loopback, addrconf_ifdown, dev_disable_change);
RFC 4291 appendix A (modified EUI-64) and 2.5.6 (link-local addresses). The routes that come with an address are the core's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Any

from dataplane.control.topology import Machine, Topology
from dataplane.control.wiring import Wiring
from dataplane.errors import InputError

if TYPE_CHECKING:
    from dataplane._core import Engine

MIN_MTU = 1280  # RFC 8200 section 5: no device below it carries IPv6
LOOPBACK = IPv6Interface("::1/128")
DISABLE = "net.ipv6.conf.{device}.disable_ipv6"


def link_local(mac: bytes) -> IPv6Interface:
    """fe80::/64 with the modified EUI-64 of a six-byte MAC."""
    identifier = bytes((mac[0] ^ 0x02, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
    return IPv6Interface((IPv6Address(b"\xfe\x80".ljust(8, b"\0") + identifier), 64))


def add_own_addresses(wiring: Wiring, machines: Iterable[Machine]) -> None:
    """Once devices and settings are there: every device that carries IPv6 gets its own address.

    Ports of a bridge have none, so that nothing but the bridge answers on it.
    """
    for namespace in (machine.namespace for machine in machines):
        for device in wiring.engine.devices(namespace):
            add_own_address(wiring, namespace, device)


def add_own_address(wiring: Wiring, namespace: int, device: Mapping[str, Any]) -> None:
    """The same for one device, as ``Engine.devices`` describes it."""
    if device["master"] >= 0:
        wiring.engine.set_sysctl(namespace, setting(DISABLE, device), 1)
    if carries_ipv6(wiring.engine, namespace, device):
        start(wiring.engine, wiring.topology, device)
    elif ipv6_addresses(device):
        refuse_written(wiring, namespace, device)
        stop(wiring.engine, namespace, device)


def refuse_written(wiring: Wiring, namespace: int, device: Mapping[str, Any]) -> None:
    """``InputError`` if a manifest gives an IPv6 address to a device that can have none."""
    for each in device["addresses"]:
        if len(each["address"]) == 16 and each["origin"]:
            why = why_not(wiring.engine, namespace, device)
            raise InputError(f"{wiring.topology.origins[each['origin']]}: IPv6 address of {device['name']}: {why}")


def follow(engine: Engine, topology: Topology, namespace: int) -> None:
    """After a change of settings or links: start IPv6 where it has become possible and stop it where it no longer is."""
    for device in engine.devices(namespace):
        before, now = bool(ipv6_addresses(device)), carries_ipv6(engine, namespace, device)
        if before and not now:
            stop(engine, namespace, device)
        elif now and not before:
            start(engine, topology, device)


def carries_ipv6(engine: Engine, namespace: int, device: Mapping[str, Any]) -> bool:
    """Of a device as ``Engine.devices`` describes it."""
    return bool(device["up"]) and not why_not(engine, namespace, device)


def why_not(engine: Engine, namespace: int, device: Mapping[str, Any]) -> str:
    """What keeps a device from having IPv6 addresses, and the remedy; empty: nothing."""
    if device["mtu"] < MIN_MTU:
        return f"IPv6 needs an MTU of {MIN_MTU} bytes, this device has {device['mtu']}: raise its mtu"
    name = setting(DISABLE, device)
    return f"IPv6 is off on this device: set {name} to 0" if engine.get_sysctl(namespace, name) else ""


def setting(pattern: str, device: Mapping[str, Any]) -> str:
    """The name of a device's sysctl, in which a dot of the device's own name is written ``/``."""
    return pattern.format(device=device["name"].replace(".", "/"))


def ipv6_addresses(device: Mapping[str, Any]) -> list[tuple[bytes, int]]:
    return [(each["address"], each["prefix_len"]) for each in device["addresses"] if len(each["address"]) == 16]


def start(engine: Engine, topology: Topology, device: Mapping[str, Any]) -> None:
    if device["kind"] != "lo" and not any(device["mac"]):
        return  # a tunnel without Ethernet has no MAC to make an address of
    own = LOOPBACK if device["kind"] == "lo" else link_local(device["mac"])
    if (own.packed, own.network.prefixlen) not in ipv6_addresses(device):
        engine.add_address(device["id"], own.packed, own.network.prefixlen)
    if own != LOOPBACK:
        topology.macs[own.packed] = device["mac"]


def stop(engine: Engine, namespace: int, device: Mapping[str, Any]) -> None:
    """Take the device's IPv6 addresses and the routes through it."""
    for address, prefix_len in ipv6_addresses(device):
        engine.del_address(device["id"], address, prefix_len)
    for route in engine.routes(namespace):
        if route["dev"] == device["id"] and len(route["prefix"]) == 16:
            engine.del_route(
                namespace, route["prefix"], route["prefix_len"], kind=route["kind"], dev=device["id"], metric=route["metric"]
            )  # fmt: skip
