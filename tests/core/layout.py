"""Frames of a batch, laid out in memory as no careful caller would."""

from __future__ import annotations

import random
from array import array


def laid_out(rng: random.Random, frames: list[bytes]) -> tuple[bytes, array[int], array[int]]:
    """In one piece of memory in any order, with gaps; nothing that may be read follows the last of them."""
    data, starts = bytearray(), array("Q", bytes(8 * len(frames)))
    for place in sorted(range(len(frames)), key=lambda _: rng.random()):
        data += bytes(rng.randrange(4))
        starts[place] = len(data)
        data += frames[place]
    return bytes(data) or b"\0", starts, array("I", map(len, frames))
