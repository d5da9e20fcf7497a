"""Longest-prefix match alone: the table that the packet path uses, asked from Python."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import Any

from dataplane._lpm import Lpm
from dataplane.bench.memory import resident
from dataplane.bench.routes import Route, destinations, routes
from dataplane.bench.work import Mismatch, Settings, Work

KEYS = 1 << 20
HOPS = 1000
SAMPLE = 2000


def longest_match(table: Sequence[Route]) -> dict[tuple[int, int], int]:
    """Value by prefix length and address: a lookup that is easy to trust, see ``match``."""
    return {(length, address): hop for address, length, hop in table}


def match(prefixes: dict[tuple[int, int], int], address: int, bits: int) -> int | None:
    """Value of the longest prefix that contains the address: every length is tried."""
    for length in range(bits, -1, -1):
        value = prefixes.get((length, address >> (bits - length) << (bits - length)))
        if value is not None:
            return value
    return None


NONE = 0xFFFFFFFF  # what ``lookup_many`` writes for an address without a prefix


class LookupWork(Work):
    """Lookups one behind the other, without Python between them."""

    def __init__(self, settings: Settings, family: int, count: int) -> None:
        self.settings, self.bits = settings, 32 if family == 4 else 128
        size = self.bits // 8
        settings.say(f"inserting {count:,} routes")
        self.routes = list(routes(family, count, settings.seed, HOPS))
        before = resident()
        self.table = Lpm(family)
        for address, length, hop in self.routes:
            self.table.insert(address.to_bytes(size, "big"), length, hop)
        self._bytes = (resident() - before) / count
        self.size = size
        self.keys = destinations(family, self.routes, 1024 if settings.quick else KEYS, settings.seed)
        self.units = len(self.keys) // size
        self.found = array("I", [NONE]) * self.units

    def run(self) -> None:
        self.table.lookup_many(self.keys, self.found)

    def check(self) -> None:
        """A sample against a lookup that tries every length."""
        prefixes = longest_match(self.routes)
        for number in random.Random(self.settings.seed).sample(range(self.units), min(SAMPLE, self.units)):
            key = self.keys[number * self.size : (number + 1) * self.size]
            wanted = match(prefixes, int.from_bytes(key, "big"), self.bits)
            if self.found[number] != (NONE if wanted is None else wanted):
                raise Mismatch(f"{key.hex()} has value {self.found[number]}, its longest prefix has {wanted}")
        self.checked = f"{min(SAMPLE, self.units)} lookups: a search through every length"

    def details(self) -> dict[str, Any]:
        """``sum``: of the values of all keys, 0 for none, which whoever looks the same up in the same routes must have too."""
        return {"routes": len(self.routes), "sum": sum(value for value in self.found if value != NONE)}

    def bytes_per_entry(self) -> float | None:
        return self._bytes
