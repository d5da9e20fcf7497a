"""Lists of objects as ``kubectl get -o json`` prints them, item by item and without lines: a hundred thousand pods in seconds.

The standard library's scanner reads the items. Whatever it would take and ``json_source`` would not, or the other way round, and
everything that is no such list, is ``NotPlain``: then ``json_source`` has the word, for its result or its message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dataplane.k8s.json_source import DEEPEST, LONGEST_NUMBER, parse_located

_SPACE = re.compile(r"[ \t\r\n]*")
_ITEM_DEPTH = 2  # an item stands inside an object and an array


class NotPlain(Exception):
    """The text is not what this module reads."""


@dataclass(frozen=True, slots=True)
class ListText:
    """A text that holds one list and nothing else."""

    text: str
    members: dict[str, Any]  # of the list, without its items
    first: int  # offset behind the opening bracket of the items
    last: int  # offset of the closing one


@dataclass(frozen=True, slots=True)
class JsonItem:
    """One item as plain data; ``located`` reads it again with lines."""

    data: Any
    text: str
    start: int
    end: int
    line: int

    def located(self) -> Any:
        return parse_located(self.text[self.start : self.end], self.line)


def list_text(text: str) -> ListText:
    """The list that is the only value of ``text``; NotPlain: it is none, or is written unusually."""
    members: dict[str, Any] = {}
    offset = _after(text, 0, "{")
    while True:
        key, offset = _scan(text, offset)
        offset = _after(text, offset, ":")
        if key == "items" and text.startswith("[", offset):
            break
        members = _pairs([*members.items(), (key, _value(text, offset))])
        offset = _after(text, _scan(text, offset)[1], ",")
    last = text.rfind("]")
    rest = text[last + 1 :].strip(" \t\r\n")
    if rest != "}":
        after = _value("{" + rest[1:], 0)
        if not rest.startswith(",") or not after or _scan("{" + rest[1:], 0)[1] != len(rest):
            raise NotPlain
        members = _pairs([*members.items(), *after.items()])
    if "items" in members or _depth(members) >= DEEPEST:
        raise NotPlain
    return ListText(text, members, offset + 1, last)


def items(found: ListText) -> Iterator[JsonItem]:
    """The items of a list in order; NotPlain, perhaps after some, where ``json_source`` must read the text."""
    text, line, counted = found.text, 1, 0
    offset = _skip(text, found.first)
    if offset == found.last:
        return
    while True:
        data, end = _scan(text, offset)
        if text.count("{", offset, end) + text.count("[", offset, end) >= DEEPEST - _ITEM_DEPTH and _depth(data) > DEEPEST - _ITEM_DEPTH:
            raise NotPlain
        line += text.count("\n", counted, offset)
        counted = offset
        yield JsonItem(data, text, offset, end, line)
        offset = _skip(text, end)
        if offset == found.last:
            return
        offset = _after(text, offset, ",")


def _skip(text: str, offset: int) -> int:
    match = _SPACE.match(text, offset)
    return match.end() if match else offset


def _after(text: str, offset: int, wanted: str) -> int:
    """Offset of what follows ``wanted``, which stands at ``offset`` or after space."""
    offset = _skip(text, offset)
    if not text.startswith(wanted, offset):
        raise NotPlain
    return _skip(text, offset + 1)


def _value(text: str, offset: int) -> Any:
    return _scan(text, offset)[0]


def _scan(text: str, offset: int) -> tuple[Any, int]:
    try:
        found: tuple[Any, int] = _scan_once(text, offset)
    except (ValueError, StopIteration, RecursionError):
        raise NotPlain from None
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotPlain  # a member stands twice
    return found


def _number(token: str) -> Any:
    return token if len(token) > LONGEST_NUMBER else int(token)


def _fraction(token: str) -> Any:
    return token if len(token) > LONGEST_NUMBER else float(token)


def _no_constant(token: str) -> Any:
    raise NotPlain  # NaN and Infinity, which JSON has not


def _depth(data: Any) -> int:
    """Levels of containers."""
    depth, level = 0, [data]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [each for container in level for each in (container.values() if isinstance(container, dict) else container)]
    return depth


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_number, parse_float=_fraction, parse_constant=_no_constant)
_scan_once: Any = vars(_DECODER)["scan_once"]  # one value from a place on, and where it ends; not in the types
