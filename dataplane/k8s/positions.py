"""Plain data that remembers where it was written."""

from __future__ import annotations

from typing import Any


class LocatedDict(dict[str, Any]):
    """A mapping with the line it starts on and the line of each key (1-based)."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class LocatedList(list[Any]):
    """A list with the line it starts on and the line of each item (1-based)."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


def line_of(data: Any, default: int, key: str | int | None = None) -> int:
    """Line of ``data`` or of one of its keys or items; ``default`` where it was not read from a text."""
    if not isinstance(data, LocatedDict | LocatedList):
        return default
    if isinstance(key, str) and isinstance(data, LocatedDict):
        return data.lines.get(key, data.line)
    if isinstance(key, int) and isinstance(data, LocatedList):
        return data.lines[key]
    return data.line


def to_plain(data: Any) -> Any:
    """The same data in ordinary dicts and lists, as serialisers that look at exact types want them."""
    if isinstance(data, dict):
        return {key: to_plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [to_plain(item) for item in data]
    return data
