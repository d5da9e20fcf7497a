"""Typed reading of a mapping's fields; what is wrong becomes one line with file, line, object and field."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, IPNetwork, Origin
from dataplane.k8s.positions import line_of

PROTOCOLS = ("TCP", "UDP", "SCTP")
_NOTHING: Mapping[str, Any] = {}


def place(origin: Origin) -> str:
    """How a message about an object begins: ``FILE:LINE: OBJECT``."""
    line = f":{origin.line}" if origin.line else ""
    return f"{origin.file}{line}: {origin.what}"


@dataclass(slots=True)
class Subject:
    """The object that is being read, for messages, and where its warnings go."""

    file: str
    what: str
    warnings: list[str] = field(default_factory=list)


class Fields:
    """The fields of one mapping. A field that is absent or null has its default; any other type is an InputError.

    Path and line are for messages alone and are found when one is written: most objects give no cause for any.
    """

    __slots__ = ("_key", "_line", "_outer", "_path", "data", "subject")

    def __init__(self, data: Mapping[str, Any], subject: Subject, path: str = "", line: int = 1) -> None:
        self.data = data
        self.subject = subject
        self._path = path
        self._line = line
        self._outer: Fields | None = None
        self._key = ""

    def _inner(self, data: Mapping[str, Any], key: str, index: int = -1) -> Fields:
        """The mapping under ``key``, or that with an index in the list there."""
        inner = Fields.__new__(Fields)
        inner.data = data
        inner.subject = self.subject
        inner._outer = self
        inner._key = key
        inner._line = index
        return inner

    # Messages

    @property
    def path(self) -> str:
        if self._outer is None:
            return self._path
        name = self._outer.name_of(self._key)
        return name if self._line < 0 else f"{name}[{self._line}]"

    @property
    def line(self) -> int:
        if self._outer is None:
            return line_of(self.data, self._line)
        line = self._outer.line_at(self._key)
        return line_of(self.data, line if self._line < 0 else line_of(self._outer.data[self._key], line, self._line))

    def name_of(self, key: str) -> str:
        key = key if key.isprintable() else repr(key)
        return f"{self.path}.{key}" if self.path else key

    def line_at(self, key: str) -> int:
        return line_of(self.data, self.line, key)

    def error(self, key: str, wrong: str, remedy: str) -> InputError:
        """The error to raise: ``FILE:LINE: OBJECT: FIELD WRONG; REMEDY``."""
        return InputError(f"{self._place(key)}: {self.name_of(key)} {wrong}; {remedy}")

    def warn(self, key: str, wrong: str, remedy: str) -> None:
        self.subject.warnings.append(f"{self._place(key)}: {self.name_of(key)} {wrong}; {remedy}")

    def _place(self, key: str) -> str:
        return f"{self.subject.file}:{self.line_at(key)}: {self.subject.what}"

    def warn_unknown(self, known: Collection[str]) -> None:
        if isinstance(known, frozenset) and self.data.keys() <= known:
            return
        for key in self.data:
            if key not in known:
                self.warn(key, "is no known field and is ignored", "correct its name or remove it")

    # Values

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def text(self, key: str, default: str = "") -> str:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            remedy = "put the value in quotes" if isinstance(value, bool | int | float) else "write a string"
            raise self.error(key, f"must be a string, not {_kind(value)}", remedy)
        return value

    def required_text(self, key: str) -> str:
        value = self.text(key)
        if not value:
            raise self.error(key, "is missing", "add it")
        return value

    def choice(self, key: str, default: str, allowed: Collection[str]) -> str:
        value = self.text(key) or default
        if value not in allowed:
            raise self.error(key, f"is {_shown(value)}", f"write one of {', '.join(allowed)}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {_kind(value)}", "write true or false without quotes")
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be a whole number, not {_kind(value)}", f"write a number from {low} to {high} without quotes")
        if not low <= value <= high:
            raise self.error(key, f"is {value}", f"write a number from {low} to {high}")
        return value

    def child(self, key: str) -> Fields:
        """The mapping under ``key``; an empty one where it is absent."""
        value = self.data.get(key)
        if value is None:
            value = _NOTHING
        elif not isinstance(value, dict | Mapping):
            raise self.error(key, f"must be a mapping, not {_kind(value)}", "write NAME: VALUE lines, indented below it")
        return self._inner(value, key)

    def _list(self, key: str) -> list[Any]:
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(key, f"must be a list, not {_kind(value)}", 'write lines that begin with "- " below it')
        return value

    def count(self, key: str) -> int:
        """How many items the list under ``key`` has."""
        return len(self._list(key))

    def children(self, key: str) -> Iterator[Fields]:
        """The mappings of the list under ``key``."""
        values = self._list(key)
        for index, value in enumerate(values):
            if not isinstance(value, dict | Mapping):
                place = f"{self.subject.file}:{line_of(values, self.line_at(key), index)}: {self.subject.what}"
                path = f"{self.name_of(key)}[{index}]"
                raise InputError(f"{place}: {path} must be a mapping, not {_kind(value)}; write NAME: VALUE lines")
            yield self._inner(value, key, index)

    def texts(self, key: str) -> list[tuple[str, Fields]]:
        """The strings of a list, each with a one-field view that gives its own line and index in messages."""
        values = self._list(key)
        found = []
        for index, value in enumerate(values):
            line = line_of(values, self.line_at(key), index)
            name = f"{key}[{index}]"
            item = Fields({name: value}, self.subject, self.path, line)
            found.append((item.required_text(name) if value is None else item.text(name), item))
        return found

    def string_map(self, key: str) -> dict[str, str]:
        fields = self.child(key)
        return {name: value if isinstance(value, str) else fields.text(name) for name, value in fields.data.items()}

    def address(self, key: str) -> IPAddress | None:
        text = self.text(key)
        return self.parse_address(key, text) if text else None

    def parse_address(self, key: str, text: str) -> IPAddress:
        try:
            return plain_address(text)
        except ValueError:
            raise self.error(key, f"is {_shown(text)}, which is no IP address", "write it as 10.0.0.1 or fd00::1") from None

    def one_per_family(self, key: str, found: Sequence[IPAddress | IPNetwork]) -> None:
        """Refuses a second one of a family, as the API server does (KEP-563)."""
        for index, one in enumerate(found):
            if any(one.version == earlier.version for earlier in found[:index]):
                raise self.error(key, f"has {one} as a second one of IPv{one.version}", "leave one of each family")

    def addresses(self, key: str) -> tuple[IPAddress, ...]:
        return tuple(item.parse_address(f"{key}[{index}]", text) for index, (text, item) in enumerate(self.texts(key)))

    def parse_network(self, key: str, text: str, *, strict: bool = False) -> IPNetwork:
        """A prefix; ``strict`` refuses host bits, which the Kubernetes API silently clears."""
        try:
            if "/" not in text or "%" in text:
                raise ValueError
            network = ip_network(text, strict=False)
        except ValueError:
            raise self.error(key, f"is {_shown(text)}, which is no CIDR", "write it as 10.0.0.0/16 or fd00::/64") from None
        if strict and ip_address(text.partition("/")[0]) != network.network_address:
            raise self.error(key, f"is {_shown(text)}, which has bits set after the prefix", f"write {network}")
        return network

    def network(self, key: str, *, strict: bool = False) -> IPNetwork | None:
        text = self.text(key)
        return self.parse_network(key, text, strict=strict) if text else None

    def networks(self, key: str, *, strict: bool = False) -> tuple[IPNetwork, ...]:
        """The prefixes of a list; blanks around one are ignored, as kube-proxy does with loadBalancerSourceRanges."""
        return tuple(
            item.parse_network(f"{key}[{index}]", text.strip(), strict=strict) for index, (text, item) in enumerate(self.texts(key))
        )

    def single_and_list(self, single: str, plural: str, *, strict: bool) -> tuple[IPNetwork, ...]:
        """Prefixes from a field pair such as podCIDR and podCIDRs, of which the first must agree where both are given."""
        one, several = self.network(single, strict=strict), self.networks(plural, strict=strict)
        if one is not None and several and several[0] != one:
            raise self.error(single, f"is {one}, but {plural} begins with {several[0]}", "make them equal or remove one")
        return several or ((one,) if one is not None else ())

    def mac(self, key: str) -> str | None:
        """A unicast MAC address in lower case with colons."""
        text = self.text(key)
        if not text:
            return None
        parts = text.lower().split(":")
        if len(parts) != 6 or any(len(part) != 2 or not set(part) <= set("0123456789abcdef") for part in parts):
            raise self.error(key, f"is {_shown(text)}, which is no MAC address", "write it as 02:00:00:00:00:01")
        if int(parts[0], 16) & 1:
            raise self.error(key, f"is {_shown(text)}, a multicast address", "write one whose first byte is even")
        return ":".join(parts)


@lru_cache(maxsize=1 << 18)  # a pod's address stands in the pod, twice, and in every slice that the pod is in
def plain_address(text: str) -> IPAddress:
    """An address as packets have it. ValueError: it is none, it has a zone (an interface of one machine), or it is IPv4-mapped."""
    address = ip_address(text)
    if address.version == 6 and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise ValueError(f"{text!r} has a zone or is IPv4-mapped")
    return address


def _shown(text: str) -> str:
    """A value in quotes, on one line and not endless."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _kind(value: Any) -> str:
    for types, name in ((bool, "a boolean"), (int | float, "a number"), (str, "a string"), (Mapping, "a mapping"), (list, "a list")):
        if isinstance(value, types):
            return name
    return f"a {type(value).__name__}"
