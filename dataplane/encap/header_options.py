"""From the fields of a header, as ``_core.encap_describe`` names them, to the options of a device that writes and accepts such headers."""

from __future__ import annotations

from collections.abc import Iterable

from dataplane.encap.python_plugin import ETHERTYPE_TEB

Options = dict[str, int | bytes]

_OPTIONS = {
    ("udp", "dport"): "port",
    ("vxlan", "vni"): "id",
    ("vxlan", "flags"): "flags",
    ("vxlan", "reserved1"): "reserved1",
    ("vxlan", "reserved2"): "reserved2",
    ("vxlan_gpe", "vni"): "id",
    ("geneve", "vni"): "id",
    ("geneve", "control"): "control",
    ("geneve", "critical"): "critical",
    ("geneve", "options"): "options",
    ("gre", "key"): "key",
    ("gre", "sequence"): "sequence",
    ("gue", "variant"): "variant",
    ("srh", "flags"): "flags",
    ("srh", "tag"): "tag",
}
_OPTIONS_OF_THE_FIELDS_NAMES = frozenset(("erspan2", "erspan3"))
_RAW_BYTES = frozenset(("options", "subheader"))
_ETHERTYPE_ERSPAN = 0x88BE
_GRE_CHECKSUM = 0x8000  # RFC 2784


def option_key(known: Iterable[str], name: str) -> str:
    """The option that ``name`` means: itself, or the one behind a header field of that name, as ``vni`` is behind ``id``."""
    taken = set(known)
    if name in taken:
        return name
    return next((key for (_, field), key in _OPTIONS.items() if field == name and key in taken), name)


def options_of(known: Iterable[str], fields: Iterable[tuple[str, str, int | bytes | str]]) -> Options:
    """Options among those ``known`` to an encapsulation, by the fields of its own header and of UDP."""
    options: Options = {}
    labels: list[bytes] = []
    for layer, name, value in fields:
        if (layer, name) == ("mpls", "label") and isinstance(value, int):
            labels.append(value.to_bytes(4, "big"))
        elif not isinstance(value, str):
            options |= _meant_by(layer, name, value)
    if labels:
        options["label"] = int.from_bytes(labels[-1], "big")
    if len(labels) > 1:
        options["outer_labels"] = b"".join(labels[:-1])
    taken = set(known)
    return {key: value for key, value in options.items() if key in taken}


def _meant_by(layer: str, name: str, value: int | bytes) -> Options:
    match layer, name, value:
        case "udp", "checksum", _:
            return {"udp_checksum": int(value != 0), "udp6_zero_checksum_tx": int(value == 0), "udp6_zero_checksum_rx": int(value == 0)}
        case "geneve", "protocol", _:
            return {"inner_proto_inherit": int(value != ETHERTYPE_TEB)}
        case "gre", "protocol", _:  # type I of ERSPAN, unless the header of another type follows
            return {"gre": 1, "version": 0} if value == _ETHERTYPE_ERSPAN else {"gre": 1}
        case "gre", "flags", int():
            return {"checksum": int(bool(value & _GRE_CHECKSUM))}
    key = name if layer in _OPTIONS_OF_THE_FIELDS_NAMES else _OPTIONS.get((layer, name), "")
    if isinstance(value, bytes) and not (value and key in _RAW_BYTES):
        value = int.from_bytes(value, "big")
    return {key: value}
