"""Tables of rules that many namespaces have in common, whose chains are written when a packet first meets them.

A book holds the chains of one table in order, as ``Engine.set_rules`` would, but knows of most only how many rules they have. Rules are
given packed (``pack_rules``), in pieces: where chains come and go, what is packed stays good, because jumps are written relative to the
part of the table that they stand in.
"""

from collections.abc import Callable, Iterable, Mapping

from dataplane._core import Match

Piece = tuple[bytes, int]
"""Packed rules, and the number of the first chain of their part."""

RULE_SIZE: int
"""Bytes of one packed rule."""

def pack_rules(matches: Iterable[Match], targets: Mapping[str, int]) -> bytes:
    """``targets``: chains that may be jumped to: the place in the rules' own part, or, for a chain that is at the same place in every
    table, -1 - NUMBER. ValueError: a match without sense, or an unknown target."""

def local_rules(packed: bytes, base: int, n_chains: int) -> bytes:
    """Rules for ``Engine.use_book``. ValueError: a jump to no chain of the book."""

class RuleBook:
    def __init__(
        self,
        counts: bytes,
        builtin: Mapping[str, tuple[int, str]],
        random: bool,
        source: Callable[[int], Iterable[tuple[int, list[Piece]]]],
    ) -> None:
        """``counts``: 32-bit numbers of rules of each chain; ``builtin``: by hook its chain and policy; ``random``: whether some rule asks
        chance; ``source``: called with a chain that a packet meets, yields chains (this one among them) and what to write into them."""
    @staticmethod
    def take_failure() -> BaseException | None:
        """What a source raised while the core walked a chain, once; ``Engine.run`` asks for it."""
    def table(self) -> object:
        """A capsule for ``Engine.use_book``."""
    def write(self, chain: int, pieces: Iterable[Piece]) -> None:
        """Write a chain. ValueError: another number of rules than it has, or a jump to no chain."""
