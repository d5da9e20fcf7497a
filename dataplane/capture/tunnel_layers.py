"""Dissection of every encapsulation that the registry knows, in terms of the core's own descriptions of their headers."""

from __future__ import annotations

from functools import cache

from dataplane.capture.dissect import dissect
from dataplane.capture.layer import Field, Layer
from dataplane.capture.tunnel import ETHERTYPE_TEB, PROTO_UDP, LayerField, inner_type
from dataplane.encap.guess import guess
from dataplane.encap.registry import ensure
from dataplane.errors import InputError

_PROTO_GRE = 47
_CARRIERS = {"UDP": PROTO_UDP, "GRE": _PROTO_GRE}
_SHOWN_BY_DISSECT = frozenset(("udp", "gre"))


def dissect_tunnels(frame: bytes, *, ethertype: int = 0) -> list[Layer]:
    """As ``dissect``; where that sees only a payload behind UDP, GRE or IP, the headers and the inner packet of the encapsulation
    that is usual there. The fields of such a header all stand for its whole range of bytes."""
    layers = dissect(frame, ethertype=ethertype)
    at = next((index for index, layer in enumerate(layers) if layer.name == "Payload"), 0)
    if at == 0:
        return layers
    carrier, payload = layers[at - 1], layers[at]
    start = carrier.offset if carrier.name in _CARRIERS else payload.offset
    protocol = _CARRIERS.get(carrier.name) or _number(carrier.text("protocol") or carrier.text("next header"))
    kind = guess(protocol, frame[start : payload.end])
    if kind is None or not _available(kind):
        return layers
    return layers[:at] + (_encapsulated(frame, kind, protocol, start, payload) or [payload]) + layers[at + 1 :]


@cache
def _available(kind: str) -> bool:
    try:
        ensure(kind)
    except InputError:
        return False
    return True


def _number(text: str) -> int:
    digits = text.partition(" ")[0]
    return int(digits) if digits else 0


def _encapsulated(frame: bytes, kind: str, protocol: int, start: int, payload: Layer) -> list[Layer]:
    """Instead of ``payload``: the headers that are described from ``start`` on, and what they carry; [] if they are broken off."""
    from dataplane import _core

    fields, size = _core.encap_describe(kind, protocol, frame[start : payload.end]) or ([], -1)
    inner_at = start + size
    if inner_at < payload.offset:
        return []
    found = [LayerField(*field) for field in fields if field[0] not in _SHOWN_BY_DISSECT]
    names = dict.fromkeys(field.layer for field in found)
    layers = [
        Layer(name, payload.offset, [_field(field, payload.offset, inner_at) for field in found if field.layer == name], payload.end,
              payload.where, True)
        for name in names
    ]  # fmt: skip
    return layers + _inner(frame[inner_at : payload.end], inner_at, payload.where + "inner ", _carries_ethernet(kind))


def _carries_ethernet(kind: str) -> bool:
    from dataplane import _core

    try:
        return _core.Codec(kind).ethernet
    except ValueError:  # it has options that must be given: keys, and what they hide cannot be shown anyway
        return False


def _field(field: LayerField, start: int, end: int) -> Field:
    text = field.value.hex() if isinstance(field.value, bytes) else str(field.value)
    return Field(field.name, start, end - start, text)


def _inner(data: bytes, at: int, where: str, ethernet: bool) -> list[Layer]:
    kind = inner_type(data)
    if not data:
        return []
    if kind == ETHERTYPE_TEB and not ethernet:  # encrypted, or a message of the protocol's own
        return [Layer("Payload", at, [Field("bytes", at, len(data), data.hex())], at + len(data), where, True)]
    layers = dissect_tunnels(data, ethertype=0 if kind == ETHERTYPE_TEB else kind)
    return [
        layer._replace(
            offset=layer.offset + at,
            fields=[field._replace(offset=field.offset + at) for field in layer.fields],
            end=layer.end + at,
            where=where + layer.where,
        )
        for layer in layers
    ]
