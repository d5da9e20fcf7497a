"""``kind: Traffic`` documents (``apiVersion: dataplane/v1alpha1``): which flows go from where to where, how much and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dataplane.errors import InputError
from dataplane.k8s.fields import Fields, Subject, place, plain_address
from dataplane.k8s.objects import IPAddress, Manifests, Origin

API_VERSION = "dataplane/v1alpha1"
KIND = "Traffic"
KINDS = ("ping", "udp", "tcp")
ARRIVALS = ("constant", "poisson")
FAMILIES = ("IPv4", "IPv6")
FLOW_FIELDS = (
    *("name", "from", "to", "kind", "ipFamily", "port", "sourcePort", "count", "rate", "arrival", "start"),
    *("size", "requestBytes", "responseBytes", "timeout", "listen"),
)
_ONLY_FOR = {
    "size": ("ping",),
    "requestBytes": ("udp", "tcp"),
    "responseBytes": ("udp", "tcp"),
    "port": ("udp", "tcp"),
    "sourcePort": ("udp", "tcp"),
    "listen": ("udp", "tcp"),
    "timeout": ("ping", "udp"),
}

LEAST_HEADER = 16  # of dataplane.traffic.message
MOST_DATAGRAM = 65_507  # 65,535 less IPv4's and UDP's headers; IPv6 could carry 20 bytes more
MOST_STREAM = 1 << 30
MOST_COUNT = 10_000_000
MOST_RATE = 10**9  # virtual time has nanoseconds
MOST_MS = 7 * 24 * 3_600_000
_DEFAULT_BYTES = {"udp": (64, 64), "tcp": (100, 1000)}  # request, response
_MS = 1_000_000

_SOURCES = ("pod", "node", "host")
_TARGET = re.compile(r"(?:\[(?P<bracketed>[^]]+)\]|(?P<name>[^]:[]+))(?::(?P<port>.+))?")
_HOW_FROM = "write pod/NAMESPACE/NAME, node/NAME or host/NAME"
_HOW_TO = "write pod/NAMESPACE/NAME, service/NAMESPACE/NAME[:PORT], node/NAME, host/NAME, IP[:PORT] or [IPv6]:PORT"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object of the cluster: ``pod/NAMESPACE/NAME``, ``service/NAMESPACE/NAME``, ``node/NAME`` or ``host/NAME``."""

    kind: str
    key: str  # NAMESPACE/NAME, or NAME of what has no namespace

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow as written, defaults filled in. Times are virtual nanoseconds, sizes bytes of application data."""

    name: str
    kind: str  # ping | udp | tcp
    source: Reference
    target: Reference | IPAddress
    family: str | None  # IPv4 | IPv6; None: the target's first that the source has too
    port: int | str | None  # a str names a port of the service or pod; None: the only one it has
    source_port: int | None  # None: an ephemeral port for each request or connection
    count: int  # echo requests, datagrams or connections
    rate: Fraction  # of these, per second
    arrival: str  # constant | poisson
    start_ns: int
    request_bytes: int  # of a ping: the data of the echo request
    response_bytes: int  # 0: a datagram that is not answered
    timeout_ns: int  # how long an answer is waited for
    listen: bool  # False: nobody opens the port, and the target's own stack answers
    origin: Origin


@dataclass(frozen=True, slots=True)
class Traffic:
    """One document."""

    name: str
    flows: tuple[Flow, ...]
    origin: Origin


def is_traffic(data: Any) -> bool:
    """Whether a YAML document says that it is of this kind."""
    return isinstance(data, Mapping) and data.get("kind") == KIND and data.get("apiVersion") == API_VERSION


def traffic_of(manifests: Manifests, warnings: list[str]) -> list[Traffic]:
    """Every document of this kind that was loaded with the cluster, in the order written; see ``parse_traffic``."""
    return [parse_traffic(data, origin.file, warnings, origin.line) for data, origin in manifests.extra if is_traffic(data)]


def parse_traffic(data: Mapping[str, Any], file: str, warnings: list[str], line: int = 1) -> Traffic:
    """Read one document, as ``dataplane.k8s.yaml_source`` gives it. Unknown fields go to ``warnings``.

    Raises InputError naming file, line, flow and field, and the remedy.
    """
    subject = Subject(file, KIND, warnings)
    document = Fields(data, subject, line=line)
    document.warn_unknown({"apiVersion", "kind", "metadata", "spec"})
    name = document.child("metadata").text("name")
    subject.what = f"{KIND} {name}".rstrip()
    spec = document.child("spec")
    spec.warn_unknown({"flows"})
    flows = tuple(_parse_flow(fields, index) for index, fields in enumerate(spec.children("flows")))
    if not flows:
        raise spec.error("flows", "is missing or empty", "list at least one flow with from, to and kind")
    seen: set[str] = set()
    for flow in flows:
        if flow.name in seen:
            raise InputError(f"{place(flow.origin)}: another flow of this document has the same name; rename one")
        seen.add(flow.name)
    return Traffic(name, flows, Origin(file, document.line, subject.what))


def _parse_flow(fields: Fields, index: int) -> Flow:
    fields.warn_unknown(frozenset(FLOW_FIELDS))
    name = fields.text("name") or f"flow{index + 1}"
    if not fields.has("kind"):
        raise fields.error("kind", "is missing", f"write one of {', '.join(KINDS)}")
    kind = fields.choice("kind", "", KINDS)
    for key, kinds in _ONLY_FOR.items():
        if fields.has(key) and kind not in kinds:
            raise fields.error(key, f"has no meaning for kind {kind}", f"remove it; it belongs to {' and '.join(kinds)}")
    target, target_port = _parse_target(fields)
    family = fields.choice("ipFamily", FAMILIES[0], FAMILIES) if fields.has("ipFamily") else None
    if isinstance(target, IPAddress) and family not in (None, f"IPv{target.version}"):
        raise fields.error("ipFamily", f"is {family}, but `to` is {target}", "make them agree or leave ipFamily out")
    count = fields.integer("count", 1, 1, MOST_COUNT)
    request_bytes, response_bytes = _sizes(fields, kind)
    return Flow(
        name=name,
        kind=kind,
        source=_parse_source(fields),
        target=target,
        family=family,
        port=_port(fields, kind, target, target_port),
        source_port=_source_port(fields, kind, count),
        count=count,
        rate=_rate(fields),
        arrival=fields.choice("arrival", ARRIVALS[0], ARRIVALS),
        start_ns=fields.integer("start", 0, 0, MOST_MS) * _MS,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        timeout_ns=fields.integer("timeout", 5000, 1, MOST_MS) * _MS,
        listen=fields.boolean("listen", True),
        origin=Origin(fields.subject.file, fields.line, f"flow {name}"),
    )


def _parse_source(fields: Fields) -> Reference:
    text = fields.required_text("from")
    reference = parse_reference(text)
    if reference is None or reference.kind not in _SOURCES:
        raise fields.error("from", f"is {text!r}", _HOW_FROM)
    return reference


def parse_reference(text: str) -> Reference | None:
    """``pod/NAMESPACE/NAME``, ``service/NAMESPACE/NAME``, ``node/NAME`` or ``host/NAME``; None for anything else."""
    kind, *names = text.split("/")
    wanted = {"pod": 2, "service": 2, "node": 1, "host": 1}.get(kind)
    if len(names) != wanted or not all(names):
        return None
    return Reference(kind, "/".join(names))


def _parse_target(fields: Fields) -> tuple[Reference | IPAddress, str]:
    """What ``to`` names, and the port after it, "" if there is none."""
    text = fields.required_text("to")
    try:
        return plain_address(text), ""  # before looking for a colon: an IPv6 address is full of them
    except ValueError:
        parts = _TARGET.fullmatch(text)
    try:
        if parts is None:
            raise ValueError(text)
        reference = parse_reference(parts["name"] or "")
        return reference or plain_address(parts["bracketed"] or parts["name"]), parts["port"] or ""
    except ValueError:
        raise fields.error("to", f"is {text!r}", _HOW_TO) from None


def _port(fields: Fields, kind: str, target: Reference | IPAddress, after_colon: str) -> int | str | None:
    """The port from ``to`` or from ``port``: a number, or the name of a port of a service or pod."""
    if kind == "ping" and after_colon:
        raise fields.error("to", "names a port, which an echo request has not", "leave it out")
    written = fields.data.get("port")
    if after_colon and written is not None and str(written) != after_colon:
        raise fields.error("port", f"is {written}, but `to` ends in :{after_colon}", "write the port once")
    if not after_colon and not isinstance(written, str):
        return fields.integer("port", 0, 1, 65535) or None
    key, text = ("to", after_colon) if after_colon else ("port", fields.text("port"))
    if text.isascii() and text.isdigit():
        if not 1 <= int(text) <= 65535:
            raise fields.error(key, f"has port {text}", "write a number from 1 to 65535")
        return int(text)
    if not isinstance(target, Reference) or target.kind not in ("service", "pod"):
        raise fields.error(key, f"has port {text!r}, and only services and pods have port names", "write a number from 1 to 65535")
    return text


def _source_port(fields: Fields, kind: str, count: int) -> int | None:
    port = fields.integer("sourcePort", 0, 1, 65535) or None
    if port is not None and kind == "tcp" and count > 1:
        raise fields.error("sourcePort", f"is one for {count} connections, which would collide", "leave it out or write a flow for each")
    return port


def _sizes(fields: Fields, kind: str) -> tuple[int, int]:
    """Bytes of a request and of a response."""
    if kind == "ping":
        size = fields.integer("size", 56, 0, MOST_DATAGRAM)
        return size, size
    request, response = _DEFAULT_BYTES[kind]
    most = MOST_DATAGRAM if kind == "udp" else MOST_STREAM
    request = fields.integer("requestBytes", request, LEAST_HEADER, most)
    response = fields.integer("responseBytes", response, 0, most)
    if kind == "udp" and 0 < response < LEAST_HEADER:
        raise fields.error("responseBytes", f"is {response}", f"write 0 (no answer) or at least {LEAST_HEADER}")
    return request, response


def _rate(fields: Fields) -> Fraction:
    value = fields.data.get("rate", 1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.error("rate", "must be a number", "write packets or connections per second, such as 100 or 0.5")
    if not 1 / MOST_COUNT <= value <= MOST_RATE:  # refuses NaN too
        raise fields.error("rate", f"is {value}", f"write a number from {1 / MOST_COUNT} to {MOST_RATE}")
    return Fraction(str(value))  # as written, not as its nearest binary fraction
