"""What the core does for an encapsulation at work: choosing remote ends, packets of its own, its timer, and refusals of misbehaviour."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from core import plugin
from core.plugin import Bytes, Host, Pop, Push
from core.worlds import CLIENT, CLIENT_MAC, ROUTER1, SERVER, SERVER_MAC, Router, ether, ip, mac, udp_packet, unaccounted

FAR = "10.9.0.9"
EXPERIMENT = 253  # an IP protocol for experiments (RFC 3692)
CONSUMED, NOT_MINE = -2, -1
IPV4, MPLS = 0x0800, 0x8847
NUMBERS = count()


def prepend(info: Push, data: Bytes) -> int:
    """Two bytes of header: "E", and the number of the inner protocol's last byte."""
    data.data -= 2
    ctypes.memmove(data.data, b"E" + bytes([info.inner_protocol & 255]), 2)
    info.ip_protocol = EXPERIMENT
    return 0


def take_off(info: Pop, data: Bytes) -> int:
    data.data += 2
    info.inner_protocol = IPV4
    return 0


def to_server(info: Push, data: Bytes) -> int:
    info.family = 4
    info.remote[:4] = ip(SERVER)
    return 0


@dataclass
class World(Router):
    """The router has a device tun0 of a plug-in made of these functions, through which it reaches 10.9.0.0/24."""

    push: plugin.Carry = prepend
    pop: plugin.Carry = take_off
    fields: dict[str, Any] = field(default_factory=dict)
    ends: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = f"experiment{next(NUMBERS)}"
        self.hosts: list[Host] = []
        fields = {"ethernet": 0, "ip_protocols": (EXPERIMENT, 0, 0, 0), "port": plugin.no_port(), "overhead": plugin.overhead(22)}
        plugin.offer(
            plugin.encap(name.encode(), push=self.push, pop=self.pop, create=plugin.create(self.hosts.append), **(fields | self.fields))
        )
        self.tun = self.engine.add_device(self.ns, "tun0", name, mac=mac(0xE0), mtu=1400, up=True, local=ip(ROUTER1), **self.ends)
        self.engine.add_route(self.ns, ip("10.9.0.0"), 24, dev=self.tun)

    @property
    def host(self) -> Any:
        return self.hosts[0].contents

    def sent(self) -> list[IP]:
        return [Ether(frame)[IP] for frame in self.seen(self.eth1, outgoing=True)]

    def receive(self, packet: IP) -> None:
        self.engine.receive(self.eth1, ether(bytes(packet), dst=mac(3), src=SERVER_MAC))
        self.engine.run(self.engine.now)


def fixed(**rest: Any) -> World:
    return World(ends={"remote": ip(SERVER)}, **rest)


def arriving(payload: bytes) -> IP:
    return IP(src=SERVER, dst=ROUTER1, proto=EXPERIMENT) / Raw(payload)


def test_an_encapsulation_may_choose_the_remote_end_by_the_packet() -> None:
    world = World(fields={"select": plugin.carry(to_server)})
    world.take(ether(udp_packet(dst=FAR)))
    (packet,) = world.sent()
    assert (packet.dst, packet.proto, bytes(packet.payload)[:2]) == (SERVER, EXPERIMENT, b"E\0")


@pytest.mark.parametrize(("result", "family"), [(plugin.NOT_A_RESULT, 4), (CONSUMED, 4), (0, 0), (0, 5)])
def test_a_choice_that_is_none_is_a_drop(result: int, family: int) -> None:
    def choose(info: Push, data: Bytes) -> int:
        info.family = family
        return result

    world = World(fields={"select": plugin.carry(choose)})
    world.take(ether(udp_packet(dst=FAR)))
    assert world.dropped("tunnel/plugin_misbehaved") == 1
    assert world.sent() == []


def test_a_packet_that_is_kept_counts_as_consumed() -> None:
    world = fixed(push=lambda info, data: CONSUMED)
    world.take(ether(udp_packet(dst=FAR)))
    assert world.sent() == []
    assert world.engine.counters()["consumed"] == 1
    assert unaccounted(world.engine) == 0


def test_a_message_of_the_protocols_own_goes_no_further() -> None:
    world = fixed(pop=lambda info, data: CONSUMED)
    world.receive(arriving(b"hello"))
    assert world.sent() == []
    assert world.seen(world.tun, outgoing=False) == []
    assert unaccounted(world.engine) == 0


def test_it_can_answer_while_it_receives() -> None:
    worlds: list[World] = []

    def answer(info: Pop, data: Bytes) -> int:
        reply = Push(family=4, ip_protocol=EXPERIMENT, ttl=7, tos=0x40, dont_fragment=1)
        reply.remote[:4] = list(info.remote)[:4]
        host = worlds[0].host
        host.send(host.core, host.device, ctypes.byref(reply), b"welcome", 7)
        return CONSUMED

    worlds.append(fixed(pop=answer))
    worlds[0].receive(arriving(b"hello"))
    (packet,) = worlds[0].sent()
    assert (packet.src, packet.dst, packet.ttl, packet.tos, packet.flags) == (ROUTER1, SERVER, 7, 0x40, "DF")
    assert bytes(packet[Raw]) == b"welcome"
    assert unaccounted(worlds[0].engine) == 0


