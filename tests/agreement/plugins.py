"""Encapsulations that are not the core's own: declared ones, one that Numba compiles, and a Python class that remembers its packets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from dataplane import _core
from dataplane.encap import python_plugin, registry, udp
from dataplane.encap.python_plugin import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Encapsulation, Host, Incoming, Outgoing, Reason, Refused
from encap import samples

PORT = 7788
TOLL = 11  # of so many packets one is kept


class Tolled(Encapsulation):
    """IP packets in UDP, whose order decides which of them get through."""

    name: ClassVar[str] = "tolled_udp"
    sentence: ClassVar[str] = "IP packets in UDP, with a toll"
    ip_protocols = (17,)
    reasons = (
        Reason("truncated", "The datagram is not all there"),
        Reason("toll", "It is one in so many"),
        Reason("too_big", "It is too long"),
    )

    def __init__(self, options: Mapping[str, int | bytes], host: Host | None) -> None:
        self.taken = 0

    def port(self) -> int:
        return PORT

    def overhead(self, family: int) -> int:
        return (20 if family == 4 else 40) + udp.UDP_HEADER_LENGTH

    def push(self, outer: Outgoing, packet: bytes) -> bytes:
        outer.ip_protocol = 17
        return udp.datagram(0xC000 | outer.flow_hash & 0x3FFF, PORT, packet, outer, checksum=len(outer.local) == 16)

    def pop(self, incoming: Incoming, payload: bytes) -> bytes:
        _, inner = udp.split(payload)
        self.taken += 1
        if self.taken % TOLL == 0:
            raise Refused("toll")
        if not inner:
            raise Refused("truncated")
        incoming.inner_protocol = ETHERTYPE_IPV4 if inner[0] >> 4 == 4 else ETHERTYPE_IPV6
        return inner


KINDS = (*samples.FILES, Tolled.name)


def ensure(kind: str) -> None:
    """Make an encapsulation known to the core, whoever it is from."""
    if kind in samples.FILES:
        samples.offered(kind)
    elif kind == Tolled.name:
        if kind not in _core.encapsulations():
            _core.register_encap(python_plugin.capsule(Tolled))
    else:
        registry.ensure(kind)
