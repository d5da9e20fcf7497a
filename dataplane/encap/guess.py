"""Which encapsulation a packet probably is, told as a receiver tells it: by IP protocol, UDP port and GRE protocol type."""

from __future__ import annotations

_PROTO_IPV4, _PROTO_UDP, _PROTO_IPV6, _PROTO_ROUTING, _PROTO_GRE, _PROTO_ETHERNET = 4, 17, 41, 43, 47, 143

UDP_PORTS = {
    4789: "vxlan",  # RFC 7348
    8472: "vxlan",  # Linux' and Flannel's default
    6784: "vxlan",  # Weave's fast datapath
    4790: "vxlan_gpe",  # draft-ietf-nvo3-vxlan-gpe
    6081: "geneve",  # RFC 8926
    5555: "fou",  # ip-fou(8)
    6080: "gue",
    9886: "gue",  # katran
    6635: "mpls_udp",  # RFC 7510
    6783: "sleeve",
    51820: "wireguard",
}
IP_PROTOCOLS = {_PROTO_IPV4: "ipip", _PROTO_IPV6: "ipip", _PROTO_ROUTING: "srv6", _PROTO_ETHERNET: "srv6_l2"}
GRE_TYPES = {0x6558: "gretap", 0x8847: "mpls_gre", 0x8848: "mpls_gre", 0x88BE: "erspan", 0x22EB: "erspan"}
"""GRE protocol types (RFC 1701, RFC 4023, draft-foschiano-erspan) that are an encapsulation of their own; the others are ``gre``."""


def guess(ip_protocol: int, body: bytes) -> str | None:
    """Name of the encapsulation whose header ``body``, the bytes behind the outer IP header, begins with; None: none that we know."""
    if ip_protocol == _PROTO_GRE and len(body) >= 4:
        return GRE_TYPES.get(int.from_bytes(body[2:4], "big"), "gre")
    if ip_protocol == _PROTO_UDP and len(body) >= 8:
        return UDP_PORTS.get(int.from_bytes(body[2:4], "big"))
    if ip_protocol == _PROTO_ROUTING and body[:1] == bytes((_PROTO_ETHERNET,)):
        return "srv6_l2"
    return IP_PROTOCOLS.get(ip_protocol)


def carried_by(kind: str) -> tuple[int, int]:
    """IP protocol and UDP port (0: not in UDP) by which ``kind`` is usually known."""
    for port, name in UDP_PORTS.items():
        if name == kind:
            return _PROTO_UDP, port
    return next((protocol for protocol, name in IP_PROTOCOLS.items() if name == kind), _PROTO_GRE), 0
