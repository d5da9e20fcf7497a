"""Encapsulations written as Python classes: what they return and raise becomes bytes, counted drops, or messages of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import ClassVar

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from core.worlds import ip
from dataplane import _core
from dataplane.encap import python_plugin
from dataplane.encap.python_plugin import Encapsulation, Field, Host, Incoming, NotMine, OptionHelp, Outgoing, Reason, Refused

IPV4 = 0x0800
PROTOCOL = 253  # for experiments (RFC 3692)
LOCAL, REMOTE = ip("192.0.2.1"), ip("192.0.2.2")
INNER = bytes(IP(src="10.0.0.1", dst="10.0.0.2", tos=5, ttl=9, flags="DF") / UDP(sport=1, dport=2) / b"inside")
SECOND = 1_000_000_000


class Labelled(Encapsulation):
    """A label of four bytes before the packet; what it does besides is up to each test."""

    name: ClassVar[str] = "labelled"
    sentence: ClassVar[str] = "A label before the packet"
    ip_protocols = (PROTOCOL,)
    options = (OptionHelp("label", "32 bits", "0"), OptionHelp("remote_end", "4 bytes"))
    reasons = (Reason("bad_label", "The label is odd"), Reason("no_way", "Nobody is there", "NOMEM"))
    act: ClassVar[Callable[[Labelled, str, bytes], bytes | None]]
    seen: ClassVar[list[Outgoing | Incoming]] = []
    devices: ClassVar[list[Labelled]] = []

    def __init__(self, options: Mapping[str, int | bytes], host: Host | None) -> None:
        label = options.get("label", 0)
        if not isinstance(label, int):
            raise ValueError("labelled: a label is a number")
        self.label, self.host = label.to_bytes(4, "big"), host
        Labelled.devices.append(self)

    def overhead(self, family: int) -> int:
        return 24 if family == 4 else 44

    def push(self, outer: Outgoing, packet: bytes) -> bytes | None:
        Labelled.seen.append(outer)
        outer.ip_protocol, outer.tos, outer.ttl, outer.dont_fragment = PROTOCOL, 0x40, 77, True
        return Labelled.act(self, "push", packet)

    def pop(self, incoming: Incoming, payload: bytes) -> bytes | None:
        Labelled.seen.append(incoming)
        incoming.inner_protocol, incoming.id = IPV4, int.from_bytes(payload[:4], "big")
        return Labelled.act(self, "pop", payload)

    def timer(self, now: int) -> None:
        Labelled.act(self, "timer", now.to_bytes(8, "big"))

    @classmethod
    def describe(cls, ip_protocol: int, payload: bytes) -> tuple[int, list[Field]]:
        if len(payload) < 4:
            return -1, []
        return 4, [Field("labelled", "label", int.from_bytes(payload[:4], "big")), Field("labelled", "raw", payload[:4])]


def label_it(device: Labelled, call: str, packet: bytes) -> bytes | None:
    return device.label + packet if call == "push" else packet[4:]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    _core.register_encap(python_plugin.capsule(Labelled))
    monkeypatch.setattr(Labelled, "act", label_it, raising=False)
    monkeypatch.setattr(Labelled, "seen", [])
    monkeypatch.setattr(Labelled, "devices", [])
    monkeypatch.setattr(Labelled, "failure", None)


def acting(monkeypatch: pytest.MonkeyPatch, act: Callable[[Labelled, str, bytes], bytes | None]) -> None:
    monkeypatch.setattr(Labelled, "act", act)


def pushed(**options: int | bytes) -> bytes:
    return _core.Codec("labelled", options).push(INNER, IPV4, LOCAL, REMOTE)


def test_what_push_returns_goes_behind_the_outer_header_it_asks_for() -> None:
    want = IP(src="192.0.2.1", dst="192.0.2.2", proto=PROTOCOL, tos=0x40, ttl=77, id=0, flags="DF") / Raw(b"\0\0\0\x07" + INNER)
    assert pushed(label=7) == bytes(want)


def test_push_is_told_about_the_inner_packet() -> None:
    pushed()
    (outer,) = Labelled.seen
    assert isinstance(outer, Outgoing)
    assert (outer.local, outer.remote, outer.inner_protocol) == (LOCAL, REMOTE, IPV4)
    assert (outer.inner_tos, outer.inner_ttl, outer.inner_dont_fragment) == (5, 9, True)


def test_pop_gets_back_what_push_wrote() -> None:
    popped = _core.Codec("labelled", {}).pop(pushed(label=7))
    assert (popped.inner, popped.inner_protocol, popped.id, popped.reason) == (INNER, IPV4, 7, None)
    incoming = Labelled.seen[-1]
    assert isinstance(incoming, Incoming)
    assert (incoming.local, incoming.remote, incoming.outer_tos, incoming.outer_ttl) == (REMOTE, LOCAL, 0x40, 77)


@pytest.mark.parametrize(("kind", "error"), [("bad_label", Refused("bad_label")), ("no_way", Refused("no_way"))])
def test_a_refusal_is_the_drop_it_names(monkeypatch: pytest.MonkeyPatch, kind: str, error: Exception) -> None:
    packet = pushed()

    def refuse(device: Labelled, call: str, packet: bytes) -> bytes:
        raise error

    acting(monkeypatch, refuse)
    assert _core.Codec("labelled", {}).pop(packet).reason == f"labelled/{kind}"
    with pytest.raises(_core.EncapDrop, match=f"labelled/{kind}"):
        pushed()
    assert Labelled.failure is None


@pytest.mark.parametrize("error", [RuntimeError("oh"), Refused("not_in_the_table"), ZeroDivisionError(), SystemExit(3)])
def test_an_exception_is_a_drop_and_is_kept(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    packet = pushed()

    def fail(device: Labelled, call: str, packet: bytes) -> bytes:
        raise error

    acting(monkeypatch, fail)
    assert _core.Codec("labelled", {}).pop(packet).reason == "labelled/plugin_error"
    assert Labelled.failure is error
    with pytest.raises(_core.EncapDrop, match="labelled/plugin_error"):
        pushed()


def test_over_ipv6_addresses_have_sixteen_bytes() -> None:
    local, remote = ip_address("2001:db8::1").packed, ip_address("2001:db8::2").packed
    codec = _core.Codec("labelled", {"label": 7})
    packet = codec.push(INNER, IPV4, local, remote)
    assert packet == bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", nh=PROTOCOL, tc=0x40, hlim=77) / Raw(b"\0\0\0\x07" + INNER))
    assert codec.pop(packet).inner == INNER
    assert [(seen.local, seen.remote) for seen in Labelled.seen] == [(local, remote), (remote, local)]


def test_what_is_no_bytes_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labelled, "act", lambda device, call, packet: "text")
    with pytest.raises(_core.EncapDrop, match="labelled/plugin_error"):
        pushed()
    assert isinstance(Labelled.failure, TypeError)


def test_another_devices_packet_is_nobodys_here(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = pushed()

    def others(device: Labelled, call: str, packet: bytes) -> bytes:
        raise NotMine

    acting(monkeypatch, others)
    popped = _core.Codec("labelled", {}).pop(packet)
    assert popped.inner == b""
    assert popped.reason is not None
    assert Labelled.failure is None


def test_a_packet_that_is_kept_leaves_nothing_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    acting(monkeypatch, lambda device, call, packet: None)
    assert pushed() == b""


def test_more_than_there_is_room_for_is_a_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    acting(monkeypatch, lambda device, call, packet: packet + bytes(4000))
    with pytest.raises(_core.EncapDrop, match="labelled/no_room"):
        pushed()


def test_more_than_the_overhead_says_is_a_broken_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    acting(monkeypatch, lambda device, call, packet: packet + bytes(5))
    with pytest.raises(ValueError, match="overhead"):
        pushed()


@pytest.mark.parametrize("more", [-20, -4, 0, 16])
def test_what_was_inside_may_be_shorter_or_longer_than_the_payload(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    packet = pushed()
    inner = INNER + bytes(range(4 + more)) if more >= -4 else INNER[: 4 + more]
    acting(monkeypatch, lambda device, call, packet: inner)
    assert _core.Codec("labelled", {}).pop(packet).inner == inner


def test_wrong_options_are_refused_with_the_classs_words() -> None:
    with pytest.raises(ValueError, match="a label is a number"):
        _core.Codec("labelled", {"label": b"x"})


def test_fields_are_described_and_headers_cut_short_are_said_to_be() -> None:
    fields = [("labelled", "label", 256), ("labelled", "raw", b"\0\0\1\0")]
    assert _core.encap_describe("labelled", PROTOCOL, b"\0\0\1\0rest") == (fields, 4)
    assert _core.encap_describe("labelled", PROTOCOL, b"\0\0") == ([], -1)


class Link:
    """A device of kind labelled on a veth whose other end nobody answers at; ``frames`` are what leaves."""

    def __init__(self) -> None:
        self.engine = _core.Engine(1)
        namespace = self.engine.add_namespace("node")
        self.eth0, self.peer = (
            self.engine.add_device(namespace, name, "veth", mac=bytes([2, 0, 0, 0, 0, number]), mtu=1500)
            for number, name in enumerate(("eth0", "peer"))
        )
        self.engine.connect(self.eth0, self.peer)
        self.engine.add_address(self.eth0, LOCAL, 24)
        self.engine.add_neighbour(self.eth0, REMOTE, bytes([2, 0, 0, 0, 0, 9]))
        self.device = self.engine.add_device(namespace, "lab0", "labelled", mac=bytes(6), mtu=1400, remote=REMOTE)

    def run(self, until: int) -> list[IP]:
        self.engine.run(until)
        return [IP(frame.data[14:]) for frame in self.engine.frames() if frame.device == self.eth0 and frame.outgoing]


def test_a_device_sends_packets_of_its_own_at_the_time_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def tick(device: Labelled, call: str, packet: bytes) -> None:
        assert device.host is not None
        now = int.from_bytes(packet, "big")
        device.host.send(Outgoing(now, bytes(4), REMOTE, ip_protocol=PROTOCOL, tos=4), b"tick")
        device.host.wake(now + SECOND)

    acting(monkeypatch, tick)
    link = Link()
    (device,) = Labelled.devices
    assert device.host is not None
    device.host.wake(SECOND)
    sent = link.run(3 * SECOND)
    assert [(packet.src, packet.dst, packet.proto, packet.tos, bytes(packet.payload)) for packet in sent] == [
        ("192.0.2.1", "192.0.2.2", PROTOCOL, 4, b"tick")
    ] * 3


def test_a_device_receives_what_it_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def hand_over(device: Labelled, call: str, packet: bytes) -> None:
        assert device.host is not None
        incoming = Incoming(0, LOCAL, REMOTE, inner_protocol=IPV4)
        device.host.receive(incoming, INNER)

    acting(monkeypatch, hand_over)
    link = Link()
    (device,) = Labelled.devices
    assert device.host is not None
    device.host.wake(SECOND)
    link.engine.run(2 * SECOND)
    assert [frame.data for frame in link.engine.frames() if frame.device == link.device and not frame.outgoing] == [INNER]


def test_a_timer_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: Labelled, call: str, packet: bytes) -> None:
        raise RuntimeError("late")

    acting(monkeypatch, fail)
    link = Link()
    (device,) = Labelled.devices
    assert device.host is not None
    device.host.wake(SECOND)
    assert link.run(2 * SECOND) == []
    assert str(Labelled.failure) == "late"


@pytest.mark.parametrize("remote", [b"", bytes(5), bytes(16)])
def test_addresses_that_do_not_fit_are_the_classs_error(remote: bytes) -> None:
    link = Link()
    (device,) = Labelled.devices
    assert device.host is not None
    with pytest.raises(ValueError, match="address"):
        device.host.send(Outgoing(0, LOCAL, remote), b"")
    assert link.run(SECOND) == []


def test_a_host_is_of_no_use_without_its_engine() -> None:
    Link()
    (device,) = Labelled.devices
    assert device.host is not None
    with pytest.raises(RuntimeError, match="gone"):
        device.host.wake(0)


def test_sixteen_classes_are_the_most() -> None:
    program = """
from dataplane.encap.python_plugin import Encapsulation, capsule
whole = {name: lambda *given: None for name in Encapsulation.__abstractmethods__}
classes = [type("K", (Encapsulation,), {"name": f"k{n}", "sentence": "of many", **whole}) for n in range(17)]
assert len({id(capsule(kind)) for kind in classes[:16]}) and capsule(classes[0])
try:
    capsule(classes[16])
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "k16: there are 16 encapsulations in Python already\n"


def test_four_ip_protocols_are_too_many() -> None:
    kind = type("Many", (Labelled,), {"name": "many", "ip_protocols": (1, 2, 3, 4)})
    with pytest.raises(ValueError, match="more than three"):
        python_plugin.capsule(kind)
