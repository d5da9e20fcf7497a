"""One encapsulation alone: ``Codec`` writes and checks the outer IP headers, and trusts no plug-in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from core import plugin
from core.plugin import Bytes, Pop
from core.worlds import ether, ip, udp_packet
from dataplane import _core
from dataplane.encap import registry

registry.ensure("vxlan")
TEB = 0x6558
FRAME = ether(udp_packet(b"x" * 20, tos=2, fragment=0x4000), dst=b"\x02" * 6, src=b"\x06" * 6)
LOCAL4, REMOTE4 = ip("192.0.2.1"), ip("192.0.2.2")
LOCAL6, REMOTE6 = ip_address("2001:db8::1").packed, ip_address("2001:db8::2").packed


def push(options: dict[str, int | bytes], *, local: bytes = LOCAL4, remote: bytes = REMOTE4, inner: bytes = FRAME, **rest: Any) -> bytes:
    return _core.Codec("vxlan", options).push(inner, TEB, local, remote, **rest)


def sport(packet: bytes, hlen: int = 20) -> int:
    return int.from_bytes(packet[hlen : hlen + 2])


def test_an_ipv4_packet_is_the_one_that_scapy_writes() -> None:
    got = push({"id": 7, "ttl": 9, "tos": 0x20, "df": 1}, ip_id=0x1234)
    udp = UDP(sport=sport(got), dport=4789) / VXLAN(flags=8, vni=7) / Ether(FRAME)
    want = IP(src="192.0.2.1", dst="192.0.2.2", id=0x1234, ttl=9, tos=0x22, flags="DF") / udp
    assert got == bytes(want)


def test_an_ipv6_packet_is_the_one_that_scapy_writes() -> None:
    got = push({"id": 7, "ttl": 9, "tos": 0x20, "flow_label": 0xABCDE}, local=LOCAL6, remote=REMOTE6)
    udp = UDP(sport=sport(got, 40), dport=4789) / VXLAN(flags=8, vni=7) / Ether(FRAME)
    assert got == bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=9, tc=0x22, fl=0xABCDE) / udp)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [(0, 0), (1, 1), (2, 2), (3, 2)],
)
def test_ecn_goes_outside_but_congestion_only_as_capability(inner: int, outer: int) -> None:
    """RFC 6040 4.1 compatibility of Linux: INET_ECN_encapsulate() writes CE as ECT(0)."""
    packet = push({}, inner=ether(udp_packet(tos=inner)))
    assert IP(packet).tos == outer


def test_inherited_fields_come_from_the_inner_packet() -> None:
    packet = IP(push({"ttl_inherit": 1, "tos": 1, "df": 2}, inner=ether(udp_packet(tos=0x48, ttl=33, fragment=0x4000))))
    assert (packet.ttl, packet.tos, packet.flags) == (33, 0x48, "DF")
    plain = IP(push({"df": 2}, inner=ether(udp_packet(tos=0x48, ttl=33))))
    assert (plain.ttl, plain.tos, plain.flags) == (64, 0, 0)


def test_a_flow_label_is_inherited_if_asked_for() -> None:
    inner = bytes(Ether(type=0x86DD) / IPv6(fl=0x12345, tc=0x60) / Raw(b"x"))
    assert IPv6(push({"flow_label_inherit": 1, "tos": 1}, local=LOCAL6, remote=REMOTE6, inner=inner)).fl == 0x12345
    assert IPv6(push({}, local=LOCAL6, remote=REMOTE6, inner=inner)).fl == 0


@pytest.mark.parametrize(("options", "zero"), [({}, False), ({"udp6_zero_checksum_tx": 1}, True), ({"udp_checksum": 0}, False)])
def test_only_its_own_option_leaves_the_checksum_zero_over_ipv6(options: dict[str, int | bytes], zero: bool) -> None:
    packet = push(options, local=LOCAL6, remote=REMOTE6)
    assert (packet[46:48] == b"\0\0") is zero


@pytest.mark.parametrize(("family", "overhead"), [(4, 36), (6, 56)])
def test_overhead_is_what_push_adds(family: int, overhead: int) -> None:
    assert _core.Codec("vxlan").overhead(family) == overhead
    ends = (LOCAL4, REMOTE4) if family == 4 else (LOCAL6, REMOTE6)
    assert len(push({}, local=ends[0], remote=ends[1])) == len(FRAME) + overhead


@pytest.mark.parametrize(("local", "remote"), [(LOCAL4, REMOTE4), (LOCAL6, REMOTE6)])
def test_pop_gives_back_what_was_pushed(local: bytes, remote: bytes) -> None:
    codec = _core.Codec("vxlan", {"id": 7})
    assert codec.pop(codec.push(FRAME, TEB, local, remote) + b"padding") == (TEB, FRAME, 7, None)


def corrupted(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes([value]) + packet[at + 1 :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda packet: b"", "parse/ipv4_truncated"),
        (lambda packet: packet[:19], "parse/ipv4_truncated"),
        (lambda packet: packet[:-1], "parse/ipv4_length_over_frame"),
        (lambda packet: corrupted(packet, 8, packet[8] ^ 1), "parse/ipv4_bad_checksum"),
        (lambda packet: corrupted(packet, 25, 7), "local/udp_bad_length"),
        (lambda packet: corrupted(packet, 60, packet[60] ^ 1), "local/udp_bad_checksum"),
        (lambda packet: bytes(IP(src="1.1.1.1", dst="2.2.2.2", proto=6) / Raw(packet[20:])), "local/no_protocol"),
        (lambda packet: bytes(IP(src="1.1.1.1", dst="2.2.2.2") / UDP(dport=9, chksum=0) / Raw(packet[28:])), "local/udp_no_socket"),
        (lambda packet: bytes(IP(src="1.1.1.1", dst="2.2.2.2") / UDP(dport=4789, chksum=0) / VXLAN(vni=8)), "tunnel/unknown_id"),
        (lambda packet: bytes(IP(src="1.1.1.1", dst="2.2.2.2") / UDP(dport=4789, chksum=0) / Raw(b"1234")), "vxlan/truncated"),
    ],
)
def test_what_cannot_be_taken_apart_has_the_reason_of_a_drop(change: Callable[[bytes], bytes], reason: str) -> None:
    assert _core.Codec("vxlan", {"id": 7}).pop(change(push({"id": 7}))).reason == reason


def test_a_zero_checksum_over_ipv6_is_taken_if_allowed() -> None:
    packet = push({"udp6_zero_checksum_tx": 1}, local=LOCAL6, remote=REMOTE6)
    assert _core.Codec("vxlan").pop(packet).reason == "vxlan/zero_checksum"
    assert _core.Codec("vxlan", {"udp6_zero_checksum_rx": 1}).pop(packet).inner == FRAME


def test_a_frame_of_the_devices_own_mac_is_refused() -> None:
    assert _core.Codec("vxlan").pop(push({}), device_mac=b"\x06" * 6).reason == "vxlan/own_mac"


def test_no_headroom_is_a_drop() -> None:
    with pytest.raises(_core.EncapDrop) as refused:
        push({}, headroom=15)
    assert refused.value.reason == "vxlan/no_headroom"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vni": 7}, "vxlan: option 'vni' is unknown or its value is out of range"),
        ({"id": 1 << 24}, "vxlan: option 'id' is unknown or its value is out of range"),
        ({"id": b"7"}, "vxlan: option 'id' is unknown or its value is out of range"),
        ({"id": 1 << 64}, "vxlan: option 'id' takes a number of 64 bits or bytes that are not empty"),
        ({"id": b""}, "vxlan: option 'id' takes a number of 64 bits or bytes that are not empty"),
        ({"port_min": 9, "port_max": 9}, "vxlan: port_max must be greater than port_min"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, int | bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Codec("vxlan", options)


def test_header_fields_are_named_outermost_first() -> None:
    packet = push({"id": 7, "udp_checksum": 0}, flow_hash=0)
    found = _core.encap_describe("vxlan", 17, packet[20:])
    udp = [("udp", "sport", 32768), ("udp", "dport", 4789), ("udp", "checksum", 0)]
    assert found == (
        [*udp, ("vxlan", "flags", 8), ("vxlan", "reserved1", bytes(3)), ("vxlan", "vni", 7), ("vxlan", "reserved2", 0)],
        16,
    )
    assert _core.encap_describe("vxlan", 17, packet[20:35]) == (udp, -1)


# ---- plug-ins that break their contract

def write(at: int) -> None:
    ctypes.memset(at, 0, 1)


def before_head(info: Any, data: Bytes) -> int:
    write(data.head - 1)
    data.data -= 8
    return 0


def behind_limit(info: Any, data: Bytes) -> int:
    write(data.limit)
    data.data -= 8
    return 0


def too_much(info: Any, data: Bytes) -> int:
    data.data -= 9
    return 0


def too_little(info: Any, data: Bytes) -> int:
    data.data -= 7
    return 0


def data_before_head(info: Any, data: Bytes) -> int:
    data.data = data.head - 1
    return 0


def tail_before_data(info: Any, data: Bytes) -> int:
    data.tail = data.data - 9
    return 0


def nowhere(info: Any, data: Bytes) -> int:
    data.data = data.tail = 0
    return 0


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (plugin.nonsense, "returned a result that its contract does not have"),
        (before_head, "wrote before head or behind limit"),
        (behind_limit, "wrote before head or behind limit"),
        (too_much, "wrote more or less than the overhead that it promised"),
        (too_little, "wrote more or less than the overhead that it promised"),
        (data_before_head, "moved the packet out of its bounds"),
        (tail_before_data, "moved the packet out of its bounds"),
        (nowhere, "moved the packet out of its bounds"),
    ],
)
def test_a_plug_in_that_breaks_its_contract_is_named(wrong: plugin.Carry, complaint: str) -> None:
    name = f"push_{wrong.__name__}"
    plugin.offer(plugin.encap(name.encode(), push=wrong))
    with pytest.raises(ValueError, match=f"encapsulation {name} {complaint}"):
        _core.Codec(name).push(FRAME, TEB, LOCAL4, REMOTE4)


def unnamed_protocol(info: Pop, data: Bytes) -> int:
    info.inner_protocol = 1
    return 0


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (plugin.nonsense, "returned a result that its contract does not have"),
        (before_head, "wrote before head or behind limit"),
        (behind_limit, "wrote before head or behind limit"),
        (data_before_head, "moved the packet out of its bounds"),
        (nowhere, "moved the packet out of its bounds"),
        (unnamed_protocol, "named no EtherType that its kind carries"),
    ],
)
def test_a_plug_in_that_breaks_its_contract_when_receiving_is_named(wrong: plugin.Carry, complaint: str) -> None:
    name = f"pop_{wrong.__name__}"
    plugin.offer(plugin.encap(name.encode(), pop=wrong))
    packet = bytes(IP(src="1.1.1.1", dst="2.2.2.2") / UDP(dport=plugin.PORT) / Raw(b"12345678"))
    with pytest.raises(ValueError, match=f"encapsulation {name} {complaint}"):
        _core.Codec(name).pop(packet)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"abi": 1}, "the encapsulation speaks ABI 1, this core ABI 2"),
        ({"name": b"vxlan"}, "an encapsulation named 'vxlan' is registered already"),
        ({"name": b"veth"}, "no name, or that of another kind of device"),
        ({"name": b""}, "no name, or that of another kind of device"),
        ({"name": b"Upper"}, "its name is not lower snake case"),
        ({"name": b"a/b"}, "its name is not lower snake case"),
        ({"name": b"a\xff"}, "its name is not lower snake case"),
        ({"name": b"a" * 33}, "its name is not lower snake case of at most 32 characters"),
        ({"sentence": b"\xff"}, "is not UTF-8"),
        ({"sentence": None}, "sentence or ip_protocols is not set"),
        ({"ip_protocols": (0, 0, 0, 0)}, "sentence or ip_protocols is not set"),
        ({"n_drop_reasons": 1}, "the count of options or drop reasons is wrong"),
        ({"n_options": -1}, "the count of options or drop reasons is wrong"),
    ],
)
def test_a_plug_in_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugin.offer(plugin.encap(**({"name": b"refused"} | fields)))
    assert "refused" not in _core.encapsulations()


@pytest.mark.parametrize("callback", ["create", "destroy", "overhead", "port", "push", "pop"])
def test_a_plug_in_without_a_callback_is_refused(callback: str) -> None:
    made = plugin.encap(b"refused")
    setattr(made, callback, type(getattr(made, callback))())  # a null pointer
    with pytest.raises(ValueError, match="one of create, destroy, overhead, port, push and pop is not set"):
        plugin.offer(made)


def other_family(info: Any, data: Bytes) -> int:
    info.family = 6
    data.data -= 8
    return 0


def test_what_a_plug_in_writes_into_what_it_is_given_changes_nothing() -> None:
    plugin.offer(plugin.encap(b"other_family", push=other_family))
    packet = _core.Codec("other_family").push(FRAME, TEB, LOCAL4, REMOTE4)
    assert len(packet) == 20 + 8 + len(FRAME)
    assert IP(packet).dst == "192.0.2.2"


def test_a_capsule_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="it was made for another ABI"):
        plugin.offer(plugin.encap(b"refused"), capsule=b"dataplane.encap.abi1")
