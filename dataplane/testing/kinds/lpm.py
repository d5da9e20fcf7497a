"""Case kinds ``route_table`` and ``invalid_input``: prefixes as people write them, against the packet path's own table.

Lookups and exact matches are answered by ``dataplane._lpm``, next hops of addresses by its fast table as in a FIB of many routes;
``covered`` and ``covering``, which no packet asks, by its Python twin, which is fed the same operations.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dataplane._lpm import Lpm
from dataplane.testing.twins.lpm import LpmTwin

Prefix = tuple[int, bytes, int]  # family, address in network byte order, length


def parse_prefix(text: str) -> Prefix:
    """``ADDRESS/LENGTH`` or ``ADDRESS`` (one host) of either family; host bits may be set. ValueError: anything else."""
    address_text, slash, length_text = text.partition("/")
    address = ip_address(address_text)
    if "%" in address_text:
        raise ValueError(f"{text!r}: an address with a zone is not a route")
    if not slash:
        return address.version, address.packed, address.max_prefixlen
    if not (length_text.isascii() and length_text.isdigit()) or int(length_text) > address.max_prefixlen:
        raise ValueError(f"{text!r}: the length must be 0 to {address.max_prefixlen}")
    return address.version, address.packed, int(length_text)


def _text(prefix: tuple[bytes, int, int] | None) -> str | None:
    return None if prefix is None else f"{ip_address(prefix[0])}/{prefix[1]}"


class _RouteTable:
    """Both families behind the words of the cases; next hops become the 32-bit values of the table."""

    def __init__(self) -> None:
        self._fast = {family: Lpm(family, fast_from=1) for family in (4, 6)}
        self._twin = {family: LpmTwin(family) for family in (4, 6)}
        self._next_hops: list[Any] = []

    def _next_hop(self, value: int | None) -> Any:
        return None if value is None else self._next_hops[value]

    def add(self, op: dict[str, Any]) -> None:
        family, address, length = parse_prefix(op["prefix"])
        self._next_hops.append(op["next_hop"])
        self._fast[family].insert(address, length, len(self._next_hops) - 1)
        self._twin[family].insert(address, length, len(self._next_hops) - 1)

    def delete(self, op: dict[str, Any]) -> bool:
        family, address, length = parse_prefix(op["prefix"])
        self._twin[family].delete(address, length)
        return self._fast[family].delete(address, length)

    def clear(self) -> None:
        for family in (4, 6):
            self._fast[family].clear()
            self._twin[family].clear()

    def lookup(self, op: dict[str, Any]) -> Any:
        family, address, length = parse_prefix(op["addr"])
        if "expect_prefix" not in op and length == len(address) * 8:
            return self._next_hop(self._fast[family].lookup(address))
        found = self._fast[family].lookup_prefix(address, length)
        return _text(found) if "expect_prefix" in op else self._next_hop(found and found[2])

    def exact(self, op: dict[str, Any]) -> Any:
        family, address, length = parse_prefix(op["prefix"])
        return self._next_hop(self._fast[family].exact(address, length))

    def covered(self, op: dict[str, Any]) -> list[str | None]:
        family, address, length = parse_prefix(op["prefix"])
        return [_text(prefix) for prefix in self._twin[family].covered(address, length)]

    def covering(self, op: dict[str, Any]) -> list[str | None]:
        family, address, length = parse_prefix(op["prefix"])
        return [_text(prefix) for prefix in self._twin[family].covering(address, length)]


def _run_op(table: _RouteTable, op: dict[str, Any]) -> tuple[Any, Any]:
    """Carry out one operation; what came out and what was expected, equal for an operation without expectation."""
    match op["op"]:
        case "add":
            table.add(op)
        case "clear":
            table.clear()
        case "delete":
            found = table.delete(op)
            return found, op.get("expect_found", found)
        case "lookup":
            return table.lookup(op), op["expect_prefix"] if "expect_prefix" in op else op["expect"]
        case "exact":
            return table.exact(op), op["expect"]
        case "covered":
            return sorted(map(str, table.covered(op))), sorted(op["expect"])  # a set: the sources print it in different orders
        case "covering":
            return table.covering(op), op["expect"]
        case other:
            raise ValueError(f"unknown operation {other!r}")
    return None, None


def _run_route_table(case: dict[str, Any]) -> list[str]:
    failures = []
    table = _RouteTable()
    for number, op in enumerate(case["ops"], 1):
        subject = op.get("prefix", op.get("addr", ""))
        try:
            got, wanted = _run_op(table, op)
        except ValueError as error:
            failures.append(f"op {number} {op['op']} {subject}: {error}")
            continue
        if got != wanted:
            failures.append(f"op {number} {op['op']} {subject}: expected {wanted!r}, got {got!r}")
    return failures


def _run_invalid_input(case: dict[str, Any]) -> list[str]:
    failures = []
    for text in case["rejected"]:
        try:
            family, address, length = parse_prefix(text)
            Lpm(family).insert(address, length, 0)
        except ValueError:
            continue
        failures.append(f"prefix {text!r} was accepted")
    return failures


def run(case: dict[str, Any], path: Path) -> list[str]:
    """Run one case of kind ``route_table`` or ``invalid_input``; one line for each difference, none if it passed."""
    return _run_invalid_input(case) if case["kind"] == "invalid_input" else _run_route_table(case)
