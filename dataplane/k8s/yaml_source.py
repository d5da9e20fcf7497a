"""YAML and JSON as plain data in which every mapping and list knows its line in the file.

Scalars are resolved as the API server's YAML reader does it, not as YAML 1.1 has it: no sexagesimal numbers (MAC addresses
stay strings), no dates, but ``yes``/``no``/``on``/``off`` are booleans.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dataplane.errors import InputError
from dataplane.k8s.json_source import JsonSyntaxError, parse_json
from dataplane.k8s.positions import LocatedDict, LocatedList

SUFFIXES = (".yaml", ".yml", ".json")
STDIN_NAME = "<stdin>"
BROKEN = object()

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is about ten times as fast, where it was built in

_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
for _word, _value in (("true", True), ("yes", True), ("on", True), ("false", False), ("no", False), ("off", False)):
    _CONSTANTS.update({_word: _value, _word.title(): _value, _word.upper(): _value})
_NUMBER_STARTS = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0x[0-9a-fA-F]+|0o?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 64  # longer digit strings stay text: no field takes such a number, and int() refuses thousands of digits
_TAG = "tag:yaml.org,2002:"
_RESOLVED_TAGS = frozenset(_TAG + name for name in ("int", "float", "bool", "null"))


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML or JSON document; ``data`` is never a bare null."""

    data: Any
    file: str
    line: int  # 1-based line it starts on


def read_sources(sources: Sequence[str]) -> list[Document]:
    """Documents of files, directories (recursively, ``*.yaml *.yml *.json``, sorted by path) and ``-`` (standard input)."""
    return [document for text, file in read_texts(sources) for document in parse_text(text, file)]


