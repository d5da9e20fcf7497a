"""Rules that matched, told as a person would: the path of chains to what was decided, without the ways that led nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dataplane.explain.steps import Step

_NO_EFFECT = ("RETURN", "counted")


def decisive(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps, with the rules of one walk through a table as one step for each that had an effect, or none."""
    walk: list[Step] = []
    for step in steps:
        if walk and (step.rule is None or step.what != walk[-1].what or step.rule.built_in):
            yield from _effects(walk)
            walk = []
        if step.rule is None:
            yield step
        else:
            walk.append(step)
    yield from _effects(walk)


def _effects(walk: list[Step]) -> Iterator[Step]:
    """Of one chain of a hook: the rules that did something, each behind the chains that led there."""
    path: list[str] = []
    for step in walk:
        rule = step.rule
        assert rule is not None
        if rule.chain in path:
            del path[path.index(rule.chain) :]
        path.append(rule.chain)
        if not rule.is_jump and rule.target not in _NO_EFFECT:
            yield replace(step, text=f"{' > '.join(path)}: {rule.text}")
