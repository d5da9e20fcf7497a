"""Row ``first-packet``: the first packet of a connection by the slow path, pod to ClusterIP to a pod of another node over VXLAN: the
service's rules choose a server, and both nodes begin two connections each, the packet's own and its tunnel's.

``ns_per_packet`` is for one node: half of what a frame takes through both nodes, their pods and the switch between them."""

from __future__ import annotations

import argparse
import json
import socket
from typing import Any

from slow_world import CLIENT, PORT, SYN, World, service_address, tcp_frame

FRAMES = 2000
FIRST_PORT = 1024
WARM_UP = 1  # rounds


def forget(world: World) -> None:
    for machine in world.topology.machines.values():
        world.engine.flush(machine.namespace, "conntrack")


def measure(services: int, rounds: int = 9) -> dict[str, Any]:
    """The row for a cluster of so many services, which the connections go to in turn."""
    world = World(services)
    targets = [service_address(n * services // FRAMES if services > FRAMES else n % services) for n in range(FRAMES)]
    times, walked = [], 0.0
    for number in range(rounds + WARM_UP):
        ports = range(FIRST_PORT + number * FRAMES, FIRST_PORT + (number + 1) * FRAMES)
        frames = [tcp_frame(world.out, CLIENT, port, vip, PORT, SYN, seq=0) for port, vip in zip(ports, targets, strict=True)]
        before = world.engine.counters()["rules_walked"]
        took = world.carry(world.client.eth0, frames)
        if number >= WARM_UP:
            times.append(took)
        walked = world.engine.counters()["rules_walked"] - before
        connections = world.engine.conntrack(world.node)
        forget(world)  # the next ones get their memory: none is asked of the system while it is timed
    assert sum(entry["proto"] == socket.IPPROTO_TCP for entry in connections) == FRAMES
    row = {"row": "first-packet", "services": services, "ns_per_packet": min(times) / FRAMES * 1e9 / 2}
    return {**row, "rules_walked": walked / FRAMES / 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument("--services", type=int, nargs="+", default=[10, 100, 1000, 10000], metavar="N")
    asked = parser.parse_args()
    for services in asked.services:
        row = measure(services)
        text = f"{services} services: {row['ns_per_packet']:.0f} ns per packet and node, {row['rules_walked']:.0f} rules walked"
        print(json.dumps(row) if asked.json else text, flush=True)


if __name__ == "__main__":
    main()
