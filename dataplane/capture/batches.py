"""Captures of millions of packets: where each packet stands in the file, many at a time, without an object for each.

The compiled search (``ext/capture/index.pxd``) stops in front of everything that is rare or wrong; there the readers of
``pcap`` and ``pcapng_read`` take one step, which also says what is wrong.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from array import array

from dataplane._capture_read import Batch
from dataplane.capture.open import is_pcapng, no_packets, unzipped
from dataplane.capture.packet import Buffer, Packet, normalised
from dataplane.capture.pcap import FILE_HEADER, pcap_form, read_records
from dataplane.capture.pcapng_read import BlockReader, Interface

BATCH_PACKETS = 8192
BATCH_BYTES = 4 << 20
_RELEASE_AFTER = 32 << 20  # bytes of a mapped file that were read and may leave the memory
_ROW_WORDS = 8
_PLAIN_SECONDS = 1 << 31
_MOST_BINARY_SHIFT = 34  # bits of a fraction of a second whose nanoseconds fit 64 bits


def new_batch() -> Batch:
    """An empty one of the usual size."""
    return Batch(BATCH_PACKETS, BATCH_BYTES)


class BatchReader(ABC):
    """Reads a capture from its beginning."""

    def __init__(self, data: Buffer, name: str) -> None:
        self.data = data
        self.name = name
        self._released = 0

    @abstractmethod
    def fill(self, batch: Batch) -> bool:
        """Put the next packets into the batch; False at the end. Raises InputError at a damaged packet's turn."""

    def packet(self, batch: Batch, i: int) -> Packet:
        """Packet ``i`` of a batch, as ``open_capture`` gives it, but for the interface's name, directions, comments and verdicts."""
        start, length, orig_len, time_ns, link_type = batch.packet(i)
        return normalised(Packet(time_ns, self.data[start : start + length], link_type, "", batch.first + i, orig_len), self.name)

    def release(self, upto: int) -> None:
        """What stands before this offset is not needed any more: a mapped file's pages may go, and come back if they must."""
        if isinstance(self.data, mmap.mmap) and upto - self._released >= _RELEASE_AFTER:
            end = upto // mmap.PAGESIZE * mmap.PAGESIZE
            self.data.madvise(mmap.MADV_DONTNEED, self._released, end - self._released)
            self._released = end


class _PcapBatches(BatchReader):
    def __init__(self, data: Buffer, name: str) -> None:
        super().__init__(data, name)
        self._form = pcap_form(data, name)
        self._offset, self._number = FILE_HEADER, 0

    def fill(self, batch: Batch) -> bool:
        form = self._form
        batch.clear(self._number + 1)
        self._offset = batch.index_pcap(self.data, self._offset, form.order == ">", form.unit, form.link_type, form.fcs_len)
        self._number += len(batch)
        if not len(batch):
            next(read_records(self.data, self.name, form, self._offset, self._number), None)
        return len(batch) > 0


class _PcapngBatches(BatchReader):
    def __init__(self, data: Buffer, name: str) -> None:
        super().__init__(data, name)
        self._blocks = BlockReader(data, name)
        self._rows = array("q")

    def fill(self, batch: Batch) -> bool:
        blocks = self._blocks
        batch.clear(blocks.number + 1)
        while not len(batch) and blocks.offset < len(self.data):
            blocks.offset = batch.index_pcapng(self.data, blocks.offset, blocks.order == ">", self._rows, blocks.time_ns)
            if len(batch):
                blocks.number += len(batch)
                blocks.time_ns = batch.packet(len(batch) - 1)[3]
            elif blocks.offset < len(self.data):
                self._step(batch)
        return len(batch) > 0

    def _step(self, batch: Batch) -> None:
        packet = self._blocks.step()
        if packet is not None:
            batch.append(self._blocks.packet_at, len(packet.data), packet.orig_len, packet.time_ns, packet.link_type)
        known = len(self._rows) // _ROW_WORDS
        if known > len(self._blocks.interfaces):  # another section
            self._rows = array("q")
            known = 0
        for interface in self._blocks.interfaces[known:]:
            self._rows.extend(_row(interface))


def _row(interface: Interface) -> tuple[int, ...]:
    """``Interface`` of ``ext/capture/index.pxd``; its last word is 0 where times need a closer look."""
    units, multiplier, divisor, shift = interface.units_per_second, 1, 1, 0
    if units & (units - 1) == 0:
        multiplier, shift = 1_000_000_000, units.bit_length() - 1
    elif units <= 1_000_000_000:
        multiplier = 1_000_000_000 // units
    else:
        divisor = units // 1_000_000_000
    plain = shift <= _MOST_BINARY_SHIFT and divisor < 1 << 62 and abs(interface.offset_ns) < _PLAIN_SECONDS * 1_000_000_000
    numbers = (multiplier, divisor, shift, interface.offset_ns, 1) if plain else (1, 1, 0, 0, 0)
    return interface.link_type, interface.snap_len, interface.fcs_len, *numbers


def read_batches(data: Buffer, name: str, *, at_least_one: bool = False) -> BatchReader:
    """A reader of a capture's bytes, as ``dataplane.capture.open.load`` gives them.

    Not being a capture shows at once, and so does, with ``at_least_one``, that it holds no packets; what is wrong with a packet shows
    when its turn comes: InputError.
    """
    data = unzipped(data, name)
    kind = _PcapngBatches if is_pcapng(data, name) else _PcapBatches
    if at_least_one and not kind(data, name).fill(Batch(1, 1)):
        raise no_packets(name)
    return kind(data, name)
