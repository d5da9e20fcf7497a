"""Puts a foreign capture's addresses onto the cluster's: ``--map A=B``, with every checksum that depends on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from dataplane.capture.headers import upper_layer
from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.k8s.fields import plain_address
from dataplane.k8s.objects import IPAddress, IPNetwork
from dataplane.traffic.model import Reference, parse_reference

_HOW = "write ADDRESS=TO or PREFIX=TO, where TO is an address, a prefix of the same length, pod/NAMESPACE/NAME, service/NAMESPACE/NAME, node/NAME or host/NAME"  # noqa: E501
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_CHECKSUM_AT = {_TCP: 16, _UDP: 6, _ICMPV6: 2}  # those that cover the addresses
_ICMP_ERRORS = (3, 4, 5, 11, 12)  # destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792)
_ICMPV6_ERRORS = (1, 2, 3, 4)  # destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443)
_IPV4_HEADER, _IPV6_HEADER = 20, 40
_ARP_ADDRESSES = (14, 24)  # sender and target protocol address in an ARP message for Ethernet and IPv4 (RFC 826)
_ND_ADDRESSES = {135: (8,), 136: (8,), 137: (8, 24)}  # target of solicitation and advertisement; target and destination of a redirect


@dataclass(frozen=True, slots=True)
class Rule:
    """Addresses of ``source`` become the address at the same place in ``target``, or its only one."""

    source: IPNetwork
    target: IPNetwork

    def apply(self, address: int) -> int:
        host = address & int(self.source.hostmask) if self.target.num_addresses > 1 else 0
        return int(self.target.network_address) | host

    @property
    def packed(self) -> tuple[bytes, bytes, bytes, bool]:
        """Source, its mask, target, and whether the host part stays."""
        target = self.target.network_address.packed
        return self.source.network_address.packed, self.source.netmask.packed, target, self.target.num_addresses > 1


class AddressMap:
    """Rules for addresses of both families; the longest prefix decides."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = sorted(rules, key=lambda rule: -rule.source.prefixlen)
        """The first one that fits decides."""
        self._known: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self.rules)

    def of(self, address: bytes) -> bytes:
        """What an address of 4 or 16 bytes becomes; itself where no rule fits."""
        found = self._known.get(address)
        if found is None:
            found = self._known[address] = self._apply(address)
        return found

    def _apply(self, address: bytes) -> bytes:
        number, bits = int.from_bytes(address, "big"), 8 * len(address)
        for rule in self.rules:
            if rule.source.max_prefixlen == bits and number & int(rule.source.netmask) == int(rule.source.network_address):
                return rule.apply(number).to_bytes(len(address), "big")
        return address

    def ip(self, packet: bytes) -> bytes:
        """An IPv4 or IPv6 packet with its addresses mapped, those quoted in an ICMP error and named in neighbour discovery too.

        Checksums are updated incrementally (RFC 1624): one that was wrong stays wrong by the same difference.
        """
        data = bytearray(packet)
        self._map_packet(data, 0, is_quote=False)
        return bytes(data)

    def arp(self, message: bytes) -> bytes:
        """An ARP message for IPv4 on Ethernet with its protocol addresses mapped."""
        data = bytearray(message)
        if data[:6] == b"\x00\x01\x08\x00\x06\x04":
            for at in _ARP_ADDRESSES:
                if len(data) >= at + 4:
                    data[at : at + 4] = self.of(bytes(data[at : at + 4]))
        return bytes(data)

    def _map_packet(self, data: bytearray, at: int, *, is_quote: bool) -> None:
        """An error is never about an error, so what a quote quotes is left alone."""
        if len(data) >= at + _IPV4_HEADER and data[at] >> 4 == 4:
            self._map_ipv4(data, at, is_quote)
        elif len(data) >= at + _IPV6_HEADER and data[at] >> 4 == 6:
            self._map_ipv6(data, at, is_quote)

    def _map_ipv4(self, data: bytearray, at: int, is_quote: bool) -> None:
        old, new = self._replace(data, at + 12, 4)
        update_checksum(data, at + 10, old, new)
        payload = at + (data[at] & 15) * 4
        if int.from_bytes(data[at + 6 : at + 8], "big") & 0x1FFF:
            return  # a later fragment: no transport header
        protocol = data[at + 9]
        if protocol in (_TCP, _UDP):
            _update_transport(data, payload + _CHECKSUM_AT[protocol], protocol, old, new)
        elif protocol == _ICMP and not is_quote and len(data) > payload and data[payload] in _ICMP_ERRORS:
            self._map_quote(data, payload)

    def _map_ipv6(self, data: bytearray, at: int, is_quote: bool) -> None:
        old, new = self._replace(data, at + 8, 16)
        upper = upper_layer(bytes(data), at)
        if upper.protocol not in _CHECKSUM_AT:
            return
        covered = 16 if upper.routed else 32  # the last hop of a routing header is covered, not the next one
        _update_transport(data, upper.start + _CHECKSUM_AT[upper.protocol], upper.protocol, old[:covered], new[:covered])
        if upper.protocol == _ICMPV6 and not is_quote and len(data) > upper.start:
            self._map_icmpv6(data, upper.start)

    def _map_icmpv6(self, data: bytearray, icmp: int) -> None:
        if data[icmp] in _ICMPV6_ERRORS:
            self._map_quote(data, icmp)
        for at in _ND_ADDRESSES.get(data[icmp], ()):
            if len(data) >= icmp + at + 16:
                before = bytes(data[icmp + at : icmp + at + 16])
                data[icmp + at : icmp + at + 16] = after = self.of(before)
                update_checksum(data, icmp + 2, before, after)

    def _map_quote(self, data: bytearray, icmp: int) -> None:
        before = bytes(data[icmp + 8 :])
        self._map_packet(data, icmp + 8, is_quote=True)
        update_checksum(data, icmp + 2, before, bytes(data[icmp + 8 :]))

    def _replace(self, data: bytearray, at: int, size: int) -> tuple[bytes, bytes]:
        """Map the source and destination that stand at ``at``; both as they were, and as they are now."""
        old = bytes(data[at : at + 2 * size])
        new = self.of(old[:size]) + self.of(old[size:])
        data[at : at + 2 * size] = new
        return old, new


