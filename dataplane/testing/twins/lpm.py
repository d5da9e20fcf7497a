"""Longest-prefix match by looking at every prefix: the trusted twin of ``dataplane._lpm.Lpm``.

It also answers what the packet path never asks: which prefixes a prefix contains, and which contain it.
"""

from __future__ import annotations

Prefix = tuple[bytes, int, int]  # address in network byte order, length in bits, value


class LpmTwin:
    """Same methods and same answers as ``dataplane._lpm.Lpm``, for valid arguments of one family (4 or 6)."""

    def __init__(self, family: int) -> None:
        self._bits = {4: 32, 6: 128}[family]
        self._values: dict[tuple[int, int], int] = {}  # (prefix bits as an integer without host bits, length)

    def _cut(self, address: bytes, prefix_len: int) -> int:
        return int.from_bytes(address, "big") >> (self._bits - prefix_len)

    def _prefix(self, key: tuple[int, int]) -> Prefix:
        bits, length = key
        address = bits << (self._bits - length)
        return address.to_bytes(self._bits // 8, "big"), length, self._values[key]

    def insert(self, address: bytes, prefix_len: int, value: int) -> bool:
        key = (self._cut(address, prefix_len), prefix_len)
        is_new = key not in self._values
        self._values[key] = value
        return is_new

    def delete(self, address: bytes, prefix_len: int) -> bool:
        return self._values.pop((self._cut(address, prefix_len), prefix_len), None) is not None

    def exact(self, address: bytes, prefix_len: int) -> int | None:
        return self._values.get((self._cut(address, prefix_len), prefix_len))

    def covering(self, address: bytes, prefix_len: int) -> list[Prefix]:
        """Stored prefixes that contain this one (itself included), longest first."""
        found = [key for key in self._values if key[1] <= prefix_len and self._cut(address, key[1]) == key[0]]
        return [self._prefix(key) for key in sorted(found, key=lambda key: -key[1])]

    def covered(self, address: bytes, prefix_len: int) -> list[Prefix]:
        """Stored prefixes inside this one (itself included), by address and then length."""
        wanted = self._cut(address, prefix_len)
        return [prefix for prefix in self.prefixes() if prefix[1] >= prefix_len and self._cut(prefix[0], prefix_len) == wanted]

    def lookup_prefix(self, address: bytes, longest: int | None = None) -> Prefix | None:
        found = self.covering(address, self._bits if longest is None else longest)
        return found[0] if found else None

    def lookup(self, address: bytes) -> int | None:
        found = self.lookup_prefix(address)
        return found[2] if found else None

    def prefixes(self) -> list[Prefix]:
        return sorted(self._prefix(key) for key in self._values)

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        self._values.clear()
