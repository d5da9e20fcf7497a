"""Capture filters in the language of tcpdump (pcap-filter(7)), compiled by libpcap through pcapy-ng."""

from __future__ import annotations

from collections.abc import Callable

from dataplane.capture.packet import LINKTYPE_ETHERNET, MAX_CAPTURED, Packet
from dataplane.errors import InputError

_DLT_RAW = 12  # on Linux; the number inside libpcap, not the one in files
_NETMASK_UNKNOWN = 0xFFFFFFFF


def packet_filter(expression: str) -> Callable[[Packet], bool]:
    """A test that tells whether a packet of ``open_capture`` matches, on Ethernet frames and on L3 bytes.

    Raises InputError if the expression is wrong or pcapy-ng is missing. An expression on link-layer fields
    (``ether host``) is wrong only once an L3 packet meets it.
    """
    matches = {True: _compiled(expression, LINKTYPE_ETHERNET)}

    def test(packet: Packet) -> bool:
        ethernet = packet.link_type == LINKTYPE_ETHERNET
        if ethernet not in matches:
            matches[ethernet] = _compiled(expression, _DLT_RAW)
        return matches[ethernet](packet.data)

    return test


def _compiled(expression: str, dlt: int) -> Callable[[bytes], bool]:
    try:
        import pcapy
    except ImportError as error:
        raise InputError("a filter needs the package pcapy-ng; install it with: pip install pcapy-ng") from error
    try:
        program = pcapy.compile(dlt, MAX_CAPTURED, expression, 1, _NETMASK_UNKNOWN)
    except (pcapy.PcapError, ValueError) as error:  # ValueError: not text that C can hold
        raise InputError(f"filter '{expression}': {error}; the language is that of tcpdump, see pcap-filter(7)") from error
    return lambda data: bool(program.filter(data))
