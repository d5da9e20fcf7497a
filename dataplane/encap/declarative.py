"""Encapsulations without code: a header template and a list of its computed fields, which the core carries out by itself.

The template is a Scapy packet or plain bytes: everything between the outer IP header and the inner packet. What no field computes
is written as it stands there, and must be received so. The header of a kind carried in UDP begins with the UDP header; its ports,
length and checksum are the core's, as for the built-in kinds: destination port from the template, source port from the inner flow.
All integers are in network byte order on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dataplane.encap.python_plugin import ETHERTYPE_TEB, PROTOCOL_UDP
from dataplane.errors import InputError
from dataplane.scapy_border import template_fields

if TYPE_CHECKING:
    from dataplane.scapy_border import Buildable

UDP_HEADER_LENGTH = 8
ETHERTYPE_LOWEST = 0x600
_PROTOCOLS_BY_LAYER = {"UDP": PROTOCOL_UDP, "GRE": 47}  # IP protocols of templates that begin with these layers of Scapy
_KIND_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_BITS_MOST = 32
_PLUS_MOST = 0xFFFF


class Bits(NamedTuple):
    """A place in the header: ``bits`` (1 to 32) from byte ``byte`` on, of which the ``skip`` most significant bits are not part."""

    byte: int
    bits: int
    skip: int = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the value of a field comes from. ``at``: its place, where the template is bytes or its name is none of Scapy's."""

    at: Bits | None = None


@dataclass(frozen=True, kw_only=True)
class Constant(Source):
    """As in the template, and wanted so when received; it only gets a name, for those who read headers."""


@dataclass(frozen=True, kw_only=True)
class Ignored(Source):
    """Written as in the template; when received it may be anything."""


@dataclass(frozen=True, kw_only=True)
class Option(Source):
    """A number that each device may configure by the option ``key``; by default as in the template. Another one is refused."""

    key: str
    sentence: str  # what it is, for people to read; the range is added


@dataclass(frozen=True, kw_only=True)
class Identifier(Source):
    """The number that tells devices apart (VNI, key): option ``key``, by default as in the template, unless a route asks for another.

    A packet with another one is left to other devices.
    """

    key: str = "id"


