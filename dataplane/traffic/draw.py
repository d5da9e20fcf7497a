"""Seeded choices: every number that a real machine would draw at random is a hash of the seed and of what it is for."""

from __future__ import annotations

from decimal import Context, Decimal
from hashlib import blake2b

# Decimal's logarithm is correctly rounded and so the same on every machine; a libm's need not be.
_CONTEXT = Context(prec=28)
_SPAN = 1 << 64


def draw64(seed: int, purpose: str, *words: object) -> int:
    """64 bits that depend on nothing but the arguments. ``words`` are told apart by their ``str``."""
    text = "\0".join((str(seed), purpose, *map(str, words)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def exponential_ns(seed: int, purpose: str, *words: object, mean_ns: Decimal) -> int:
    """One gap of a Poisson process in whole nanoseconds: ``-ln(u) * mean`` with u uniform in (0, 1)."""
    uniform = _CONTEXT.divide(2 * draw64(seed, purpose, *words) + 1, 2 * _SPAN)
    return int(_CONTEXT.multiply(_CONTEXT.minus(_CONTEXT.ln(uniform)), mean_ns))
