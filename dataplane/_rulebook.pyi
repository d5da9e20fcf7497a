"""Tables of rules that many namespaces have in common, whose chains are written when a packet first meets them.

A book holds the chains of one table in order, as ``Engine.set_rules`` would, but knows of most only how many rules they have. Rules are
given packed (``pack_rules``), in pieces, each with the number of the first chain of its part: jumps are written relative to the part of
the table that they stand in, so that what is packed stays good where chains before it come and go.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Self

from typing_extensions import disjoint_base

from dataplane._core import Match

RULE_SIZE: int
"""Bytes of one packed rule."""

GLANCE_SIZE: int
"""Of these, bytes that a walk reads of each rule."""

def pack_rules(matches: Iterable[Match], targets: Mapping[str, int], lists: dict[str, int]) -> bytes:
    """``targets``: chains that may be jumped to: the place in the rules' own part, or, for a chain that is at the same place in every
    table, -1 - NUMBER. ``lists``: ``_core.recent_lists``. ValueError: a match without sense, or an unknown target."""

def local_rules(packed: bytes, base: int, n_chains: int) -> bytes:
    """Rules for ``Engine.use_book``. ValueError: a jump to no chain of the book."""

@disjoint_base
class RuleBook:
    def __new__(
        cls,
        counts: bytes,
        last: int,
        builtin: Mapping[str, tuple[int, str]],
        random: bool,
        unsteady: bool,
        source: Callable[[int], Iterable[tuple[int, list[tuple[bytes, int]]]]],
    ) -> Self:
        """``counts``: 32-bit numbers of rules of each chain; ``last``: how many chains at the end are each namespace's own; ``builtin``:
        by hook its chain and policy; ``random``: whether some rule asks chance; ``unsteady``: or may say something else of the next
        packet of the same connection; ``source``: called with a chain that a packet meets and that is not written, yields chains (this
        one among them) and what to write into them. If it raises, the chain's rules do nothing, and the call of ``Engine`` that the
        packet was carried in raises the same. ValueError: numbers that do not go together."""
    def index(self, family: int) -> None:
        """Find the rules of the chains that are written by what they match on; once, before the book is used. ValueError: a second time."""
    @staticmethod
    def take_failure() -> BaseException | None:
        """What a source raised while the core walked a chain, once; ``Engine`` asks for it."""
    def table(self) -> object:
        """A capsule for ``Engine.use_book``, good as long as the book is there."""
    def write(self, chain: int, pieces: list[tuple[bytes, int]]) -> None:
        """Write a chain, once. ValueError: another number of rules than it has, or a jump to no chain."""
