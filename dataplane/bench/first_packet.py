"""The first packet of a connection: the service is chosen among many, an endpoint drawn, conntrack entered, and the SYN sent on."""

from __future__ import annotations

import random
from array import array
from typing import Any

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import Shape
from dataplane.bench.flows import ETHERNET, scattered
from dataplane.bench.outer import TUNNELS, chosen, wrapped
from dataplane.bench.service import SAMPLE, Service, compare, require_all_left
from dataplane.bench.slots import Frames
from dataplane.bench.work import Settings, Work

CONNECTIONS = 100_000  # opened in a pass


class FirstPacketWork(Work):
    """SYNs of connections that nothing is known of, each to any of ``services``; between passes conntrack is emptied."""

    def __init__(self, settings: Settings, services: int) -> None:
        self.settings = settings
        shape = Shape(services=services)
        self.units = 128 if settings.quick else CONNECTIONS
        flows = scattered(self.units, shape.clients, services, settings.seed)
        settings.say(f"building a cluster of {services:,} services")
        self.service = Service(flows, shape, TUNNELS["vxlan"], settings.seed)
        self.frames = self.service.from_clients(flows, tcp.SYN, tcp.CLIENT_ISN, 0)
        self._times: array[int] = array("q")
        self._counters: dict[str, int] = {}
        self._rules = 0

    def before(self) -> None:
        node = self.service.node
        node.engine.flush(node.namespace, "conntrack")
        self._times = self.frames.times(node.engine.now + 1)
        self._counters = node.engine.counters()

    def run(self) -> None:
        self.frames.carry(self.service.node.engine, self._times)

    def after(self) -> None:
        counters = self.service.node.engine.counters()
        require_all_left(self._counters, counters, self.units)
        self._rules = counters["rules_walked"] - self._counters["rules_walked"]

    def details(self) -> dict[str, Any]:
        """``rules_walked``: iptables rules that Linux would have compared with each packet."""
        return {"services": self.service.shape.services, "rules_walked": self._rules / self.units}

    def check(self) -> None:
        """A sample's frames against headers written a second time; each endpoint must be one of its service's."""
        node, flows = self.service.node, self.service.flows
        numbers = sorted(random.Random(f"sample {self.settings.seed}").sample(range(len(flows)), min(SAMPLE, len(flows))))
        some = flows.chosen(numbers)
        node.engine.flush(node.namespace, "conntrack")
        node.watch(node.uplink, True)
        self.service.carry(self.frames.chosen(numbers))
        seen = node.captured(node.uplink)
        node.watch(node.uplink, False)
        servers = self.service.chosen_servers(some, seen)
        plain = Frames(tcp.segment(4, tcp.SYN, tcp.CLIENT_ISN, 0, ttl=63), len(some), 0)
        tcp.fill(plain, 4, self.service.clients(some), self.service.server_ends(servers))
        wanted = []
        for number, frame in enumerate(seen):
            ident, port = chosen(self.service.tunnel, frame)
            wanted.append(wrapped(self.service.tunnel, self.service.way, plain[number][ETHERNET:], ident=ident, port=port))
        compare(seen, wanted, "the headers it should have")
        self.checked = f"{len(seen)} frames: headers written anew, endpoints of their service"
