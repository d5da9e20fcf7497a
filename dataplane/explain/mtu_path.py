"""The limits of a path, from the devices that a small packet was seen on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dataplane.control.topology import Machine, Topology
from dataplane.encap.mtu import ETHERNET_HEADER, IP_HEADER
from dataplane.explain.mtu_budget import BRIDGE, POD, POD_LINK, SWITCH, VLAN_TAG, Beyond, Limit, Tunnel
from dataplane.traffic.packets import PROTO_UDP

if TYPE_CHECKING:
    from dataplane._core import Engine, Frame

UDP_HEADER = 8
_IPV4_FLAGS_AT, _DONT_FRAGMENT = 6, 0x40
_IPV4_PROTOCOL_AT, _IPV6_NEXT_HEADER_AT = 9, 6

Devices = Mapping[int, Mapping[str, Any]]
"""What ``Engine.devices`` says, by the device's number."""


def role_of(topology: Topology, device: Mapping[str, Any]) -> str:
    """What a device is for."""
    machine = topology.machines.get(device["ns"])
    if machine is None:
        return SWITCH if device["kind"] == "bridge" else ""
    if machine.eth0 == device["id"]:
        return POD if machine.kind == "pod" else f"{machine.kind}s' {device['name']}"
    if device["kind"] == "bridge":
        return BRIDGE
    return POD_LINK if device["kind"] == "veth" else f"tunnels {device['name']}"


def all_devices(engine: Engine, topology: Topology) -> Devices:
    namespaces = [*topology.machines, topology.switch]
    return {device["id"]: device for namespace in namespaces for device in engine.devices(namespace)}


class Tracer:
    """Follows the frames of one packet and notes each place that would have minded its length."""

    def __init__(self, topology: Topology, devices: Devices, source: Machine, family: int) -> None:
        self._topology = topology
        self._devices = devices
        self._source = source
        self._family = family
        self._tunnels: tuple[Tunnel, ...] = ()
        self._entering = -1  # a tunnel device whose outer packet has not been seen yet
        self._beyond = Beyond.CUT  # what becomes of a packet that is too long with that device's headers
        self._plain_crossings = 0

    def limits(self, frames: Sequence[Frame]) -> Iterator[Limit]:
        """``frames``: those of one packet from its sender to its end, in order."""
        for frame in frames:
            device = self._devices[frame.device]
            tunnel = bool(device["overhead"])
            if frame.outgoing:
                entered = self._entering >= 0
                if entered:
                    self._enter(self._devices[self._entering], frame.data[ETHERNET_HEADER if device["ethernet"] else 0 :])
                yield from self._leaving(device, entered)
                self._entering = frame.device if tunnel else -1
            elif tunnel:
                self._tunnels = self._tunnels[:-1]
            elif device["peer"] >= 0:
                yield self._received(device)

    # ---- tunnels
    def _enter(self, device: Mapping[str, Any], outer: bytes) -> None:
        """``outer``: the packet around, from its IP header on.

        What is too long for it is cut if it may be. Else VXLAN and Geneve (Ethernet in UDP) leave it at that, and others tell the
        sender (net/ipv4/ip_tunnel.c: tnl_update_pmtu(), net/ipv6/ip6_tunnel.c: ip6_tnl_xmit(), net/ipv6/ip6_output.c: ip6_fragment()).
        """
        family = outer[0] >> 4
        proto = outer[_IPV4_PROTOCOL_AT if family == 4 else _IPV6_NEXT_HEADER_AT]
        overhead = device["overhead"][family]
        udp = proto == PROTO_UDP
        header = overhead - IP_HEADER[family] - (UDP_HEADER if udp else 0)
        place = self._topology.device_name(device["id"])
        tunnel = Tunnel(place, device["kind"], family, overhead, header, udp, device["ethernet"], device["align"], device["mtu"])
        self._tunnels = (*self._tunnels, tunnel)
        never_cut = family == 6 or bool(outer[_IPV4_FLAGS_AT] & _DONT_FRAGMENT)
        self._beyond = Beyond.CUT if not never_cut else Beyond.SILENT if tunnel.ethernet and udp else Beyond.TOLD

    # ---- places
    def _leaving(self, device: Mapping[str, Any], entered: bool) -> Iterator[Limit]:
        if device["master"] >= 0:
            yield self._limit(device, Beyond.SILENT, slack=VLAN_TAG)
        else:
            yield self._limit(device, self._routed(self._machine(device), entered))
        peer = self._devices.get(device["peer"])
        if peer is not None and peer["ns"] == self._topology.switch:
            mtu = peer["mtu"]
            yield Limit(SWITCH, SWITCH, "", mtu, mtu + VLAN_TAG, self._tunnels, Beyond.SILENT, self._plain_crossings)

    def _routed(self, machine: str, entered: bool) -> Beyond:
        """What the IP layer does with what is too long for its outgoing device; ``entered``: the packet was just encapsulated."""
        if entered and self._beyond is not Beyond.TOLD:
            return self._beyond
        if machine != self._source.ref:
            return Beyond.TOLD
        return Beyond.SPLIT if self._family == 6 and not entered else Beyond.REFUSED

    def _received(self, device: Mapping[str, Any]) -> Limit:
        crossed = self._devices[device["peer"]]["ns"] == self._topology.switch
        limit = self._limit(device, Beyond.SILENT, slack=VLAN_TAG)
        self._plain_crossings += crossed and not self._tunnels
        return limit

    def _limit(self, device: Mapping[str, Any], beyond: Beyond, *, slack: int = 0) -> Limit:
        place, mtu = self._topology.device_name(device["id"]), device["mtu"]
        role, machine = role_of(self._topology, device), self._machine(device)
        return Limit(place, role, machine, mtu, mtu + slack, self._tunnels, beyond, self._plain_crossings)

    def _machine(self, device: Mapping[str, Any]) -> str:
        return self._topology.machines[device["ns"]].ref
