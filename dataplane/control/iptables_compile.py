"""From parsed rules to the matches of the compiled core.

One rule becomes one ``Match``, or several that exclude each other where the core has no word for it:
a list of ports (multiport) and an inverted test of TCP flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from dataplane.control import iptables_values as values
from dataplane.control.iptables_parse import TARGETS, Option, Rule

if TYPE_CHECKING:
    from dataplane._core import Match

_Fields = dict[str, Any]
_COUNT_ONLY = ("LOG", "NFLOG")  # they let the packet go on


def compile_rule(rule: Rule, family: int, origin: int) -> list[Match]:
    """The matches that stand for one rule, in order; at most one of them matches a packet. ``origin``: see the core's stub."""
    fields: _Fields = {}
    alternatives: list[list[_Fields]] = []
    for option in (*rule.general, *(option for match in rule.matches for option in match.options)):
        if option.name in ("--sports", "--dports"):
            alternatives.append(_ports(option))
        elif option.name == "--tcp-flags" and option.inverted:
            alternatives.append(_other_flags(option))
        else:
            _FIELDS[option.name](fields, option, family)
    if any(match.name == "recent" for match in rule.matches):
        _recent(fields, {option.name: option for match in rule.matches if match.name == "recent" for option in match.options})
    fields.update(_target(rule, family))
    fields["origin"] = origin
    return [cast("Match", fields | _merged(choice)) for choice in product(*alternatives)]


def _merged(choice: tuple[_Fields, ...]) -> _Fields:
    merged: _Fields = {}
    for part in choice:
        merged |= part
    return merged


# ---- matches


def _plain(key: str, read: Callable[[str, int], Any]) -> Callable[[_Fields, Option, int], None]:
    def put(fields: _Fields, option: Option, family: int) -> None:
        fields[key] = read(option.values[0], family)
        if option.inverted:
            fields[key + "_not"] = True

    return put


def _prefix(word: str, family: int) -> tuple[bytes, int]:
    address, _, length = word.partition("/")
    packed, _, _, _ = values.nat_bounds(address, family)
    return packed, int(length)


def _states(word: str, family: int) -> int:
    return _bits("CT_", word)


def _address_types(word: str, family: int) -> int:
    return _bits("ADDR_", word)


def _bits(prefix: str, word: str) -> int:
    from dataplane import _core

    bits = 0
    for name in word.split(","):
        bits |= getattr(_core, prefix + name)
    return bits


def _icmp(word: str, family: int) -> tuple[int, int, int]:
    kind, slash, code = word.partition("/")
    return (int(kind), int(code), int(code)) if slash else (int(kind), 0, 255)


def _icmp_type(fields: _Fields, option: Option, family: int) -> None:
    if option.values[0] != values.ICMP_ANY:
        fields["icmp_type"] = _icmp(option.values[0], family)


def _flag_bits(word: str) -> int:
    return 0 if word == "NONE" else sum(values.TCP_FLAGS[name] for name in word.split(","))


def _tcp_flags(fields: _Fields, option: Option, family: int) -> None:
    fields["tcp_flags"] = (_flag_bits(option.values[0]), _flag_bits(option.values[1]))


def _other_flags(option: Option) -> list[_Fields]:
    mask, wanted = _flag_bits(option.values[0]), _flag_bits(option.values[1])
    return [{"tcp_flags": (mask, other)} for other in range(64) if other & ~mask == 0 and other != wanted]


def _ports(option: Option) -> list[_Fields]:
    ranges = _joined(sorted(values.port_bounds(word) for word in option.values[0].split(",")))
    if option.inverted:
        ranges = _gaps(ranges)
    return [{option.name[2:-1]: bounds} for bounds in ranges]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that do not overlap: a packet must not meet the same rule twice."""
    joined = [ranges[0]]
    for low, high in ranges[1:]:
        if low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined


def _gaps(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    edges = [-1, *(edge for bounds in ranges for edge in bounds), 65536]
    return [(low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True) if low + 1 < high]


def _fragment(fields: _Fields, option: Option, family: int) -> None:
    fields["fragment"] = True


def _elsewhere(fields: _Fields, option: Option, family: int) -> None:
    """Options that ``_recent`` reads together, or that have one value only."""


def _recent(fields: _Fields, options: Mapping[str, Option]) -> None:
    seconds = int(options["--seconds"].values[0]) if "--seconds" in options else 0
    action = next(name for name in ("--set", "--rcheck", "--update", "--remove") if name in options)
    fields["recent"] = (action[2:], options["--name"].values[0], seconds, "--reap" in options)
    if options[action].inverted:
        fields["recent_not"] = True


_FIELDS: Mapping[str, Callable[[_Fields, Option, int], None]] = {
    "-s": _plain("src", _prefix),
    "-d": _plain("dst", _prefix),
    "-i": _plain("iif", lambda word, family: word),
    "-o": _plain("oif", lambda word, family: word),
    "-p": _plain("proto", lambda word, family: values.protocol_number(word)),
    "-f": _fragment,
    "--comment": _plain("comment", lambda word, family: word),
    "--sport": _plain("sport", lambda word, family: values.port_bounds(word)),
    "--dport": _plain("dport", lambda word, family: values.port_bounds(word)),
    "--tcp-flags": _tcp_flags,
    "--icmp-type": _icmp_type,
    "--icmpv6-type": _icmp_type,
    "--ctstate": _plain("ctstate", _states),
    "--state": _plain("ctstate", _states),
    "--src-type": _plain("src_type", _address_types),
    "--dst-type": _plain("dst_type", _address_types),
    "--mark": _plain("mark", lambda word, family: values.split_mark(word)),
    "--mode": _elsewhere,
    "--probability": _plain("probability", lambda word, family: values.probability_share(word) / values.PROBABILITY_UNIT),
    **dict.fromkeys(("--set", "--rcheck", "--update", "--remove", "--seconds", "--reap", "--name", "--mask", "--rsource"), _elsewhere),
}


# ---- targets


def _target(rule: Rule, family: int) -> _Fields:
    if rule.target is None or rule.target.name in _COUNT_ONLY:
        return {"target": ""}
    options = {option.name: option for option in rule.target.options}
    fields: _Fields = {"target": rule.target.name}
    if rule.target.name not in TARGETS and rule.goto:
        fields["goto"] = True
    for name, option in options.items():
        fields.update(_TARGET_FIELDS[name](option, family))
    return fields


def _nat(option: Option, family: int) -> _Fields:
    return {"to": values.nat_bounds(option.values[0], family)}


def _nat_ports(option: Option, family: int) -> _Fields:
    low, _, high = option.values[0].partition("-")
    return {"to": (b"", b"", int(low), int(high or low))}


_TARGET_FIELDS: Mapping[str, Callable[[Option, int], _Fields]] = {
    "--reject-with": lambda option, family: {"reject_with": values.REJECT_CODES[family][option.values[0]]},
    "--set-xmark": lambda option, family: {"set_mark": values.split_mark(option.values[0])},
    "--to-destination": _nat,
    "--to-source": _nat,
    "--to-ports": _nat_ports,
    "--random": lambda option, family: {"random": True},
    "--random-fully": lambda option, family: {"random": True},
    "--persistent": lambda option, family: {"persistent": True},
}
