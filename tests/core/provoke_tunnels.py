"""Drop reasons of tunnels and of VXLAN."""

from __future__ import annotations

from ipaddress import ip_address

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from core import plugin
from core.provoked import provokes
from core.worlds import ROUTER1, SERVER, SERVER_MAC, Router, ether, ip, mac, udp_packet
from dataplane._core import Engine
from dataplane.encap import registry

VNI, PORT = 1, 8472
TUNNEL_MAC, FAR_MAC = mac(0xE0), mac(0xE1)
VXLAN_HEADER = bytes([8, 0, 0, 0, 0, 0, VNI, 0])
INNER = ether(udp_packet(src="10.1.0.2", dst="10.2.0.2"), dst=TUNNEL_MAC, src=FAR_MAC)


class TunnelRouter(Router):
    """The router has an end of a VXLAN tunnel (10.1.0.1/16); the other is to be at SERVER."""

    def __post_init__(self) -> None:
        super().__post_init__()
        registry.ensure("vxlan")
        self.tunnel = self.engine.add_device(self.ns, "vxlan1", "vxlan", mac=TUNNEL_MAC, mtu=1450, id=VNI, port=PORT, local=ip(ROUTER1))
        self.engine.add_address(self.tunnel, ip("10.1.0.1"), 16)
        self.engine.add_neighbour(self.tunnel, ip("10.1.0.9"), FAR_MAC)

    def send_through(self) -> Engine:
        """A packet is forwarded into the tunnel."""
        self.take(ether(udp_packet(dst="10.1.0.9")))
        return self.engine

    def receive_outer(self, payload: bytes, *, tos: int = 0) -> Engine:
        outer = udp_packet(payload, src=SERVER, dst=ROUTER1, dport=PORT, tos=tos)
        self.engine.receive(self.eth1, ether(outer, dst=mac(3), src=SERVER_MAC))
        self.engine.run(0)
        return self.engine


@provokes("tunnel/no_remote")
def no_entry_for_the_mac() -> Engine:
    return TunnelRouter().send_through()


@provokes("tunnel/no_route")
def remote_is_nowhere() -> Engine:
    world = TunnelRouter()
    world.engine.add_fdb(world.tunnel, FAR_MAC, dst=ip("198.51.100.9"))
    return world.send_through()


@provokes("tunnel/loop")
def remote_is_inside_the_tunnel() -> Engine:
    world = TunnelRouter()
    world.engine.add_fdb(world.tunnel, FAR_MAC, dst=ip("10.1.0.9"))
    return world.send_through()


@provokes("transmit/nested_too_deep")
def ten_tunnels_in_each_other() -> Engine:
    """Linux gives up in the ninth (XMIT_RECURSION_LIMIT)."""
    world, count = TunnelRouter(), 10
    engine = world.engine
    for number in range(count):
        local, far_mac = ip(f"10.{100 + number}.0.1"), mac(0xF00 + number)
        tunnel = engine.add_device(world.ns, f"vx{number}", "vxlan", mac=mac(0xD00 + number), mtu=1400, id=10 + number, port=PORT)
        engine.add_address(tunnel, local, 16)
        engine.add_neighbour(tunnel, ip(f"10.{100 + number}.0.9"), far_mac)
        remote = f"10.{101 + number}.0.9" if number < count - 1 else SERVER
        engine.add_fdb(tunnel, far_mac, dst=ip(remote))
    world.take(ether(udp_packet(dst="10.100.0.9")))
    return engine


@provokes("tunnel/inner_truncated")
def inner_ip_header_cut() -> Engine:
    return TunnelRouter().receive_outer(VXLAN_HEADER + INNER[:20])


@provokes("tunnel/ecn_not_capable")
def congestion_marked_outside_only() -> Engine:
    return TunnelRouter().receive_outer(VXLAN_HEADER + INNER, tos=3)


@provokes("tunnel/unknown_id")
def another_vni() -> Engine:
    return TunnelRouter().receive_outer(bytes([8, 0, 0, 0, 0, 0, 99, 0]) + INNER)


@provokes("tunnel/plugin_misbehaved")
def a_result_that_does_not_exist() -> Engine:
    plugin.register_misbehaving()
    router = Router()
    tunnel = router.engine.add_device(router.ns, "bad0", "misbehaving", mac=TUNNEL_MAC, mtu=1450, local=ip(ROUTER1))
    router.engine.add_address(tunnel, ip("10.1.0.1"), 16)
    router.engine.add_neighbour(tunnel, ip("10.1.0.9"), FAR_MAC)
    router.engine.add_fdb(tunnel, FAR_MAC, dst=ip(SERVER))
    router.take(ether(udp_packet(dst="10.1.0.9")))
    return router.engine


@provokes("vxlan/bad_flags")
def without_the_vni_flag() -> Engine:
    return TunnelRouter().receive_outer(bytes([0]) + VXLAN_HEADER[1:] + INNER)


@provokes("vxlan/reserved_bits")
def with_a_reserved_bit() -> Engine:
    return TunnelRouter().receive_outer(VXLAN_HEADER[:7] + b"\x01" + INNER)


@provokes("vxlan/truncated")
def half_a_vxlan_header() -> Engine:
    return TunnelRouter().receive_outer(VXLAN_HEADER[:4])


@provokes("vxlan/inner_truncated")
def half_an_inner_ethernet_header() -> Engine:
    return TunnelRouter().receive_outer(VXLAN_HEADER + INNER[:10])


@provokes("vxlan/own_mac")
def our_own_frame_comes_back() -> Engine:
    return TunnelRouter().receive_outer(VXLAN_HEADER + ether(udp_packet(), dst=TUNNEL_MAC, src=TUNNEL_MAC))


@provokes("vxlan/zero_checksum")
def no_checksum_over_ipv6() -> Engine:
    world = TunnelRouter()
    near, far = (ip_address(f"2001:db8::{number}").packed for number in (1, 2))
    world.engine.add_address(world.eth1, near, 64)
    world.engine.add_device(world.ns, "vxlan6", "vxlan", mac=mac(0xE2), mtu=1430, up=True, id=VNI, port=PORT, local=near)
    datagram = UDP(sport=9, dport=PORT, chksum=0) / Raw(VXLAN_HEADER + INNER)
    outer = bytes(IPv6(src=ip_address(far), dst=ip_address(near)) / datagram)
    world.engine.receive(world.eth1, ether(outer, dst=mac(3), src=SERVER_MAC, kind=0x86DD))
    world.engine.run(0)
    return world.engine


@provokes("tunnel/too_big")
def longer_than_the_underlay_takes() -> Engine:
    registry.ensure("ipip")
    router = Router()
    tunnel = router.engine.add_device(router.ns, "tun0", "ipip", mac=bytes(6), mtu=1500, local=ip(ROUTER1), remote=ip(SERVER))
    router.engine.add_route(router.ns, ip("10.9.0.0"), 24, dev=tunnel)
    router.take(ether(udp_packet(bytes(1460), dst="10.9.0.9", fragment=0x4000)))
    return router.engine


@provokes("tunnel/family_not_carried")
def a_remote_end_of_the_other_ip_version() -> Engine:
    plugin.register_misbehaving()
    router = Router()
    tunnel = router.engine.add_device(router.ns, "bad0", "misbehaving", mac=TUNNEL_MAC, mtu=1450, remote=bytes(15) + b"\1")
    router.engine.add_address(tunnel, ip("10.1.0.1"), 16)
    router.engine.add_neighbour(tunnel, ip("10.1.0.9"), FAR_MAC)
    router.take(ether(udp_packet(dst="10.1.0.9")))
    return router.engine
