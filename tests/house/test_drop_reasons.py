"""Drop reasons are API: named by one pattern, each with a sentence of its own."""

from __future__ import annotations

import re
from collections import Counter

from dataplane._core import drop_reasons, encapsulations
from dataplane.encap import registry

NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*/[a-z0-9]+(_[a-z0-9]+)*")


def test_names_are_stage_slash_fact() -> None:
    assert [reason.name for reason in drop_reasons() if not NAME.fullmatch(reason.name)] == []


def test_no_name_and_no_sentence_stands_twice() -> None:
    """Among what is built in: kinds that are declared share the sentences of their template's checks."""
    for kind in registry.compiled():
        registry.ensure(kind)
    made_by_tests = set(encapsulations()) - set(registry.compiled())
    ours = [reason for reason in drop_reasons() if reason.name.partition("/")[0] not in made_by_tests]
    counts = Counter(text for reason in ours for text in (reason.name, reason.sentence))
    assert len(ours) > 100
    assert [text for text, count in counts.items() if count > 1] == []


def test_each_reason_has_a_sentence() -> None:
    assert [reason.name for reason in drop_reasons() if len(reason.sentence.split()) < 3] == []