@dataclass(frozen=True, kw_only=True)
class InnerProtocol(Source):
    """What is inside: its EtherType, or the number that ``values`` has for that. Only kinds of IP packets have such a field.

    Without it the version of the inner packet decides, and IPv4 and IPv6 are carried.
    """

    values: Mapping[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Length(Source):
    """Bytes from byte ``start`` of the header (None: the first, or the first behind UDP's) to the end of the packet, plus ``plus``.

    A received packet is cut to this length.
    """

    start: int | None = None
    plus: int = 0


@dataclass(frozen=True, kw_only=True)
class FlowHash(Source):
    """A hash of the inner flow, the same in both directions, scaled to the field; when received it may be anything."""


@dataclass(frozen=True, kw_only=True)
class Checksum(Source):
    """The Internet checksum (RFC 1071) over what ``Length`` counts, or over the header's part of that."""

    start: int | None = None
    header_only: bool = False


class Row(NamedTuple):
    """One field as the compiled table holds it."""

    name: str
    source: int
    offset: int
    size: int
    shift: int
    most: int
    option: str
    start: int
    plus: int
    header_only: bool
    mask: int  # its bits in the header, which is one integer in network byte order


# As in ext/encap/field_table.pxd.
_SOURCES: dict[type[Source], int] = {
    Constant: 0, Ignored: 0, Option: 1, Identifier: 2, InnerProtocol: 3, Length: 4, FlowHash: 5, Checksum: 6,
}  # fmt: skip
_RECEIVED_AS_WRITTEN = (Constant, Option)
_COMPUTED = (Length, InnerProtocol, FlowHash, Checksum)
_IN_ORDER = (Identifier, *_COMPUTED)  # identifiers first: nothing is changed of a packet for others


@dataclass
class Declarative:
    """One encapsulation; its ``capsule`` is what the core takes. InputError: the description is wrong.

    ``fields``: by name, ``LAYER.field`` of a Scapy template or any other with ``at``. ``ip_protocol``: of the outer header, known
    for templates that begin with UDP or GRE. ``ethernet``: inner packets are Ethernet frames, not IP packets. ``defaults``:
    of the options that all kinds share, such as ttl, df or udp_checksum (``dataplane encap show`` lists them).
    """

    name: str
    sentence: str
    header: Buildable | bytes
    fields: Mapping[str, Source] = field(default_factory=dict)
    ip_protocol: int | None = None
    ethernet: bool = False
    defaults: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from dataplane._declarative_encap import compiled

        try:
            self.capsule: object = compiled(_described(self))
        except (InputError, ValueError) as error:
            raise InputError(f"encapsulation {self.name}: {error}") from error


class Described(NamedTuple):
    """A description that has been checked, as ``dataplane._declarative_encap`` takes it."""

    name: str
    sentence: str
    ip_protocol: int
    ethernet: bool
    header: bytes
    fixed: bytes  # the header's bits that must be received as they are written
    rows: list[Row]  # in the order of the header
    computed: list[int]  # places in ``rows``
    protocols: list[tuple[int, int]] | None
    defaults: dict[str, int]
    help: dict[str, tuple[str, str]]  # by option: its sentence and its default


def _described(given: Declarative) -> Described:
    _check_texts(given)
    header, masks, layer = template_fields(given.header, [name for name, source in given.fields.items() if source.at is None])
    protocol = given.ip_protocol if given.ip_protocol is not None else _PROTOCOLS_BY_LAYER.get(layer)
    own = _own_part(header, protocol)
    rows = [_row(name, source, masks.get(name), header, own) for name, source in given.fields.items()]
    sources = dict(zip(rows, given.fields.values(), strict=True))
    rows.sort(key=lambda row: -row.mask)
    _check_places(rows, header, own)
    _check_checksums(rows, sources)
    free = [row for row in rows if not isinstance(sources[row], _RECEIVED_AS_WRITTEN)]
    return Described(
        name=given.name,
        sentence=given.sentence,
        ip_protocol=protocol or 0,
        ethernet=given.ethernet,
        header=_cleared(header, [row for row in rows if isinstance(sources[row], _COMPUTED)]),
        fixed=_cleared(bytes(own) + b"\xff" * (len(header) - own), free),
        rows=rows,
        computed=_order(rows, sources),
        protocols=_protocols(given, rows, sources),
        defaults=_checked_defaults(given.defaults, protocol == PROTOCOL_UDP),
        help=_help(rows, sources, header, protocol == PROTOCOL_UDP),
    )


def _check_texts(given: Declarative) -> None:
    if not _KIND_NAME.fullmatch(given.name):
        raise InputError("a name is lower snake case of at most 32 characters")
    if not given.sentence or "\n" in given.sentence or "\0" in given.sentence:
        raise InputError("sentence must be one line that says what it is")
    for name, source in given.fields.items():
        if type(source) not in _SOURCES:
            raise InputError(f"field {name}: {source!r} is no source of a value, such as Identifier()")


def _own_part(header: bytes, protocol: int | None) -> int:
    """Where the kind's own header begins: behind UDP's, if it has one."""
    from dataplane._declarative_encap import LIMITS

    if protocol is None:
        raise InputError("give ip_protocol, the protocol number in the outer IP header")
    if not 0 < protocol < 256:
        raise InputError(f"ip_protocol {protocol} is not from 1 to 255")
    own = UDP_HEADER_LENGTH if protocol == PROTOCOL_UDP else 0
    if not max(own, 1) <= len(header) <= LIMITS["header"]:
        raise InputError(f"the template has {len(header)} bytes: write {max(own, 1)} to {LIMITS['header']}")
    if own and not any(header[2:4]):
        raise InputError("the destination port in the template's UDP header is 0")
    return own


def _row(name: str, source: Source, mask: int | None, header: bytes, own: int) -> Row:
    total = 8 * len(header)
    if source.at is not None:
        mask = _mask(name, source.at, total)
    if not mask:
        raise InputError(f"field {name}: it is not in the template")
    low = (mask & -mask).bit_length() - 1
    most = mask >> low
    if most & (most + 1) or most.bit_length() > _BITS_MOST:
        raise InputError(f"field {name}: takes 1 to {_BITS_MOST} bits that follow each other")
    offset = (total - mask.bit_length()) // 8
    start, plus, header_only = own, 0, False
    if isinstance(source, Length | Checksum):
        start = own if source.start is None else source.start
        if not own <= start < len(header):
            raise InputError(f"field {name}: start {start} is not from {own} to {len(header) - 1}")
    if isinstance(source, Length):
        plus = source.plus
        if abs(plus) > _PLUS_MOST:
            raise InputError(f"field {name}: plus {plus} is not from -{_PLUS_MOST} to {_PLUS_MOST}")
    if isinstance(source, Checksum):
        header_only = source.header_only
    option = source.key if isinstance(source, Option | Identifier) else ""
    shown = name.rpartition(".")[2]
    if not _FIELD_NAME.fullmatch(shown) or (option and not _KIND_NAME.fullmatch(option)):
        raise InputError(f"field {name}: names are letters, digits and _, those of options in lower case")
    size = (total - low - 1) // 8 - offset + 1
    return Row(shown, _SOURCES[type(source)], offset, size, low % 8, most, option, start, plus, header_only, mask)


def _mask(name: str, at: Bits, total: int) -> int:
    first = 8 * at.byte + at.skip
    if at.byte < 0 or not 0 <= at.skip < 8 or not 0 < at.bits <= _BITS_MOST or first + at.bits > total:
        raise InputError(f"field {name}: {at} is not inside the template of {total // 8} bytes")
    return ((1 << at.bits) - 1) << (total - first - at.bits)


def _check_places(rows: list[Row], header: bytes, own: int) -> None:
    from dataplane._declarative_encap import LIMITS

    if len(rows) > LIMITS["fields"]:
        raise InputError(f"{len(rows)} fields are more than {LIMITS['fields']}")
    taken = 0
    for row in rows:
        if row.mask & taken:
            raise InputError(f"field {row.name}: overlaps another field")
        taken |= row.mask
    for names in ([row.name for row in rows], [row.option for row in rows if row.option]):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"two fields have the name or option {twice[0]}")
    for row in rows:
        if row.offset < own:
            raise InputError(f"field {row.name}: the UDP header is written by the core: leave it out")


