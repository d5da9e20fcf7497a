"""One packet's steps: what the core recorded of it, in the order it happened, put into words and compared step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from dataplane.capture.dissect import dissect
from dataplane.capture.headers import bare_ip_version
from dataplane.capture.layer import Layer
from dataplane.control.firewall import NumberedRule, numbered_rules
from dataplane.control.topology import Topology
from dataplane.k8s.objects import Origin
from dataplane.traffic.packets import checksum

if TYPE_CHECKING:
    from dataplane._core import DropReason, Event, Match

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD


class Change(NamedTuple):
    """What became of a field, or of a whole header (``field`` "header": "" before it is put on, "" after it is taken off)."""

    layer: str  # "IPv4", "inner TCP"
    field: str
    before: str
    after: str


class MatchedRule(NamedTuple):
    """A netfilter rule that matched."""

    chain: str
    target: str  # ACCEPT, DNAT, a chain's name, ...; "counted": none
    is_jump: bool  # ``target`` is another chain
    built_in: bool  # ``chain`` is a hook's own
    text: str  # what it does, with its comment


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to the packet."""

    order: int  # rises over all steps of a walk
    time: int  # virtual nanoseconds
    packet: int
    namespace: int
    device: int  # -1: none
    stage: str  # "in", "out": seen on the device; "drop"; else the core's stage
    what: str
    text: str
    origin: Origin | None
    data: bytes  # the frame, or the IP packet where it has no link header (yet)
    ethertype: int  # 0: ``data`` begins with an Ethernet header
    changes: tuple[Change, ...] = ()
    rule: MatchedRule | None = None


def link_type(data: bytes) -> int:
    """0 for a frame, the EtherType for a bare IP packet.

    A bare IPv4 packet is known by a header checksum that holds, a bare IPv6 packet by its length: no MAC address begins with either.
    """
    header = data[: 4 * (data[0] & 0xF)] if data else b""
    if len(header) >= 20 and data[0] >> 4 == 4 and checksum(header) == 0:
        return ETHERTYPE_IPV4
    return ETHERTYPE_IPV6 if bare_ip_version(data) == 6 else 0


# ---- what changed


def changes(before: Step | None, data: bytes, ethertype: int) -> tuple[Change, ...]:
    """The fields that differ from the step before; checksums and lengths follow from the rest and are left out."""
    if before is None or (before.data, before.ethertype) == (data, ethertype):
        return ()
    old, new = _headers(before.data, before.ethertype), _headers(data, ethertype)
    found = []
    if len(new) > len(old):
        found += [Change(layer.name, "header", "", _head(layer)) for layer in new[: len(new) - len(old)]]
    elif len(old) > len(new):
        found += [Change(layer.name, "header", _head(layer), "") for layer in old[: len(old) - len(new)]]
    common = min(len(old), len(new))
    for left, right in zip(old[len(old) - common :], new[len(new) - common :], strict=True):
        found += _field_changes(left, right)
    return tuple(found)


def encapsulated(before: Step | None, data: bytes, ethertype: int) -> tuple[Change, ...]:
    """As ``changes``, for a packet that was put into a tunnel: one that hides it, as by encryption, shows only its own headers."""
    if before is None or _shows(_headers(data, ethertype), _headers(before.data, before.ethertype)):
        return changes(before, data, ethertype)
    return tuple(Change(layer.name, "header", "", _head(layer)) for layer in _headers(data, ethertype))


def decapsulated(before: Step | None, data: bytes, ethertype: int) -> tuple[Change, ...]:
    """As ``changes``, for a packet that was taken out of a tunnel."""
    if before is None or _shows(_headers(before.data, before.ethertype), _headers(data, ethertype)):
        return changes(before, data, ethertype)
    return tuple(Change(layer.name, "header", _head(layer), "") for layer in _headers(before.data, before.ethertype))


