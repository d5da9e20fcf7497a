"""Layout and output formats of listings."""

from __future__ import annotations

import json

import pytest
import yaml

from dataplane.report.tables import Listing, Row, render

LISTING = Listing(
    "thing",
    ("A", "LONG HEADING"),
    ("LAST",),
    (Row("one", ("x", "1"), ("w",), {"n": 1, "b": None}), Row("two", ("longer", "22"), ("v",), {"n": 2})),
)


def test_columns_are_three_blanks_apart_and_nothing_follows_the_last_cell() -> None:
    assert render(LISTING, "table") == "A        LONG HEADING\nx        1\nlonger   22\n"


def test_a_column_is_never_narrower_than_six() -> None:
    assert render(Listing("t", ("A", "B"), (), [Row("", ("x", "y"), (), {})]), "table") == "A     B\nx     y\n"


def test_wide_adds_columns() -> None:
    assert render(LISTING, "wide").splitlines()[1] == "x        1              w"


def test_names() -> None:
    assert render(LISTING, "name") == "thing/one\nthing/two\n"


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_structured_output_is_a_list_unless_one_thing_was_named(output: str, read: object) -> None:
    assert callable(read)
    assert read(render(LISTING, output)) == {"apiVersion": "v1", "kind": "List", "items": [{"n": 1, "b": None}, {"n": 2}]}
    one = Listing("thing", LISTING.columns, (), LISTING.rows[:1])
    assert read(render(one, output, single=True)) == {"n": 1, "b": None}


def test_an_empty_listing_has_no_heading() -> None:
    empty = Listing("thing", ("A",), (), ())
    assert render(empty, "table") == render(empty, "wide") == render(empty, "name") == ""
    assert json.loads(render(empty, "json"))["items"] == []
