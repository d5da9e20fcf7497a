"""The rules of nodes in tables that nodes have in common: kube-proxy's in the middle, the CNI's own chains at the end.

A table is what ``IptablesTables`` would make of the same rules, chain for chain, and every rule has the number that it would have
there. What differs between nodes otherwise alike are the CNI's last chains, which each node has for itself.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple

from dataplane.control.cni.masquerade import add_cni_rules
from dataplane.control.iptables import BUILT_IN, IptablesTables
from dataplane.control.iptables_compile import compile_rule
from dataplane.control.iptables_parse import Rule, parse_rule
from dataplane.control.proxy.iptables import NodeRules
from dataplane.control.proxy.parts import Part, Parts, pack, pack_matches
from dataplane.k8s.objects import EndpointSlice, Manifests, Node, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from dataplane._core import Engine, Match
    from dataplane._rulebook import RuleBook

OWNER_OF_CHAINS = "nat"
"""The table in which service ports have chains of their own."""


class Frame(NamedTuple):
    """One table of a node without its services."""

    policies: dict[str, str]  # of all chains but the CNI's own, in order; "" for a user chain
    rules: dict[str, list[tuple[Rule, int]]]  # of the same, and of the CNI's own
    last: list[str]  # the CNI's own chains


def frames(manifests: Manifests, node: Node, family: int, origins: Callable[[Origin], int]) -> dict[str, Frame]:
    """By table."""
    tables = IptablesTables(family)
    rules = NodeRules(manifests, node, family, origins, tables, comment_endpoints=True)
    rules.base()
    rules.tail()
    known = {table: dict(tables.policies(table)) for table in tables.names()}
    add_cni_rules(tables, manifests, node, origins(manifests.config.origin))
    found = {}
    for table in tables.names():
        policies = known.get(table, {}) or dict(tables.policies(table))
        names = [name for name, _ in tables.policies(table)]
        found[table] = Frame(policies, {name: tables.entries(table, name) for name in names}, [n for n in names if n not in policies])
    return found


@dataclass(slots=True)
class Shared:
    """A table that nodes have in common."""

    book: RuleBook
    parts: list[Part]
    bases: list[int]  # number of the first chain of each part
    static: list[str]  # the chains before those of parts
    last_base: int  # number of the CNI's first chain
    starts: list[int]  # number of the first rule of each chain, filled in when first asked for
    counts: bytes


class Local(NamedTuple):
    """One node's view of a table, for those who ask what a rule's number means."""

    shared: Shared
    frame: Frame
    parts: Parts
    node: Node


class Books:
    """The tables of all nodes of a cluster."""

    def __init__(self, manifests: Manifests, origins: Callable[[Origin], int]) -> None:
        self.manifests = manifests
        self._origins = origins
        self._parts: dict[int, Parts] = {}
        self._frames: dict[tuple[str, int], dict[str, Frame]] = {}
        self._shared: dict[object, Shared] = {}

    def after(self, manifests: Manifests, changed: Mapping[str, Sequence[EndpointSlice]]) -> Books:
        """The books when the services in ``changed`` (with their slices) have changed; all else is the same."""
        books = Books(manifests, self._origins)
        books._frames = dict(self._frames)
        books._parts = {family: Parts(manifests, family, self._origins, parts, changed) for family, parts in self._parts.items()}
        return books

    def parts(self, family: int) -> Parts:
        if family not in self._parts:
            self._parts[family] = Parts(self.manifests, family, self._origins)
        return self._parts[family]

    def use(self, engine: Engine, namespace: int, node: Node, family: int) -> dict[str, Local]:
        """Let a namespace have the rules of ``node``; returns its tables."""
        parts, views = self.parts(family), {}
        if (node.name, family) not in self._frames:
            self._frames[node.name, family] = frames(self.manifests, node, family, self._origins)
        for table, frame in self._frames[node.name, family].items():
            view = Local(self._table(table, frame, parts, node), frame, parts, node)
            engine.use_book(namespace, family, table, view.shared.book, self._local(view, family))
            views[table] = view
        return views

    def _table(self, table: str, frame: Frame, parts: Parts, node: Node) -> Shared:
        content = tuple((name, tuple(frame.rules[name])) for name in frame.policies)
        last = tuple((name, len(frame.rules[name])) for name in frame.last)
        key = (parts.family, table, content, last, node.name if parts.differ else "")
        if key not in self._shared:
            self._shared[key] = _build(table, frame, parts, node)
        return self._shared[key]

    def _local(self, view: Local, family: int) -> bytes:
        from dataplane._rulebook import local_rules

        rules = [entry for name in view.frame.last for entry in view.frame.rules[name]]
        packed = _pack_rules(rules, family, _targets(view.frame))
        return local_rules(packed, view.shared.last_base, view.shared.last_base + len(view.frame.last))


def _build(table: str, frame: Frame, parts: Parts, node: Node) -> Shared:
    from dataplane._rulebook import RuleBook

    own, static = parts.of(node), list(frame.policies)
    chained = own if table == OWNER_OF_CHAINS else []
    targets = _targets(frame)
    bases = list(accumulate([part.chains for part in chained], initial=len(static)))
    last_base = bases.pop()
    pieces = _pieces(table, frame, parts, own, bases or [0] * len(own), targets, last_base)
    counts = b"".join(
        [
            array("i", [sum([len(packed) for packed, _ in pieces[name]]) // _rule_size() for name in static]).tobytes(),
            *[part.counts for part in chained],
            array("i", [len(frame.rules[name]) for name in frame.last]).tobytes(),
        ]
    )

    def write_part(number: int) -> Iterator[tuple[int, list[tuple[bytes, int]]]]:
        """The chains of the part that this one belongs to."""
        at = bisect_right(bases, number) - 1
        for place, packed in enumerate(_packed_body(parts, own[at], node, targets)):
            yield bases[at] + place, [(packed, bases[at])]

    builtin = {name: (static.index(name), policy) for name, policy in frame.policies.items() if name in BUILT_IN[table]}
    by_chance = any(part.asks_chance for part in chained)
    book = RuleBook(counts, len(frame.last), builtin, by_chance, by_chance or any(part.remembers for part in chained), write_part)
    for number, name in enumerate(static):
        if pieces[name]:
            book.write(number, pieces[name])
    book.index(parts.family)
    return Shared(book, own, bases, static, last_base, [], counts)


def _pieces(
    table: str, frame: Frame, parts: Parts, own: Sequence[Part], bases: Sequence[int], targets: dict[str, int], last_base: int
) -> dict[str, list[tuple[bytes, int]]]:
    """What stands in the chains that all have in common: first the services' rules, then the frame's."""
    found: dict[str, list[tuple[bytes, int]]] = {name: [] for name in frame.policies}
    for part, base in zip(own, bases, strict=True):
        packed = part.packed.get(table)
        if packed is None:
            packed = part.packed[table] = _packed_entries(table, part, parts.family, targets)
        for name, rules in packed:
            found[name].append((rules, base))
    for name, pieces in found.items():
        if frame.rules[name]:
            pieces.append((_pack_rules(frame.rules[name], parts.family, targets), last_base))
    return found


def _packed_entries(table: str, part: Part, family: int, targets: dict[str, int]) -> list[tuple[str, bytes]]:
    texts = {name: texts for (own_table, name), texts in part.entries.items() if own_table == table and texts}
    if not texts:
        return []
    places = targets | {name: place for place, name in enumerate(part.rules.service_chains())}
    return [(name, pack(each, family, places)) for name, each in texts.items()]


def _packed_body(parts: Parts, part: Part, node: Node, targets: dict[str, int]) -> list[bytes]:
    key = node.name if parts.differ else ""
    if key not in part.packed_bodies:
        places = targets | {name: place for place, name in enumerate(part.rules.chains())}
        part.packed_bodies[key] = [pack(texts, parts.family, places) for texts in parts.body(part, node)]
    return part.packed_bodies[key]


def _targets(frame: Frame) -> dict[str, int]:
    """The chains that rules of a frame may jump to."""
    static = {name: -1 - number for number, name in enumerate(frame.policies)}
    return static | {name: place for place, name in enumerate(frame.last)}


def _pack_rules(rules: Iterable[tuple[Rule, int]], family: int, targets: dict[str, int]) -> bytes:
    return pack_matches((match for rule, origin in rules for match in compile_rule(rule, family, origin)), targets)


def _rule_size() -> int:
    from dataplane._rulebook import RULE_SIZE

    return RULE_SIZE


# ---- what a rule's number means


def match_at(view: Local, table: str, number: int) -> tuple[str, bool, Match, bool]:
    """The rule with a number in the core's order: its chain, whether that is built in, the rule, and whether it leads to a chain."""
    shared, frame = view.shared, view.frame
    if not shared.starts:
        shared.starts[:] = accumulate(array("i", shared.counts), initial=0)
    at = bisect_right(shared.starts, number) - 1
    place = number - shared.starts[at]
    family = view.parts.family
    if at >= shared.last_base:
        name = frame.last[at - shared.last_base]
        rule, origin = frame.rules[name][place]
        return name, False, *_compiled(rule, family, origin)
    if at >= len(shared.static):
        which = bisect_right(shared.bases, at) - 1
        part, own = shared.parts[which], at - shared.bases[which]
        text, origin = view.parts.body(part, view.node)[own][place]
        return part.rules.chains()[own], False, *_compiled(parse_rule(text, family), family, origin)
    name = shared.static[at]
    services = list(chain.from_iterable(part.entries.get((table, name), ()) for part in shared.parts))
    if place < len(services):
        text, origin = services[place]
        return name, bool(frame.policies[name]), *_compiled(parse_rule(text, family), family, origin)
    rule, origin = frame.rules[name][place - len(services)]
    return name, bool(frame.policies[name]), *_compiled(rule, family, origin)


def _compiled(rule: Rule, family: int, origin: int) -> tuple[Match, bool]:
    from dataplane.control.iptables_parse import TARGETS

    (match,) = compile_rule(rule, family, origin)
    return match, bool(match.get("target")) and match["target"] not in TARGETS
