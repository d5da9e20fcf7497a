"""Whatever the input, the loader returns a cluster or raises InputError with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane import k8s
from dataplane.errors import InputError
from dataplane.k8s import api_fields
from dataplane.k8s import cluster as own

NAMES = sorted(
    api_fields.TOP | api_fields.METADATA | api_fields.NODE_SPEC | api_fields.NODE_STATUS | api_fields.POD_STATUS | api_fields.CONTAINER
    | api_fields.SERVICE_SPEC | api_fields.SERVICE_PORT | api_fields.ENDPOINT | api_fields.ENDPOINT_SLICE | api_fields.ENDPOINTS
    | api_fields.NETWORK_POLICY_SPEC | own.SPEC_FIELDS | own.CNI_FIELDS | own.UNDERLAY_FIELDS | own.HOST_FIELDS | own.IP_POOL_FIELDS
    | {"items", "nodeName", "hostNetwork", "containers", "subsets", "from", "to", "ip", "address"}
)  # fmt: skip
KINDS = [
    ("v1", "Node"), ("v1", "Pod"), ("v1", "Service"), ("v1", "Endpoints"), ("v1", "Namespace"), ("v1", "List"), ("v1", "PodList"),
    ("discovery.k8s.io/v1", "EndpointSlice"), ("networking.k8s.io/v1", "NetworkPolicy"),
    ("dataplane/v1alpha1", "Cluster"), ("dataplane/v1alpha1", "Traffic"), ("apps/v1", "Deployment"),
]  # fmt: skip
WORDS = [
    "TCP",
    "n1",
    "a",
    "10.0.0.1",
    "fd00::1",
    "10.244.0.0/16",
    "0.0.0.0/0",
    "::/0",
    "None",
    "Running",
    "IPv6",
    "calico",
    "{}",
    "1us",
    "",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 70000)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*WORDS, *NAMES])
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
MAXIMAL = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def survives(load: Any, *arguments: Any) -> None:
    try:
        loaded = load(*arguments)
    except InputError as error:
        message = str(error)
        assert message
        assert message.isprintable()
        assert "; " in message
    else:
        assert isinstance(loaded, k8s.Manifests)
        assert all(line.isprintable() for line in loaded.warnings)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    version, kind = draw(st.sampled_from(KINDS))
    body = draw(st.dictionaries(st.sampled_from(NAMES), trees, max_size=4))
    metadata = draw(st.just({"name": "a"}) | st.dictionaries(st.sampled_from(sorted(api_fields.METADATA)), trees, max_size=3))
    return {"metadata": metadata, **body, "apiVersion": version, "kind": kind}


@given(st.lists(objects(), max_size=4))
@MAXIMAL
def test_arbitrary_objects(found: list[dict[str, Any]]) -> None:
    survives(k8s.load_objects, found, "x.yaml")


@given(trees)
@MAXIMAL
def test_arbitrary_yaml_trees(tree: Any) -> None:
    survives(k8s.load_text, yaml.safe_dump(tree), "x.yaml")


@given(st.text() | st.text(alphabet="{}[]:,&*!|>'\"%@`-? \n\tab1~<", max_size=40))
@MAXIMAL
def test_arbitrary_text(text: str) -> None:
    survives(k8s.load_text, text, "x.yaml")
    survives(k8s.load_text, text, "x.json")


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in children:
        found += places(value, (*path, key))
    return found


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


EXAMPLE = Path(__file__).parents[2] / "docs" / "cluster-files.md"
DOCUMENTS = list(yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]))
PLACES = places(DOCUMENTS)


@given(st.sampled_from(PLACES), trees)
@MAXIMAL
def test_one_wrong_value_in_a_good_cluster(path: tuple[Any, ...], value: Any) -> None:
    survives(k8s.load_objects, replaced(DOCUMENTS, path, value), "x.yaml")


def value_at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


CONTAINER_NAME = ("spec", "containers", 0, "name")  # nobody reads it


@pytest.mark.parametrize("path", [path for path in PLACES if path[1:] != CONTAINER_NAME], ids=str)
def test_a_value_of_the_wrong_type_is_refused(path: tuple[Any, ...]) -> None:
    wrong: Any = 5 if isinstance(value_at(DOCUMENTS, path), list) else [[]]
    with pytest.raises(InputError):
        k8s.load_objects(replaced(DOCUMENTS, path, wrong), "x.yaml")
