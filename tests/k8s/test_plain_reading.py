"""Objects read without lines are those read with lines, from whatever text: the readers differ in speed alone."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import InputError
from dataplane.k8s import json_list, yaml_plain
from dataplane.k8s.found import Found, objects_of, objects_of_texts
from dataplane.k8s.positions import line_of
from dataplane.k8s.yaml_source import parse_text

NAMES = st.sampled_from(["kind", "items", "apiVersion", "metadata", "a", "b.c/d", "e-1", "f:g", "true", "7", "x y"])
WORDS = st.sampled_from(
    """v1 List PodList Pod 80 0x10 010 1e3 -5 - -- ~ null Null yes off true .5 1_0 10.0.0.1 fe80::1 ::1 02:00:00:00:00:01 a:b http://x/y
    2024-01-01 'q' "q" # a#b a|b | > & *x @z `z %z !t ? ?a {} [] {a} [1] , a, <<""".split()
)
SCALARS = st.one_of(
    WORDS,
    st.text(max_size=6),
    st.sampled_from(["", " ", "a b", "a: b", "a #b", "a\nb", "ends ", "a:"]),
    st.integers(),
    st.none(),
    st.booleans(),
)
TREES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, TREES, max_size=5)
LISTS = st.builds(
    lambda kind, items, more: {"apiVersion": "v1", **more, "items": items, "kind": kind},
    st.sampled_from(["List", "PodList", "Pod"]), st.lists(OBJECTS, max_size=4), st.dictionaries(NAMES, WORDS, max_size=1),
)  # fmt: skip
CHANGES = ("drop", "twice", "deeper", "shallower", "blank", "comment", "marker", "swap")


def outcome(found: Any) -> Any:
    """Everything that is said of the objects, or the complaint."""
    try:
        return [(each.data, each.file, each.line, each.version, each.kind) for each in found()]
    except InputError as error:
        return str(error)


def check(text: str, file: str) -> list[Found]:
    """Both readers agree on ``text``; returns what was read."""
    slow = outcome(lambda: list(objects_of(parse_text(text, file))))
    assert outcome(lambda: list(objects_of_texts([(text, file)]))) == slow
    if isinstance(slow, str):
        return []
    found = list(objects_of_texts([(text, file)]))
    for fast, exact in zip(found, objects_of(parse_text(text, file)), strict=True):
        again = fast.data if fast.locate is None else fast.locate()
        assert places(again) == places(exact.data)
    return found


def places(data: Any) -> Any:
    """The lines of everything in it."""
    if isinstance(data, dict):
        return line_of(data, 0), {key: (line_of(data, 0, key), places(value)) for key, value in data.items()}
    if isinstance(data, list):
        return line_of(data, 0), [(line_of(data, 0, index), places(value)) for index, value in enumerate(data)]
    return data


def spoilt(text: str, rng: random.Random) -> str:
    """The text after some slips of somebody who edits it."""
    lines = text.split("\n")
    for _ in range(rng.randrange(3)):
        at, change = rng.randrange(len(lines)), rng.choice(CHANGES)
        if change == "swap":
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
            continue
        lines[at : at + 1] = {
            "drop": [], "twice": [lines[at]] * 2, "deeper": ["  " + lines[at]], "shallower": [lines[at].removeprefix("  ")],
            "blank": [lines[at], ""], "comment": [lines[at] + " # says", "# more"], "marker": [lines[at], "---"],
        }[change] or [""]  # fmt: skip
    return "\n".join(lines)


@given(st.lists(st.one_of(OBJECTS, LISTS), min_size=1, max_size=3), st.randoms(use_true_random=False), st.booleans())
def test_yaml(documents: list[Any], rng: random.Random, indented: bool) -> None:
    text = yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False, indent=4 if indented else 2)
    check(text, "x.yaml")
    check(spoilt(text, rng), "x.yaml")


@given(st.one_of(LISTS, OBJECTS), st.randoms(use_true_random=False), st.sampled_from([None, 2]), st.sampled_from(["x.json", "x.yaml"]))
def test_json(document: Any, rng: random.Random, indent: int | None, file: str) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    check(text, file)
    check(spoilt(text, rng), file)
    at = rng.randrange(len(text))
    check(text[:at] + rng.choice(['"', "{", "}", "[", "]", ",", ":", "0", "NaN", " "]) + text[at + 1 :], file)


@given(st.text(alphabet="ab:- \n#{}[]\"'|,0", max_size=40))
def test_any_text(text: str) -> None:
    check(text, "x.yaml")


def test_what_programs_write_is_read_without_lines() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"x": [1, {"y": "z"}]}}
    texts = [json.dumps({**pod, "metadata": {"name": f"p{number}", "labels": {"a/b": "c"}}}) for number in range(3)]
    pods = [json.loads(text) for text in texts]  # nothing in common, or YAML would be written with aliases
    whole = {"apiVersion": "v1", "items": pods, "kind": "List", "metadata": {"resourceVersion": ""}}
    for text, file in (
        (yaml.safe_dump_all(pods), "x.yaml"),
        (yaml.safe_dump(whole), "x.yaml"),
        (json.dumps(whole), "x.json"),
        (json.dumps(whole, indent=4), "x.json"),
    ):
        found = check(text, file)
        assert [each.locate is not None for each in found] == [True] * 3


@pytest.mark.parametrize(
    "text", ["a: b # c", "a: &x b", "a: [1]", "a: |\n  b", "a: b\n  c", "? a", "a: 'b''c'", "%YAML 1.1\n---\na: b", "a: b\t"]
)
def test_what_is_not_plain_is_left_to_the_other_reader(text: str) -> None:
    with pytest.raises(yaml_plain.NotPlain):
        reader = yaml_plain.Reader(text, "x.yaml")
        for stretch in reader.stretches():
            reader.read(stretch)
    check(text, "x.yaml")


@pytest.mark.parametrize("inner", ['{"a": 1, "a": 2}', "[" * 300 + "]" * 300, "NaN", '"\x01"', "1" * 70])
def test_what_json_has_not_is_left_to_the_other_reader(inner: str) -> None:
    text = '{"kind": "List", "items": [{"b": ' + inner + "}]}"
    if len(inner) == 70:
        check(text, "x.json")  # long numbers stay text in both
        return
    with pytest.raises(json_list.NotPlain):
        list(json_list.items(json_list.list_text(text)))
    check(text, "x.json")