def _check_checksums(rows: list[Row], sources: Mapping[Row, Source]) -> None:
    for row in rows:
        fits = row.most == 0xFFFF and not row.shift and row.offset >= row.start and (row.offset - row.start) % 2 == 0
        if isinstance(sources[row], Checksum) and not fits:
            raise InputError(f"field {row.name}: a checksum has 16 bits, an even number of bytes behind its start")


def _cleared(header: bytes, rows: Iterable[Row]) -> bytes:
    """``header`` with zero bits where these fields are."""
    number = int.from_bytes(header, "big")
    for row in rows:
        number &= ~row.mask
    return number.to_bytes(len(header), "big")


def _order(rows: list[Row], sources: Mapping[Row, Source]) -> list[int]:
    """Identifiers first, checksums last and the innermost of them first."""

    def rank(place: int) -> tuple[int, int]:
        return _IN_ORDER.index(type(sources[rows[place]])), -rows[place].start

    return sorted((place for place, row in enumerate(rows) if isinstance(sources[row], _IN_ORDER)), key=rank)


def _protocols(given: Declarative, rows: list[Row], sources: Mapping[Row, Source]) -> list[tuple[int, int]] | None:
    """EtherTypes and their values; none: the field has the EtherType itself. None: there is no such field."""
    from dataplane._declarative_encap import LIMITS

    found = [(row, source) for row, source in sources.items() if isinstance(source, InnerProtocol)]
    for kind in (InnerProtocol, Identifier):
        if sum(isinstance(source, kind) for source in sources.values()) > 1:
            raise InputError(f"there are two fields of {kind.__name__}")
    if not found:
        return None
    ((row, source),) = found
    if given.ethernet:
        raise InputError(f"field {row.name}: an encapsulation of Ethernet frames carries nothing else, write its number into the template")
    if source.values is None:
        if row.most != 0xFFFF:
            raise InputError(f"field {row.name}: an EtherType has 16 bits: give values")
        return []
    values = list(source.values.items())
    if not 0 < len(values) <= LIMITS["protocols"] or len({value for _, value in values}) != len(values):
        raise InputError(f"field {row.name}: values has 1 to {LIMITS['protocols']} EtherTypes with numbers of their own")
    for ethertype, value in values:
        if not ETHERTYPE_LOWEST <= ethertype <= 0xFFFF or ethertype == ETHERTYPE_TEB or not 0 <= value <= row.most:
            raise InputError(f"field {row.name}: EtherType {ethertype:#06x} or its number {value} is out of range")
    return values


def _checked_defaults(defaults: Mapping[str, int], udp: bool) -> dict[str, int]:
    from dataplane._declarative_encap import LIMITS, shared_options

    known = [key for key in shared_options(udp) if key != "port"]  # the port stands in the template
    for key, value in defaults.items():
        if key not in known:
            raise InputError(f"defaults: {key} is none of {', '.join(known)}")
        if not isinstance(value, int) or abs(value) > 0xFFFFFFFF:
            raise InputError(f"defaults: {key} must be a number, not {value!r}")
    if len(defaults) > LIMITS["defaults"]:
        raise InputError(f"{len(defaults)} defaults are more than {LIMITS['defaults']}")
    return dict(defaults)


def _help(rows: list[Row], sources: Mapping[Row, Source], header: bytes, udp: bool) -> dict[str, tuple[str, str]]:
    from dataplane._declarative_encap import shared_options

    rows_of_help: dict[str, tuple[str, str]] = {}
    number = int.from_bytes(header, "big")
    for row in rows:
        if not row.option:
            continue
        if row.option in shared_options(udp):
            raise InputError(f"field {row.name}: {row.option} is an option that all encapsulations have")
        source = sources[row]
        sentence = source.sentence if isinstance(source, Option) else f"Field {row.name}, which tells devices apart"
        default = (number & row.mask) >> ((row.mask & -row.mask).bit_length() - 1)
        rows_of_help[row.option] = f"{sentence}, 0 to {row.most:#x}", str(default)
    return rows_of_help
