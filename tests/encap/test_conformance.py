"""What every encapsulation promises, asked of each: the built-in ones, declared ones, and one that Numba compiled."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable, Iterator
from importlib import import_module
from ipaddress import IPv4Address
from typing import NamedTuple

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import GRE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from dataplane import _core
from dataplane._core import Codec, EncapDrop, encap_describe, encap_options, encap_protocols
from dataplane.encap import registry
from dataplane.encap.abi_structs import CAPSULE, STEADY_BUT_PORT, Encap
from encap.samples import FILES, offered
from encap.tunnel_packets import FRAME, FRAME6, PACKETS, TEB, around, damaged, ends, is_sound, outer, payload

OUTER = {4: 20, 6: 40}
UNCHECKED: dict[str, int | bytes] = {"udp_checksum": 0, "udp6_zero_checksum_tx": 1, "udp6_zero_checksum_rx": 1}
WITH_A_HANDSHAKE = "wireguard"  # carries nothing before its peer has answered: test_wireguard_engine.py
KINDS = [*(kind for kind in registry.built_in() if kind != WITH_A_HANDSHAKE), *FILES]
ROUTERS: tuple[dict[str, int | bytes], dict[str, int | bytes]] = (
    {"peer_name": b"\x02\0\0\0\0\x01", "peers": b"192.0.2.2 02:00:00:00:00:02\n"},
    {"peer_name": b"\x02\0\0\0\0\x02", "peers": b"192.0.2.1 02:00:00:00:00:01\n"},
)


class Carried(NamedTuple):
    """One inner packet that a kind takes over an underlay, and what it made of it."""

    sender: Codec
    receiver: Codec
    family: int
    inner_protocol: int
    inner: bytes
    packet: bytes


def devices(kind: str, **options: int | bytes) -> tuple[Codec, Codec]:
    """A sender and its receiver."""
    if kind in FILES:
        offered(kind)
    registry.ensure(kind)
    if kind == "sleeve":
        return Codec(kind, ROUTERS[0] | options), Codec(kind, ROUTERS[1] | options)
    return Codec(kind, options), Codec(kind, options)


def inners(device: Codec) -> list[tuple[int, bytes]]:
    return [(TEB, FRAME), (TEB, FRAME6)] if device.ethernet else list(PACKETS.items())


def carried(kind: str, **options: int | bytes) -> Iterator[Carried]:
    """Every inner packet over every underlay that the kind does not refuse."""
    sender, receiver = devices(kind, **options)
    for family in (4, 6):
        for inner_protocol, inner in inners(sender):
            try:
                packet = sender.push(inner, inner_protocol, *ends(family))
            except EncapDrop as refused:
                assert refused.reason in (f"{kind}/not_over_ipv4", f"{kind}/ipv4_only")
                continue
            yield Carried(sender, receiver, family, inner_protocol, inner, packet)


def unchecked(kind: str) -> dict[str, int | bytes]:
    """Options that leave UDP checksums zero: else nothing that is changed would reach the encapsulation itself."""
    devices(kind)
    known = {option.key for option in encap_options(kind)}
    return {key: value for key, value in UNCHECKED.items() if key in known}


def test_every_built_in_encapsulation_is_asked() -> None:
    assert {*KINDS, WITH_A_HANDSHAKE} == {*registry.built_in(), *FILES}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_in_comes_out(kind: str) -> None:
    seen = set()
    for way in carried(kind):
        popped = way.receiver.pop(way.packet)
        assert (popped.reason, popped.inner_protocol, popped.inner) == (None, way.inner_protocol, way.inner)
        seen.add(way.family)
    assert seen == {"sleeve": {4}, "srv6": {6}, "srv6_l2": {6}}.get(kind, {4, 6})


@pytest.mark.parametrize("kind", KINDS)
def test_the_overhead_is_what_push_adds(kind: str) -> None:
    for way in carried(kind):
        assert len(way.packet) == len(way.inner) + way.sender.overhead(way.family)


@pytest.mark.parametrize("kind", KINDS)
def test_the_outer_header_is_right(kind: str) -> None:
    """Version, lengths, addresses, a protocol that the kind is recognised by, and over IPv4 the checksum (``pop`` checks it)."""
    for way in carried(kind):
        assert way.packet[0] >> 4 == way.family
        if way.family == 4:
            assert struct.unpack_from("!H", way.packet, 2)[0] == len(way.packet)
            assert way.packet[9] in encap_protocols(kind)
            assert (way.packet[12:16], way.packet[16:20]) == ends(4)
        else:
            assert struct.unpack_from("!H", way.packet, 4)[0] == len(way.packet) - 40
            assert way.packet[6] in encap_protocols(kind)
            assert (way.packet[8:24], way.packet[24:40]) == ends(6)


@pytest.mark.parametrize("kind", KINDS)
def test_lack_of_headroom_is_a_drop(kind: str) -> None:
    for way in carried(kind):
        needed = way.sender.overhead(way.family) - OUTER[way.family]
        for headroom in range(needed):
            with pytest.raises(EncapDrop) as refused:
                way.sender.push(way.inner, way.inner_protocol, *ends(way.family), headroom=headroom, tailroom=0)
            assert refused.value.reason.startswith(f"{kind}/")
        enough = way.sender.push(way.inner, way.inner_protocol, *ends(way.family), headroom=needed, tailroom=0)
        assert len(enough) == len(way.packet)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_damaged_packets_are_refused_or_packets(kind: str) -> None:
    """Each is handed to a device of its own: what one made of it must not hide what the next would do."""
    names = {reason.name for reason in _core.drop_reasons()}
    for way in carried(kind, **unchecked(kind)):
        body = payload(way.packet)
        protocol = way.packet[9] if way.family == 4 else way.packet[6]
        for packet in damaged(way.family, protocol, body, len(body) - len(way.inner) + OUTER[way.family]):
            popped = devices(kind, **unchecked(kind))[1].pop(packet)
            assert is_sound(popped), packet.hex()
            assert popped.reason is None or popped.reason in names


@pytest.mark.parametrize("kind", KINDS)
def test_headers_are_named_only_as_far_as_they_are_there(kind: str) -> None:
    for way in carried(kind):
        protocol, body = (way.packet[9] if way.family == 4 else way.packet[6]), payload(way.packet)
        whole = encap_describe(kind, protocol, body)
        if whole is None:
            continue
        fields, taken = whole
        assert -1 <= taken <= len(body)
        for end in range(len(body)):
            part = encap_describe(kind, protocol, body[:end])
            assert part is not None
            assert part[1] in (-1, taken)
            assert part[1] <= end
            assert len(part[0]) <= len(fields)


@pytest.mark.parametrize("kind", [*KINDS, WITH_A_HANDSHAKE])
def test_no_bytes_at_all_are_taken_apart(kind: str) -> None:
    _, device = devices(kind)
    for protocol in encap_protocols(kind):
        for family in (4, 6):
            for body in (b"", b"\0", b"\xff" * 7, bytes(64), b"\xff" * 64):
                assert is_sound(device.pop(around(family, protocol, body)))


# ---- what first packets rely on, who are not pushed one by one

PORTED = {"fou": (32768, 60999), "geneve": (1, 65535), "vxlan": (32768, 60999), "vxlan_gpe": (32768, 60999)}
"""Kinds that say STEADY_BUT_PORT, and their default source ports."""


def struct_of(kind: str) -> Encap:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return Encap.from_address(pointer(import_module(f"dataplane._encap_{kind}").capsule, CAPSULE))


def test_the_kinds_that_say_so_are_known() -> None:
    compiled = [kind for kind in registry.built_in() if kind not in ("sleeve", WITH_A_HANDSHAKE) and not kind.startswith("declared")]
    assert {kind for kind in compiled if struct_of(kind).steady == STEADY_BUT_PORT} == set(PORTED)


def address(generator: random.Random) -> str:
    return str(IPv4Address(generator.randrange(1 << 32)))


def flows(generator: random.Random, inner_protocol: int) -> Iterator[bytes]:
    """IPv4 packets of many flows, alike in all that no flow is told by."""
    for _ in range(200):
        ip = IP(src=address(generator), dst=address(generator), id=generator.randrange(1 << 16), tos=2)
        packet = bytes(ip / UDP(sport=generator.randrange(1 << 16), dport=generator.randrange(1 << 16)) / Raw(generator.randbytes(9)))
        yield FRAME[:14] + packet if inner_protocol == TEB else packet


@pytest.mark.parametrize("ports", [None, (1000, 1001), (1024, 65535)])
@pytest.mark.parametrize("kind", PORTED)
def test_the_source_port_is_all_that_the_flow_decides(kind: str, ports: tuple[int, int] | None) -> None:
    options = {} if ports is None else {"port_min": ports[0], "port_max": ports[1]}
    lowest, past = PORTED[kind] if ports is None else ports
    device, _ = devices(kind, **options)
    generator = random.Random(f"{kind} {ports}")
    inner_protocol = TEB if device.ethernet else 0x0800
    rest = set()
    for inner in flows(generator, inner_protocol):
        hash = generator.randrange(1 << 32)
        packet = device.push(inner, inner_protocol, *ends(4), flow_hash=hash)
        body = payload(packet)
        scaled = (hash ^ hash << 16) & 0xFFFFFFFF
        assert struct.unpack_from("!H", body)[0] == lowest + (scaled * (past - lowest) >> 32)
        rest.add((packet[1], packet[6:10], body[2:6], body[8 : len(body) - len(inner)]))
    assert len(rest) == 1


# ---- headers that Scapy knows, with the options' default values

NEXT_HEADERS = {0x0800: 4, 0x86DD: 41, TEB: 143}  # RFC 8986


def udp(port: int, lowest: int = 32768) -> UDP:
    """The flow hash 0 gives the lowest port of the range."""
    return UDP(sport=lowest, dport=port)


def labelled() -> MPLS:
    return MPLS(label=16, s=1, ttl=255)


def routed(protocol: int) -> Packet:
    return IPv6ExtHdrSegmentRouting(nh=NEXT_HEADERS[protocol], addresses=["2001:db8::2"], segleft=0, lastentry=0)


SCAPY: dict[str, Callable[[int], Packet]] = {
    "declared_fou": lambda protocol: udp(5555),
    "declared_gre": lambda protocol: GRE(proto=protocol),
    "declared_gre_checksum": lambda protocol: GRE(proto=protocol, chksum_present=1, key_present=1, key=0),
    "declared_gre_key": lambda protocol: GRE(proto=protocol, key_present=1, key=0),
    "fou": lambda protocol: udp(5555),
    "geneve": lambda protocol: udp(6081, lowest=1) / GENEVE(vni=0, proto=TEB),
    "gre": lambda protocol: GRE(proto=protocol),
    "gretap": lambda protocol: GRE(proto=TEB),
    "mpls_gre": lambda protocol: GRE(proto=0x8847) / labelled(),
    "mpls_udp": lambda protocol: udp(6635, 49152) / labelled(),
    "srv6": routed,
    "srv6_l2": routed,
    "vxlan": lambda protocol: udp(4789) / VXLAN(flags=8, vni=0),
    "vxlan_gpe": lambda protocol: udp(4790) / VXLAN(flags=0xC, NextProtocol={0x0800: 1, 0x86DD: 2}[protocol], vni=0),
}


@pytest.mark.parametrize("kind", SCAPY)
def test_the_bytes_are_those_that_scapy_writes(kind: str) -> None:
    checksum: dict[str, int | bytes] = {key: int(key == "udp_checksum") for key in unchecked(kind)}
    ways = list(carried(kind, **checksum))
    assert len(ways) == (2 if kind.startswith("srv6") else 4)
    for way in ways:
        header = SCAPY[kind](way.inner_protocol)
        fields = {"proto": way.packet[9]} if way.family == 4 else {"nh": way.packet[6]}
        assert payload(way.packet).hex() == payload(bytes(outer(way.family, **fields) / header / Raw(way.inner))).hex()
