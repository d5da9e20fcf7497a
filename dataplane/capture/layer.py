"""What a dissected frame is made of, and how header fields are read and shown."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

PAYLOAD = "payload"
STOP = ""


class Field(NamedTuple):
    """One field of a header: its bytes ``offset`` to ``offset + length`` of the frame, and its value as text.

    Fields smaller than a byte share the bytes they lie in.
    """

    name: str
    offset: int
    length: int
    text: str


class Layer(NamedTuple):
    """One header, or the payload, of a frame. Offsets count from the start of the frame."""

    name: str
    offset: int
    fields: list[Field]
    end: int  # where the bytes end that the header and what it carries occupy
    where: str  # "" | "inner " | "quoted ", or several of them: what the layer lies in
    complete: bool  # the header is whole and the length it gives is there

    def text(self, field: str) -> str:
        """Text of the first field of this name, "" if the layer has none."""
        return next((item.text for item in self.fields if item.name == field), "")


class Step(NamedTuple):
    """What a header's parser found, and which parser goes on between which offsets."""

    name: str
    fields: list[Field]
    following: str = STOP  # key of the next parser
    start: int = 0
    end: int = 0
    where: str = ""  # added to the place of all that follows
    complete: bool = True


Parser = Callable[[bytes, int, int], Step]
Show = Callable[[bytes], str]
Spec = Sequence[tuple[str, int, int, Show]]  # name, offset within the header, length, text of the bytes


def read_fields(data: bytes, start: int, end: int, spec: Spec, size: int) -> list[Field]:
    """The fields of a header of ``size`` bytes at ``start``; of a header cut off, those that are there."""
    fields = [
        Field(name, start + at, length, show(data[start + at : start + at + length]))
        for name, at, length, show in spec
        if start + at + length <= end
    ]
    if end - start < size:
        read = max((field.offset + field.length for field in fields), default=start)
        fields.append(Field("cut off", read, end - read, f"{end - start} of {size} bytes, the rest {data[read:end].hex() or 'none'}"))
    return fields


def rest(name: str, data: bytes, start: int, end: int) -> list[Field]:
    """All bytes of a range as one field; none if it is empty."""
    return [Field(name, start, end - start, data[start:end].hex())] if end > start else []


def number(value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def hexadecimal(value: bytes) -> str:
    return "0x" + value.hex()


def mac(value: bytes) -> str:
    return value.hex(":")


def address(value: bytes) -> str:
    """IPv4 or IPv6 by the number of bytes."""
    return str(ipaddress.ip_address(value))


def bits(shift: int, count: int) -> Show:
    """``count`` bits of a big-endian number, ``shift`` bits above its lowest."""
    return lambda value: str(int.from_bytes(value, "big") >> shift & ((1 << count) - 1))


def named(names: dict[int, str]) -> Show:
    """A number, with its name where it has one."""

    def show(value: bytes) -> str:
        code = int.from_bytes(value, "big")
        return f"{code} ({names[code]})" if code in names else str(code)

    return show


def options(
    data: bytes, start: int, end: int, names: dict[int, str], *, unit: int = 1, single: frozenset[int] = frozenset()
) -> list[Field]:
    """Type-length-value options: the length counts type and length too, in ``unit`` bytes; ``single``: types of one byte."""
    fields = []
    while start < end:
        kind = data[start]
        size = 1 if kind in single else data[start + 1] * unit if start + 1 < end else 0
        if size < 1 or (size == 1 and kind not in single) or start + size > end:
            fields.append(Field("malformed options", start, end - start, data[start:end].hex()))
            break
        fields.append(Field(f"option {names.get(kind, kind)}", start, size, data[start : start + size].hex()))
        start += size
    return fields
