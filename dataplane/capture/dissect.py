"""A small dissector of our own: what a frame holds, field by field, however broken it is."""

from __future__ import annotations

from dataplane.capture import headers_ip, headers_link, headers_transport
from dataplane.capture.headers_link import ethertype_key
from dataplane.capture.headers_transport import ICMP_UNREACHABLE, ICMPV6_UNREACHABLE
from dataplane.capture.layer import PAYLOAD, STOP, Field, Layer, Parser, Step, rest

__all__ = ["Field", "Layer", "dissect", "summary"]

_TRANSPORTS = {"TCP", "UDP", "SCTP"}
_TUNNEL_LAYERS = {"VXLAN", "Geneve", "GRE"}
_UNREACHABLE = {("ICMP", "3"): ICMP_UNREACHABLE, ("ICMPv6", "1"): ICMPV6_UNREACHABLE}  # by layer and type


def _payload(data: bytes, start: int, end: int) -> Step:
    return Step("Payload", rest("bytes", data, start, end), STOP, end, end)


_PARSERS: dict[str, Parser] = {
    **headers_link.PARSERS,
    **headers_ip.PARSERS,
    **headers_transport.PARSERS,
    PAYLOAD: _payload,
}


def dissect(frame: bytes, *, ethertype: int = 0) -> list[Layer]:
    """The layers of a frame, outermost first; bytes behind a layer's end follow as layers ``Trailer``.

    Never raises: a header cut off or contradictory shows what is there. With ``ethertype`` the bytes start at
    the network layer. A message quoted by an ICMP error is dissected too.
    """
    key = ethertype_key(ethertype) if ethertype else "ethernet"
    start, end, where = 0, len(frame), ""
    layers: list[Layer] = []
    trailers: list[Layer] = []
    while key and not (key == PAYLOAD and start >= end):
        step = _PARSERS[key](frame, start, end)
        stop = step.end if step.start else end  # a header cut off takes all there is
        layers.append(Layer(step.name, start, step.fields, stop, where, step.complete))
        if stop < end:
            trailers.append(Layer("Trailer", stop, rest("bytes", frame, stop, end), end, where, True))
        key, start, end, where = step.following, step.start, stop, where + step.where
    return layers + trailers[::-1]


def summary(frame: bytes, *, ethertype: int = 0) -> str:
    """One line: ``10.244.1.5:40000 > 10.96.0.12:80 TCP SYN``; tunnels outermost first, joined by `` | ``."""
    groups: list[list[Layer]] = []
    for layer in dissect(frame, ethertype=ethertype):
        if layer.name in ("Payload", "Trailer"):
            continue
        if not groups or layer.where != groups[-1][-1].where:
            groups.append([])
        groups[-1].append(layer)
    text = ""
    for group in groups:
        joint = ", about " if group[0].where.endswith("quoted ") else " | "
        text += (joint if text else "") + _part(group)
    return text or f"{len(frame)} bytes of no known protocol"


def _part(layers: list[Layer]) -> str:
    """One link and network header with what belongs to them."""
    network = next((layer for layer in layers if layer.name in ("IPv4", "IPv6")), None)
    last = layers[-1]
    if network is None:
        return _arp(last) if last.name == "ARP" else _link(layers)
    transport = next((layer for layer in layers if layer.name in _TRANSPORTS), None)
    ends = [
        _end(network.text(side), transport.text(f"{side} port") if transport else "", network.name) for side in ("source", "destination")
    ]
    return f"{ends[0]} > {ends[1]} {_protocol(layers, network)}{_fragment(layers)}"


def _end(address: str, port: str, family: str) -> str:
    if not port:
        return address or "?"
    return f"[{address}]:{port}" if family == "IPv6" else f"{address}:{port}"


def _protocol(layers: list[Layer], network: Layer) -> str:
    last = layers[-1]
    cut = "" if last.complete or last.where.endswith("quoted ") else " (cut off or malformed)"  # a quote is rarely whole
    if last.name == "TCP":
        return f"TCP {last.text('flags') or '?'}{cut}"
    if last.name in ("ICMP", "ICMPv6"):
        return f"{last.name} {_icmp(last)}{cut}"
    if last.name in _TUNNEL_LAYERS:
        vni = last.text("vni")
        return f"{last.name} {vni}{cut}" if vni else f"{last.name}{cut}"
    if last.name in ("IPv4", "IPv6") or last.name.startswith("IPv6 "):
        field = "protocol" if last.name == "IPv4" else "next header"
        text = last.text(field)
        name = text.partition("(")[2].rstrip(")") or f"protocol {text or '?'}"
        return f"{name}{cut}" if network.complete or last is not network else f"{last.name}{cut}"
    return f"{last.name}{cut}"


def _icmp(layer: Layer) -> str:
    kind, code = layer.text("type"), layer.text("code")
    name = kind.partition("(")[2].rstrip(")") or f"type {kind}"
    if layer.text("sequence number"):
        return f"{name} id {layer.text('id')} seq {layer.text('sequence number')}"
    codes = _UNREACHABLE.get((layer.name, kind.partition(" ")[0]))
    if codes is not None and code.isdigit():
        return codes.get(int(code), f"{name} code {code}")
    if layer.text("target"):
        return f"{name} {layer.text('target')}{_link_layer_target(layer)}"
    return name if code in ("", "0") else f"{name} code {code}"


def _link_layer_target(layer: Layer) -> str:
    """What a neighbour advertisement tells: type and length stand before the address (RFC 4861 4.6.1)."""
    option = bytes.fromhex(layer.text("option target link-layer address"))
    return f" is at {option[2:8].hex(':')}" if option and layer.text("override") else ""


def _fragment(layers: list[Layer]) -> str:
    for layer in layers:
        offset, more = layer.text("fragment offset"), layer.text("mf") == "1"
        if offset and (offset != "0" or more):
            return f" fragment {8 * int(offset)}{'+' if more else ''}"
    return ""


def _arp(layer: Layer) -> str:
    sender, target = layer.text("sender protocol address"), layer.text("target protocol address")
    operation = layer.text("operation").partition(" ")[0]
    if not target or operation not in ("1", "2"):
        return f"ARP operation {operation or '?'}"
    if operation == "1":
        return f"ARP who has {target} tell {sender}"
    return f"ARP {sender} is at {layer.text('sender hardware address')}"


def _link(layers: list[Layer]) -> str:
    first, last = layers[0], layers[-1]
    ends = f"{first.text('source') or '?'} > {first.text('destination') or '?'}"
    return f"{ends} {last.name} {last.text('type') or 'cut off'}"
