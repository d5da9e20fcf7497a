"""One router between two cables: parse, verify the header checksum, look the route up, decrement TTL, rewrite, send."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from dataplane._core import Engine
from dataplane.bench.checksum import checksum, word_sum
from dataplane.bench.flows import ETHERNET
from dataplane.bench.lookup import longest_match, match
from dataplane.bench.routes import Route, routes
from dataplane.bench.service import compare, require_all_left
from dataplane.bench.slots import Frames, big_endian
from dataplane.bench.work import Mismatch, Settings, Work

HOPS = 16  # next hops behind the router, each a neighbour with an address of its own
PACKETS = 1 << 20
SAMPLE = 256
UDP = 17
FRAME_BYTES = 64
WIRE_MAC, IN_MAC, OUT_MAC = (b"\x02\0\0\0\0" + bytes([number]) for number in (1, 2, 3))
SOURCE = bytes([192, 0, 2, 2])


def hop_address(hop: int) -> bytes:
    return bytes([198, 51, 100, hop])


def hop_mac(hop: int) -> bytes:
    return b"\x02\0\0\1\0" + bytes([hop])


DEFAULT: Route = (0, 0, 1)


class Router:
    """A namespace with these routes; what it forwards leaves by ``out`` and goes nowhere else."""

    def __init__(self, table: Sequence[Route], seed: int, *, slow_path_only: bool = False) -> None:
        engine = self.engine = Engine(seed, slow_path_only=slow_path_only)
        router, outside = engine.add_namespace("router"), engine.add_namespace("outside")
        entrance = engine.add_device(router, "eth0", "veth", mac=IN_MAC, mtu=1500)
        self.out = engine.add_device(router, "eth1", "veth", mac=OUT_MAC, mtu=1500)
        self.wire = engine.add_device(outside, "eth0", "veth", mac=WIRE_MAC, mtu=1500)
        engine.connect(self.wire, entrance)
        engine.disconnect(entrance)
        for device in (entrance, self.out, self.wire):
            engine.set_device(device, capture=False)
        engine.set_sysctl(router, "net.ipv4.ip_forward", 1)
        engine.add_address(entrance, bytes([192, 0, 2, 1]), 24)
        engine.add_address(self.out, bytes([198, 51, 100, 254]), 24)
        for hop in range(1, HOPS + 1):
            engine.add_neighbour(self.out, hop_address(hop), hop_mac(hop))
        for address, length, hop in table:
            engine.add_route(router, address.to_bytes(4, "big"), length, via=hop_address(hop), dev=self.out)


def datagrams(keys: bytes, wire: int) -> Frames:
    """A datagram of 64 bytes, the Ethernet header included, to each of the packed addresses."""
    payload = bytes(FRAME_BYTES - ETHERNET - 28)
    header = struct.pack("!BBHHHBBH4s4x", 0x45, 0, FRAME_BYTES - ETHERNET, 1, 0x4000, 64, UDP, 0, SOURCE)
    udp = struct.pack("!HHHH", 4000, 5000, 8 + len(payload), 0) + payload  # without a checksum, as RFC 768 allows
    frames = Frames(IN_MAC + WIRE_MAC + b"\x08\x00" + header + udp, len(keys) // 4, wire)
    words = array("H", keys)
    high, low = _native(words[0::2]), _native(words[1::2])
    fixed = word_sum(header)
    frames.column(ETHERNET + 10, 2, big_endian(checksum(fixed + a + b) for a, b in zip(high, low, strict=True)))
    frames.column(ETHERNET + 16, 4, keys)
    return frames


def _native(words: array[int]) -> array[int]:
    """Words that were read in network byte order."""
    return array("H", big_endian(words))


class ForwardWork(Work):
    """Datagrams to random destinations, the same ones whatever the table: each is drawn from another route of a list of BGP-like ones.

    A table is the default route and the first routes of that list, so smaller ones know less of the same destinations. With a
    million nearly each packet has a route of its own, and the table's whole size is met.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.units = 256 if settings.quick else PACKETS
        settings.say(f"adding {count:,} routes")
        listed = list(routes(4, max(count, self.units), settings.seed, HOPS))
        self.table = [DEFAULT, *listed[: count - 1]]
        self.router = Router(self.table, settings.seed)
        self.keys = self._keys(listed)
        self.frames = datagrams(self.keys, self.router.wire)
        self._times: array[int] = array("q")
        self._counters: dict[str, int] = {}

    def _keys(self, listed: Sequence[Route]) -> bytes:
        """The destinations, without addresses that a router does not forward to, and those beside it."""
        rng = random.Random(f"forward {self.settings.seed}")
        first, last = 0x01000000, 0xDFFFFFFF
        keys = bytearray()
        for address, length, _ in cycle(listed):
            if len(keys) == 4 * self.units:
                break
            key = address | rng.getrandbits(32 - length) if length < 32 else address
            if first <= key <= last and key >> 24 != 127 and key >> 8 not in (0xC00002, 0xC63364):
                keys += key.to_bytes(4, "big")
        return bytes(keys)

    def before(self) -> None:
        self._times = self.frames.times(self.router.engine.now + 1)
        self._counters = self.router.engine.counters()

    def run(self) -> None:
        self.frames.carry(self.router.engine, self._times)

    def after(self) -> None:
        require_all_left(self._counters, self.router.engine.counters(), self.units)

    def details(self) -> dict[str, Any]:
        return {"routes": len(self.table), "bytes": FRAME_BYTES}

    def check(self) -> None:
        """A sample's frames against a lookup by prefix length and headers written a second time, and against the slow path alone."""
        numbers = random.Random(f"sample {self.settings.seed}").sample(range(self.units), min(SAMPLE, self.units))
        some = self.frames.chosen(numbers)
        prefixes = longest_match(self.table)
        seen = self._sampled(self.router, some)
        compare(seen, [self._expected(some[place], prefixes) for place in range(len(some))], "the frame it should be")
        twin = Router(self.table, self.settings.seed, slow_path_only=True)
        compare(seen, self._sampled(twin, some), "what the slow path alone sends")
        self.checked = f"{len(seen)} frames: an independent lookup and headers written anew, and the slow path alone"

    def _sampled(self, router: Router, frames: Frames) -> list[bytes]:
        """Their last of three passes."""
        router.engine.set_device(router.out, capture=True)
        for _ in range(3):
            router.engine.frames()
            frames.carry(router.engine, frames.times(router.engine.now + 1))
        router.engine.set_device(router.out, capture=False)
        return [frame.data for frame in router.engine.frames() if frame.device == router.out and frame.outgoing]

    def _expected(self, frame: bytes, prefixes: dict[tuple[int, int], int]) -> bytes:
        hop = match(prefixes, int.from_bytes(frame[30:34], "big"), 32)
        if hop is None:
            raise Mismatch(f"no route to {frame[30:34].hex()}")
        header = frame[14:22] + bytes([63, UDP, 0, 0]) + frame[26:34]
        header = header[:10] + checksum(word_sum(header)).to_bytes(2, "big") + header[12:]
        return hop_mac(hop) + OUT_MAC + frame[12:14] + header + frame[34:]
