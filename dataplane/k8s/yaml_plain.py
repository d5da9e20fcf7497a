"""YAML as programs write it, document by document and without lines: block style, one scalar on a line, keys without quotes.

What this reads, ``yaml_source`` reads with the same result, only ten times as slowly. Everything else is ``NotPlain``: comments behind
values, anchors, tags, flow style, scalars of several lines, and whatever may be an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.k8s.yaml_source import BROKEN, parse_located_yaml, resolve_scalar

_LINE = re.compile(r"^( *)(- )?(?:([A-Za-z_][A-Za-z0-9_./-]{0,300}):(?: (.*))?|(.*))$", re.MULTILINE)
_MARKER = re.compile(r"^---$\n?", re.MULTILINE)
_UNUSUAL_LINE = re.compile(r"^(?:%|\.\.\.|---.)", re.MULTILINE)
_UNUSUAL_CHARACTER = re.compile(r"[^\n\x20-\x7e\xa1-\u2027\u202a-\ud7ff\uf900-\ufefe\U00010000-\U0010ffff]")
_ITEM = re.compile(r"^- ", re.MULTILINE)
_FIRST_ITEM = re.compile(r"^items:\n- ", re.MULTILINE)
_BEHIND_ITEMS = re.compile(r"^[^-# \n]", re.MULTILINE)
# Plain scalars without what means more than itself, and quoted ones without escapes.
_PLAIN = re.compile(r"(?![-?:,\[\]{}#&*!|>'\"%@`\s])(?!.*(?::\s|\s#|[:\s]$)).+|-?(?![-\s])[0-9A-Za-z./_-]+")
_QUOTED = re.compile(r"\"[^\"\\]*\"|'[^']*'")
_UNKNOWN = object()
_EMPTY: dict[str, Any] = {"{}": {}, "[]": []}


class NotPlain(Exception):
    """The text is not what this module reads."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where one document stands, or one item of a document that is a list."""

    start: int
    end: int
    line: int  # that it starts on
    outer: Mapping[str, Any] | None = None  # of an item: the list without its items


class Reader:
    """The documents of one text."""

    def __init__(self, text: str, file: str) -> None:
        """NotPlain: there are characters or lines in it that mean more than they seem to."""
        if _UNUSUAL_CHARACTER.search(text) or _UNUSUAL_LINE.search(text):
            raise NotPlain
        self._text = text
        self._file = file
        self._scalars: dict[str, Any] = {}
        self._has_items = "items:\n- " in text

    def stretches(self) -> Iterator[Stretch]:
        """Each document, and instead of a list its items."""
        text, start, line = self._text, 0, 1
        for end, behind in [*((m.start(), m.end()) for m in _MARKER.finditer(text)), (len(text), len(text))]:
            whole = Stretch(start, end, line)
            if self._has_items:
                yield from self._items(whole)
            else:
                yield whole
            line += text.count("\n", start, behind)
            start = behind

    def _items(self, whole: Stretch) -> Iterator[Stretch]:
        """The items of a document that is a list, else itself."""
        text = self._text
        first = _FIRST_ITEM.search(text, whole.start, whole.end)
        if first is None:
            yield whole
            return
        behind = _BEHIND_ITEMS.search(text, first.end(), whole.end)
        starts = [match.start() for match in _ITEM.finditer(text, first.end() - 2, behind.start() if behind else whole.end)]
        starts.append(behind.start() if behind else whole.end)
        try:
            lines = _LINE.findall(text, whole.start, starts[0]) + _LINE.findall(text, starts[-1], whole.end)
            outer = _Builder(self._scalars).build(lines)
        except NotPlain:
            outer = None
        if not (isinstance(outer, dict) and isinstance(outer.get("kind"), str) and outer["kind"].endswith("List")):
            yield whole
            return
        line, counted = whole.line, whole.start
        for start, end in zip(starts, starts[1:], strict=False):
            line += text.count("\n", counted, start)
            counted = start
            yield Stretch(start, end, line, outer)

    def read(self, stretch: Stretch) -> tuple[Any, int]:
        """The value of a stretch, None if there is nothing in it, and the line of its first word. NotPlain."""
        lines = _LINE.findall(self._text, stretch.start, stretch.end)
        value = _Builder(self._scalars).build(lines)
        if stretch.outer is not None:
            return value[0], stretch.line
        before = next((number for number, each in enumerate(lines) if each[2]), 0)
        return value, stretch.line + before

    def located(self, stretch: Stretch) -> Any:
        """The same with lines, however it is written. NotPlain: there is an error in it, which is better told of the whole text."""
        value = parse_located_yaml(self._text[stretch.start : stretch.end], self._file, stretch.line)
        if value is BROKEN:
            raise NotPlain
        return value[0] if stretch.outer is not None else value


