"""The iptables rules of a machine: as a listing, and as text that iptables-restore takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dataplane.control.firewall import firewall_of
from dataplane.control.iptables import IptablesTables
from dataplane.control.topology import Machine, Topology
from dataplane.errors import InputError
from dataplane.report.resources import place_of
from dataplane.report.tables import NONE, Listing, Row


class RuleLine(NamedTuple):
    """One rule: ``text`` is what stands after ``-A CHAIN``, ``origin`` the topology's number for the manifest line behind it."""

    table: str
    chain: str
    text: str
    origin: int


def tables_of(topology: Topology, machine: Machine, family: int) -> IptablesTables:
    """The machine's tables of family 4 or 6. InputError where it has no address of that family."""
    families = sorted({address.version for address in machine.addresses})
    if family not in families:
        known = " and ".join(map(str, families)) or "none"
        raise InputError(f"{machine.origin}: no IPv{family} address, so no rules of that family: choose {known}")
    return firewall_of(topology, machine.namespace)[family]


def rule_lines(tables: IptablesTables) -> Iterator[RuleLine]:
    """Every rule, in the order of iptables-save."""
    return (RuleLine(*line) for line in tables.lines())


def rules(topology: Topology, machines: Sequence[Machine], family: int | None) -> Listing:
    """The rules of ``machines`` for one family, or (None) for each family that they have an address of."""
    rows: list[Row] = []
    for machine in machines:
        for version in [family] if family else sorted({address.version for address in machine.addresses}):
            rows += _rows(topology, machine, version)
    return Listing("rule", ("MACHINE", "FAMILY", "TABLE", "CHAIN", "RULE"), ("ORIGIN",), rows)


def _rows(topology: Topology, machine: Machine, family: int) -> Iterator[Row]:
    numbers: dict[tuple[str, str], int] = {}
    for line in rule_lines(tables_of(topology, machine, family)):
        number = numbers[line.table, line.chain] = numbers.get((line.table, line.chain), 0) + 1
        origin = topology.origin(line.origin)
        source = place_of(origin) if origin else NONE
        data = {
            "kind": "Rule",
            "machine": machine.ref,
            "family": family,
            "table": line.table,
            "chain": line.chain,
            "number": number,
            "rule": line.text,
            "origin": source,
        }
        name = f"{machine.name}/{family}/{line.table}/{line.chain}/{number}"
        yield Row(name, (machine.name, f"IPv{family}", line.table, line.chain, line.text), (source,), data)


def save_text(topology: Topology, machine: Machine, family: int, *, origins: bool = False) -> str:
    """What ``iptables-save`` would print on the machine; ``origins``: with a comment line before each rule of a manifest."""
    tables = tables_of(topology, machine, family)
    if not origins:
        return tables.save_text()
    sources = [topology.origin(line.origin) for line in rule_lines(tables)]
    remaining = iter(sources)
    lines = []
    for line in tables.save_text().splitlines():
        source = next(remaining) if line.startswith("-A ") else None
        if source is not None:
            lines.append(f"# {' '.join(str(source).split())}")
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)
