"""The tables of one network namespace and address family as iptables(8) keeps them, in memory.

Rules come in as text (single rules, command lines, iptables-restore input) and go out as iptables-save
text or as chains for the compiled core.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dataplane.control.iptables_compile import compile_rule
from dataplane.control.iptables_parse import TARGETS, Rule, parse_rule, write_rule
from dataplane.errors import InputError

if TYPE_CHECKING:
    from dataplane._core import Chain

# Built-in chains of each table, in the order of the hooks (net/ipv4/netfilter/iptable_*.c: valid_hooks).
BUILT_IN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
# Where a target may stand (net/netfilter/xt_nat.c, net/ipv4/netfilter/ipt_REJECT.c).
_TARGET_TABLE = {"DNAT": "nat", "SNAT": "nat", "MASQUERADE": "nat", "REJECT": "filter"}
_PROGRAMS = {4: "iptables", 6: "ip6tables"}
_MAX_CHAIN_NAME = 28  # XT_EXTENSION_MAXNAMELEN
_POLICIES = ("ACCEPT", "DROP")


class _Entry(NamedTuple):
    rule: Rule
    origin: int


@dataclass(slots=True)
class _Chain:
    policy: str
    entries: list[_Entry] = field(default_factory=list)


class IptablesTables:
    """Tables raw, mangle, nat and filter for ``family`` 4 or 6. A table exists once something was put into it.

    ``origin`` is the caller's opaque number for what a rule comes from (0: nothing); equal rules with
    different origins are the same rule to ``delete``. Every method raises InputError for what iptables
    would refuse and for what is not emulated.
    """

    def __init__(self, family: int = 4) -> None:
        self.family = family
        self._tables: dict[str, dict[str, _Chain]] = {}

    # ---- chains
    def new_chain(self, table: str, chain: str, policy: str = "") -> None:
        """Create a user chain (``policy`` ""), or set the policy, ACCEPT or DROP, of a built-in one. An existing user chain stays."""
        chains = self._table(table)
        if chain in BUILT_IN[table]:
            self._set_policy(chains, chain, policy)
            return
        if policy:
            raise InputError(f"chain {chain} of table {table}: only a built-in chain has a policy")
        if not 1 <= len(chain) <= _MAX_CHAIN_NAME or chain.startswith(("-", "!")) or re.search(r"\s", chain):
            raise InputError(f"{chain!r} is not a chain name (1 to {_MAX_CHAIN_NAME} characters without blanks)")
        if chain in TARGETS:
            raise InputError(f"chain {chain} of table {table}: the name is taken by a target")
        chains.setdefault(chain, _Chain(""))

    def has_chain(self, table: str, chain: str) -> bool:
        return chain in self._table(table)

    def delete_chain(self, table: str, chain: str) -> None:
        """Remove an empty user chain that no rule jumps to."""
        chains = self._table(table)
        if self._chain(table, chain).entries:
            raise InputError(f"chain {chain} of table {table} is not empty: flush it first")
        if chain in BUILT_IN[table]:
            raise InputError(f"chain {chain} of table {table} is built in and cannot be deleted")
        for name, other in chains.items():
            if any(entry.rule.target and entry.rule.target.name == chain for entry in other.entries):
                raise InputError(f"chain {chain} of table {table} is still used by chain {name}")
        del chains[chain]

    def flush(self, table: str, chain: str = "") -> None:
        """Remove all rules of one chain, or of all chains of the table."""
        for one in [self._chain(table, chain)] if chain else self._table(table).values():
            one.entries.clear()

    # ---- rules
    def append(self, table: str, chain: str, rule_text: str, origin: int = 0) -> None:
        """Add a rule (the text after ``-A CHAIN``) at the end of a chain."""
        entries = self._chain(table, chain).entries
        entries.append(self._entry(table, rule_text, origin))

    def insert(self, table: str, chain: str, rule_text: str, position: int = 1, origin: int = 0) -> None:
        """Add a rule so that it becomes number ``position``, counted from 1."""
        entries = self._chain(table, chain).entries
        if not 1 <= position <= len(entries) + 1:
            raise InputError(f"chain {chain} of table {table} has {len(entries)} rules: cannot insert number {position}")
        entries.insert(position - 1, self._entry(table, rule_text, origin))

    def delete(self, table: str, chain: str, rule_text: str) -> None:
        """Remove the first rule equal to this one, or, given a number, the rule with it (counted from 1)."""
        entries = self._chain(table, chain).entries
        text = rule_text.strip()
        if text.isdecimal():
            if not 1 <= int(text) <= len(entries):
                raise InputError(f"chain {chain} of table {table} has {len(entries)} rules: no number {text}")
            del entries[int(text) - 1]
            return
        wanted = parse_rule(text, self.family)
        for index, entry in enumerate(entries):
            if entry.rule == wanted:
                del entries[index]
                return
        raise InputError(f"no such rule in chain {chain} of table {table}: {text}")

    def command(self, argv_text: str) -> None:
        """Carry out one command line such as ``iptables -t nat -I PREROUTING -p tcp -j ACCEPT`` (-A -I -D -N -X -F -P)."""
        try:
            words = shlex.split(argv_text)
        except ValueError as error:
            raise InputError(f"{error}: {argv_text}") from None
        program = words[0].rpartition("/")[2] if words else ""
        if program.removesuffix("-nft").removesuffix("-legacy") != _PROGRAMS[self.family]:
            raise InputError(f"not a command of {_PROGRAMS[self.family]}: {argv_text}")
        self._run(_take_table(words[1:]), argv_text)

    def _run(self, line: _CommandLine, argv_text: str) -> None:
        table, action, rest = line
        chain, arguments = (rest[0], rest[1:]) if rest else ("", [])
        if not chain and action != "-F":
            raise InputError(f"{action} needs a chain: {argv_text}")
        rule_text = " ".join(_requoted(word) for word in arguments)
        if action == "-A":
            self.append(table, chain, rule_text)
        elif action == "-I":
            numbered = bool(arguments) and arguments[0].isdecimal()
            text = " ".join(_requoted(word) for word in arguments[1:]) if numbered else rule_text
            self.insert(table, chain, text, int(arguments[0]) if numbered else 1)
        elif action == "-D":
            self.delete(table, chain, rule_text)
        elif action == "-N":
            if self.has_chain(table, chain):
                raise InputError(f"chain {chain} of table {table} exists already")
            self.new_chain(table, chain)
        elif action == "-X":
            self.delete_chain(table, chain)
        elif action == "-F":
            self.flush(table, chain)
        else:
            self._set_policy(self._table(table), chain, rule_text)

    # ---- whole tables
    def restore(self, text: str) -> None:
        """Read iptables-restore input. A table named in it is replaced at its COMMIT; an error leaves all tables as they were."""
        staged: dict[str, dict[str, _Chain]] = {}
        reader = IptablesTables(self.family)
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                table = reader._restore_line(table, line)
            except InputError as error:
                raise InputError(f"line {number}: {error}") from None
            if line == "COMMIT":
                staged.update(reader._tables)
                reader = IptablesTables(self.family)
        if table:
            raise InputError(f"table {table} has no COMMIT at its end")
        self._tables.update(staged)

    def _restore_line(self, table: str, line: str) -> str:
        """Take one line in; returns the table that is open after it."""
        if line.startswith("*"):
            if table:
                raise InputError(f"table {table} has no COMMIT before {line}")
            self._table(line[1:])
            return line[1:]
        if not table:
            raise InputError(f"no table is open (*filter and so on) before: {line}")
        if line == "COMMIT":
            return ""
        if line.startswith(":"):
            name, policy, *_ = [*line[1:].split(), ""]
            self.new_chain(table, name, "" if policy == "-" else policy)
            return table
        line = re.sub(r"^\[\d+:\d+\]\s*", "", line)  # counters, as iptables-save -c writes them
        action, _, rest = line.partition(" ")
        chain, _, rule_text = rest.strip().partition(" ")
        if action not in ("-A", "--append"):
            raise InputError(f"only -A is known in a restore file: {line}")
        self.append(table, chain, rule_text)
        return table

    def save_text(self) -> str:
        """The tables as iptables-save writes them, without counters and dates; iptables-restore of the same family takes it."""
        lines: list[str] = []
        for table in BUILT_IN:
            chains = self._tables.get(table)
            if chains is None:
                continue
            lines.append(f"*{table}")
            lines += [f":{name} {chain.policy or '-'} [0:0]" for name, chain in chains.items()]
            lines += [f"-A {name} {write_rule(entry.rule)}".rstrip() for name, chain in chains.items() for entry in chain.entries]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n" if lines else ""

    def lines(self) -> Iterator[tuple[str, str, str, int]]:
        """Every rule in the order of ``save_text``: table, chain, the text after ``-A CHAIN``, and its origin."""
        for table in BUILT_IN:
            for name, chain in self._tables.get(table, {}).items():
                for entry in chain.entries:
                    yield table, name, write_rule(entry.rule), entry.origin

    def compile(self) -> dict[str, list[Chain]]:
        """Chains for ``Engine.set_rules``, by table."""
        from dataplane._core import Chain

        return {
            table: [
                Chain(name, chain.policy, [m for e in chain.entries for m in compile_rule(e.rule, self.family, e.origin)])
                for name, chain in chains.items()
            ]
            for table, chains in self._tables.items()
        }

    # ---- looked at
    def names(self) -> list[str]:
        """The tables that exist."""
        return list(self._tables)

    def policies(self, table: str) -> list[tuple[str, str]]:
        """The chains of a table in order, each with its policy ("" for a user chain)."""
        return [(name, chain.policy) for name, chain in self._table(table).items()]

    def entries(self, table: str, chain: str) -> list[tuple[Rule, int]]:
        """The rules of a chain, each with its origin."""
        return [(entry.rule, entry.origin) for entry in self._chain(table, chain).entries]

    # ---- helpers
    def _table(self, table: str) -> dict[str, _Chain]:
        if table not in BUILT_IN:
            raise InputError(f"unknown table {table!r}; known: {', '.join(BUILT_IN)}")
        return self._tables.setdefault(table, {name: _Chain("ACCEPT") for name in BUILT_IN[table]})

    def _chain(self, table: str, chain: str) -> _Chain:
        found = self._table(table).get(chain)
        if found is None:
            raise InputError(f"no chain {chain!r} in table {table}")
        return found

    def _set_policy(self, chains: dict[str, _Chain], chain: str, policy: str) -> None:
        if chain not in chains or not chains[chain].policy:
            raise InputError(f"{chain!r} is not a built-in chain: it has no policy")
        if policy not in _POLICIES:
            raise InputError(f"policy of chain {chain} must be ACCEPT or DROP, not {policy!r}")
        chains[chain].policy = policy

    def _entry(self, table: str, rule_text: str, origin: int) -> _Entry:
        rule = parse_rule(rule_text, self.family)
        target = rule.target.name if rule.target else ""
        if target and target not in TARGETS and (target not in self._table(table) or target in BUILT_IN[table]):
            raise InputError(f"no target or user chain {target!r} in table {table}, in rule: {rule_text}")
        if _TARGET_TABLE.get(target, table) != table:
            raise InputError(f"target {target} belongs into table {_TARGET_TABLE[target]}, not {table}, in rule: {rule_text}")
        return _Entry(rule, origin)


class _CommandLine(NamedTuple):
    table: str
    action: str
    arguments: list[str]


_ACTIONS = {
    "--append": "-A", "--insert": "-I", "--delete": "-D", "--new-chain": "-N", "--delete-chain": "-X", "--flush": "-F", "--policy": "-P",
}  # fmt: skip


def _take_table(words: list[str]) -> _CommandLine:
    """Split the words of a command: the table, what to do, and the chain with what follows it."""
    table, action, rest = "filter", "", []
    position = 0
    while position < len(words):
        word = _ACTIONS.get(words[position], words[position])
        if word in ("-t", "--table"):
            if position + 1 == len(words):
                raise InputError(f"{word} needs a table")
            table = words[position + 1]
            position += 2
            continue
        if word in _ACTIONS.values() and not action:
            action = word
        elif word not in ("-w", "--wait"):
            rest.append(words[position])
        position += 1
    if not action:
        raise InputError(f"no command that is known here ({' '.join(_ACTIONS.values())}) in: {' '.join(words)}")
    return _CommandLine(table, action, rest)


def _requoted(word: str) -> str:
    """A word so that ``split_words`` gives it back."""
    if re.fullmatch(r'[^\s"\\]+', word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
