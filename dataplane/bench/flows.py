"""TCP connections of clients to services, and the segments of many of them at once.

A segment's template has the same TCP sequence number in every frame, and its payload ends with two bytes that make up for the
number's lower half: advancing it leaves the checksum right, and costs two columns instead of a checksum for each frame.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dataplane.bench.checksum import checksum, word_sum
from dataplane.bench.slots import Frames, big_endian

ETHERNET, TCP_HEADER = 14, 20
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
TCP = 6
SYN, ACK, SYN_ACK = 0x02, 0x10, 0x12
CLIENT_ISN, SERVER_ISN = 0x0FFFFFFF, 0x1FFFFFFF  # so that the first byte of data has a sequence number whose lower half is 0
CLIENT_DATA, SERVER_DATA = CLIENT_ISN + 1, SERVER_ISN + 1
SEGMENT = b"segment." + b"\xff\xff"  # 64 bytes of an IPv4 frame; the last two make up for a lower half of 0
WINDOW = 0xFFFF
FIRST_PORT, PORTS = 1024, 64512  # that a client connects from
KEYS = ("structured", "random")


@dataclass(frozen=True)
class Flows:
    """Connections by number: which client opens it from which port to which service. No client uses a port twice."""

    clients: array[int]
    ports: array[int]
    services: array[int]

    def __len__(self) -> int:
        return len(self.clients)

    def chosen(self, numbers: Sequence[int]) -> Flows:
        """Some of them."""
        return Flows(*(array("H", [column[number] for number in numbers]) for column in (self.clients, self.ports, self.services)))


def structured(count: int, clients: int, services: int) -> Flows:
    """As a load generator makes them: clients in turn, each from its next port, to one service after the other."""
    _enough_ports(count, clients)
    return Flows(
        array("H", (number % clients for number in range(count))),
        array("H", (FIRST_PORT + number // clients for number in range(count))),
        array("H", (number // clients % services for number in range(count))),
    )


def scattered(count: int, clients: int, services: int, seed: int) -> Flows:
    """Clients, ports and services drawn at random."""
    _enough_ports(count, clients)
    rng = random.Random(f"flows {seed}")
    drawn = rng.sample(range(clients * PORTS), count)
    return Flows(
        array("H", (number % clients for number in drawn)),
        array("H", (FIRST_PORT + number // clients for number in drawn)),
        array("H", (int(rng.random() * services) for _ in drawn)),
    )


def _enough_ports(count: int, clients: int) -> None:
    """A client uses no port twice: two connections from one port to one endpoint, by two services, would have to be told apart
    by another source port (Linux' NAT finds one), which is not what these rows are about."""
    if count > clients * PORTS:
        raise ValueError(f"{clients} clients have no ports for {count} connections")


@dataclass(frozen=True)
class Ends:
    """One end of every connection: ``addresses[which[i]]`` and ``ports[i]``."""

    addresses: Sequence[bytes]
    which: Sequence[int]
    ports: Sequence[int]

    def packed(self) -> bytes:
        return b"".join(map(self.addresses.__getitem__, self.which))

    def sums(self) -> list[int]:
        """Of the words of each address."""
        each = [word_sum(address) for address in self.addresses]
        return list(map(each.__getitem__, self.which))


def segment(family: int, flags: int, seq: int, ack: int, payload: bytes = b"", *, macs: bytes = bytes(12), ttl: int = 64) -> bytes:
    """A frame without addresses, ports and checksums; ``macs``: destination and source."""
    tcp = struct.pack("!HHIIBBHHH", 0, 0, seq, ack, TCP_HEADER // 4 << 4, flags, WINDOW, 0, 0) + payload
    if family == 4:
        header = struct.pack("!BBHHHBBH8x", 0x45, 0, 20 + len(tcp), 0x1234, 0x4000, ttl, TCP, 0)
    else:
        header = struct.pack("!IHBB32x", 0x60000000, len(tcp), TCP, ttl)
    return macs + ETHERTYPES[family].to_bytes(2, "big") + header + tcp


def fill(frames: Frames, family: int, source: Ends, destination: Ends, network: int = ETHERNET) -> None:
    """Write addresses, ports and checksums into frames of one ``segment``, whose IP headers begin at ``network``."""
    size, at, header = (4, 12, 20) if family == 4 else (16, 8, 40)
    transport = network + header
    template = frames[0]
    between = list(map(int.__add__, source.sums(), destination.sums()))
    if family == 4:
        fixed = word_sum(template[network:transport])
        frames.column(network + 10, 2, big_endian(checksum(fixed + each) for each in between))
    frames.column(network + at, size, source.packed())
    frames.column(network + at + size, size, destination.packed())
    fixed = word_sum(template[transport:]) + TCP + len(template) - transport
    sums = (fixed + each + sport + dport for each, sport, dport in zip(between, source.ports, destination.ports, strict=True))
    frames.column(transport + 16, 2, big_endian(map(checksum, sums)))
    frames.column(transport, 2, big_endian(source.ports))
    frames.column(transport + 2, 2, big_endian(destination.ports))


def advance(frames: Frames, network: int, family: int, data: int, first: int, count: int) -> None:
    """Let the segments of ``count`` frames begin ``data`` bytes (below 65536) behind the first of their direction."""
    sequence = network + (20 if family == 4 else 40) + 4
    frames.constant(sequence + 2, data.to_bytes(2, "big"), first, count)
    frames.constant(frames.length - 2, (0xFFFF - data).to_bytes(2, "big"), first, count)


def repeated(values: Iterable[int], times: int) -> array[int]:
    """An array of ports or numbers, several times over."""
    return array("H", values) * times
