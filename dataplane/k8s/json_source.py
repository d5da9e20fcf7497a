"""A JSON reader that keeps the line of every object, array, member and item (RFC 8259; several values may follow each other).

``json_list`` reads the same text at the speed of the standard library, without lines.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from dataplane.k8s.positions import LocatedDict, LocatedList

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: tuple[tuple[str, bool | None], ...] = (("true", True), ("false", False), ("null", None))
DEEPEST = 200  # levels; manifests have about twenty, and each costs two Python frames
LONGEST_NUMBER = 64  # no field takes a longer one, and int() refuses thousands of digits


class JsonSyntaxError(Exception):
    """The text is not JSON; ``line`` is where (1-based)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse_json(text: str) -> Iterator[tuple[Any, int]]:
    """Yield every JSON value of the text with its line; raises JsonSyntaxError."""
    return iter(_Parser(text).values())


def parse_located(text: str, line: int) -> Any:
    """The one JSON value that ``text`` holds, which is known to be correct and to start on ``line`` of its file."""
    return _Parser(text, line).value(0, 0)[0]


class _Parser:
    def __init__(self, text: str, first_line: int = 1) -> None:
        self.text = text
        self.first_line = first_line
        self.newlines = [match.start() for match in re.finditer("\n", text)]

    def line(self, offset: int) -> int:
        return bisect_right(self.newlines, offset - 1) + self.first_line if offset else self.first_line

    def values(self) -> list[tuple[Any, int]]:
        found = []
        offset = self.skip_space(0)
        while offset < len(self.text):
            value, end = self.value(offset, 0)
            if value is not None:
                found.append((value, self.line(offset)))
            offset = self.skip_space(end)
        return found

    def skip_space(self, offset: int) -> int:
        match = _SPACE.match(self.text, offset)
        return match.end() if match else offset

    def error(self, wrong: str, offset: int) -> JsonSyntaxError:
        return JsonSyntaxError(wrong, self.line(offset))

    def value(self, offset: int, depth: int) -> tuple[Any, int]:
        first = self.text[offset : offset + 1]
        if first == '"':
            return self.string(offset)
        if first in ("{", "["):
            if depth >= DEEPEST:
                raise self.error(f"nested deeper than {DEEPEST} levels", offset)
            return self.object(offset, depth) if first == "{" else self.array(offset, depth)
        for word, constant in _WORDS:
            if self.text.startswith(word, offset):
                return constant, offset + len(word)
        return self.number(offset)

    def string(self, offset: int) -> tuple[str, int]:
        match = _STRING.match(self.text, offset)
        if match is None:
            raise self.error("a string was expected" if self.text[offset : offset + 1] != '"' else "unfinished or malformed string", offset)
        token = match.group()
        return (json.loads(token) if "\\" in token else token[1:-1]), match.end()

    def number(self, offset: int) -> tuple[int | float | str, int]:
        match = _NUMBER.match(self.text, offset)
        if match is None:
            raise self.error("a value was expected", offset)
        token = match.group()
        if len(token) > LONGEST_NUMBER:
            return token, match.end()
        return (float(token) if match.group(1) or match.group(2) else int(token)), match.end()

    def object(self, offset: int, depth: int) -> tuple[LocatedDict, int]:
        found = LocatedDict(self.line(offset))
        offset = self.skip_space(offset + 1)
        if self.text.startswith("}", offset):
            return found, offset + 1
        while True:
            key, end = self.string(offset)
            if key in found:
                raise self.error(f'member "{key}" stands twice in the same object', offset)
            found.lines[key] = self.line(offset)
            offset = self.skip_space(end)
            if not self.text.startswith(":", offset):
                raise self.error('":" was expected', offset)
            found[key], offset = self.value(self.skip_space(offset + 1), depth + 1)
            offset, last = self.after_item(offset, "}")
            if last:
                return found, offset

    def array(self, offset: int, depth: int) -> tuple[LocatedList, int]:
        found = LocatedList(self.line(offset))
        offset = self.skip_space(offset + 1)
        if self.text.startswith("]", offset):
            return found, offset + 1
        while True:
            value, end = self.value(offset, depth + 1)
            found.append(value)
            found.lines.append(self.line(offset))
            offset, last = self.after_item(end, "]")
            if last:
                return found, offset

    def after_item(self, offset: int, closing: str) -> tuple[int, bool]:
        """Offset after a comma (and space) or after the closing bracket, and whether it was the bracket."""
        offset = self.skip_space(offset)
        if self.text.startswith(closing, offset):
            return offset + 1, True
        if not self.text.startswith(",", offset):
            raise self.error(f'"," or "{closing}" was expected', offset)
        return self.skip_space(offset + 1), False
