"""Scenario files: traffic, and the cluster it runs on, in one file or named by a ``kind: Scenario`` document."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dataplane.errors import InputError
from dataplane.k8s import load
from dataplane.k8s.fields import Fields, Subject
from dataplane.k8s.objects import Manifests
from dataplane.k8s.yaml_source import Document, read_sources
from dataplane.traffic.model import API_VERSION

KIND = "Scenario"


def load_scenario(path: str, more: Sequence[str] = ()) -> Manifests:
    """The manifests in a scenario file, those that its ``kind: Scenario`` documents name, and those of ``more``.

    Paths under ``spec.cluster`` are relative to the scenario file. Raises InputError, with file and line.
    """
    if path == "-":
        raise InputError("a scenario cannot come from standard input: name a file, and give manifests from elsewhere with -f -")
    warnings: list[str] = []
    named = [found for document in read_sources([path]) for found in _cluster_paths(document, warnings)]
    manifests = load(list(dict.fromkeys((path, *named, *more))))
    return replace(manifests, warnings=(*warnings, *manifests.warnings))


def _cluster_paths(document: Document, warnings: list[str]) -> list[str]:
    data = document.data
    if not (isinstance(data, Mapping) and data.get("kind") == KIND and data.get("apiVersion") == API_VERSION):
        return []
    fields = Fields(data, Subject(document.file, KIND, warnings), line=document.line)
    fields.warn_unknown({"apiVersion", "kind", "metadata", "spec"})
    spec = fields.child("spec")
    spec.warn_unknown({"cluster"})
    return [_beside(document.file, name, item) for name, item in spec.texts("cluster")]


def _beside(file: str, name: str, item: Fields) -> str:
    path = os.path.join(os.path.dirname(file), name)
    if not os.path.exists(path):
        raise item.error(next(iter(item.data)), f"is {name}, and there is no {path}", "write a path relative to the scenario file")
    return path
