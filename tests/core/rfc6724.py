"""Source address selection by the words of RFC 6724 5, as plain as can be: the slow twin of the core's.

Rules 1, 2, 5, 6 and 8 decide here; addresses that are deprecated, of a home agent or temporary (3, 4, 7) do not occur. Linux'
policy table is longer than the RFC's by two prefixes (``ip addrlabel list``), and it adds two rules: before rule 8 an ORCHID
(RFC 4843) prefers its like, and in the end the address that was added last wins, those of wider scope first
(net/ipv6/addrconf.c, ipv6_get_saddr_eval(), ipv6_link_dev_addr()).
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import NamedTuple

LINK_LOCAL, SITE_LOCAL, GLOBAL = 2, 5, 14  # as in multicast addresses, RFC 4291 2.7
LABELS = {
    IPv6Network(prefix): label
    for prefix, label in {
        "::1/128": 0,
        "::/0": 1,
        "::ffff:0:0/96": 4,
        "2002::/16": 2,
        "2001::/32": 6,
        "fc00::/7": 5,
        "::/96": 3,
        "fec0::/10": 11,
        "3ffe::/16": 12,
        "2001:10::/28": 7,
    }.items()
}
ORCHID = IPv6Network("2001:10::/28")


class Candidate(NamedTuple):
    device: int
    interface: IPv6Interface


def scope(address: IPv6Address) -> int:
    """RFC 6724 3.1, 3.4: of unicast addresses; ::1 is link-local."""
    if address.is_link_local or address.is_loopback:
        return LINK_LOCAL
    return SITE_LOCAL if address.is_site_local else GLOBAL


def label(address: IPv6Address) -> int:
    """RFC 6724 2.1: that of the longest prefix."""
    return LABELS[max((prefix for prefix in LABELS if address in prefix), key=lambda prefix: prefix.prefixlen)]


def common_prefix_length(source: IPv6Interface, address: IPv6Address) -> int:
    """RFC 6724 2.2: no longer than the source's own prefix."""
    return min(128 - (int(source.ip) ^ int(address)).bit_length(), source.network.prefixlen)


def better(a: Candidate, b: Candidate, destination: IPv6Address, out: int) -> bool:
    """Does a rule prefer ``a``?"""
    address_a, address_b = a.interface.ip, b.interface.ip
    if destination in (address_a, address_b) and address_a != address_b:
        return address_a == destination
    if scope(address_a) != scope(address_b):
        if scope(address_a) < scope(address_b):
            return scope(address_a) >= scope(destination)
        return scope(address_b) < scope(destination)
    preferences = (
        (a.device == out, b.device == out),
        (label(address_a) == label(destination), label(address_b) == label(destination)),
        ((address_a in ORCHID) == (destination in ORCHID), (address_b in ORCHID) == (destination in ORCHID)),
        (common_prefix_length(a.interface, destination), common_prefix_length(b.interface, destination)),
    )
    return next((bool(mine > its) for mine, its in preferences if mine != its), False)


def select(candidates: list[Candidate], destination: IPv6Address, out: int) -> IPv6Address | None:
    """The source for packets to a unicast ``destination`` that leave by device ``out``; ``candidates`` in the order they were added."""
    if scope(destination) <= LINK_LOCAL:
        candidates = [each for each in candidates if each.device == out]
    newest_first = candidates[::-1]
    newest_first.sort(key=lambda each: (each.device, -scope(each.interface.ip)))
    best = None
    for each in newest_first:
        if best is None or better(each, best, destination, out):
            best = each
    return best.interface.ip if best else None
