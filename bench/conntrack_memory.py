"""Row ``conntrack-memory``: bytes that a tracked connection takes, both directions, all in: resident memory before and after."""

from __future__ import annotations

import argparse
import gc
import json
import socket
import struct
from array import array
from pathlib import Path
from typing import Any

from slow_world import checksum

from dataplane._core import Chain, Engine

BATCH = 50_000
MACS = bytes.fromhex("020000000001") + bytes.fromhex("020000000002")


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Router:
    """A namespace that forwards TCP between two devices, with connection tracking; what it sends leads nowhere."""

    def __init__(self, family: int, most: int) -> None:
        self.family = family
        self.engine = Engine(1, slow_path_only=True)
        ns = self.ns = self.engine.add_namespace("router")
        self.inside = self.engine.add_device(ns, "in", "veth", mac=MACS[:6], mtu=1500)
        outside = self.engine.add_device(ns, "out", "veth", mac=MACS[6:], mtu=1500)
        self.source = self.engine.add_device(self.engine.add_namespace("source"), "eth0", "veth", mac=MACS[6:], mtu=1500)
        self.engine.connect(self.source, self.inside)
        self.client, self.server = (self.address(n) for n in (1, 2))
        gateway, size = self.address(3), 8 * len(self.client)
        self.engine.set_sysctl(ns, "net.netfilter.nf_conntrack_max", most)
        self.engine.set_sysctl(ns, "net.ipv4.conf.all.forwarding" if family == 4 else "net.ipv6.conf.all.forwarding", 1)
        self.engine.add_address(outside, gateway, size - 8)
        self.engine.add_route(ns, bytes(len(gateway)), 0, dev=outside, via=None)
        self.engine.add_neighbour(outside, self.server, MACS[:6])
        self.engine.set_rules(ns, family, "nat", [Chain(name, "ACCEPT", []) for name in ("PREROUTING", "POSTROUTING")])
        for device in (self.inside, outside, self.source):
            self.engine.set_device(device, capture=False)
        self.now = 0

    def address(self, n: int) -> bytes:
        return bytes([10, 0, 0, n]) if self.family == 4 else bytes([0xFD, *[0] * 14, n])

    def syn(self, number: int) -> bytes:
        """The SYN of the ``number``-th connection: ports and the client's last bytes tell them apart."""
        client = self.client[:-3] + (number >> 16).to_bytes(2, "big") + b"\x09"
        ends = client + self.server
        tcp = struct.pack(">HHIIBBHHH", number & 0xFFFF, 80, 0, 0, 0x50, 2, 65535, 0, 0)
        pseudo = ends + (bytes([0, 6, 0, 20]) if self.family == 4 else bytes([0, 0, 0, 20, 0, 0, 0, 6]))
        tcp = tcp[:16] + checksum(pseudo + tcp).to_bytes(2, "big") + tcp[18:]
        if self.family == 6:
            return MACS + b"\x86\xdd" + bytes([0x60, 0, 0, 0, 0, 20, 6, 64]) + ends + tcp
        ip = bytes([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]) + ends
        return MACS + b"\x08\x00" + ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:] + tcp

    def open(self, first: int, n: int) -> None:
        """Carry the SYNs of these connections, one a virtual nanosecond."""
        frames = [self.syn(number) for number in range(first, first + n)]
        size = len(frames[0])
        times = array("q", range(self.now, self.now + n))
        self.now += n
        starts, lengths = array("Q", range(0, n * size, size)), array("I", [size]) * n
        assert self.engine.carry(b"".join(frames), array("i", [self.source]) * n, starts, lengths, times, bytearray(n)) == n


def measure(family: int, connections: int) -> dict[str, Any]:
    """The row for so many connections."""
    first = Router(family, 2 * BATCH)
    first.open(0, BATCH)  # the interpreter has what it needs from now on
    assert len(first.engine.conntrack(first.ns)) == BATCH and not first.engine.drops()
    router = Router(family, connections)
    gc.collect()
    before = resident()
    for number in range(0, connections, BATCH):
        router.open(number, min(BATCH, connections - number))
    gc.collect()
    grown = resident() - before
    assert router.engine.counters()["out"] == connections
    return {"row": "conntrack-memory", "family": family, "connections": connections, "bytes_per_entry": grown / connections}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument("--connections", type=int, default=1_000_000, metavar="N")
    asked = parser.parse_args()
    for family in (socket.AF_INET, socket.AF_INET6):
        row = measure(4 if family == socket.AF_INET else 6, asked.connections)
        print(json.dumps(row) if asked.json else f"IPv{row['family']}: {row['bytes_per_entry']:.1f} bytes a connection", flush=True)


if __name__ == "__main__":
    main()
