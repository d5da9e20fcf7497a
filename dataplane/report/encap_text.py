"""Encapsulations as text and JSON: what there is, what each takes, and what a packet's headers hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dataplane import _core
from dataplane.capture.dissect import summary
from dataplane.capture.headers_ip import PROTOCOLS
from dataplane.capture.tunnel import ETHERTYPE_TEB, LayerField, Outer, outer_fields
from dataplane.capture.tunnel_codec import Taken
from dataplane.encap.registry import ensure
from dataplane.report.tables import UNKNOWN, Listing, Row, layout

SCHEMA_VERSION = 1
_PROTO_UDP = 17
_INNER_NAMES = {ETHERTYPE_TEB: "Ethernet frame", 0x0800: "IPv4 packet", 0x86DD: "IPv6 packet"}


@dataclass(frozen=True, slots=True)
class Facts:
    """One encapsulation. What only a device with options can tell is None where an option must be given."""

    name: str
    sentence: str
    protocols: list[int]
    ethernet: bool | None
    port: int | None
    overhead: tuple[int, int] | None  # over IPv4 and IPv6


def facts(kind: str) -> Facts:
    """What the core knows of ``kind``. Raises InputError: nobody offers it."""
    ensure(kind)
    sentence, protocols = _core.encap_sentence(kind), _core.encap_protocols(kind)
    try:
        codec = _core.Codec(kind)
    except ValueError:
        return Facts(kind, sentence, protocols, None, None, None)
    return Facts(kind, sentence, protocols, codec.ethernet, codec.port, (codec.overhead(4), codec.overhead(6)))


def listing(kinds: Iterable[str]) -> Listing:
    """The table of ``dataplane encap list``; overheads are bytes with all headers, the outer IP header among them."""
    rows = []
    for found in map(facts, kinds):
        overhead = UNKNOWN if found.overhead is None else "{}/{}".format(*found.overhead)
        cells = (found.name, _carries(found), _over(found), overhead, found.sentence)
        rows.append(Row(found.name, cells, (), _facts_json(found)))
    return Listing("encapsulation", ("NAME", "CARRIES", "OVER", "OVERHEAD IPv4/IPv6", "WHAT IT IS"), (), rows)


def _carries(found: Facts) -> str:
    return UNKNOWN if found.ethernet is None else "Ethernet" if found.ethernet else "IP"


def _over(found: Facts) -> str:
    names = []
    for protocol in found.protocols:
        port = f" {found.port}" if protocol == _PROTO_UDP and found.port else ""
        names.append(PROTOCOLS.get(protocol, str(protocol)) + port)
    return ", ".join(names)


def _facts_json(found: Facts) -> dict[str, Any]:
    return {
        "name": found.name,
        "sentence": found.sentence,
        "ipProtocols": found.protocols,
        "ethernet": found.ethernet,
        "udpPort": found.port or None,
        "overhead": None if found.overhead is None else {"ipv4": found.overhead[0], "ipv6": found.overhead[1]},
    }


def _reasons(kind: str) -> list[_core.DropReason]:
    return [reason for reason in _core.drop_reasons() if reason.name.startswith(f"{kind}/")]


def show_json(kind: str) -> dict[str, Any]:
    """All of one encapsulation, for programs."""
    document = {"schema": "dataplane.encap.show", "version": SCHEMA_VERSION, **_facts_json(facts(kind))}
    options = [{"key": option.key, "default": option.default or None, "sentence": option.sentence} for option in _core.encap_options(kind)]
    reasons = [{"name": reason.name, "sentence": reason.sentence, "linux": reason.linux or None} for reason in _reasons(kind)]
    return document | {"options": options, "dropReasons": reasons}


def show_text(kind: str) -> str:
    """All of one encapsulation, for people."""
    found = facts(kind)
    lines = [f"{kind}: {found.sentence}", "", f"Carries:  {_carries(found)}", f"Over:     {_over(found)}"]
    if found.overhead is not None:
        lines.append("Overhead: {} bytes over IPv4, {} over IPv6, the outer IP header included".format(*found.overhead))
    options = [(option.key, option.default or "must be given", option.sentence) for option in _core.encap_options(kind)]
    reasons = [(reason.name, reason.linux or "-", reason.sentence) for reason in _reasons(kind)]
    text = "\n".join(lines) + "\n"
    if options:
        text += "\n" + layout([("OPTION", "DEFAULT", "MEANING"), *options])
    if reasons:
        text += "\n" + layout([("DROP REASON", "LINUX", "MEANING"), *reasons])
    return text


def sentence_of(reason: str) -> str:
    """``<stage>/<fact>: what it means``, as the core's table of drop reasons has it."""
    return next((f"{reason}: {found.sentence}" for found in _core.drop_reasons() if found.name == reason), reason)


@dataclass(frozen=True, slots=True)
class Shown:
    """One outer packet taken apart, and what it was taken for."""

    number: int
    kind: str
    outer: Outer
    taken: Taken

    @property
    def fields(self) -> list[LayerField]:
        """Of all layers down to the inner packet, outermost first."""
        return outer_fields(self.outer) + self.taken.fields


def shown_text(shown: Shown) -> str:
    """A line per layer, outermost first, then the inner packet in a line and its bytes."""
    lines = [f"packet {shown.number}: {shown.kind}"]
    values: dict[str, list[str]] = {}
    for layer, name, value in shown.fields:
        values.setdefault(layer, []).append(f"{name} {value.hex() if isinstance(value, bytes) else value}")
    lines += [f"  {layer}: {', '.join(texts)}" for layer, texts in values.items()]
    inner, protocol = shown.taken.inner, shown.taken.inner_protocol
    if protocol:
        name = _INNER_NAMES.get(protocol, f"EtherType 0x{protocol:04x}")
        text = summary(inner, ethertype=0 if protocol == ETHERTYPE_TEB else protocol)
        lines += [f"  inner: {name}, {len(inner)} bytes: {text}", f"  {inner.hex()}"]
    return "".join(f"{line}\n" for line in lines)


def shown_json(shown: Shown) -> dict[str, Any]:
    """The same for programs; bytes are hexadecimal."""
    fields = [
        {"layer": layer, "name": name, "value": value.hex() if isinstance(value, bytes) else value} for layer, name, value in shown.fields
    ]
    accepted = shown.taken.inner_protocol != 0
    return {
        "number": shown.number,
        "encapsulation": shown.kind,
        "fields": fields,
        "inner": shown.taken.inner.hex() if accepted else None,
        "innerProtocol": shown.taken.inner_protocol if accepted else None,
        "dropReason": shown.taken.reason,
    }
