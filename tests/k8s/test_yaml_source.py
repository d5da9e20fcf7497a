"""Reading YAML and JSON: values as the API server resolves them, and the line of everything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dataplane.errors import InputError
from dataplane.k8s import load_text
from dataplane.k8s.positions import line_of, to_plain
from dataplane.k8s.yaml_source import parse_text, resolve_scalar


def only(text: str, file: str = "f.yaml") -> Any:
    documents = parse_text(text, file)
    assert len(documents) == 1
    return documents[0].data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("0x1f", 31), ("0o17", 15), ("017", 15), ("1.5", 1.5), ("1e3", 1000.0),
        ("true", True), ("No", False), ("off", False), ("null", None), ("~", None), ("", None),
        ("12:30:00:00:00:50", "12:30:00:00:00:50"), ("2024-05-01", "2024-05-01"), ("10.0.0.1", "10.0.0.1"), ("1.2.3", "1.2.3"),
        ("10.0.0.0/8", "10.0.0.0/8"), ("y", "y"), ("08", 8.0), ("9" * 5000, "9" * 5000), ("-", "-"), (".", "."),
    ],
)  # fmt: skip
def test_plain_scalars_are_resolved_as_kubernetes_does(text: str, value: object) -> None:
    resolved = resolve_scalar(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_quoted_scalars_stay_text() -> None:
    assert only("{a: \"12\", b: 'true', c: !!str 5}") == {"a": "12", "b": "true", "c": "5"}


def test_every_line_is_known_in_yaml() -> None:
    data = only("# comment\na: 1\nb:\n  c: x\n  d:\n  - one\n  - e: 2\n")
    assert line_of(data, 0, "b") == 3
    assert line_of(data["b"], 0) == 4
    assert line_of(data["b"]["d"], 0, 1) == 7
    assert line_of(data["b"]["d"][1], 0, "e") == 7


def test_every_line_is_known_in_json() -> None:
    data = only('{\n  "a": 1,\n  "b": {\n    "d": [\n      1,\n      {"e": 2}\n    ]\n  }\n}', "f.json")
    assert line_of(data, 0, "b") == 3
    assert line_of(data["b"]["d"], 0, 1) == 6


def test_json_that_yaml_parsers_refuse_is_read() -> None:
    text = '{\n\t"a": "\\ud83d\\ude00",\n\t"b": "x\\/y"}'
    assert only(text) == json.loads(text) == {"a": "\U0001f600", "b": "x/y"}


def test_values_after_each_other_are_documents() -> None:
    assert [document.data for document in parse_text('{"a": 1}\n{"b": 2}\n', "f.json")] == [{"a": 1}, {"b": 2}]
    assert [document.line for document in parse_text("---\na: 1\n---\n---\nb: 2\n", "f.yaml")] == [2, 5]


def test_flow_yaml_that_is_no_json_is_read() -> None:
    assert only("{a: b}") == {"a": "b"}


def test_anchors_aliases_and_merges() -> None:
    data = only("base: &base {a: 1, b: 2}\nderived:\n  <<: *base\n  b: 3\nlist: [*base]\n")
    assert data["derived"] == {"a": 1, "b": 3}
    assert data["list"] == [{"a": 1, "b": 2}]
    assert type(to_plain(data)["derived"]) is dict


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1\n", 3, "not YAML"),
        ("a: 1\na: 2\n", 2, '"a" stands twice'),
        ("a: &x\n  b: *x\n", 2, "inside what it names"),
        ("a: 1\nb: *nothing\n", 2, "no anchor"),
        ("a: 1\nb: !thing x\n", 2, "tag !thing"),
        ("a:\n  ? [b]\n  : c\n", 2, "name of a field"),
        ("a: 1\n<<: 5\n", 2, "<< takes"),
        ("a: 1\n\x07", 2, "not YAML"),
        ("a: \ud800", 1, "surrogate"),
    ],
)
def test_bad_yaml_is_one_line_with_its_place(text: str, line: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_text(text, "bad.yaml")
    message = str(caught.value)
    assert message.startswith(f"bad.yaml:{line}: ")
    assert words in message
    assert "; " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"a": 1,\n "b" 2}', 2), ('{"a": 1,\n "a": 2}', 2), ("[1,\n2", 2), ("{" + '"a":[' * 300, 1), ('{"a": "\n"}', 1), ('{"a": 01}', 1)],
)
def test_bad_json_is_one_line_with_its_place(text: str, line: int) -> None:
    with pytest.raises(InputError, match=rf"^bad\.json:{line}: not JSON: [^\n]*; [^\n]*$"):
        parse_text(text, "bad.json")


def test_endless_nesting_crashes_nothing() -> None:
    with pytest.raises(InputError, match=r"^deep\.yaml:1: "):
        load_text("[" * 50_000 + "]" * 50_000, "deep.yaml")
