"""From texts to frozen objects: find the objects, let the parser of their kind read them, derive and check."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from dataplane.errors import InputError
from dataplane.k8s.check import check_derived, check_written
from dataplane.k8s.cluster import parse_cluster
from dataplane.k8s.collected import Collected
from dataplane.k8s.derive import derive
from dataplane.k8s.endpointslice import parse_endpoint_slice, parse_endpoints
from dataplane.k8s.found import Found, objects_of, objects_of_texts, printable
from dataplane.k8s.metadata import Item, read_item
from dataplane.k8s.networkpolicy import parse_network_policy
from dataplane.k8s.node import parse_node
from dataplane.k8s.objects import Manifests, Namespace, Origin
from dataplane.k8s.pod import parse_pod
from dataplane.k8s.positions import line_of
from dataplane.k8s.service import parse_service
from dataplane.k8s.yaml_source import Document, read_texts

OWN_GROUP = "dataplane"
OWN_VERSION = "dataplane/v1alpha1"
OTHER_OWN_KINDS = ("Traffic", "Scenario")  # read by other modules


def load(sources: Sequence[str]) -> Manifests:
    """Read a cluster from files, directories and ``-`` (standard input).

    Raises InputError, one line with file and line, for anything that cannot be a cluster.
    """
    return _load(objects_of_texts(read_texts(sources)), ", ".join(sources) or "no source")


def load_text(text: str, file: str) -> Manifests:
    """Read a cluster from YAML or JSON text; ``file`` is the name that messages and origins give it."""
    return _load(objects_of_texts([(text, file)]), file)


def load_objects(objects: Sequence[Mapping[str, Any]], file: str) -> Manifests:
    """Read a cluster from objects that are data already; where they do not know their lines, all stand on line 1."""
    return _load(objects_of(Document(data, file, line_of(data, 1)) for data in objects), file)


def _load(objects: Iterator[Found], name: str) -> Manifests:
    with collector_paused():
        return complete(collect_objects(objects, name))


def complete(collected: Collected) -> Manifests:
    """Derive, in place, what was not written, and freeze. Raises InputError for what cannot be a cluster."""
    derive(collected)
    check_derived(collected)
    return collected.manifests()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without Python's cycle collector, which would look through millions of objects again and again to find nothing."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def collect(documents: Iterable[Document], name: str) -> Collected:
    """The objects as they are written; ``name`` is what messages call all of it. Raises InputError for what contradicts itself."""
    return collect_objects(objects_of(documents), name)


def collect_objects(objects: Iterator[Found], name: str) -> Collected:
    """The same of objects that have been found already."""
    collected = read_objects(objects, name)
    check_written(collected)
    return collected


def read_objects(objects: Iterator[Found], name: str) -> Collected:
    """The same without a look at how they go together. Raises InputError where there are none, or what is wrong with one."""
    collected = Collected()
    ignored: Counter[str] = Counter()
    total = 0
    try:
        for found in objects:
            total += 1
            _read_object(found, collected, ignored)
    except InputError:
        for _ in objects:  # what is not even YAML or JSON is complained of first, wherever it stands
            pass
        raise
    if not total:
        raise InputError(f"{name}: no object in it; give manifests or the output of kubectl get -o yaml")
    if ignored:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        collected.warnings.append(f"{name}: ignored objects of kinds that are not read: {counts}")
    return collected


def _read_object(found: Found, collected: Collected, ignored: Counter[str]) -> None:
    for name, value in (("apiVersion", found.version), ("kind", found.kind)):
        if not isinstance(value, str) or not value:
            raise found.error(f"the object has no {name}", f"add {name}, or name files that hold manifests only")
    if found.version.partition("/")[0] == OWN_GROUP:
        _read_own(_located(found), collected)
        return
    reader = _READERS.get((found.version, found.kind))
    if reader is None:
        ignored[f"{printable(found.kind)} ({printable(found.version)})"] += 1
        return
    item, read = _parse(found, reader, collected.warnings)
    getattr(collected, reader.into).append(read)
    if item.metadata.recorded:
        collected.recorded.add(item.origin.what)


def _parse(found: Found, reader: _Reader, warnings: list[str]) -> tuple[Item, Any]:
    """Read without lines where that is faster, and again with them if there is something to say of one."""
    if found.locate is not None and not reader.keeps_lines:
        said: list[str] = []
        try:
            item = read_item(found.data, found.kind, found.file, found.line, said)
            read = reader.parse(item)
            if not said:
                return item, read
        except InputError:
            pass
    found = _located(found)
    item = read_item(found.data, found.kind, found.file, found.line, warnings)
    return item, reader.parse(item)


def _located(found: Found) -> Found:
    return found if found.locate is None else replace(found, data=found.locate(), locate=None)


def _read_own(found: Found, collected: Collected) -> None:
    if found.version != OWN_VERSION:
        raise found.error(f"apiVersion is {printable(found.version)}", f"write {OWN_VERSION}")
    if found.kind in OTHER_OWN_KINDS:
        collected.extra.append((found.data, Origin(found.file, found.line, found.kind)))
        return
    if found.kind != "Cluster":
        known = ", ".join(["Cluster", *OTHER_OWN_KINDS])
        raise found.error(f"kind {printable(found.kind)} of {OWN_VERSION} is not known", f"write one of {known}")
    if collected.config is not None:
        raise found.error(f"a second kind: Cluster; the first is at {collected.config.origin}", "remove one")
    collected.config = parse_cluster(read_item(found.data, found.kind, found.file, found.line, collected.warnings))


def _read_namespace(item: Item) -> Namespace:
    return Namespace(item.metadata.name, item.metadata.labels, item.origin)


class _Reader(NamedTuple):
    """How a kind is read, and into which list of ``Collected``."""

    parse: Callable[[Item], Any]
    into: str
    keeps_lines: bool = False  # what it makes holds data as written, whose lines somebody may ask for


_READERS: dict[tuple[str, str], _Reader] = {
    ("v1", "Node"): _Reader(parse_node, "nodes"),
    ("v1", "Pod"): _Reader(parse_pod, "pods"),
    ("v1", "Service"): _Reader(parse_service, "services"),
    ("v1", "Endpoints"): _Reader(parse_endpoints, "endpoints"),
    ("v1", "Namespace"): _Reader(_read_namespace, "namespaces"),
    ("discovery.k8s.io/v1", "EndpointSlice"): _Reader(parse_endpoint_slice, "endpoint_slices"),
    ("networking.k8s.io/v1", "NetworkPolicy"): _Reader(parse_network_policy, "policies", keeps_lines=True),
}
