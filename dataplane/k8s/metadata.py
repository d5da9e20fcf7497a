"""What all Kubernetes objects share: metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.k8s import api_fields
from dataplane.k8s.fields import Fields, Subject
from dataplane.k8s.objects import Origin
from dataplane.k8s.positions import line_of

CLUSTER_SCOPED = frozenset({"Node", "Namespace", "Cluster"})
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")  # RFC 1123 subdomain, as the API server wants names


@dataclass(frozen=True, slots=True)
class Metadata:
    name: str
    namespace: str  # "" for cluster-scoped kinds
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    terminating: bool
    recorded: bool  # the API server has stored it: it was accepted there, so it is not refused here
    origin: Origin


@dataclass(frozen=True, slots=True)
class Item:
    """One object, ready for the parser of its kind."""

    fields: Fields
    metadata: Metadata

    @property
    def origin(self) -> Origin:
        return self.metadata.origin


def read_item(data: Mapping[str, Any], kind: str, file: str, line: int, warnings: list[str]) -> Item:
    """Read the metadata of an object of ``kind``."""
    line = line_of(data, line)
    subject = Subject(file, kind, warnings)
    top = Fields(data, subject, line=line)
    meta = top.child("metadata")
    name = _checked_name(meta, "name", meta.text("name", "cluster") if kind == "Cluster" else meta.required_text("name"))
    namespace = "" if kind in CLUSTER_SCOPED else _checked_name(meta, "namespace", meta.text("namespace") or "default")
    what = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
    subject.what = what
    meta.warn_unknown(api_fields.METADATA)
    metadata = Metadata(
        name=name,
        namespace=namespace,
        labels=meta.string_map("labels"),
        annotations=meta.string_map("annotations"),
        terminating=meta.has("deletionTimestamp"),
        recorded=meta.has("uid") or meta.has("resourceVersion"),
        origin=Origin(file, line, what),
    )
    return Item(top, metadata)


def _checked_name(meta: Fields, key: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise meta.error(key, f"is {name[:60]!r}", 'use lower-case letters, digits, "-" and "." only')
    return name
