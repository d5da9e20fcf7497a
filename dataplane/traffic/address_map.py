"""Puts a foreign capture's addresses onto the cluster's: ``--map A=B``, with every checksum that depends on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from dataplane.control.topology import Topology
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, IPNetwork
from dataplane.traffic.model import Reference, parse_reference

_HOW = "write ADDRESS=TO or PREFIX=TO, where TO is an address, a prefix of the same length, pod/NAMESPACE/NAME, service/NAMESPACE/NAME, node/NAME or host/NAME"  # noqa: E501
_ICMP, _TCP, _UDP = 1, 6, 17
_CHECKSUM_AT = {_TCP: 16, _UDP: 6}
_ICMP_ERRORS = (3, 4, 5, 11, 12)  # destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792)
_IPV4_HEADER = 20
_ARP_ADDRESSES = (14, 24)  # sender and target protocol address in an ARP message for Ethernet and IPv4 (RFC 826)


@dataclass(frozen=True, slots=True)
class Rule:
    """Addresses of ``source`` become the address at the same place in ``target``, or its only one."""

    source: IPNetwork
    target: IPNetwork

    def apply(self, address: int) -> int:
        host = address & int(self.source.hostmask) if self.target.num_addresses > 1 else 0
        return int(self.target.network_address) | host


class AddressMap:
    """Rules for IPv4 addresses; the longest prefix decides."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = sorted(rules, key=lambda rule: -rule.source.prefixlen)
        self._known: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def of(self, address: bytes) -> bytes:
        """What a 4-byte address becomes; itself where no rule fits."""
        found = self._known.get(address)
        if found is None:
            number = int.from_bytes(address, "big")
            rule = next((rule for rule in self._rules if number & int(rule.source.netmask) == int(rule.source.network_address)), None)
            found = self._known[address] = rule.apply(number).to_bytes(4, "big") if rule else address
        return found

    def ipv4(self, packet: bytes) -> bytes:
        """An IPv4 packet with its addresses mapped, those quoted in an ICMP error too.

        Checksums are updated incrementally (RFC 1624): one that was wrong stays wrong by the same difference.
        """
        data = bytearray(packet)
        self._map_packet(data, 0)
        return bytes(data)

    def arp(self, message: bytes) -> bytes:
        """An ARP message for IPv4 on Ethernet with its protocol addresses mapped."""
        data = bytearray(message)
        if data[:6] == b"\x00\x01\x08\x00\x06\x04":
            for at in _ARP_ADDRESSES:
                if len(data) >= at + 4:
                    data[at : at + 4] = self.of(bytes(data[at : at + 4]))
        return bytes(data)

    def _map_packet(self, data: bytearray, at: int) -> None:
        if len(data) < at + _IPV4_HEADER or data[at] >> 4 != 4:
            return
        old = bytes(data[at + 12 : at + 20])
        new = self.of(old[:4]) + self.of(old[4:])
        data[at + 12 : at + 20] = new
        update_checksum(data, at + 10, old, new)
        payload = at + (data[at] & 15) * 4
        if int.from_bytes(data[at + 6 : at + 8], "big") & 0x1FFF:
            return  # a later fragment: no transport header
        protocol = data[at + 9]
        if protocol in _CHECKSUM_AT:
            _update_transport(data, payload + _CHECKSUM_AT[protocol], protocol, old, new)
        elif protocol == _ICMP and len(data) > payload and data[payload] in _ICMP_ERRORS:
            self._map_quote(data, payload)

    def _map_quote(self, data: bytearray, icmp: int) -> None:
        before = bytes(data[icmp + 8 :])
        self._map_packet(data, icmp + 8)
        update_checksum(data, icmp + 2, before, bytes(data[icmp + 8 :]))


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
    target = _network(text, right) if reference is None else ip_network(_address_of(text, reference, topology))
    if source.version != 4 or target.version != 4:
        raise InputError(f"--map {text}: only IPv4 addresses are mapped; leave it out")
    if target.num_addresses > 1 and target.prefixlen != source.prefixlen:
        raise InputError(f"--map {text}: the prefixes have different lengths; {_HOW}")
    return Rule(source, target)


def _network(text: str, part: str) -> IPNetwork:
    try:
        return ip_network(part) if "/" in part else ip_network(ip_address(part))
    except ValueError as error:
        raise InputError(f"--map {text}: {part!r} is no address or prefix ({error}); {_HOW}") from None


def _address_of(text: str, reference: Reference, topology: Topology) -> IPAddress:
    if reference.kind == "service":
        found = next((service for service in topology.manifests.services if service.key == reference.key), None)
        if found is None:
            known = ", ".join(service.key for service in topology.manifests.services[:8])
            raise InputError(f"--map {text}: there is no service {reference.key}: there are {known or 'none'}")
        addresses = found.cluster_ips
    else:
        addresses = topology.endpoint(str(reference)).addresses
    for address in addresses:
        if address.version == 4:
            return address
    raise InputError(f"--map {text}: {reference} has no IPv4 address; name an address")
