"""A router whose frames leave the world, for several threads to carry together."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from core.worlds import CLIENT, MILLISECOND, ROUTER1_MAC, SERVER, SERVER_MAC, Router, ether, filter_table, tcp_packet, udp_packet
from dataplane._core import Engine

SYN, ACK, SYN_ACK = 0x02, 0x10, 0x12
CONNECTIONS = 192  # their entries fill three stretches of memory, which belong to different parts
PORT = 2000
ASKER, ASKED = 900, 53
EVERYWHERE = ("eth0", "eth1", "client_eth", "server_eth")
WAYS = [(2, 1024), (3, 1024), (4, 1024), (2, 64), (3, 7), (4, 1)]  # threads, frames of a window


class Outlet:
    """A router with connection tracking whose ends are pulled off once connections stand: what it sends leaves the world, seen by the
    devices that are ``captured``."""

    def __init__(self, *, threads: int = 1, window: int = 1024, slow: bool = False, captured: Sequence[str] = EVERYWHERE) -> None:
        self.router = Router(engine=Engine(7, slow_path_only=slow))
        self.engine, self.threads, self.window = self.router.engine, threads, window
        forward: Any = [{"ctstate": 4, "target": "DROP"}, {"ctstate": 2, "target": "ACCEPT"}]
        self.engine.set_rules(self.router.ns, 4, "filter", filter_table(FORWARD=forward))
        self.engine.set_sysctl(self.router.ns, "net.netfilter.nf_conntrack_tcp_timeout_max_retrans", 10)
        self.now = 0
        for port in range(PORT, PORT + CONNECTIONS):
            there = {"sport": port, "dport": 80}
            back = {"src": SERVER, "dst": CLIENT, "sport": 80, "dport": port}
            self.carry([ether(tcp_packet(SYN, seq=99, **there))])  # type: ignore[arg-type]
            self.carry([ether(tcp_packet(SYN_ACK, seq=199, ack=100, **back), dst=ROUTER1_MAC, src=SERVER_MAC)], back=True)  # type: ignore[arg-type]
            self.carry([ether(tcp_packet(ACK, seq=100, ack=200, **there))])  # type: ignore[arg-type]
        self.carry([question()])
        self.carry([answer()], back=True)
        for device in (self.router.eth0, self.router.eth1):
            self.engine.disconnect(device)
        for name in EVERYWHERE:
            self.engine.set_device(getattr(self.router, name), capture=name in captured)
        self.carry([reply(number, 200) for number in range(CONNECTIONS)] * 2, back=True)
        self.carry([segment(number, 100) for number in range(CONNECTIONS)] * 3)
        self.carry([question()] * 3)

    def carry(self, frames: Sequence[bytes], *, back: bool = False, gap: int = MILLISECOND) -> None:
        """Those that the server sends come from its end, wherever the others do."""
        ends = (self.router.client_eth, self.router.server_eth)
        starts = array("Q", [0])
        for frame in frames:
            starts.append(starts[-1] + len(frame))
        times = array("q", [self.now + number * gap for number in range(1, len(frames) + 1)])
        lengths, refused = array("I", map(len, frames)), bytearray(len(frames))
        devices = array("i", [ends[back or frame[:6] == ROUTER1_MAC] for frame in frames])
        taken = self.engine.carry(b"".join(frames), devices, starts[:-1], lengths, times, refused, threads=self.threads, window=self.window)
        assert taken == len(frames)
        assert not any(refused)
        self.now = times[-1]

    def shown(self) -> dict[str, Any]:
        engine, counted = self.engine, self.engine.counters()
        return {
            "frames": engine.frames(),
            "drops": engine.drops(),
            "conntrack": engine.conntrack(self.router.ns),
            "counters": counted,
            "now": engine.now,
            "next": engine.inject(self.router.client_eth, question()),
            "then": self.seen(),
        }

    def seen(self) -> Any:
        """What leaves for one more segment of each connection."""
        for name in EVERYWHERE:
            self.engine.set_device(getattr(self.router, name), capture=True)
        self.carry([segment(number, 110) for number in range(CONNECTIONS)])
        return self.engine.frames()


def segment(number: int, seq: int) -> bytes:
    return ether(tcp_packet(ACK, sport=PORT + number, dport=80, seq=seq, ack=200))


def reply(number: int, seq: int) -> bytes:
    return ether(tcp_packet(ACK, src=SERVER, dst=CLIENT, sport=80, dport=PORT + number, seq=seq, ack=100), dst=ROUTER1_MAC, src=SERVER_MAC)


def question() -> bytes:
    return ether(udp_packet(sport=ASKER, dport=ASKED))


def answer() -> bytes:
    return ether(udp_packet(src=SERVER, dst=CLIENT, sport=ASKED, dport=ASKER), dst=ROUTER1_MAC, src=SERVER_MAC)


def rounds(count: int) -> list[bytes]:
    """Segments of all connections in turn, each a little further on."""
    return [segment(number, 100 + step) for step in range(count) for number in range(CONNECTIONS)]


def compared(frames: Sequence[bytes], threads: int, window: int, gap: int = MILLISECOND, captured: Sequence[str] = EVERYWHERE) -> int:
    """How many frames went in windows, once all ways of carrying them have come to the same."""
    slow, one = Outlet(slow=True, captured=captured), Outlet(captured=captured)
    many = Outlet(threads=threads, window=window, captured=captured)
    before = many.engine.flow_cache()["shared"]
    for outlet in (slow, one, many):
        outlet.carry(frames, gap=gap)
    shared = many.engine.flow_cache()["shared"] - before
    assert one.engine.flow_cache()["shared"] == 0
    expected = slow.shown()
    assert one.shown() == expected
    assert many.shown() == expected
    return shared