def _shows(outer: list[Layer], inner: list[Layer]) -> bool:
    """Whether the headers of a tunnel's packet end with those of the packet inside."""
    names = [layer.name for layer in outer if layer.where or layer.name not in ("Ethernet", "802.1Q")]
    wanted = [layer.name for layer in inner]
    return len(names) > len(wanted) and names[-len(wanted) :] == wanted


_FOLLOWS = {"checksum", "header checksum", "total length", "payload length", "length", "data"}


def _headers(data: bytes, ethertype: int) -> list[Layer]:
    return [
        layer for layer in dissect(data, ethertype=ethertype) if layer.name not in ("Payload", "Trailer") and "quoted" not in layer.where
    ]


def _head(layer: Layer) -> str:
    """What matters of a header that is put on or taken off."""
    shown = [f"{name} {layer.text(name)}" for name in ("source", "destination", "destination port", "vni") if layer.text(name)]
    return ", ".join(shown) or "present"


def _field_changes(before: Layer, after: Layer) -> list[Change]:
    if before.name != after.name:
        return [Change(after.name, "header", before.name, after.name)]
    pairs = zip(before.fields, after.fields, strict=False)
    return [
        Change(f"{after.where}{after.name}", right.name, left.text, right.text)
        for left, right in pairs
        if left.name == right.name and left.text != right.text and left.name not in _FOLLOWS
    ]


# ---- words


class Words:
    """Texts of events and drops."""

    def __init__(self, topology: Topology, reasons: list[DropReason]) -> None:
        self._topology = topology
        self._reasons = reasons
        self._rules: dict[tuple[int, int, str], Callable[[int], NumberedRule]] = {}

    def reason(self, number: int) -> DropReason:
        return self._reasons[number]

    def event(self, event: Event) -> tuple[str, str, MatchedRule | None]:
        """What it is about, and a sentence: the core's own, but for rules, of which it knows only the number."""
        if event.what != "rule":
            return event.what, event.detail, None
        table, _, number = event.detail.partition(" ")
        rule = self._rule(event, table, int(number))
        return table, f"{rule.chain}: {rule.text}", rule

    def _rule(self, event: Event, table: str, number: int) -> MatchedRule:
        family = 6 if link_type(event.data) == ETHERTYPE_IPV6 or event.data[12:14] == b"\x86\xdd" else 4
        key = (event.namespace, family, table)
        if key not in self._rules:
            self._rules[key] = numbered_rules(self._topology, *key)
        return _matched(self._rules[key](number))


def _matched(rule: NumberedRule) -> MatchedRule:
    match, target = rule.match, rule.match.get("target") or "counted"
    comment = f' "{match["comment"]}"' if match.get("comment") else ""
    return MatchedRule(rule.chain, target, rule.is_jump, rule.built_in, target_text(match) + comment)


def target_text(match: Match) -> str:
    """What a rule does, as ``iptables -L`` words it: ``DNAT to 10.244.1.6:8080``."""
    target = match.get("target") or "counted"
    if target == "MARK" and "set_mark" in match:
        value, mask = match["set_mark"]
        return f"MARK {'xor' if mask == 0 else 'set'} {value:#x}" + (f"/{mask:#x}" if mask not in (0, 0xFFFFFFFF) else "")
    if target == "REJECT":
        return "REJECT with a TCP reset" if match.get("reject_with") == 256 else "REJECT"
    if target in ("DNAT", "SNAT") and "to" in match:
        low, high, first, last = match["to"]
        return f"{target} to {_translated(low, high, first, last)}"
    if "probability" in match:
        return f"{target} (chance {match['probability']:.4g})"
    return target


def _translated(low: bytes, high: bytes, first: int, last: int) -> str:
    """``10.244.1.6:8080``, ``[fd00::6]:8080``, ``10.0.0.1-10.0.0.9:1024-2047``; either part may be missing."""
    address = str(ip_address(low)) + (f"-{ip_address(high)}" if high != low else "") if low else ""
    if not first:
        return address
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{first}" + (f"-{last}" if last != first else "")