class _Builder:
    """Puts lines together by how far they are indented."""

    def __init__(self, scalars: dict[str, Any]) -> None:
        self.scalars = scalars  # values read before
        self.stack: list[tuple[int, Any]] = []
        self.root: Any = None

    def build(self, lines: list[tuple[str, str, str, str, str]]) -> Any:
        waiting: tuple[dict[str, Any], str, int] | None = None  # a key without a value so far
        mapping: dict[str, Any] = {}
        here = -1  # how far the keys of ``mapping`` are indented
        known = self.scalars.get
        for space, dash, key, value, rest in lines:
            indent = len(space)
            if indent != here or dash or not key or waiting is not None:  # else one more key of the same mapping, as most lines are
                if not key and not dash:
                    if rest and not rest.startswith("#"):
                        raise NotPlain
                    continue
                if dash:
                    items, waiting = self.sequence(indent, waiting), None
                    here = -1
                    if not key:
                        items.append(self.scalar(rest))
                        continue
                    indent += 2
                    mapping = {}
                    items.append(mapping)
                    self.stack.append((indent, mapping))
                else:
                    mapping, waiting = self.mapping(indent, waiting), None
                here = indent
            if key in mapping:
                raise NotPlain
            if value:
                found = known(value, _UNKNOWN)
                mapping[key] = self.scalar(value) if found is _UNKNOWN else found
            else:
                mapping[key] = None
                waiting = mapping, key, indent
        return self.root

    def sequence(self, indent: int, waiting: tuple[dict[str, Any], str, int] | None) -> list[Any]:
        """The list that has an item at this indentation."""
        if waiting is not None and indent >= waiting[2]:
            found: list[Any] = []
            waiting[0][waiting[1]] = found
            self.stack.append((indent, found))
            return found
        stack = self.stack
        while stack and stack[-1][0] > indent:
            stack.pop()
        if not stack and self.root is None:
            self.root = []
            stack.append((indent, self.root))
        if not stack or stack[-1][0] != indent or not isinstance(stack[-1][1], list):
            raise NotPlain
        top: list[Any] = stack[-1][1]
        return top

    def mapping(self, indent: int, waiting: tuple[dict[str, Any], str, int] | None) -> dict[str, Any]:
        """The mapping that has a key at this indentation."""
        if waiting is not None and indent > waiting[2]:
            found: dict[str, Any] = {}
            waiting[0][waiting[1]] = found
            self.stack.append((indent, found))
            return found
        stack = self.stack
        while stack and (stack[-1][0] > indent or (stack[-1][0] == indent and isinstance(stack[-1][1], list))):
            stack.pop()
        if not stack and self.root is None:
            self.root = {}
            stack.append((indent, self.root))
        if not stack or stack[-1][0] != indent:
            raise NotPlain
        top: dict[str, Any] = stack[-1][1]
        return top

    def scalar(self, text: str) -> Any:
        found = self.scalars.get(text, _UNKNOWN)
        if found is not _UNKNOWN:
            return found
        if text in _EMPTY:
            return type(_EMPTY[text])()
        if _QUOTED.fullmatch(text):
            found = text[1:-1]
        elif _PLAIN.fullmatch(text):
            found = resolve_scalar(text)
        else:
            raise NotPlain
        self.scalars[text] = found
        return found