def test_what_it_hands_in_later_is_received_on_the_device() -> None:
    world = fixed()
    inner = bytes(IP(src=FAR, dst=CLIENT, ttl=9) / UDP() / Raw(b"late"))
    info = Pop(family=4, inner_protocol=IPV4)
    world.host.receive(world.host.core, world.host.device, ctypes.byref(info), inner, len(inner))
    world.engine.run(0)
    frames = world.engine.frames()
    assert [frame.data for frame in frames if frame.device == world.tun] == [inner]
    assert [Ether(frame.data)[IP].ttl for frame in frames if frame.device == world.eth0 and frame.outgoing] == [8]
    assert unaccounted(world.engine) == 0


def test_the_timer_runs_in_virtual_time() -> None:
    times: list[int] = []
    world = fixed(fields={"timer": plugin.timer(times.append)})
    for at in (2_000_000_000, 1_000_000_000):
        world.host.wake(world.host.core, world.host.device, at)
    assert world.engine.run(1_500_000_000) is False
    assert times == [1_000_000_000]
    world.engine.run(3_000_000_000)
    assert times == [1_000_000_000, 2_000_000_000]


def test_a_timer_alone_keeps_no_run_going() -> None:
    """A protocol with keepalives would never come to rest."""
    times: list[int] = []
    world = fixed(fields={"timer": plugin.timer(times.append)})
    world.host.wake(world.host.core, world.host.device, 1_000_000_000)
    world.engine.run()
    assert times == []


def test_a_timer_that_asks_for_now_again_and_again_does_not_stop_time() -> None:
    worlds: list[World] = []
    times: list[int] = []

    def again(now: int) -> None:
        times.append(now)
        worlds[0].host.wake(worlds[0].host.core, worlds[0].host.device, now)

    worlds.append(fixed(fields={"timer": plugin.timer(again)}))
    worlds[0].host.wake(worlds[0].host.core, worlds[0].host.device, 0)
    worlds[0].engine.run(10_000)
    assert times == [1000 * step for step in range(1, 11)]


@pytest.mark.parametrize("size", [65516, 1 << 20])
def test_a_packet_of_its_own_that_no_ip_packet_holds_is_a_drop(size: int) -> None:
    world = fixed()
    info = Push(family=4, ip_protocol=EXPERIMENT)
    info.remote[:4] = ip(SERVER)
    world.host.send(world.host.core, world.host.device, ctypes.byref(info), bytes(size), size)
    assert world.dropped("tunnel/plugin_misbehaved") == 1
    assert unaccounted(world.engine) == 0


def test_a_packet_of_its_own_to_nowhere_is_a_drop() -> None:
    world = fixed()
    info = Push(family=4, ip_protocol=EXPERIMENT)
    info.remote[:4] = ip("198.51.100.1")
    world.host.send(world.host.core, world.host.device, ctypes.byref(info), b"x", 1)
    assert world.dropped("tunnel/no_route") == 1


def test_an_inner_protocol_that_nobody_handles_is_a_drop() -> None:
    def labelled(info: Pop, data: Bytes) -> int:
        info.inner_protocol = MPLS
        return 0

    world = fixed(pop=labelled)
    world.receive(arriving(bytes(40)))
    assert world.dropped("receive/unhandled_protocol") == 1


def test_the_next_device_gets_what_is_not_ours() -> None:
    world = fixed(pop=lambda info, data: NOT_MINE)
    world.receive(arriving(bytes(40)))
    assert world.dropped("tunnel/unknown_id") == 1


def one_more(info: Push, data: Bytes) -> int:
    prepend(info, data)
    data.data -= 1
    return 0


def out_of_reach(info: Any, data: Bytes) -> int:
    ctypes.memset(data.limit, 0, 1)
    return prepend(info, data) if isinstance(info, Push) else take_off(info, data)


def before_the_start(info: Any, data: Bytes) -> int:
    ctypes.memset(data.head - 1, 0, 1)
    return prepend(info, data) if isinstance(info, Push) else take_off(info, data)


def ethernet_without_ethernet(info: Pop, data: Bytes) -> int:
    info.inner_protocol = 0x6558
    return 0


@pytest.mark.parametrize("wrong", [plugin.nonsense, one_more, out_of_reach, before_the_start])
def test_misbehaving_on_the_way_out_is_a_counted_drop(wrong: Callable[[Any, Any], int]) -> None:
    world = fixed(push=wrong)
    world.take(ether(udp_packet(dst=FAR), src=CLIENT_MAC))
    assert world.dropped("tunnel/plugin_misbehaved") == 1
    assert world.sent() == []
    assert unaccounted(world.engine) == 0


@pytest.mark.parametrize("wrong", [plugin.nonsense, out_of_reach, before_the_start, ethernet_without_ethernet])
def test_misbehaving_on_the_way_in_is_a_counted_drop(wrong: Callable[[Any, Any], int]) -> None:
    world = fixed(pop=wrong)
    world.receive(arriving(bytes(40)))
    assert world.dropped("tunnel/plugin_misbehaved") == 1
    assert unaccounted(world.engine) == 0


def test_padding_up_to_the_alignment_is_no_lie() -> None:
    def padded(info: Push, data: Bytes) -> int:
        prepend(info, data)
        data.tail += 15
        return 0

    world = fixed(push=padded, fields={"align": 16})
    world.take(ether(udp_packet(b"x", dst=FAR)))
    assert [packet.len for packet in world.sent()] == [29 + 22 + 15]
