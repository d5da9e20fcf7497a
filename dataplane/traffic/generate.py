"""Frames of many flows for measurements: in memory for ``Engine.carry``, or as a capture for ``dataplane replay``."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dataplane._generate import FrameMaker
from dataplane.capture.pcap import PcapWriter

SMALL = ((64, 1),)
"""Frames of 64 bytes."""
IMIX = ((64, 7), (590, 4), (1514, 1))
"""Simple IMIX (7:4:1), without frame check sequence."""

_FILE_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Mix:
    """What frames are made of; they go from ``source_mac`` to ``target_mac``."""

    source_mac: bytes
    target_mac: bytes
    source: bytes  # IPv4, the first of ``sources``
    targets: tuple[tuple[bytes, int], ...]  # IPv4 addresses and ports
    flows: int
    sources: int = 1  # each has 64,000 ports
    sizes: tuple[tuple[int, int], ...] = SMALL  # bytes and weight
    udp_percent: int = 100
    random_keys: bool = False  # else ports are counted, then addresses
    tcp_flags: int = 0x18  # PSH, ACK
    gap: int = 1000  # ns between two frames
    seed: int = 0

    def maker(self) -> FrameMaker:
        """Makes the frames from the first on. Raises ValueError for a mix that cannot be."""
        return FrameMaker(
            self.source_mac,
            self.target_mac,
            self.source,
            self.sources,
            self.targets,
            self.flows,
            sizes=self.sizes,
            udp_percent=self.udp_percent,
            random_keys=self.random_keys,
            tcp_flags=self.tcp_flags,
            gap=self.gap,
            seed=self.seed,
        )


class FrameBatch(NamedTuple):
    """Arguments of ``Engine.carry``, but for devices and ``refused``. The memory is used again for the next batch."""

    data: bytearray
    starts: memoryview
    lengths: memoryview
    times: memoryview


def batches(mix: Mix, packets: int, size: int = 8192) -> Iterator[FrameBatch]:
    """The first ``packets`` frames of a mix, up to ``size`` at a time."""
    maker = mix.maker()
    data = bytearray(size * max(longest for longest, _ in mix.sizes))
    starts, lengths, times = array("Q", bytes(8 * size)), array("I", bytes(4 * size)), array("q", bytes(8 * size))
    while maker.made < packets:
        most = min(size, packets - maker.made)
        columns = [memoryview(column)[:most] for column in (starts, lengths, times)]
        made = maker.fill(data, *columns)
        yield FrameBatch(data, *(column[:made] for column in columns))


def write_capture(path: str | os.PathLike[str], mix: Mix, packets: int) -> None:
    """The first ``packets`` frames as a nanosecond pcap file. Raises InputError where it cannot be written."""
    maker, chunk = mix.maker(), bytearray(max(_FILE_CHUNK, 2 * max(longest for longest, _ in mix.sizes)))
    with PcapWriter(path) as writer:
        while maker.made < packets:
            _, size = maker.records(chunk, packets - maker.made)
            writer.write_records(memoryview(chunk)[:size])
