"""Row ``slow-path``: the slow path alone on established connections, pod to ClusterIP to a pod of another node over VXLAN.

``ns_per_packet`` is for one node: half of what a frame takes through both nodes, their pods and the switch between them."""

from __future__ import annotations

import argparse
import json
import socket
from typing import Any

from slow_world import ACK, CLIENT, PORT, SYN, TARGET_PORT, World, service_address, tcp_frame

FRAMES = 2000


def establish(world: World, ports: range) -> list[bytes]:
    """Open connections of the client's from these ports to the first service; the frames that continue them, one each."""
    client, vip = world.client, service_address(0)
    machines = {str(machine.addresses[0]): machine for machine in world.topology.machines.values()}
    gateway = world.topology.macs[socket.inet_aton("10.244.2.1")]
    world.carry(client.eth0, [tcp_frame(world.out, CLIENT, port, vip, PORT, SYN, seq=0) for port in ports])
    for port in ports:
        server = world.server_of(port)
        macs = gateway + machines[server].mac
        world.carry(machines[server].eth0, [tcp_frame(macs, server, TARGET_PORT, CLIENT, port, SYN | ACK, seq=0, ack=1)])
    frames = [tcp_frame(world.out, CLIENT, port, vip, PORT, ACK, ack=1) for port in ports]
    world.carry(client.eth0, frames)
    states = [entry["state"] for entry in world.engine.conntrack(world.node) if entry["proto"] == socket.IPPROTO_TCP]
    assert states == ["ESTABLISHED"] * len(ports)
    return frames


def measure(connections: int = 10, rounds: int = 9) -> dict[str, Any]:
    """The row; the ``connections`` take turns."""
    world = World(10)
    frames = establish(world, range(10000, 10000 + connections))
    frames = (frames * (FRAMES // len(frames) + 1))[:FRAMES]
    before = world.engine.counters()
    world.carry(world.client.eth0, frames)
    arrived = world.engine.drops()  # the servers are silent: what reaches them is dropped there
    assert len(arrived) == FRAMES and all(drop.data[16:20] != frames[0][30:34] for drop in arrived)
    took = min(world.carry(world.client.eth0, frames) for _ in range(rounds))
    rules = world.engine.counters()["rules_walked"] - before["rules_walked"]
    return {"row": "slow-path", "connections": connections, "ns_per_packet": took / FRAMES * 1e9 / 2, "rules_walked": rules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    asked = parser.parse_args()
    row = measure()
    print(json.dumps(row) if asked.json else f"{row['row']}: {row['ns_per_packet']:.0f} ns per packet and node")


if __name__ == "__main__":
    main()
