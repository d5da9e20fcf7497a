"""From the fields of a header, as ``_core.encap_describe`` names them, to the options of a device that writes and accepts such headers."""

from __future__ import annotations

from collections.abc import Iterable

_OPTIONS = {
    ("udp", "dport"): "port",
    ("vxlan", "vni"): "id",
    ("vxlan", "flags"): "flags",
    ("vxlan", "reserved1"): "reserved1",
    ("vxlan", "reserved2"): "reserved2",
    ("geneve", "vni"): "id",
    ("geneve", "control"): "control",
    ("geneve", "critical"): "critical",
    ("geneve", "options"): "options",
    ("gre", "key"): "key",
    ("gre", "sequence"): "sequence",
}
_SAME_NAME = frozenset(("erspan2", "erspan3"))
_RAW_BYTES = frozenset(("options",))
_ERSPAN = 0x88BE
_GRE_CHECKSUM = 0x8000  # RFC 2784


def option_key(known: Iterable[str], name: str) -> str:
    """The option that ``name`` means: itself, or the one behind a header field of that name, as ``vni`` is behind ``id``."""
    taken = set(known)
    if name in taken:
        return name
    return next((key for (_, field), key in _OPTIONS.items() if field == name and key in taken), name)


def options_of(known: Iterable[str], fields: Iterable[tuple[str, str, int | bytes | str]]) -> dict[str, int | bytes]:
    """Options among those ``known`` to an encapsulation, by the fields of its own header and of UDP."""
    options: dict[str, int | bytes] = {}
    for layer, name, value in fields:
        if isinstance(value, str):
            continue
        key = name if layer in _SAME_NAME else _OPTIONS.get((layer, name), "")
        raw = key in _RAW_BYTES and value  # no bytes at all are the number 0
        options[key] = value if isinstance(value, int) or raw else int.from_bytes(value, "big")
        if (layer, name) == ("udp", "checksum"):
            options |= {"udp_checksum": int(value != 0), "udp6_zero_checksum_tx": int(value == 0), "udp6_zero_checksum_rx": int(value == 0)}
        if (layer, name, value) == ("gre", "protocol", _ERSPAN):
            options["version"] = 0  # type I, unless a header of another type follows
        if (layer, name) == ("gre", "flags") and isinstance(value, int):
            options["checksum"] = int(bool(value & _GRE_CHECKSUM))
    taken = set(known)
    return {key: value for key, value in options.items() if key in taken}