def read_texts(sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The texts of the same sources, each with the name of its file."""
    for source in sources:
        if source == "-":
            yield _decode(sys.stdin.buffer.read(), STDIN_NAME), STDIN_NAME
        else:
            yield from ((_read(path), path) for path in _files_of(source))


def _files_of(source: str) -> list[str]:
    if not os.path.isdir(source):
        return [source]
    found = [os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names if name.endswith(SUFFIXES)]
    if not found:
        raise InputError(f"{source}: the directory holds no *.yaml, *.yml or *.json file; name a directory with manifests")
    return sorted(found)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return _decode(stream.read(), path)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{path}: cannot be read: {reason}; name a readable file, a directory or - for standard input") from None


def _decode(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file}:{line}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None


def parse_text(text: str, file: str) -> list[Document]:
    """Documents of one text; raises InputError with file and line where it is neither YAML nor JSON."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return [Document(data, file, line) for data, line in parse_json(text)]
        except JsonSyntaxError as error:
            if file.endswith(".json"):
                raise InputError(f"{file}:{error.line}: not JSON: {error}; correct the syntax") from None
            # A YAML document may start with a brace too.
    try:
        return list(_parse_yaml(text, file))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 1  # the end of the text may count as a line more
        raise InputError(f"{file}:{line}: not YAML: {_one_line(error.problem or error.context)}; correct the syntax") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{file}:{line}: not YAML: {_one_line(error.reason)}; remove the character") from None
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise InputError(f"{file}:{line}: not YAML: a lone surrogate is no character; remove it") from None


def _one_line(text: str | None) -> str:
    return " ".join((text or "syntax error").split())


def parse_located_yaml(text: str, file: str, first_line: int) -> Any:
    """The value of the one document in ``text``, which starts on a line of its file: None if it is empty, BROKEN if it is none."""
    try:
        documents = list(_parse_yaml(text, file, first_line))
    except (yaml.YAMLError, UnicodeEncodeError, InputError):
        return BROKEN
    return BROKEN if len(documents) > 1 else documents[0].data if documents else None


def _parse_yaml(text: str, file: str, first_line: int = 1) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        builder = _Builder(file, first_line)
        while (event := loader.get_event()) is not None:
            builder.feed(event)
            if isinstance(event, yaml.DocumentEndEvent):
                if builder.root is not None:
                    yield Document(builder.root, file, builder.root_line)
                builder = _Builder(file, first_line)
    finally:
        loader.dispose()


def resolve_scalar(text: str) -> bool | int | float | str | None:
    """The value of a plain (unquoted) YAML scalar."""
    if text[:1] not in _NUMBER_STARTS:
        return _CONSTANTS.get(text, text)
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        if digits.startswith("0") and digits.isdigit():
            return int(text, 8)
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


@dataclass(slots=True)
class _Frame:
    """A collection under construction."""

    container: LocatedDict | LocatedList
    key: str | None = None  # of a mapping: the key read, whose value comes next
    key_line: int = 0
    merge_next: bool = False  # the key was <<
    merges: list[LocatedDict] | None = None


class _Builder:
    """Builds one document from parser events, without recursion: nesting depth is bounded by memory only."""

    def __init__(self, file: str, first_line: int) -> None:
        self.file = file
        self.first_line = first_line
        self.root: Any = None
        self.root_line = 1
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Any] = {}

    def feed(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent:
            self._start(LocatedDict(event.start_mark.line + self.first_line), event, _TAG + "map")
        elif kind is yaml.SequenceStartEvent:
            self._start(LocatedList(event.start_mark.line + self.first_line), event, _TAG + "seq")
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            _apply_merges(self.stack.pop())
        elif kind is yaml.AliasEvent:
            self._alias(event)

    def _error(self, line: int, text: str) -> InputError:
        return InputError(f"{self.file}:{line}: {text}")

    def _scalar(self, event: Any) -> None:
        line = event.start_mark.line + self.first_line
        tag = event.tag
        if tag is None:
            value = resolve_scalar(event.value) if event.implicit[0] else event.value
        elif tag in ("!", _TAG + "str"):
            value = event.value
        elif tag in _RESOLVED_TAGS:
            value = resolve_scalar(event.value)
        else:
            raise self._error(line, f"YAML tag {tag} has no meaning in a manifest; remove it")
        if event.anchor:
            self.anchors[event.anchor] = value
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, LocatedDict) and frame.key is None:
            self._set_key(frame, event.value, line, is_merge=event.value == "<<" and event.implicit[0])
        else:
            self._add(value, line)

    def _set_key(self, frame: _Frame, key: str, line: int, *, is_merge: bool = False) -> None:
        if key in frame.container and not is_merge:
            raise self._error(line, f'field "{key}" stands twice in the same mapping; remove one')
        frame.key, frame.key_line, frame.merge_next = key, line, is_merge

    def _start(self, container: LocatedDict | LocatedList, event: Any, default_tag: str) -> None:
        line = container.line
        if event.tag not in (None, "!", default_tag):
            raise self._error(line, f"YAML tag {event.tag} has no meaning in a manifest; remove it")
        if event.anchor:
            self.anchors[event.anchor] = container
        self._add(container, line)
        self.stack.append(_Frame(container))

    def _alias(self, event: Any) -> None:
        line = event.start_mark.line + self.first_line
        if event.anchor not in self.anchors:
            raise self._error(line, f"alias *{event.anchor} has no anchor &{event.anchor} before it; define it or write the value")
        value = self.anchors[event.anchor]
        if any(frame.container is value for frame in self.stack):
            raise self._error(line, f"alias *{event.anchor} stands inside what it names; write the value")
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, LocatedDict) and frame.key is None and isinstance(value, str):
            self._set_key(frame, value, line)
        else:
            self._add(value, line)

    def _add(self, value: Any, line: int) -> None:
        if not self.stack:
            self.root, self.root_line = value, line
            return
        frame = self.stack[-1]
        container = frame.container
        if isinstance(container, LocatedList):
            container.append(value)
            container.lines.append(line)
        elif frame.key is None:
            raise self._error(line, "a mapping or list cannot be the name of a field; write a plain name")
        elif frame.merge_next:
            self._merge(frame, value, line)
        else:
            container[frame.key] = value
            container.lines[frame.key] = frame.key_line
            frame.key = None

    def _merge(self, frame: _Frame, value: Any, line: int) -> None:
        if not isinstance(value, LocatedDict | LocatedList):
            raise self._error(line, "<< takes a mapping or a list of mappings; write *ANCHOR of a mapping after it")
        frame.merges = frame.merges or []
        if isinstance(value, LocatedDict):
            frame.merges.append(value)
        else:
            frame.merges += [item for item in value if isinstance(item, LocatedDict)]
        frame.key, frame.merge_next = None, False


def _apply_merges(frame: _Frame) -> None:
    for merged in frame.merges or ():
        assert isinstance(frame.container, LocatedDict)
        for key, value in merged.items():
            if key not in frame.container:
                frame.container[key] = value
                frame.container.lines[key] = merged.lines[key]
