"""Capture files in and out: a replay through two nodes and the wire between them, as a process of its own."""

from __future__ import annotations

import json
import random
import shutil
import struct
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import SERVERS, SERVICE_PORT, TARGET_PORT, Shape, client_address, objects, server_address, service_address
from dataplane.bench.flows import ETHERNET, Ends, Flows, structured
from dataplane.bench.process import command, timed
from dataplane.bench.service import SAMPLE, compare
from dataplane.bench.slots import GAP_NS, Frames
from dataplane.bench.work import Mismatch, Settings, Work
from dataplane.capture.open import open_capture
from dataplane.capture.pcap import MAGIC_NS

PACKETS = 200_000
PACKETS_A_FLOW = 20  # all flows are of one pod
SERVICES = 16
RECORD_HEADER = 16  # of the pcap format
HOPS = 10  # interfaces that see each packet: pod, veth, cni0, flannel.1, eth0 of one node, and the same of the other
BATCH = 1 << 17  # packets whose records are made at once


def write_capture(path: Path, packets: int, flows: Flows) -> None:
    """A pcap file of TCP segments of 64 bytes, one of each connection in turn, as the first client's pod sends them."""
    count = len(flows)
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", MAGIC_NS, 2, 4, 0, 0, 262144, 1))
        frame = tcp.segment(4, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT)
        batch = max(1, BATCH // count) * count
        records = Frames(struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame, min(batch, -(-packets // count) * count), 0)
        numbers = array("I", range(count)) * (len(records) // count)
        some = flows.chosen(numbers)
        services = Ends([service_address(4, number) for number in range(SERVICES)], some.services, array("H", [SERVICE_PORT]) * len(some))
        tcp.fill(records, 4, Ends([client_address(4, 0)], some.clients, some.ports), services, RECORD_HEADER + ETHERNET)
        for first in range(0, packets, len(records)):
            for step in range(0, len(records), count):
                data = (first + step) // count * len(tcp.SEGMENT) % 0xFFF0
                tcp.advance(records, RECORD_HEADER + ETHERNET, 4, data, step, count)
            times = range(first * GAP_NS, (first + len(records)) * GAP_NS, GAP_NS)
            records.column(0, 4, array("I", (each // 10**9 for each in times)).tobytes())
            records.column(4, 4, array("I", (each % 10**9 for each in times)).tobytes())
            size = records.length
            view = memoryview(records.data)
            for number in range(min(len(records), packets - first)):
                file.write(view[number * records.stride : number * records.stride + size])


class ReplayWork(Work):
    """``dataplane replay`` of a capture of one pod's connections to services on another node.

    ``everywhere``: all interfaces are written, not the servers' alone; ``comments`` as on the command line. What a process needs to
    start and build the cluster is taken off: it is the time of a replay of one packet.
    """

    warm_up, shortest = 0, 3

    def __init__(self, settings: Settings, packets: int, *, everywhere: bool, comments: str) -> None:
        self.settings, self.units = settings, packets
        self._folder = tempfile.TemporaryDirectory(prefix="dataplane-bench-")
        folder = Path(self._folder.name)
        self.flows = structured(max(1, packets // PACKETS_A_FLOW), 1, SERVICES)
        self.input, self.output = folder / "in.pcap", folder / "out.pcapng"
        cluster = folder / "cluster.json"
        shape = Shape(services=SERVICES, clients=1)
        cluster.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(shape)}), encoding="utf-8")
        settings.say(f"writing a capture of {packets:,} packets")
        write_capture(self.input, packets, self.flows)
        self.everywhere = everywhere
        patterns = [] if everywhere else ["--capture", "server*/eth0"]
        self._command = ["replay", "-f", str(cluster), "--at", "pod/default/client0", "-w", str(self.output), "--comments", comments,
                         "-q", "--seed", str(settings.seed), *patterns]  # fmt: skip
        self._start = self._startup(folder / "one.pcap")
        self.fixed_ns = self._start * 1e9
        self._seconds: list[float] = []

    def _startup(self, path: Path) -> float:
        """Seconds of a replay of one packet: the least of three."""
        write_capture(path, 1, self.flows.chosen([0]))
        found = []
        for _ in range(3):
            start = time.perf_counter()
            command(*self._command, "-r", str(path))
            found.append(time.perf_counter() - start)
        return min(found)

    def run(self) -> None:
        start = time.perf_counter()
        command(*self._command, "-r", str(self.input))
        self._seconds.append(time.perf_counter() - start)

    def details(self) -> dict[str, Any]:
        written = self.output.stat().st_size
        found = {
            "flows": len(self.flows),
            "process_seconds": min(self._seconds),
            "start_seconds": self._start,
            "bytes_in": self.input.stat().st_size,
            "bytes_out": written,
            "out_bytes_per_second": written / (min(self._seconds) - self._start),
        }
        if self.everywhere and shutil.which("cp"):
            copy = self.output.with_suffix(".copy")
            found["cp_bytes_per_second"] = written / min(timed(["cp", str(self.output), str(copy)]) for _ in range(5))
            found["share_of_cp"] = found["out_bytes_per_second"] / found["cp_bytes_per_second"]
        return found

    def check(self) -> None:
        """Every packet is in the output as often as it should be; a sample's bytes at the servers against headers written anew."""
        count, arrived = 0, 0
        wanted = set(random.Random(f"sample {self.settings.seed}").sample(range(self.units), min(SAMPLE, self.units)))
        sample: dict[int, bytes] = {}
        servers = {f"server{number}/eth0" for number in range(SERVERS)}
        for packet in open_capture(self.output):
            count += 1
            if packet.interface in servers:
                if arrived in wanted:
                    sample[arrived] = bytes(packet.data)
                arrived += 1
        hops = HOPS if self.everywhere else 1
        if (count, arrived) != (self.units * hops, self.units):
            raise Mismatch(f"of {self.units} packets {arrived} arrived; {count} frames were written instead of {self.units * hops}")
        compare([sample[number][12:] for number in sorted(sample)], [self._expected(number, sample[number]) for number in sorted(sample)],
                "the packet that it should be")  # fmt: skip
        self.checked = f"{count} frames counted; {len(sample)} packets at the servers: headers written anew"

    def _expected(self, number: int, frame: bytes) -> bytes:
        """From the EtherType on, at the server that the frame was sent to."""
        addresses = [server_address(4, each) for each in range(SERVERS)]
        flow = self.flows.chosen([number % len(self.flows)])
        if frame[30:34] not in addresses:
            raise Mismatch(f"packet {number} went to {frame[30:34].hex()}, which is no server")
        plain = Frames(tcp.segment(4, tcp.ACK, tcp.CLIENT_DATA, tcp.SERVER_DATA, tcp.SEGMENT, ttl=62), 1, 0)
        server = Ends(addresses, [addresses.index(frame[30:34])], [TARGET_PORT])
        tcp.fill(plain, 4, Ends([client_address(4, 0)], flow.clients, flow.ports), server)
        tcp.advance(plain, ETHERNET, 4, number // len(self.flows) * len(tcp.SEGMENT) % 0xFFF0, 0, 1)
        return plain[0][12:]


class ReadWork(Work):
    """Reading a capture packet by packet in Python."""

    def __init__(self, settings: Settings, packets: int) -> None:
        self.units = packets
        self._folder = tempfile.TemporaryDirectory(prefix="dataplane-bench-")
        self._path = Path(self._folder.name) / "in.pcap"
        settings.say(f"writing a capture of {packets:,} packets")
        write_capture(self._path, packets, structured(max(1, packets // PACKETS_A_FLOW), 1, SERVICES))
        self._read = 0

    def run(self) -> None:
        self._read = sum(1 for _ in open_capture(self._path))

    def after(self) -> None:
        if self._read != self.units:
            raise Mismatch(f"of {self.units} packets {self._read} were read")
        self.checked = "all packets are counted"
