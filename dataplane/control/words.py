"""Reads the words of a command from left to right, the way iproute2 does."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface

from dataplane.control.mac import parse_mac
from dataplane.control.wiring import IPInterface
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress


class Words:
    """A cursor over ``words``; every reader raises ``InputError`` for what does not fit."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def __bool__(self) -> bool:
        return bool(self._words)

    def next(self, wanted: str) -> str:
        """The next word; ``wanted`` names what should stand there."""
        if not self._words:
            raise InputError(f"{wanted} is missing")
        return self._words.pop(0)

    def take(self, *spellings: str) -> bool:
        """Skip the next word if it is one of these."""
        if self._words and self._words[0] in spellings:
            self._words.pop(0)
            return True
        return False

    def choice(self, what: str, choices: Sequence[str]) -> str:
        """The first of ``choices`` that the next word abbreviates, as iproute2's ``matches`` decides."""
        word = self.next(what)
        for choice in choices:
            if choice.startswith(word):
                return choice
        raise InputError(f"{word!r} is not a known {what}: use one of {', '.join(choices)}")

    def number(self, what: str) -> int:
        word = self.next(what)
        try:
            return int(word, 0)
        except ValueError:
            raise InputError(f"{what} must be a number, not {word!r}") from None

    def on_off(self, what: str) -> bool:
        return self.choice(what, ("on", "off")) == "on"

    def mac(self, what: str) -> bytes:
        return parse_mac(self.next(what), what)

    def address(self, what: str, family: int) -> IPAddress:
        """An address of ``family``: 4, 6, or 0 for either."""
        word = self.next(what)
        try:
            address = ip_address(word)
        except ValueError:
            raise InputError(f"{what} must be an address, not {word!r}") from None
        return in_family(address, family, what)

    def interface(self, what: str, family: int) -> IPInterface:
        """An address with prefix length (without one: the full length) of ``family``: 4, 6, or 0 for either."""
        word = self.next(what)
        try:
            interface = ip_interface(word)
        except ValueError:
            raise InputError(f"{what} must be an address or a prefix, not {word!r}") from None
        in_family(interface, family, what)
        return interface

    def nothing_left(self) -> None:
        if self._words:
            raise InputError(f"{self._words[0]!r} is not understood here")


def in_family(address: IPAddress, family: int, what: str) -> IPAddress:
    if family not in (0, address.version):
        raise InputError(f"{what} {address} is not IPv{family}")
    return address
