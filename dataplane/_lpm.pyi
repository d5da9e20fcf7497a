"""Types of the compiled longest-prefix-match tables (``ext/tables/lpm*.pxd``), as the packet path uses them."""

from array import array
from typing import Self, final

@final
class Lpm:
    """Longest-prefix-match table for one family; values are 32-bit unsigned integers.

    Addresses are ``bytes`` in network byte order: 4 in a table of family 4, 16 in one of family 6. Host bits of
    a prefix's address are ignored. ValueError: wrong address length, prefix length or value out of range.
    """

    def __new__(cls, family: int, *, fast_from: int = 4) -> Self:
        """``family``: 4 or 6, else ValueError.

        Prefixes are kept in a binary trie. From ``fast_from`` (1 or more) of them on, in a namespace's FIB from 16 on, ``lookup`` and
        ``lookup_many`` read a multibit trie kept beside it. A value above 0x7ffffffd ends that until ``clear``.
        """
    def insert(self, address: bytes, prefix_len: int, value: int) -> bool:
        """True: new, False: replaced."""
    def delete(self, address: bytes, prefix_len: int) -> bool:
        """True: deleted, False: there was none."""
    def lookup(self, address: bytes) -> int | None:
        """Value of the longest prefix that contains the address."""
    def lookup_many(self, addresses: bytes | bytearray | memoryview | array[int], values: bytearray | memoryview | array[int]) -> int:
        """Look up addresses that stand one behind the other in ``addresses``; the number of them.

        ``values`` (writable, as in ``array("I")``) gets a 32-bit integer for each, in the machine's byte order: what ``lookup`` returns,
        0xffffffff for None. ValueError: a cut address, too little room or none at a multiple of 4 bytes.
        """
    def lookup_prefix(self, address: bytes, longest: int | None = None) -> tuple[bytes, int, int] | None:
        """Address, length and value of the longest prefix that contains the address, among those of at most ``longest`` bits."""
    def exact(self, address: bytes, prefix_len: int) -> int | None:
        """Value of exactly this prefix."""
    def prefixes(self) -> list[tuple[bytes, int, int]]:
        """Address, length and value of every prefix, by address and then length."""
    @property
    def fast_bytes(self) -> int:
        """Memory in use by the multibit trie; 0: there is none."""
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
