"""Longest-prefix match alone: the table that the packet path uses, asked from Python."""

from __future__ import annotations

import random
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


class LookupWork(Work):
    """One lookup a call, as Python code does it."""

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
        keys = destinations(family, self.routes, 1024 if settings.quick else KEYS, settings.seed)
        self.keys = [keys[at : at + size] for at in range(0, len(keys), size)]
        self.found: list[int | None] = []
        self.units = len(self.keys)

    def run(self) -> None:
        self.found = list(map(self.table.lookup, self.keys))

    def check(self) -> None:
        """A sample against a lookup that tries every length."""
        prefixes = longest_match(self.routes)
        for number in random.Random(self.settings.seed).sample(range(self.units), min(SAMPLE, self.units)):
            wanted = match(prefixes, int.from_bytes(self.keys[number], "big"), self.bits)
            if self.found[number] != wanted:
                raise Mismatch(f"{self.keys[number].hex()} has value {self.found[number]}, its longest prefix has {wanted}")
        self.checked = f"{min(SAMPLE, self.units)} lookups: a search through every length"

    def details(self) -> dict[str, Any]:
        """``sum``: of the values of all keys, 0 for none, which whoever looks the same up in the same routes must have too."""
        return {"routes": len(self.routes), "sum": sum(value or 0 for value in self.found)}

    def bytes_per_entry(self) -> float | None:
        return self._bytes
