"""The kernel's vxlan device as peer: it writes the same bytes as ours, and accepts and refuses the same packets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane import _core
from dataplane.encap import registry

from . import netns
from .taps import DropTrace
from .vxlan_link import IP_HEADER, LOCAL, REMOTE, TUNNEL_MAC, Link, received_before

registry.ensure("vxlan")
registry.ensure("vxlan_gpe")
pytestmark = pytest.mark.kernel

TEB, IPV4 = 0x6558, 0x0800
Options = dict[str, int | bytes]
HEAD = Ether(dst="02:00:00:00:00:99", src="02:00:00:00:00:98")
FRAMES = {
    "ipv4": HEAD / IP(src="10.0.0.1", dst="10.0.0.2", tos=0x28, ttl=9) / UDP(sport=1, dport=2) / b"x",
    "ipv4, DF and ECT(1)": HEAD / IP(src="10.0.0.1", dst="10.0.0.2", tos=0x29, ttl=8, flags="DF") / UDP(sport=3, dport=2) / b"xy",
    "ipv4, congested": HEAD / IP(src="10.0.0.1", dst="10.0.0.2", tos=0x03) / UDP(sport=4, dport=2) / b"xyz",
    "ipv6": HEAD / IPv6(src="fd00::1", dst="fd00::2", tc=0x62, hlim=7, fl=0xABCDE) / UDP(sport=5, dport=2) / b"x",
    "arp": HEAD / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
}
SETTINGS: dict[str, tuple[str, Options]] = {
    "defaults": ("", {}),
    "another port": ("dstport 8472", {"port": 8472}),
    "no checksum": ("noudpcsum udp6zerocsumtx", {"udp_checksum": 0, "udp6_zero_checksum_tx": 1}),
    "ttl": ("ttl 33", {"ttl": 33}),
    "ttl inherited": ("ttl inherit", {"ttl_inherit": 1}),
    "tos": ("tos 0x50", {"tos": 0x50}),
    "tos with ECN": ("tos 0x52", {"tos": 0x52}),
    "tos of an odd number": ("tos 0x51", {"tos": 0x51}),
    "tos inherited": ("tos inherit", {"tos": 1}),
    "df set": ("df set", {"df": 1}),
    "df inherited": ("df inherit", {"df": 2}),
}
ON_IPV6: dict[str, tuple[str, Options]] = {"flow label": ("flowlabel 0x12345", {"flow_label": 0x12345})}
WRITTEN = [(4, *both) for both in SETTINGS.items()] + [(6, *both) for both in (SETTINGS | ON_IPV6).items()]


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    reason = netns.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with closing(Link()) as made:
        yield made


@pytest.fixture(scope="module")
def trace(link: Link) -> Iterator[DropTrace]:
    with closing(DropTrace()) as opened:
        yield opened


def kernel_names(reason: str | None) -> set[str]:
    """What the kernel calls our drop reason; nothing for none."""
    return {known.linux for known in _core.drop_reasons() if known.name == reason}


def named_by(trace: DropTrace) -> set[str]:
    """The reasons that the kernel gave since the last call, but for what becomes of a received frame later; none without tracefs."""
    seen = (line.split("@") for line in trace.read())
    return {reason for reason, function in seen if function.startswith(("vxlan_", "__udp"))}


def source_port(packet: bytes, family: int) -> int:
    at = IP_HEADER[family]
    return int.from_bytes(packet[at : at + 2], "big")


def like(packet: bytes, family: int, kind: str, options: Options, inner: bytes, protocol: int, remote: bytes = b"") -> bytes:
    """What ours makes of the inner packet, where the choices that are its own are made as the kernel made them."""
    port = source_port(packet, family)
    codec = _core.Codec(kind, {"id": 7, **options, "port_min": port, "port_max": port + 1})
    ip_id = int.from_bytes(packet[4:6], "big") if family == 4 else 0
    return codec.push(inner, protocol, LOCAL[family], remote or REMOTE[family], ip_id=ip_id)


@pytest.mark.parametrize(("family", "name", "setting"), WRITTEN)
def test_the_kernel_writes_the_same_bytes(link: Link, family: int, name: str, setting: tuple[str, Options]) -> None:
    arguments, options = setting
    words = arguments if "dstport" in arguments else f"{arguments} dstport 4789"
    port = options.get("port", 4789)
    assert isinstance(port, int)
    with link.device(family, words) as device:
        for inner, frame in FRAMES.items():
            device.send(bytes(frame))
            packet = link.sent(family, port)
            assert like(packet, family, "vxlan", options, bytes(frame), TEB) == packet, inner


def test_source_ports_lie_in_the_given_range(link: Link) -> None:
    with link.device(4, "dstport 4789 srcport 40000 40004") as device:
        kernel = set()
        for port in range(32):
            device.send(bytes(HEAD / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=port, dport=2)))
            kernel.add(source_port(link.sent(4, 4789), 4))
    codec = _core.Codec("vxlan", {"port_min": 40000, "port_max": 40004})
    frame = bytes(FRAMES["ipv4"])
    ours = {source_port(codec.push(frame, TEB, LOCAL[4], REMOTE[4], flow_hash=0x9E3779B9 * n & 0xFFFFFFFF), 4) for n in range(32)}
    assert ours == kernel == {40000, 40001, 40002, 40003}


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        (0, {}),
        (0x1234, {"gbp_policy": 0x1234}),
        (0x480001, {"gbp_policy": 1, "gbp_dont_learn": 1, "gbp_policy_applied": 1}),
    ],
)
def test_a_group_policy_is_the_mark_of_the_packet(link: Link, mark: int, options: Options) -> None:
    with link.device(4, "dstport 4789 gbp") as device:
        device.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        device.send(bytes(FRAMES["ipv4"]))
        packet = link.sent(4, 4789)
        assert like(packet, 4, "vxlan", {"gbp": 1, **options}, bytes(FRAMES["ipv4"]), TEB) == packet


def test_frames_to_a_group_stay_on_the_link(link: Link) -> None:
    with link.device(4, "dstport 4789", "id 7 group 239.1.1.1") as device:
        device.send(bytes(FRAMES["ipv4"]))
        packet = link.sent(4, 4789)
        assert packet[8] == 1
        assert like(packet, 4, "vxlan", {}, bytes(FRAMES["ipv4"]), TEB, ip_address("239.1.1.1").packed) == packet


# ---- ours to the kernel

NO_CHECKSUM: Options = {"udp_checksum": 0, "udp6_zero_checksum_tx": 1}
DELIVERED = bytes(FRAMES["ipv4"])
LAST = bytes(FRAMES["ipv6"])


def sent_by(mac: bytes) -> bytes:
    return DELIVERED[:6] + mac + DELIVERED[12:]


Datagram = Callable[[Callable[..., bytes]], bytes]
ARRIVALS: dict[str, tuple[str, Options, Datagram]] = {
    "a frame": ("", {}, lambda push: push({})),
    "no checksum": ("", {}, lambda push: push(NO_CHECKSUM)),
    "no checksum, allowed": ("udp6zerocsumrx", {"udp6_zero_checksum_rx": 1}, lambda push: push(NO_CHECKSUM)),
    "another network": ("", {}, lambda push: push({"id": 8})),
    "no VNI flag": ("", {}, lambda push: push({"flags": 0})),
    "a reserved flag": ("", {}, lambda push: push({"flags": 9})),
    "reserved bits before the VNI": ("", {}, lambda push: push({"reserved1": 1})),
    "reserved bits behind the VNI": ("", {}, lambda push: push({"reserved2": 1})),
    "a policy, which the device does not know": ("", {}, lambda push: push({"gbp": 1, "gbp_policy": 5})),
    "a policy": ("gbp", {"gbp": 1}, lambda push: push({"gbp": 1, "gbp_policy": 5, "gbp_policy_applied": 1})),
    "all bits of the policy": ("gbp", {"gbp": 1}, lambda push: push({"flags": 0x88, "reserved1": 0xFFFFFF})),
    "policy bits without its flag": ("gbp", {"gbp": 1}, lambda push: push({"reserved1": 0x48FFFF})),
    "a reserved flag beside a policy": ("gbp", {"gbp": 1}, lambda push: push({"flags": 0x98})),
    "the device's own frame": ("", {}, lambda push: push({}, sent_by(TUNNEL_MAC))),
    "a frame from a group, unlearned": ("nolearning", {}, lambda push: push({}, sent_by(b"\x01" + bytes(5)))),
    "a frame from nobody, unlearned": ("nolearning", {}, lambda push: push({}, sent_by(bytes(6)))),
    "a frame of 13 bytes": ("", {}, lambda push: push({}, DELIVERED[:13])),
    "a frame without payload": ("", {}, lambda push: push({}, DELIVERED[:12] + b"\x88\xb5")),
}


def pusher(family: int) -> Callable[..., bytes]:
    def push(options: Options, inner: bytes = DELIVERED) -> bytes:
        return _core.Codec("vxlan", {"id": 7, **options}).push(inner, TEB, REMOTE[family], LOCAL[family])

    return push


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ARRIVALS)
def test_the_kernel_accepts_and_refuses_the_same(link: Link, trace: DropTrace, name: str, family: int) -> None:
    arguments, options, datagram = ARRIVALS[name]
    push = pusher(family)
    packet = datagram(push)
    with link.device(family, f"dstport 4789 {arguments}") as device:
        trace.read()
        link.arrive(family, packet)
        link.arrive(family, push({}, LAST))
        kernel = received_before(device, LAST)
    ours = _core.Codec("vxlan", {"id": 7, **options}).pop(packet, device_mac=TUNNEL_MAC)
    assert kernel == ([] if ours.reason else [ours.inner]), ours.reason
    assert named_by(trace) in (set(), kernel_names(ours.reason))


@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_refuses_the_same_of_every_changed_header(link: Link, family: int) -> None:
    """Each bit of the VXLAN header turned over, alone."""
    push, codec = pusher(family), _core.Codec("vxlan", {"id": 7, "udp6_zero_checksum_rx": 1})
    good = push(NO_CHECKSUM)
    at = 8 * (IP_HEADER[family] + 8)
    with link.device(family, "dstport 4789 udp6zerocsumrx") as device:
        for bit in range(at, at + 64):
            packet = bytearray(good)
            packet[bit // 8] ^= 0x80 >> bit % 8
            link.arrive(family, bytes(packet))
            link.arrive(family, push({}, LAST))
            ours = codec.pop(bytes(packet), device_mac=TUNNEL_MAC)
            assert received_before(device, LAST) == ([] if ours.reason else [ours.inner]), (bit - at, ours.reason)


# ---- the generic protocol extension: IP packets on routes that name the remote end

PACKET = bytes(FRAMES["ipv4"])[14:]


def test_the_kernel_writes_the_same_bytes_around_ip_packets(link: Link) -> None:
    with link.device(4, "dstport 4790 gpe", "external"):
        far = ip_address(REMOTE[4])
        netns.run(link.name, f"ip addr add 10.0.0.1/32 dev vx0; ip route add 10.0.0.2 encap ip id 7 dst {far} ttl 64 dev vx0")
        with netns.entered(link.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(PACKET, ("10.0.0.2", 0))
        packet = link.sent(4, 4790)
        inner = packet[36:]
        assert inner[20:] == PACKET[20:]
        assert like(packet, 4, "vxlan_gpe", {"udp_checksum": 0}, inner, IPV4) == packet


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("IPv4", 0x0C000001),
        ("no next protocol", 0x08000001),
        ("another version", 0x1C000001),
        ("a management message", 0x0D000001),
        ("an unknown protocol", 0x0C000009),
        ("a reserved flag", 0x0E000001),
        ("reserved bits", 0x0C000101),
        ("no VNI flag", 0x04000001),
    ],
)
def test_the_kernel_accepts_and_refuses_the_same_ip_packets(link: Link, trace: DropTrace, name: str, first: int) -> None:
    codec = _core.Codec("vxlan_gpe", {"external": 1, "udp_checksum": 0})
    good = codec.push(PACKET, IPV4, REMOTE[4], LOCAL[4])
    last = codec.push(PACKET + b"last", IPV4, REMOTE[4], LOCAL[4])
    packet = good[:28] + first.to_bytes(4, "big") + good[32:]
    with link.device(4, "dstport 4790 gpe", "external") as device:
        trace.read()
        link.arrive(4, packet)
        link.arrive(4, last)
        kernel = received_before(device, PACKET + b"last")
    ours = codec.pop(packet)
    assert kernel == ([] if ours.reason else [ours.inner]), ours.reason
    assert named_by(trace) in (set(), kernel_names(ours.reason))

