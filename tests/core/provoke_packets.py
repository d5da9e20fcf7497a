"""Drop reasons of what happens to IP packets: reading, routing, forwarding, delivery, reassembly, netfilter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.provoked import provokes
from core.worlds import (
    BROADCAST,
    CLIENT,
    DONT_FRAGMENT,
    ICMP,
    MORE_FRAGMENTS,
    OUTSIDE,
    ROUTER0,
    ROUTER1,
    SECOND,
    SERVER,
    TCP,
    UDP,
    Router,
    ether,
    filter_table,
    icmp,
    ip,
    ipv4,
    mac,
    nat_table,
    ping,
    tcp,
    tcp_packet,
    udp,
    udp_packet,
)
from dataplane._core import CT_NEW, Engine

if TYPE_CHECKING:
    from dataplane._core import Match

EXPERIMENTAL = 253  # an IP protocol of nobody (RFC 3692)
SYN, RST, ACK = 0x02, 0x04, 0x10
ALL_GROUPS = bytes.fromhex("01005e010203")


def taking(*packets: bytes, dst: bytes | None = None) -> Engine:
    router = Router()
    router.take(*(ether(packet) if dst is None else ether(packet, dst=dst) for packet in packets))
    return router.engine


# ---- reading


@provokes("parse/otherhost")
def another_mac() -> Engine:
    return taking(udp_packet(), dst=mac(0x77))


@provokes("parse/ipv4_truncated")
def header_cut() -> Engine:
    return taking(udp_packet()[:10])


@provokes("parse/ipv4_bad_header")
def another_version() -> Engine:
    return taking(ipv4(udp(), first=0x55))


@provokes("parse/ipv4_bad_checksum")
def bad_header_checksum() -> Engine:
    return taking(udp_packet(bad_checksum=True))


@provokes("parse/ipv4_length_over_frame")
def longer_than_the_frame() -> Engine:
    return taking(udp_packet(total=500))


@provokes("parse/ipv4_bad_option")
def record_route_without_a_pointer() -> Engine:
    return taking(udp_packet(options=bytes([7, 3, 1, 0])))


@provokes("parse/source_routed")
def loose_source_route() -> Engine:
    return taking(udp_packet(dst=ROUTER0, options=bytes([131, 7, 4]) + ip(SERVER) + b"\0"))


@provokes("parse/unicast_in_group_frame")
def unicast_packet_in_a_broadcast_frame() -> Engine:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv4.conf.eth0.drop_unicast_in_l2_multicast", 1)
    router.take(ether(udp_packet(dst=ROUTER0), dst=BROADCAST))
    return router.engine


# ---- routing


@provokes("route/martian_source")
def from_loopback() -> Engine:
    return taking(udp_packet(src="127.0.0.1"))


@provokes("route/martian_destination")
def to_loopback() -> Engine:
    return taking(udp_packet(dst="127.0.0.1"))


@provokes("route/local_source")
def from_our_own_address() -> Engine:
    return taking(udp_packet(src=ROUTER1))


@provokes("route/rp_filter")
def from_the_wrong_side() -> Engine:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv4.conf.eth0.rp_filter", 1)
    router.take(ether(udp_packet(src="10.0.1.9")))
    return router.engine


@provokes("route/multicast_not_joined")
def to_a_group() -> Engine:
    return taking(udp_packet(dst="239.1.2.3"), dst=ALL_GROUPS)


def with_route(kind: str) -> Engine:
    router = Router()
    router.engine.add_route(router.ns, ip(OUTSIDE), 32, kind=kind)
    router.take(ether(udp_packet(dst=OUTSIDE)))
    return router.engine


@provokes("route/blackhole")
def blackhole() -> Engine:
    return with_route("blackhole")


@provokes("route/unreachable")
def unreachable() -> Engine:
    return with_route("unreachable")


@provokes("route/prohibited")
def prohibited() -> Engine:
    return with_route("prohibit")


@provokes("route/no_route")
def to_nowhere() -> Engine:
    return taking(udp_packet(dst=OUTSIDE))


@provokes("route/no_forwarding")
def no_router() -> Engine:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv4.ip_forward", 0)
    router.take(ether(udp_packet()))
    return router.engine


@provokes("route/output_failed")
def own_packet_to_nowhere() -> Engine:
    router = Router()
    router.engine.send(router.ns, udp_packet(src=ROUTER0, dst=OUTSIDE))
    router.engine.run(0)
    return router.engine


# ---- forwarding


@provokes("forward/ttl_expired")
def last_hop() -> Engine:
    return taking(udp_packet(ttl=1))


@provokes("forward/too_big")
def too_big_and_not_to_be_cut() -> Engine:
    router = Router()
    router.engine.set_device(router.eth1, mtu=1000)
    router.take(ether(udp_packet(bytes(1200), fragment=DONT_FRAGMENT)))
    return router.engine


@provokes("forward/group_frame")
def forwarding_a_broadcast_frame() -> Engine:
    return taking(udp_packet(), dst=BROADCAST)


@provokes("output/too_big")
def own_packet_too_big() -> Engine:
    router = Router()
    router.engine.send(router.ns, udp_packet(bytes(2000), src=ROUTER1, fragment=DONT_FRAGMENT))
    router.engine.run(0)
    return router.engine


# ---- delivery


@provokes("local/no_protocol")
def unknown_protocol() -> Engine:
    return taking(ipv4(b"", dst=ROUTER0, proto=EXPERIMENTAL))


@provokes("local/tcp_truncated")
def half_a_tcp_header() -> Engine:
    return taking(ipv4(tcp(SYN, dst=ROUTER0)[:10], dst=ROUTER0, proto=TCP))


@provokes("local/tcp_bad_checksum")
def tcp_for_another_address() -> Engine:
    return taking(ipv4(tcp(SYN, dst=ROUTER1), dst=ROUTER0, proto=TCP))


@provokes("local/tcp_no_socket")
def closed_tcp_port() -> Engine:
    return taking(tcp_packet(SYN, dst=ROUTER0))


@provokes("local/tcp_to_group")
def tcp_in_a_broadcast_frame() -> Engine:
    return taking(tcp_packet(SYN, dst=ROUTER0), dst=BROADCAST)


@provokes("local/udp_bad_length")
def udp_length_over_the_packet() -> Engine:
    return taking(ipv4(udp(dst=ROUTER0, length=100), dst=ROUTER0))


@provokes("local/udp_bad_checksum")
def bad_udp_checksum() -> Engine:
    return taking(ipv4(udp(dst=ROUTER0, bad_checksum=True), dst=ROUTER0))


@provokes("local/udp_no_socket")
def closed_udp_port() -> Engine:
    return taking(udp_packet(dst=ROUTER0))


@provokes("local/icmp_truncated")
def half_an_icmp_header() -> Engine:
    return taking(ipv4(icmp(8, rest=b""), dst=ROUTER0, proto=ICMP))


@provokes("local/icmp_bad_checksum")
def bad_icmp_checksum() -> Engine:
    return taking(ipv4(icmp(8, bad_checksum=True), dst=ROUTER0, proto=ICMP))


@provokes("local/icmp_unknown_type")
def icmp_of_nobody() -> Engine:
    return taking(ipv4(icmp(200), dst=ROUTER0, proto=ICMP))


@provokes("local/icmp_to_group")
def broadcast_ping() -> Engine:
    return taking(ping(dst="10.0.0.255"), dst=BROADCAST)


@provokes("local/icmp_bad_quote")
def error_about_what_is_no_packet() -> Engine:
    return taking(ipv4(icmp(3, 1, payload=ipv4(udp(), first=0x41)), dst=ROUTER0, proto=ICMP))


# ---- reassembly


def part(offset: int, size: int, *, more: bool = True, ident: int = 7, tos: int = 0) -> bytes:
    """``size`` bytes at ``offset`` of a datagram for the router itself."""
    return ipv4(bytes(size), dst=ROUTER0, ident=ident, tos=tos, fragment=(MORE_FRAGMENTS if more else 0) | offset // 8)


@provokes("defragment/duplicate")
def the_same_part_twice() -> Engine:
    return taking(part(0, 800), part(0, 800))


@provokes("defragment/overlap")
def overlapping_parts() -> Engine:
    return taking(part(0, 800), part(400, 800))


@provokes("defragment/corrupt")
def two_ends() -> Engine:
    return taking(part(800, 80, more=False), part(1600, 80, more=False))


@provokes("defragment/bad_ecn")
def congestion_marked_on_one_part_only() -> Engine:
    return taking(part(0, 800, tos=0), part(800, 80, more=False, tos=3))


@provokes("defragment/oversize")
def longer_than_ip_can_say() -> Engine:
    size = 1400
    whole = 46 * size
    return taking(*(part(offset, size) for offset in range(0, whole, size)), part(whole, 65520 - whole, more=False))


@provokes("defragment/table_full")
def too_many_datagrams_in_parts() -> Engine:
    return taking(*(part(0, 8, ident=number) for number in range(5000)))


@provokes("defragment/timeout")
def the_rest_never_comes() -> Engine:
    router = Router()
    router.take(ether(part(0, 800)))
    router.engine.run(40 * SECOND)
    return router.engine


# ---- netfilter


def with_filter(**rules: list[Match]) -> Router:
    router = Router()
    router.engine.set_rules(router.ns, 4, "filter", filter_table(**rules))
    return router


def with_nat(**rules: list[Match]) -> Router:
    router = Router()
    router.engine.set_rules(router.ns, 4, "nat", nat_table(**rules))
    return router


def to(address: str, port: int = 0) -> tuple[bytes, bytes, int, int]:
    return ip(address), ip(address), port, port


@provokes("rules/denied")
def denied() -> Engine:
    router = with_filter(FORWARD=[{"target": "DROP"}])
    router.take(ether(udp_packet()))
    return router.engine


@provokes("rules/rejected")
def rejected() -> Engine:
    router = with_filter(FORWARD=[{"target": "REJECT", "reject_with": 3}])
    router.take(ether(udp_packet()))
    return router.engine


@provokes("conntrack/table_full")
def only_assured_connections_and_no_room() -> Engine:
    router = with_filter(FORWARD=[{"ctstate": CT_NEW, "target": "ACCEPT"}])
    router.engine.set_sysctl(router.ns, "net.netfilter.nf_conntrack_max", 1)
    router.take(ether(tcp_packet(SYN, seq=100)))
    answer = tcp_packet(SYN | ACK, src=SERVER, dst=CLIENT, sport=80, dport=1000, seq=500, ack=101)
    router.engine.receive(router.eth1, ether(answer, dst=mac(3), src=mac(4)))
    router.take(ether(tcp_packet(ACK, seq=101, ack=501)))
    router.take(ether(udp_packet()))
    return router.engine


@provokes("conntrack/clash")
def two_connections_with_one_answer() -> Engine:
    """A protocol without ports, translated to one end from two addresses: the tuples of the answers are the same."""
    router = with_nat(PREROUTING=[{"proto": EXPERIMENTAL, "target": "DNAT", "to": to(SERVER)}])
    router.take(ether(ipv4(b"", dst="10.96.0.1", proto=EXPERIMENTAL)), ether(ipv4(b"", dst="10.96.0.2", proto=EXPERIMENTAL)))
    return router.engine


@provokes("nat/quote_not_translated")
def error_with_a_bad_checksum_taken_for_related() -> Engine:
    router = with_nat(PREROUTING=[{"dst": (ip("10.96.0.1"), 32), "target": "DNAT", "to": to(SERVER)}])
    router.engine.set_sysctl(router.ns, "net.netfilter.nf_conntrack_checksum", 0)
    router.take(ether(udp_packet(dst="10.96.0.1")))
    error = ipv4(icmp(3, 3, payload=udp_packet(), bad_checksum=True), src=SERVER, dst=CLIENT, proto=ICMP)
    router.engine.receive(router.eth1, ether(error, dst=mac(3), src=mac(4)))
    router.engine.run(0)
    return router.engine


@provokes("nat/no_masquerade_address")
def masquerade_without_an_address() -> Engine:
    router = with_nat(POSTROUTING=[{"oif": "eth1", "target": "MASQUERADE"}])
    router.engine.del_address(router.eth1, ip(ROUTER1), 24)
    router.engine.del_address(router.eth0, ip(ROUTER0), 24)
    router.engine.del_address(router.engine.find_device(router.ns, "lo"), ip("127.0.0.1"), 8)
    router.engine.add_route(router.ns, ip(SERVER), 32, dev=router.eth1)
    router.take(ether(udp_packet()))
    return router.engine


@provokes("nat/masquerade_device_changed")
def another_way_out_than_at_first() -> Engine:
    router = with_nat(POSTROUTING=[{"target": "MASQUERADE"}])
    router.take(ether(udp_packet()))
    router.engine.add_route(router.ns, ip(SERVER), 32, dev=router.eth0)
    router.take(ether(udp_packet()))
    return router.engine


@provokes("nat/no_route_after_dnat")
def own_packet_translated_to_nowhere() -> Engine:
    router = with_nat(OUTPUT=[{"proto": UDP, "target": "DNAT", "to": to(OUTSIDE)}])
    router.engine.send(router.ns, udp_packet(src=ROUTER1))
    router.engine.run(0)
    return router.engine


@provokes("nat/refused")
def refused_by_the_nat_table() -> Engine:
    router = with_nat(PREROUTING=[{"target": "DROP"}])
    router.take(ether(udp_packet()))
    return router.engine
