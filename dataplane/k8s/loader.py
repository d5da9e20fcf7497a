"""From texts to frozen objects: find the objects, let the parser of their kind read them, derive and check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.errors import InputError
from dataplane.k8s.check import check_derived, check_written
from dataplane.k8s.cluster import parse_cluster
from dataplane.k8s.collected import Collected
from dataplane.k8s.derive import derive
from dataplane.k8s.endpointslice import parse_endpoint_slice, parse_endpoints
from dataplane.k8s.metadata import Item, read_item
from dataplane.k8s.networkpolicy import parse_network_policy
from dataplane.k8s.node import parse_node
from dataplane.k8s.objects import Manifests, Namespace, Origin
from dataplane.k8s.pod import parse_pod
from dataplane.k8s.positions import line_of
from dataplane.k8s.service import parse_service
from dataplane.k8s.yaml_source import Document, parse_text, read_sources

OWN_GROUP = "dataplane"
OWN_VERSION = "dataplane/v1alpha1"
OTHER_OWN_KINDS = ("Traffic", "Scenario")  # read by other modules


def load(sources: Sequence[str]) -> Manifests:
    """Read a cluster from files, directories and ``-`` (standard input).

    Raises InputError, one line with file and line, for anything that cannot be a cluster.
    """
    return _load(read_sources(sources), ", ".join(sources) or "no source")


def load_text(text: str, file: str) -> Manifests:
    """Read a cluster from YAML or JSON text; ``file`` is the name that messages and origins give it."""
    return _load(parse_text(text, file), file)


def load_objects(objects: Sequence[Mapping[str, Any]], file: str) -> Manifests:
    """Read a cluster from objects that are data already; where they do not know their lines, all stand on line 1."""
    return _load([Document(data, file, line_of(data, 1)) for data in objects], file)


def _load(documents: Iterable[Document], name: str) -> Manifests:
    return complete(collect(documents, name))


def complete(collected: Collected) -> Manifests:
    """Derive, in place, what was not written, and freeze. Raises InputError for what cannot be a cluster."""
    derive(collected)
    check_derived(collected)
    return collected.manifests()


def collect(documents: Iterable[Document], name: str) -> Collected:
    """The objects as they are written; ``name`` is what messages call all of it. Raises InputError for what contradicts itself."""
    collected = Collected()
    ignored: Counter[str] = Counter()
    total = 0
    for document in documents:
        for found in _objects_of(document):
            total += 1
            _read_object(found, collected, ignored)
    if not total:
        raise InputError(f"{name}: no object in it; give manifests or the output of kubectl get -o yaml")
    if ignored:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        collected.warnings.append(f"{name}: ignored objects of kinds that are not read: {counts}")
    check_written(collected)
    return collected


@dataclass(frozen=True, slots=True)
class _Object:
    """A mapping that claims to be an object, and where it stands."""

    data: Mapping[str, Any]
    file: str
    line: int
    version: Any  # apiVersion and kind as written, or as a typed list names them for its items
    kind: Any

    def error(self, wrong: str, remedy: str) -> InputError:
        return InputError(f"{self.file}:{self.line}: {wrong}; {remedy}")


def _objects_of(document: Document) -> Iterator[_Object]:
    """The objects of a document, with those inside ``List`` objects in their place."""
    pending: list[tuple[Any, int, str | None, str | None]] = [(document.data, document.line, None, None)]
    while pending:
        data, line, version, kind = pending.pop()
        if not isinstance(data, Mapping):
            place = f"{document.file}:{line}"
            raise InputError(f"{place}: an object must be a mapping; write apiVersion, kind and metadata as NAME: VALUE lines")
        found = _Object(data, document.file, line, data.get("apiVersion", version), data.get("kind", kind))
        if not (isinstance(found.kind, str) and found.kind.endswith("List") and "items" in data):
            yield found
            continue
        items = data["items"] if data["items"] is not None else []
        if not isinstance(items, list):
            raise found.error(f"items of {_printable(found.kind)} must be a list", 'write lines that begin with "- "')
        # A typed list (PodList) names version and kind once for all its items.
        inherited = (None, None) if found.kind == "List" else (found.version, found.kind.removesuffix("List"))
        pending += [(item, line_of(items, line, index), *inherited) for index, item in reversed(list(enumerate(items)))]


def _printable(text: str) -> str:
    return text[:60] if text.isprintable() else repr(text[:60])


def _read_object(found: _Object, collected: Collected, ignored: Counter[str]) -> None:
    for name, value in (("apiVersion", found.version), ("kind", found.kind)):
        if not isinstance(value, str) or not value:
            raise found.error(f"the object has no {name}", f"add {name}, or name files that hold manifests only")
    if found.version.partition("/")[0] == OWN_GROUP:
        _read_own(found, collected)
        return
    reader = _READERS.get((found.version, found.kind))
    if reader is None:
        ignored[f"{_printable(found.kind)} ({_printable(found.version)})"] += 1
        return
    item = read_item(found.data, found.kind, found.file, found.line, collected.warnings)
    reader(item, collected)
    if item.metadata.recorded:
        collected.recorded.add(item.origin.what)


def _read_own(found: _Object, collected: Collected) -> None:
    if found.version != OWN_VERSION:
        raise found.error(f"apiVersion is {_printable(found.version)}", f"write {OWN_VERSION}")
    if found.kind in OTHER_OWN_KINDS:
        collected.extra.append((found.data, Origin(found.file, found.line, found.kind)))
        return
    if found.kind != "Cluster":
        known = ", ".join(["Cluster", *OTHER_OWN_KINDS])
        raise found.error(f"kind {_printable(found.kind)} of {OWN_VERSION} is not known", f"write one of {known}")
    if collected.config is not None:
        raise found.error(f"a second kind: Cluster; the first is at {collected.config.origin}", "remove one")
    collected.config = parse_cluster(read_item(found.data, found.kind, found.file, found.line, collected.warnings))


def _read_namespace(item: Item, collected: Collected) -> None:
    collected.namespaces.append(Namespace(item.metadata.name, item.metadata.labels, item.origin))


_READERS: dict[tuple[str, str], Callable[[Item, Collected], None]] = {
    ("v1", "Node"): lambda item, collected: collected.nodes.append(parse_node(item)),
    ("v1", "Pod"): lambda item, collected: collected.pods.append(parse_pod(item)),
    ("v1", "Service"): lambda item, collected: collected.services.append(parse_service(item)),
    ("v1", "Endpoints"): lambda item, collected: collected.endpoints.append(parse_endpoints(item)),
    ("v1", "Namespace"): _read_namespace,
    ("discovery.k8s.io/v1", "EndpointSlice"): lambda item, collected: collected.endpoint_slices.append(parse_endpoint_slice(item)),
    ("networking.k8s.io/v1", "NetworkPolicy"): lambda item, collected: collected.policies.append(parse_network_policy(item)),
}
