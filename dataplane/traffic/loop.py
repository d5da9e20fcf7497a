"""The loop over the core: virtual time, timers, sockets. Applications are callbacks on it and know the core only through it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from dataplane.traffic.draw import draw64

EPHEMERAL_PORTS = range(32768, 61000)  # net.ipv4.ip_local_port_range
_STEPS_BETWEEN_DRAINS = 256

Handler = Callable[[bytes], None]
"""Takes an IP packet that was delivered to a socket."""


class Delivered(Protocol):
    """What the loop reads of ``dataplane._core.Delivery``."""

    @property
    def time(self) -> int: ...
    @property
    def socket(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class Core(Protocol):
    """What applications need of ``dataplane._core.Engine``.

    A packet that quotes one sent with ``socket`` (an ICMP error) is delivered to that socket, as is what arrives at its port.
    ``lookup_route`` of a destination that can be reached has ``kind`` "unicast" or "local", the chosen source address under ``src``
    and the MTU towards the destination under ``mtu``, path MTU discovery included.
    """

    @property
    def now(self) -> int: ...
    def lookup_route(self, ns: int, dst: bytes) -> dict[str, Any]: ...
    def send(self, ns: int, packet: bytes, *, at: int | None = None, socket: int = -1) -> int: ...
    def open_socket(self, ns: int, proto: int, port: int, address: bytes | None = None) -> int: ...
    def close_socket(self, socket: int) -> None: ...
    def run(self, until: int | None = None) -> bool: ...
    def deliveries(self) -> Sequence[Delivered]: ...


class Route(NamedTuple):
    """How a namespace reaches a destination."""

    src: bytes
    mtu: int  # of the path as far as it is known


@dataclass(order=True, slots=True)
class Timer:
    """One call in the future; ``cancel`` may come at any time."""

    time: int
    order: int
    callback: Callable[[], None] = field(compare=False)
    holds: bool = field(compare=False)
    is_cancelled: bool = field(compare=False, default=False)


class Loop:
    """Runs applications over a core in virtual time, deterministically: due timers in the order in which they were set."""

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self.seed = seed
        self.now = core.now
        self._timers: list[Timer] = []
        self._order = 0
        self._holding = 0
        self._handlers: dict[int, Handler] = {}
        self._ports: dict[tuple[int, int], set[int]] = {}
        self._idents: dict[tuple[int, bytes, bytes, int], int] = {}

    # ---- timers
    def at(self, time: int, callback: Callable[[], None], *, holds: bool = True) -> Timer:
        """Call back at virtual nanosecond ``time``. A timer that does not hold lets the run end before it is due."""
        timer = Timer(max(time, self.now), self._order, callback, holds)
        self._order += 1
        self._holding += holds
        heapq.heappush(self._timers, timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer; one that has fired or was cancelled already is left alone."""
        if timer is not None and not timer.is_cancelled:
            timer.is_cancelled = True
            self._holding -= timer.holds

    def _next_time(self) -> int | None:
        """When the next timer is due; None once nobody waits for one."""
        while self._timers and self._timers[0].is_cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].time if self._timers and self._holding else None

    def _fire(self, time: int) -> None:
        self.now = max(self.now, time)
        while self._timers and self._timers[0].time <= time:
            timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                self.cancel(timer)
                timer.callback()

    # ---- sockets
    def open(self, ns: int, proto: int, port: int, handler: Handler) -> int | None:
        """A socket for what arrives at this port (ICMP: echo identifier) of this namespace; None if the port is taken."""
        taken = self._ports.setdefault((ns, proto), set())
        if port in taken:
            return None
        taken.add(port)
        socket = self._core.open_socket(ns, proto, port)
        self._handlers[socket] = handler
        return socket

    def close(self, socket: int, ns: int, proto: int, port: int) -> None:
        self._core.close_socket(socket)
        del self._handlers[socket]
        self._ports[ns, proto].discard(port)

    def free_port(self, ns: int, proto: int, *words: object) -> int | None:
        """A free ephemeral port: the first from one that the seed and ``words`` choose (RFC 6056 3.3.1); None if all are taken."""
        taken = self._ports.get((ns, proto), set())
        first = draw64(self.seed, "traffic/port", ns, proto, *words) % len(EPHEMERAL_PORTS)
        for step in range(len(EPHEMERAL_PORTS)):
            port = EPHEMERAL_PORTS[(first + step) % len(EPHEMERAL_PORTS)]
            if port not in taken:
                return port
        return None

    # ---- packets
    def route(self, ns: int, destination: bytes) -> Route | None:
        """None if the namespace has no way to the destination."""
        found = self._core.lookup_route(ns, destination)
        if found["kind"] not in ("unicast", "local") or found["src"] is None:
            return None
        return Route(found["src"], found["mtu"])

    def next_ident(self, ns: int, src: bytes, dst: bytes, proto: int) -> int:
        """The IPv4 identification of the next datagram: a counter for each pair of addresses, from a seeded start (RFC 6864 4.1)."""
        key = (ns, src, dst, proto)
        if key not in self._idents:
            self._idents[key] = draw64(self.seed, "traffic/ident", ns, src.hex(), dst.hex(), proto)
        self._idents[key] = (self._idents[key] + 1) & 0xFFFF
        return self._idents[key]

    def flow_label(self, *words: object) -> int:
        """The IPv6 flow label of a flow, never zero (RFC 6437 3; net.ipv6.auto_flowlabels)."""
        return draw64(self.seed, "traffic/flow-label", *words) % 0xFFFFF + 1

    def send(self, ns: int, packet: bytes, socket: int) -> None:
        self._core.send(ns, packet, at=self.now, socket=socket)

    def _deliver(self) -> None:
        for delivery in self._core.deliveries():
            self.now = max(self.now, delivery.time)
            handler = self._handlers.get(delivery.socket)
            if handler is not None:  # else the socket was closed by an earlier one of these
                handler(delivery.data)

    # ---- the run
    def run(self, until: int | None = None, drain: Callable[[], None] | None = None) -> None:
        """Carry traffic until no application waits for anything and no packet is under way, or to virtual time ``until``.

        ``drain`` is called now and then, and at the end: to take captured frames out of the core before they fill the memory.
        """
        steps = 0
        while True:
            steps += 1
            if drain is not None and steps % _STEPS_BETWEEN_DRAINS == 0:
                drain()
            due = self._next_time()
            limit = until if due is None or (until is not None and until < due) else due
            if self._core.run(limit):
                self._deliver()
            elif due is not None and due == limit:
                self._fire(due)
            else:
                break
        if drain is not None:
            drain()
