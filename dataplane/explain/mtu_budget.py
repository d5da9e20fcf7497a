"""What fits through a path: every place that limits the length of a packet, in the order in which the packet meets them.

Lengths are bytes of an IP packet, its header included, unless a name says otherwise. Facts: a router refuses what exceeds the
MTU of its outgoing device (net/ipv4/ip_forward.c, net/ipv6/ip6_output.c); the receiving end of a cable and a bridge port drop
what exceeds theirs, without a word, but leave room for a VLAN tag (include/linux/netdevice.h, is_skb_forwardable()).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dataplane.encap.mtu import ETHERNET_HEADER

VLAN_TAG = 4  # which a frame may have besides the MTU
FRAGMENT_HEADER = {4: 20, 6: 48}  # IPv6: with its fragment header (RFC 8200 4.5)
IPV6_LEAST_MTU = 1280  # RFC 8200 5

SWITCH = "underlay"
POD, POD_LINK, BRIDGE = "pods' eth0", "nodes' ends of pods' links", "bridges"
INSIDE = (POD, POD_LINK, BRIDGE)
"""Roles of devices that have to agree on one MTU, for all that a pod sends and receives passes through them."""


class Beyond(StrEnum):
    """What a place does to a packet that is too long for it. Hosts fragment the IPv6 they send, routers do not."""

    REFUSED = "refused by the sender"
    SPLIT = "fragmented by the sender"
    TOLD = "ICMP"
    CUT = "fragmented"
    SILENT = "dropped silently"


class Result(StrEnum):
    """What becomes of a packet."""

    DELIVERED = "delivered"
    REFUSED = "refused by the sender"
    SPLIT = "fragmented by the sender"
    TOLD = "dropped with ICMP"
    SILENT = "dropped silently"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An encapsulation that the packet is in for a part of the path."""

    place: str  # node1/flannel.1
    kind: str
    family: int  # of the outer packet
    overhead: int  # bytes that it adds, the outer IP header included, padding not
    header: int  # of these the encapsulation's own header with its options
    udp: bool
    ethernet: bool  # the inner packet travels with its Ethernet header
    align: int  # the inner packet is padded to a multiple of this many bytes, but not beyond the device's MTU
    mtu: int  # of the device

    def outer_length(self, inner: int) -> int:
        """Of the outer packet around an inner one of this length."""
        padded = max(inner, min(self.mtu, -(-inner // self.align) * self.align)) if self.align > 1 else inner
        return padded + (ETHERNET_HEADER if self.ethernet else 0) + self.overhead

    def most(self, outer: int) -> int:
        """The longest inner packet whose outer one has at most this length; less than 1: there is none."""
        room = outer - self.overhead - (ETHERNET_HEADER if self.ethernet else 0)
        if self.align > 1 and self.mtu > room:
            room -= room % self.align
        return room


@dataclass(frozen=True, slots=True)
class Limit:
    """One place that lets only packets up to a length through."""

    place: str  # node1/eth0, or the switch
    role: str  # that devices alike have in common
    machine: str  # ref of who decides: node/node1; "": the underlay's switch
    mtu: int  # configured there
    link: int  # the longest packet that passes it, with all headers it has there
    tunnels: tuple[Tunnel, ...]  # that the packet is in there, outermost last
    beyond: Beyond
    plain_crossings: int = 0  # times that the packet crossed the underlay without a tunnel before

    @property
    def inner(self) -> int:
        """The longest packet of the sender that passes whole."""
        return _most(self.link, self.tunnels)

    @property
    def nominal(self) -> int:
        """The same by the MTU alone, without the room for a VLAN tag."""
        return _most(self.mtu, self.tunnels)


def wrapped(length: int, tunnels: tuple[Tunnel, ...]) -> int:
    """Of the outermost packet around one of this length."""
    for tunnel in tunnels:
        length = tunnel.outer_length(length)
    return length


def _most(link: int, tunnels: tuple[Tunnel, ...]) -> int:
    for tunnel in reversed(tunnels):
        link = tunnel.most(link)
    return link


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a packet, computed or seen."""

    result: Result
    place: str = ""  # where it ended; "": it did not
    fragmented: str = ""  # where it was, or the packet around it
    told_mtu: int = 0  # in the ICMP message, 0: there was none
    told_by: str = ""  # ref of the machine that sent it
    heard: bool = False  # the sender got it
    reason: str = ""  # of the drop; seen only
    message_lost: str = ""  # where and why the ICMP message was dropped; seen only

    def agrees(self, other: Fate) -> bool:
        """All but the drop reason, which is not computed, and the device of a router's refusal, who drops before the way out."""
        return self._told() == other._told() and (self.result is Result.TOLD or self.place == other.place)

    def _told(self) -> tuple[Result, str, int, str, bool]:
        return self.result, self.fragmented, self.told_mtu, self.told_by, self.heard


@dataclass(frozen=True, slots=True)
class Budget:
    """All limits of one path for one IP version."""

    family: int
    sender_mtu: int
    limits: tuple[Limit, ...]
    too_big_filtered: bool = False  # the underlay drops ICMP messages that say too big

    @property
    def largest(self) -> int:
        """The longest packet that arrives without having been fragmented on the way."""
        return min(limit.inner for limit in self.limits)

    @property
    def narrowest(self) -> Limit:
        """The first of the places that allow no more."""
        return min(self.limits, key=lambda limit: limit.inner)

    @property
    def link(self) -> Limit:
        """Where the packet has most headers around it, outside of what the CNI sets up, and leaves it least."""
        deepest = max(len(limit.tunnels) for limit in self.limits)
        there = [limit for limit in self.limits if len(limit.tunnels) == deepest]
        return min([limit for limit in there if limit.role not in INSIDE] or there, key=lambda limit: limit.nominal)

    def sizes(self, least: int) -> list[int]:
        """Worth trying: each limit, one byte less and one more, from ``least`` to what IP can say."""
        edges = {limit.inner + step for limit in self.limits for step in (0, 1)} | {self.largest - 1, self.sender_mtu}
        return sorted(size for size in edges if least <= size <= min(0xFFFF, self.sender_mtu + 1))

    def fate(self, size: int) -> Fate:
        """Of a packet of this length that must not be fragmented on the way (IPv4: DF is set)."""
        fragmented, piece = "", 0  # the longest part of an outer packet, until it is put together again
        around: tuple[Tunnel, ...] = ()
        for limit in self.limits:
            in_parts = piece > 0 and limit.tunnels[: len(around)] == around
            length = wrapped(piece, limit.tunnels[len(around) :]) if in_parts else wrapped(size, limit.tunnels)
            if length <= limit.link:
                continue
            if limit.beyond is not Beyond.CUT:
                return self._end(limit, fragmented)
            fragmented, around = fragmented or limit.place, limit.tunnels
            piece = largest_fragment(limit.tunnels[-1].family, limit.mtu)
        return Fate(Result.DELIVERED, fragmented=fragmented)

    def _end(self, limit: Limit, fragmented: str) -> Fate:
        if limit.beyond is Beyond.REFUSED:
            return Fate(Result.REFUSED, limit.place, fragmented)
        if limit.beyond is Beyond.SPLIT:
            return Fate(Result.SPLIT, limit.place)
        if limit.beyond is Beyond.SILENT:
            return Fate(Result.SILENT, limit.place, fragmented)
        told = limit.nominal if self.family == 4 else max(limit.nominal, IPV6_LEAST_MTU)
        heard = not (self.too_big_filtered and limit.plain_crossings)
        return Fate(Result.TOLD, limit.place, fragmented, told, limit.machine, heard)


def largest_fragment(family: int, mtu: int) -> int:
    """Of a packet that is cut for this MTU: fragments but the last carry a multiple of 8 bytes (RFC 791 3.2, RFC 8200 4.5)."""
    return FRAGMENT_HEADER[family] + (mtu - FRAGMENT_HEADER[family]) // 8 * 8
