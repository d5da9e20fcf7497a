"""Flows into a tunnel whose path becomes narrow for a while: what goes and what is refused is the slow path's, before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from core.worlds import (
    DONT_FRAGMENT,
    ICMP,
    MILLISECOND,
    ROUTER1,
    SECOND,
    SERVER,
    SERVER_MAC,
    Router,
    ether,
    icmp,
    ip,
    ipv4,
    mac,
    udp_packet,
)
from dataplane._core import Engine
from dataplane.encap import registry

FAR, BETWEEN = "10.9.0.9", "10.0.1.77"
EXPIRES = 5  # s, of what is learnt of a path
NARROW = 1000  # bytes of the outer packet
FITS, LONG = 300, 1200  # bytes of data; the latter is too long while the path is narrow
KINDS = {"ipip": 20, "gre": 24}  # bytes of outer headers of those that tell the sender; both set DF


@dataclass
class World:
    """The router reaches 10.9.0.0/24 through tunnels in tunnels, the innermost around the packet first; the server is their end."""

    kinds: tuple[str, ...]
    slow: bool = False
    router: Router = field(init=False)

    def __post_init__(self) -> None:
        self.router = Router(engine=Engine(3, slow_path_only=self.slow))
        engine, ns = self.router.engine, self.router.ns
        engine.set_sysctl(ns, "net.ipv4.route.mtu_expires", EXPIRES)
        near, far, mtu = ROUTER1, SERVER, 1500
        for number, kind in enumerate(self.kinds[::-1]):
            registry.ensure(kind)
            mtu -= KINDS[kind]
            inside = f"172.16.{number}.1", f"172.16.{number}.2"
            device = engine.add_device(ns, f"tun{number}", kind, mac=bytes(6), mtu=mtu, local=ip(near), remote=ip(far))
            engine.add_address(device, ip(inside[0]), 24)
            near, far = inside
        engine.add_route(ns, ip("10.9.0.0"), 24, dev=device)

    def send(self, *sizes: int) -> int:
        """Packets of the client, a millisecond apart; how many more times the cache has served."""
        engine = self.router.engine
        before = engine.flow_cache().get("hits", 0)
        for size in sizes:
            packet = udp_packet(bytes(size), dst=FAR, fragment=DONT_FRAGMENT)
            at = engine.now + MILLISECOND
            engine.inject(self.router.client_eth, ether(packet), at=at)
            engine.run(at)
        return engine.flow_cache().get("hits", 0) - before

    def say(self, size: int) -> None:
        """The router itself sends there, for which what it has learnt of the path counts too."""
        self.router.engine.send(self.router.ns, udp_packet(bytes(size), src="0.0.0.0", dst=FAR, fragment=DONT_FRAGMENT))
        self.router.engine.run(self.router.engine.now)

    def told(self, mtu: int = NARROW) -> None:
        """A router between the ends of the outermost tunnel refuses a packet."""
        proto = 4 if self.kinds[-1] == "ipip" else 47
        quote = ipv4(bytes(4) + bytes(40), src=ROUTER1, dst=SERVER, proto=proto, fragment=DONT_FRAGMENT)
        body = icmp(3, 4, rest=b"\0\0" + mtu.to_bytes(2), payload=quote)
        engine = self.router.engine
        engine.receive(self.router.eth1, ether(ipv4(body, src=BETWEEN, dst=ROUTER1, proto=ICMP), dst=mac(3), src=SERVER_MAC))
        engine.run(engine.now)

    def wait(self, seconds: float) -> None:
        self.router.engine.run(self.router.engine.now + int(seconds * SECOND))

    def out(self) -> tuple[list[int], list[int]]:
        """Bytes of the outer packets since the last call, and the MTUs that the client was told."""
        frames = [frame for frame in self.router.engine.frames() if frame.outgoing]
        sent = [len(frame.data) - 14 for frame in frames if frame.device == self.router.eth1]
        told = [int.from_bytes(frame.data[40:42]) for frame in frames if frame.device == self.router.eth0 and frame.data[23] == ICMP]
        return sent, told


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_stops_where_its_path_becomes_narrow_and_goes_on_when_that_is_forgotten(kind: str) -> None:
    world, around = World((kind,)), 28 + KINDS[kind]
    world.send(*[LONG] * 3)
    assert world.send(LONG, FITS, LONG) >= 3
    world.out()
    world.told()
    world.send(FITS, LONG, FITS)
    assert world.out() == ([FITS + around] * 2, [NARROW + 28 - around])
    world.wait(EXPIRES - 1)
    world.send(LONG)
    assert world.out()[0] == []
    world.wait(EXPIRES + 1)
    world.send(*[LONG] * 4)
    assert world.send(LONG, FITS, LONG) >= 3, "its flow is learnt anew"
    assert world.out() == ([*[LONG + around] * 5, FITS + around, LONG + around], [])


def talk(world: World) -> None:
    world.send(*[LONG] * 4)
    world.told()
    for _ in range(12):
        world.send(FITS, FITS, LONG, FITS)
        world.say(LONG)
        world.wait(0.9)


def forgotten(world: World) -> None:
    """What is told once more lives longer, what is flushed is gone at once."""
    world.told()
    world.send(*[FITS] * 4)
    world.router.engine.flush(world.router.ns, "exceptions")
    world.send(*[FITS] * 4, LONG, LONG)
    world.told()
    world.wait(EXPIRES - 1)
    world.told(NARROW - 100)
    world.send(*[FITS] * 4, LONG)
    world.wait(EXPIRES - 1)
    world.say(LONG)
    world.send(FITS, LONG)
    world.wait(2)
    world.say(LONG)
    world.send(FITS, LONG, LONG)


def learnt_while_narrow(world: World) -> None:
    """A flow's first packets are those that go while the path is narrow; it goes on when that is over, and when it comes again."""
    world.told()
    world.send(*[FITS] * 5)
    world.wait(EXPIRES)
    world.send(FITS, LONG, FITS, LONG, LONG)
    world.say(LONG)
    world.told()
    world.send(FITS, LONG, FITS)
    world.say(LONG)


@pytest.mark.parametrize("story", [talk, forgotten, learnt_while_narrow], ids=lambda story: story.__name__)
@pytest.mark.parametrize("kinds", [("ipip",), ("gre",), ("ipip", "gre"), ("ipip", "ipip", "gre")], ids="-in-".join)
def test_what_becomes_of_packets_is_the_slow_paths(kinds: tuple[str, ...], story: Callable[[World], None]) -> None:
    seen = []
    for slow in (False, True):
        world = World(kinds, slow)
        story(world)
        frames = [(frame.time, frame.device, frame.outgoing, frame.data) for frame in world.router.engine.frames()]
        seen.append((frames, world.router.engine.drops(), world.router.engine.counters()))
    for fast, slow_path in zip(*seen, strict=True):
        assert fast == slow_path
    assert seen[0][2]["drop/tunnel/too_big"] > 0
