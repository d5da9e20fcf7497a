"""Many frames in one buffer, each in a slot of the same length, written column by column.

A column is the same bytes of every frame. Python writes one with a strided slice at the speed of memory, which is what makes
millions of frames in a second or two, and what advances every TCP sequence number between two timed passes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane._core import Engine

GAP_NS = 67  # between two frames: 64-byte frames on a 10 Gbit/s link
_ALIGNMENT = 64


def big_endian(values: Iterable[int]) -> bytes:
    """16-bit numbers in network byte order."""
    words = array("H", values)
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()


class Frames:
    """``count`` copies of ``template``, for ``Engine.carry``; ``devices`` says where each is injected."""

    def __init__(self, template: bytes, count: int, devices: array[int] | int) -> None:
        self.length = len(template)
        self.stride = -(-self.length // _ALIGNMENT) * _ALIGNMENT
        self.data = bytearray(template.ljust(self.stride, b"\0")) * count
        self.devices = devices if isinstance(devices, array) else array("i", [devices]) * count
        self.starts = array("Q", range(0, self.stride * count, self.stride))
        self.lengths = array("I", [self.length]) * count
        self.refused = bytearray(count)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> bytes:
        start = number * self.stride
        return bytes(self.data[start : start + self.length])

    def column(self, offset: int, size: int, values: bytes) -> None:
        """Write ``size`` bytes at ``offset`` of every frame: ``values`` holds them one frame behind the other."""
        for place in range(size):
            self.data[offset + place :: self.stride] = values[place::size]

    def constant(self, offset: int, value: bytes, first: int, count: int) -> None:
        """Write ``value`` at ``offset`` of ``count`` frames from number ``first`` on."""
        start, end = first * self.stride, (first + count) * self.stride
        for place, byte in enumerate(value):
            self.data[start + offset + place : end : self.stride] = bytes([byte]) * count

    def times(self, start: int) -> array[int]:
        """Virtual nanoseconds of all frames when the first is due at ``start``."""
        return array("q", range(start, start + GAP_NS * len(self), GAP_NS))

    def carry(self, engine: Engine, times: array[int], *, threads: int = 1, window: int = 4096) -> int:
        """Hand them to the core, which carries them with so many threads as ``Engine.carry`` says; how many it took."""
        how = {"threads": threads, "window": window}
        return engine.carry(self.data, self.devices, self.starts, self.lengths, times, self.refused, **how)

    def between(self, first: int, past: int) -> Frames:
        """Those numbers, in the same memory."""
        some = copy(self)
        some.starts, some.lengths = self.starts[first:past], self.lengths[first:past]
        some.devices, some.refused = self.devices[first:past], self.refused[first:past]
        return some

    def chosen(self, numbers: Sequence[int]) -> Frames:
        """Copies of some of them."""
        some = Frames(self[0], len(numbers), array("i", [self.devices[number] for number in numbers]))
        for place, number in enumerate(numbers):
            some.data[place * self.stride : place * self.stride + self.length] = self[number]
        return some