def _update_transport(data: bytearray, at: int, protocol: int, old: bytes, new: bytes) -> None:
    if protocol == _UDP and data[at : at + 2] == b"\0\0":
        return  # the sender computed none (RFC 768)
    update_checksum(data, at, old, new)
    if protocol == _UDP and data[at : at + 2] == b"\0\0":
        data[at : at + 2] = b"\xff\xff"


def update_checksum(data: bytearray, at: int, old: bytes, new: bytes) -> None:
    """Update the Internet checksum at ``at`` for bytes that changed (RFC 1624, equation 3); left alone if it is not all there.

    ``old`` and ``new`` have the same length and stand at an even distance from the start of what is summed.
    """
    if old == new or len(data) < at + 2:
        return
    total = 0xFFFF - int.from_bytes(data[at : at + 2], "big") + _sum_of_complement(old) + _sum(new)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    data[at : at + 2] = (0xFFFF - total).to_bytes(2, "big")


def _sum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    return sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))


def _sum_of_complement(data: bytes) -> int:
    return 0xFFFF * ((len(data) + 1) // 2) - _sum(data)


def parse_map(texts: Iterable[str], topology: Topology) -> AddressMap:
    """``A=B`` of each ``--map``. Raises InputError for one that cannot be, and for a source that stands in two."""
    rules: dict[IPNetwork, Rule] = {}
    for text in texts:
        rule = _parse_rule(text, topology)
        if rule.source in rules:
            raise InputError(f"--map {text}: {rule.source} is mapped twice; leave one out")
        rules[rule.source] = rule
    return AddressMap(rules.values())


def _parse_rule(text: str, topology: Topology) -> Rule:
    left, separator, right = text.partition("=")
    if not separator:
        raise InputError(f"--map {text}: there is no '=' in it; {_HOW}")
    source = _network(text, left)
    reference = parse_reference(right)
    target = _network(text, right) if reference is None else ip_network(_address_of(text, reference, topology, source.version))
    if source.version != target.version:
        raise InputError(f"--map {text}: IPv{source.version} cannot become IPv{target.version}; give both sides the same family")
    if target.num_addresses > 1 and target.prefixlen != source.prefixlen:
        raise InputError(f"--map {text}: the prefixes have different lengths; {_HOW}")
    return Rule(source, target)


def _network(text: str, part: str) -> IPNetwork:
    try:
        return ip_network(part) if "/" in part else ip_network(plain_address(part))
    except ValueError as error:
        raise InputError(f"--map {text}: {part!r} is no address or prefix ({error}); {_HOW}") from None


def _address_of(text: str, reference: Reference, topology: Topology, version: int) -> IPAddress:
    if reference.kind == "service":
        found = next((service for service in topology.manifests.services if service.key == reference.key), None)
        if found is None:
            known = ", ".join(service.key for service in topology.manifests.services[:8])
            raise InputError(f"--map {text}: there is no service {reference.key}: there are {known or 'none'}")
        addresses = found.cluster_ips
    else:
        addresses = topology.endpoint(str(reference)).addresses
    for address in addresses:
        if address.version == version:
            return address
    raise InputError(f"--map {text}: {reference} has no IPv{version} address; name an address")
