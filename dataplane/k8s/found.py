"""The objects in documents, with those inside ``List`` objects in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from dataplane.errors import InputError
from dataplane.k8s import json_list, yaml_plain
from dataplane.k8s.positions import line_of
from dataplane.k8s.yaml_source import Document, parse_text


@dataclass(frozen=True, slots=True)
class Found:
    """A mapping that claims to be an object, and where it stands.

    ``locate`` reads it again with the lines of its fields; None: ``data`` has them, as far as there are any.
    """

    data: Mapping[str, Any]
    file: str
    line: int
    version: Any  # apiVersion and kind as written, or as a typed list names them for its items
    kind: Any
    locate: Callable[[], Any] | None = None

    def error(self, wrong: str, remedy: str) -> InputError:
        return InputError(f"{self.file}:{self.line}: {wrong}; {remedy}")


def objects_of_texts(texts: Iterable[tuple[str, str]]) -> Iterator[Found]:
    """Of texts and the names of their files. Raises InputError where one is neither YAML nor JSON, or holds something else."""
    remaining = iter(texts)
    for text, file in remaining:
        taken = 0
        try:
            for found in _objects_of_list(text, file) if text.startswith("{") else _objects_of_yaml(text, file):
                yield found
                taken += 1
        except (json_list.NotPlain, yaml_plain.NotPlain):
            yield from islice(objects_of(parse_text(text, file)), taken, None)
        except InputError:
            for again in ((text, file), *remaining):
                parse_text(*again)  # what is not even YAML or JSON is complained of first, wherever it stands
            raise


def objects_of(documents: Iterable[Document]) -> Iterator[Found]:
    """Raises InputError for a document that is no object."""
    for document in documents:
        yield from _unfold(document.file, document.data, document.line, (None, None))


def _objects_of_list(text: str, file: str) -> Iterator[Found]:
    """The objects of a JSON list. NotPlain, perhaps after some of them: the text needs a closer look."""
    whole = json_list.list_text(text)
    outer = Found(whole.members, file, 1, whole.members.get("apiVersion"), whole.members.get("kind"))
    if not (isinstance(outer.kind, str) and outer.kind.endswith("List")):
        raise json_list.NotPlain
    inherited = _inherited(outer)
    for item in json_list.items(whole):
        if not isinstance(item.data, dict) or str(item.data.get("kind", "")).endswith("List"):
            raise json_list.NotPlain
        version, kind = item.data.get("apiVersion", inherited[0]), item.data.get("kind", inherited[1])
        yield Found(item.data, file, item.line, version, kind, item.located)


def _objects_of_yaml(text: str, file: str) -> Iterator[Found]:
    """The objects of YAML documents. NotPlain, perhaps after some of them: the text needs a closer look."""
    if text.lstrip()[:1] in ("{", "["):
        raise yaml_plain.NotPlain
    reader = yaml_plain.Reader(text, file)
    for stretch in reader.stretches():
        outer = stretch.outer or {"kind": "List"}
        inherited = _inherited(Found({}, file, 1, outer.get("apiVersion"), outer["kind"]))
        try:
            data, line = reader.read(stretch)
        except yaml_plain.NotPlain:
            data = reader.located(stretch)
            if data is not None:
                if not isinstance(data, dict):
                    raise yaml_plain.NotPlain from None
                yield from _unfold(file, data, line_of(data, stretch.line), inherited)
            continue
        if data is not None:
            if not isinstance(data, dict) or ("items" in data and str(data.get("kind", "")).endswith("List")):
                raise yaml_plain.NotPlain
            version, kind = data.get("apiVersion", inherited[0]), data.get("kind", inherited[1])
            yield Found(data, file, line, version, kind, partial(reader.located, stretch))


def _unfold(file: str, data: Any, line: int, inherited: tuple[Any, Any]) -> Iterator[Found]:
    pending: list[tuple[Any, int, tuple[Any, Any]]] = [(data, line, inherited)]
    while pending:
        data, line, (version, kind) = pending.pop()
        if not isinstance(data, Mapping):
            raise InputError(f"{file}:{line}: an object must be a mapping; write apiVersion, kind and metadata as NAME: VALUE lines")
        found = Found(data, file, line, data.get("apiVersion", version), data.get("kind", kind))
        if not (isinstance(found.kind, str) and found.kind.endswith("List") and "items" in data):
            yield found
            continue
        items = data["items"] if data["items"] is not None else []
        if not isinstance(items, list):
            raise found.error(f"items of {printable(found.kind)} must be a list", 'write lines that begin with "- "')
        pending += [(item, line_of(items, line, index), _inherited(found)) for index, item in reversed(list(enumerate(items)))]


def _inherited(outer: Found) -> tuple[Any, Any]:
    """A typed list (PodList) names version and kind once for all its items."""
    return (None, None) if outer.kind == "List" else (outer.version, outer.kind.removesuffix("List"))


def printable(text: str) -> str:
    return text[:60] if text.isprintable() else repr(text[:60])
