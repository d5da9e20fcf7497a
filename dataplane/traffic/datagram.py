"""Sending what is no stream: UDP datagrams and echo requests."""

from __future__ import annotations

from dataplane.traffic.loop import Loop, Route
from dataplane.traffic.packets import ip_packet

IPV4_HEADER_BYTES = 20


def send_datagram(loop: Loop, ns: int, socket: int, route: Route, dst: bytes, proto: int, payload: bytes, port: int) -> None:
    """Send ``payload``, a transport header and data, from ``route.src``; ``port`` (or echo identifier) tells flow labels apart.

    IPv4: don't-fragment is set as long as the path MTU allows, else the stack fragments (Linux: net/ipv4/ip_output.c, __ip_make_skb).
    IPv6 has no such bit: the sender's stack fragments what is longer than the path MTU, and routers never do (RFC 8200 5).
    """
    fits = IPV4_HEADER_BYTES + len(payload) <= route.mtu
    ident = loop.next_ident(ns, route.src, dst, proto)
    label = loop.flow_label(ns, route.src.hex(), dst.hex(), proto, port)
    loop.send(ns, ip_packet(route.src, dst, proto, payload, ident=ident, dont_fragment=fits, flow_label=label), socket)
