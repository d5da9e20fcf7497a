"""Two frames side by side: which field of which layer differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dataplane.capture.checksums import ABSENT, INVALID, VALID, Checksum, checksums, checksums_valid
from dataplane.capture.dissect import dissect
from dataplane.capture.layer import Field, Layer

__all__ = ["checksums_valid", "differences", "numbered"]

FieldTest = Callable[[Layer, Field], bool]

_SHOWN_BYTES = 16
_CUT_OFF = ("cut off", 0)  # a header of which a part is missing: that is said once, not for each field


def _no_field(layer: Layer, field: Field) -> bool:
    return False


def differences(
    expected: bytes,
    got: bytes,
    mask: Sequence[Sequence[int]] = (),
    *,
    free_field: FieldTest = _no_field,
    dissector: Callable[[bytes], list[Layer]] = dissect,
) -> list[str]:
    """One line per field that differs, outermost layer first; empty if the frames are equal but for what is free.

    ``mask``: [offset, length] of byte ranges of ``expected`` that are free; ``free_field`` tells so of whole fields. A checksum
    that depends on a free byte must be valid in ``got`` if it is valid in ``expected``; one that depends on a free field need
    not be the same either.
    """
    if expected == got:
        return []
    free = bytearray(max(len(expected), len(got)))
    for offset, length in mask:
        free[offset : offset + length] = b"\1" * max(min(length, len(free) - offset), 0)
    hidden = free[:]
    if free_field is not _no_field:
        _hide_fields(expected, dissector(expected), free_field, free, hidden)
    lines = []
    if len(expected) != len(got):
        lines.append(f"length: expected {len(expected)} bytes, got {len(got)}")
    if lines or _bytes_differ(expected, got, free, 0, len(expected)):
        layers = (dissector(expected), dissector(got))
        lines += _layers(*layers, (expected, got, free), free_field) or _runs(expected, got, hidden)
    return lines + _checksums(expected, got, hidden)


def _hide_fields(expected: bytes, layers: list[Layer], free_field: FieldTest, free: bytearray, hidden: bytearray) -> None:
    """Mark the bytes of free fields, which others may share, in ``hidden``, and in both the checksums that depend on them."""
    for field in (field for layer in layers for field in layer.fields if free_field(layer, field)):
        hidden[field.offset : field.offset + field.length] = b"\1" * field.length
    for item in checksums(expected):
        if item.state == VALID and any(hidden[item.start : item.end]):
            free[item.offset : item.offset + 2] = hidden[item.offset : item.offset + 2] = b"\1\1"


def _bytes_differ(expected: bytes, got: bytes, free: bytearray, start: int, end: int) -> bool:
    if expected[start:end] == got[start:end]:
        return False
    return any(not free[at] and expected[at : at + 1] != got[at : at + 1] for at in range(start, end))


def _layers(wanted: list[Layer], found: list[Layer], frames: tuple[bytes, bytes, bytearray], free_field: FieldTest) -> list[str]:
    lines: list[str] = []
    for index, layer in enumerate(wanted):
        other = found[index] if index < len(found) else None
        if other is None or (other.name, other.where) != (layer.name, layer.where):
            lines.append(f"after {_label(wanted[index - 1])}: expected {_label(layer)}, got {_label(other) if other else 'nothing'}")
            return lines
        if layer.name in ("Payload", "Trailer"):
            lines += _plain(layer, other, *frames)
        else:
            lines += _fields(layer, other, frames, free_field)
    lines += [f"after the expected layers: got {_label(layer)} of {layer.end - layer.offset} bytes" for layer in found[len(wanted) :]]
    return lines


def _label(layer: Layer) -> str:
    return f"{layer.where}{layer.name}"


def _fields(layer: Layer, other: Layer, frames: tuple[bytes, bytes, bytearray], free_field: FieldTest) -> list[str]:
    expected, got, free = frames
    lines = []
    wanted, found = numbered(layer.fields), numbered(other.fields)
    for key, field in wanted.items():
        end = field.offset + field.length
        twin = found.get(key)
        if free_field(layer, field) or (all(free[field.offset : end]) and field.length):
            continue
        if twin is None:
            if _CUT_OFF not in found:
                lines.append(f"{_label(layer)} {field.name}: expected {field.text}, got none")
        elif field.text != twin.text and (field[1:3] != twin[1:3] or _bytes_differ(expected, got, free, field.offset, end)):
            lines.append(f"{_label(layer)} {field.name}: expected {field.text}, got {twin.text}")
    lines += [
        f"{_label(layer)} {field.name}: expected none, got {field.text}"
        for key, field in found.items()
        if key not in wanted and _CUT_OFF not in wanted and not free_field(other, field)
    ]
    return lines


def numbered(fields: Iterable[Field]) -> dict[tuple[str, int], Field]:
    """Fields by name and how many of that name stand before, since options repeat."""
    numbered: dict[tuple[str, int], Field] = {}
    counts: dict[str, int] = {}
    for field in fields:
        count = counts.get(field.name, 0)
        counts[field.name] = count + 1
        numbered[field.name, count] = field
    return numbered


def _plain(layer: Layer, other: Layer, expected: bytes, got: bytes, free: bytearray) -> list[str]:
    """Bytes without fields: the place and start of what differs."""
    lines = []
    size, other_size = layer.end - layer.offset, other.end - other.offset
    if size != other_size:
        lines.append(f"{_label(layer)} length: expected {size} bytes, got {other_size}")
    differing = [
        at for at in range(min(size, other_size)) if not free[layer.offset + at] and expected[layer.offset + at] != got[other.offset + at]
    ]
    if differing:
        at = differing[0]
        lines.append(
            f"{_label(layer)} at byte {at} (frame byte {layer.offset + at}), {len(differing)} of {size} bytes: "
            f"expected {_some(expected, layer.offset + at, layer.end)}, got {_some(got, other.offset + at, other.end)}"
        )
    return lines


def _runs(expected: bytes, got: bytes, free: bytearray) -> list[str]:
    """Differing bytes that no field's text shows."""
    differing = [at for at in range(min(len(expected), len(got))) if not free[at] and expected[at] != got[at]]
    if not differing:
        return []
    at = differing[0]
    return [f"frame byte {at}, {len(differing)} bytes: expected {_some(expected, at, len(expected))}, got {_some(got, at, len(got))}"]


def _some(data: bytes, start: int, end: int) -> str:
    shown = data[start : min(end, start + _SHOWN_BYTES)].hex()
    return shown + "..." if end - start > _SHOWN_BYTES else shown


def _checksums(expected: bytes, got: bytes, free: bytearray) -> list[str]:
    found = {item.label: item for item in checksums(got)}
    lines = []
    for wanted in checksums(expected):
        twin = found.get(wanted.label)
        if wanted.state == VALID and twin is not None and twin.state in (INVALID, ABSENT) and any(free[wanted.start : wanted.end]):
            lines.append(f"{wanted.label} checksum: expected a valid one, got {_value(got, twin)}")
    return lines


def _value(frame: bytes, item: Checksum) -> str:
    value = f"0x{frame[item.offset : item.offset + 2].hex()}"
    return f"{value} (none)" if item.state == ABSENT else f"{value} (0x{item.right:04x} would be right)"
