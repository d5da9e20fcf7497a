"""Dissection of link-layer and tunnel headers: Ethernet, 802.1Q, ARP, VXLAN, Geneve, GRE."""

from __future__ import annotations

from dataplane.capture.layer import PAYLOAD, STOP, Field, Parser, Step, address, bits, hexadecimal, mac, named, number, read_fields, rest

ARP_OPERATIONS = {1: "request", 2: "reply"}

_ETHERTYPES = {0x0800: "ipv4", 0x0806: "arp", 0x8100: "vlan", 0x88A8: "vlan", 0x86DD: "ipv6"}
_TRANSPARENT_ETHERNET = 0x6558  # RFC 1701: a whole Ethernet frame, as GRE and Geneve name it
_ETHERTYPE_NAMES = {0x0800: "IPv4", 0x0806: "ARP", 0x8100: "802.1Q", 0x88A8: "802.1ad", 0x86DD: "IPv6", _TRANSPARENT_ETHERNET: "Ethernet"}
_LOWEST_ETHERTYPE = 0x0600  # IEEE 802.3: smaller numbers are a length


def _ethertype_text(value: bytes) -> str:
    code = int.from_bytes(value, "big")
    name = _ETHERTYPE_NAMES.get(code, "length" if code < _LOWEST_ETHERTYPE else "")
    return f"{hexadecimal(value)} ({name})" if name else hexadecimal(value)


_ETHERNET = (("destination", 0, 6, mac), ("source", 6, 6, mac), ("type", 12, 2, _ethertype_text))
_VLAN = (
    ("priority", 0, 2, bits(13, 3)),
    ("dei", 0, 2, bits(12, 1)),
    ("vlan id", 0, 2, bits(0, 12)),
    ("type", 2, 2, _ethertype_text),
)
_ARP = (
    ("hardware type", 0, 2, number),
    ("protocol type", 2, 2, hexadecimal),
    ("hardware length", 4, 1, number),
    ("protocol length", 5, 1, number),
    ("operation", 6, 2, named(ARP_OPERATIONS)),
)
_ARP_ADDRESSES = (
    ("sender hardware address", 8, 6, mac),
    ("sender protocol address", 14, 4, address),
    ("target hardware address", 18, 6, mac),
    ("target protocol address", 24, 4, address),
)
_VXLAN = (("flags", 0, 1, hexadecimal), ("reserved", 1, 3, hexadecimal), ("vni", 4, 3, number), ("reserved", 7, 1, hexadecimal))
_GENEVE = (
    ("version", 0, 1, bits(6, 2)),
    ("options length", 0, 1, bits(0, 6)),
    ("oam", 1, 1, bits(7, 1)),
    ("critical", 1, 1, bits(6, 1)),
    ("reserved", 1, 1, bits(0, 6)),
    ("protocol type", 2, 2, _ethertype_text),
    ("vni", 4, 3, number),
    ("reserved", 7, 1, hexadecimal),
)
_GRE = (("flags", 0, 2, hexadecimal), ("protocol type", 2, 2, _ethertype_text))
# RFC 2784 and 2890: bit of the flags, the fields that follow when it is set
_GRE_OPTIONAL = ((0x8000, ("checksum", "reserved")), (0x2000, ("key",)), (0x1000, ("sequence number",)))


def ethertype_key(code: int) -> str:
    """The parser for what follows an EtherType."""
    return _ETHERTYPES.get(code, PAYLOAD)


def _tunnelled_key(code: int) -> str:
    return "ethernet" if code == _TRANSPARENT_ETHERNET else ethertype_key(code)


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def ethernet(data: bytes, start: int, end: int) -> Step:
    fields = read_fields(data, start, end, _ETHERNET, 14)
    if end - start < 14:
        return Step("Ethernet", fields, complete=False)
    return Step("Ethernet", fields, ethertype_key(_u16(data, start + 12)), start + 14, end)


def vlan(data: bytes, start: int, end: int) -> Step:
    fields = read_fields(data, start, end, _VLAN, 4)
    if end - start < 4:
        return Step("802.1Q", fields, complete=False)
    return Step("802.1Q", fields, ethertype_key(_u16(data, start + 2)), start + 4, end)


def arp(data: bytes, start: int, end: int) -> Step:
    if end - start >= 8 and (data[start + 4], data[start + 5]) != (6, 4):
        stop = min(start + 8 + 2 * (data[start + 4] + data[start + 5]), end)
        fields = read_fields(data, start, end, _ARP, 8) + rest("addresses", data, start + 8, stop)
        return Step("ARP", fields, STOP, stop, stop)
    fields = read_fields(data, start, end, _ARP + _ARP_ADDRESSES, 28)
    if end - start < 28:
        return Step("ARP", fields, complete=False)
    return Step("ARP", fields, STOP, start + 28, start + 28)


def vxlan(data: bytes, start: int, end: int) -> Step:
    """RFC 7348 section 5."""
    fields = read_fields(data, start, end, _VXLAN, 8)
    if end - start < 8:
        return Step("VXLAN", fields, complete=False)
    return Step("VXLAN", fields, "ethernet", start + 8, end, "inner ")


def geneve(data: bytes, start: int, end: int) -> Step:
    """RFC 8926 section 3.4."""
    fields = read_fields(data, start, end, _GENEVE, 8)
    if end - start < 8:
        return Step("Geneve", fields, complete=False)
    inner = start + 8 + 4 * (data[start] & 0x3F)
    if inner > end:
        return Step("Geneve", fields + rest("options", data, start + 8, end), complete=False)
    fields += _geneve_options(data, start + 8, inner)
    return Step("Geneve", fields, _tunnelled_key(_u16(data, start + 2)), inner, end, "inner ")


def _geneve_options(data: bytes, start: int, end: int) -> list[Field]:
    """RFC 8926 section 3.5: class (2), type (1), length of the data in the low 5 bits, in words."""
    fields: list[Field] = []
    while start < end:
        size = 4 + 4 * (data[start + 3] & 0x1F)
        if start + size > end:
            return fields + rest("malformed options", data, start, end)
        fields.append(Field(f"option {data[start : start + 3].hex()}", start, size, data[start : start + size].hex()))
        start += size
    return fields


def gre(data: bytes, start: int, end: int) -> Step:
    fields = read_fields(data, start, end, _GRE, 4)
    if end - start < 4:
        return Step("GRE", fields, complete=False)
    flags, at = _u16(data, start), start + 4
    if flags & 0x4007:  # source routes (RFC 1701), or version 1 (PPTP): another layout
        return Step("GRE", fields, PAYLOAD, at, end)
    for bit, names in _GRE_OPTIONAL:
        size = 4 // len(names)
        for name in names if flags & bit else ():
            if at + size > end:
                return Step("GRE", fields + rest("cut off", data, at, end), complete=False)
            fields.append(Field(name, at, size, hexadecimal(data[at : at + size])))
            at += size
    return Step("GRE", fields, _tunnelled_key(_u16(data, start + 2)), at, end, "inner ")


PARSERS: dict[str, Parser] = {"ethernet": ethernet, "vlan": vlan, "arp": arp, "vxlan": vxlan, "geneve": geneve, "gre": gre}
