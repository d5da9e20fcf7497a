"""The ``params`` of tunnel cases: layers with fields, outermost first, or one object with the fields of all of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from dataplane.capture.checksums import ABSENT
from dataplane.capture.tunnel import LayerField, Outer, Value, outer_checksums

Params = list[dict[str, Any]] | dict[str, Any]
Layers = list[tuple[str, dict[str, Value]]]
_CHECKSUM_NUMBERS = {"zero": 0, "valid": 1, "invalid": 1}  # only whether there is one matters
_CRITICAL = 0x80  # in the type of a Geneve option, RFC 8926 section 3.5.1


def param_layers(params: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(layer["layer"], {name: value for name, value in layer.items() if name != "layer"}) for layer in params]


def raw_fields(params: Params) -> list[LayerField]:
    """The fields of ``params`` as a header has them, numbers and bytes; none of an object without layers."""
    if isinstance(params, dict):
        return []
    return [LayerField(layer, name, _raw(value)) for layer, fields in param_layers(params) for name, value in fields.items()]


def _raw(value: Any) -> Value:
    if isinstance(value, list):
        return b"".join(map(_geneve_option, value))
    if isinstance(value, bool | int):
        return int(value)
    if value in _CHECKSUM_NUMBERS:
        return _CHECKSUM_NUMBERS[value]
    try:
        return bytes.fromhex(value)
    except ValueError:
        return str(value)  # an address


def _geneve_option(option: dict[str, Any]) -> bytes:
    data = bytes.fromhex(option["data"])
    kind = option["type"] | _CRITICAL * option["critical"]
    return struct.pack("!HBB", option["class"], kind, len(data) // 4) + data


def _geneve_options(data: bytes) -> list[dict[str, Any]]:
    """Raises ValueError where an option is longer than what is left."""
    options = []
    while data:
        size = 4 + 4 * (data[3] & 0x1F)
        if len(data) < size:
            raise ValueError(f"an option of {size} bytes in the last {len(data)}")
        kind = {"class": int.from_bytes(data[:2], "big"), "type": data[2] & ~_CRITICAL, "critical": bool(data[2] & _CRITICAL)}
        options.append({**kind, "data": data[4:size].hex()})
        data = data[size:]
    return options


def group(fields: Iterable[LayerField]) -> Layers:
    """Fields by layer; a name that comes again begins another layer of the same kind, as with two VLAN tags."""
    layers: Layers = []
    for layer, name, value in fields:
        if not layers or layers[-1][0] != layer or name in layers[-1][1]:
            layers.append((layer, {}))
        layers[-1][1][name] = value
    return layers


def param_differences(params: Params, fields: Iterable[LayerField], outer: Outer | None) -> list[str]:
    """One line per field of ``params`` that the header does not have, or has with another value."""
    found = group(fields)
    if isinstance(params, dict):
        return _object_differences(params, found)
    lines: list[str] = []
    at = 0
    for layer, expected in param_layers(params):
        if not expected:
            continue  # a header of no bytes
        place = next((index for index in range(at, len(found)) if found[index][0] == layer), None)
        if place is None:
            lines.append(f"{layer}: expected after {found[at - 1][0] if at else 'the start'}, the packet has none")
            continue
        lines += _layer_differences(layer, expected, found[place][1], outer)
        at = place + 1
    return lines


def _layer_differences(layer: str, expected: dict[str, Any], found: dict[str, Value], outer: Outer | None) -> list[str]:
    lines = []
    for name, value in expected.items():
        got = _as_in_cases(layer, name, found[name], outer) if name in found else None
        if got != value:
            lines.append(f"{layer} {name}: expected {value}, got {'none' if got is None else got}")
    return lines


def _as_in_cases(layer: str, name: str, value: Value, outer: Outer | None) -> Any:
    if (layer, name) == ("udp", "checksum") and outer is not None:
        state = outer_checksums(outer)["udp"].state
        return "zero" if state == ABSENT else state
    if (layer, name) == ("geneve", "options"):
        try:
            return _geneve_options(value if isinstance(value, bytes) else b"")
        except ValueError as error:
            return f"malformed: {error}"
    return value.hex() if isinstance(value, bytes) else value


def _object_differences(params: dict[str, Any], found: Layers) -> list[str]:
    """Fields of all layers in one object: ``udp_sport``, or the name alone, which the innermost header that has it means."""
    lines = []
    values = {name: value for _, fields in found for name, value in fields.items()}
    values |= {f"{layer}_{name}": value for layer, fields in found for name, value in fields.items()}
    for name, expected in params.items():
        got = values.get(name.removesuffix("_raw"))
        shown = got.hex() if isinstance(got, bytes) else got
        if shown != expected:
            lines.append(f"{name}: expected {expected}, got {'none' if got is None else shown}")
    return lines
