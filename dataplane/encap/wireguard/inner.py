"""The inner packet as a WireGuard device looks at it."""

from __future__ import annotations

from dataplane.encap.python_plugin import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Refused

_ECN_MASK, _ECN_CE, _ECN_ECT0 = 3, 3, 2


def check_packet(ethertype: int, packet: bytes) -> None:
    """Refused ``not_ip``: the packet is not the IP version that its EtherType says (wg_check_packet_protocol())."""
    if ethertype != _ethertype(packet):
        raise Refused("not_ip")


def destination(packet: bytes) -> bytes:
    return packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]


def source(packet: bytes) -> bytes:
    return packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]


def outer_tos(inner_tos: int) -> int:
    """No DSCP, and ECN as ip_tunnel_ecn_encap() has it: CE inside is ECT(0) outside."""
    ecn = inner_tos & _ECN_MASK
    return _ECN_ECT0 if ecn == _ECN_CE else ecn


def received(plaintext: bytes) -> bytes:
    """The packet without its padding. Refused: ``inner_not_ip``, ``inner_size``."""
    ethertype = _ethertype(plaintext)
    if ethertype == ETHERTYPE_IPV4:
        size = int.from_bytes(plaintext[2:4], "big")
        smallest = 20
    elif ethertype == ETHERTYPE_IPV6:
        size = 40 + int.from_bytes(plaintext[4:6], "big")
        smallest = 40
    else:
        raise Refused("inner_not_ip")
    if not smallest <= size <= len(plaintext):
        raise Refused("inner_size")
    return plaintext[:size]


def _ethertype(packet: bytes) -> int:
    """Of a whole IP header by its version, else 0."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return ETHERTYPE_IPV4
    return ETHERTYPE_IPV6 if version == 6 and len(packet) >= 40 else 0
