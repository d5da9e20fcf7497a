"""Types of the compiled longest-prefix-match table (``ext/tables/lpm.pxd``), as the packet path uses it."""

from typing import Self, final

@final
class Lpm:
    """Longest-prefix-match table for one family; values are 32-bit unsigned integers.

    Addresses are ``bytes`` in network byte order: 4 in a table of family 4, 16 in one of family 6. Host bits of
    a prefix's address are ignored. ValueError: wrong address length, prefix length or value out of range.
    """

    def __new__(cls, family: int) -> Self:
        """``family``: 4 or 6, else ValueError."""
    def insert(self, address: bytes, prefix_len: int, value: int) -> bool:
        """True: new, False: replaced."""
    def delete(self, address: bytes, prefix_len: int) -> bool:
        """True: deleted, False: there was none."""
    def lookup(self, address: bytes) -> int | None:
        """Value of the longest prefix that contains the address."""
    def lookup_prefix(self, address: bytes, longest: int | None = None) -> tuple[bytes, int, int] | None:
        """Address, length and value of the longest prefix that contains the address, among those of at most ``longest`` bits."""
    def exact(self, address: bytes, prefix_len: int) -> int | None:
        """Value of exactly this prefix."""
    def prefixes(self) -> list[tuple[bytes, int, int]]:
        """Address, length and value of every prefix, by address and then length."""
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
