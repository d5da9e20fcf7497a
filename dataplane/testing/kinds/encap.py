"""Case kinds ``capture``, ``encap``, ``decap`` and ``header``: frames of other projects, taken apart and made again by the core.

A frame says what its bytes mean, not that Linux would accept them: where ``pop`` refuses a header (reserved bits, critical
options, a checksum that an offload would have written) the inner packet is what follows the described header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataplane.capture.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from dataplane.capture.tunnel import ETHERTYPE_TEB, Outer, outer_fields, outer_of
from dataplane.capture.tunnel_codec import Taken, described, take_apart
from dataplane.encap.guess import carried_by, guess
from dataplane.encap.registry import known
from dataplane.testing.kinds.encap_params import param_differences, raw_fields
from dataplane.testing.kinds.encap_rebuild import Rebuilt, rebuild, rebuilt_differences

INNER_TYPES = {"ethernet": ETHERTYPE_TEB, "ipv4": ETHERTYPE_IPV4, "ipv6": ETHERTYPE_IPV6}
_SHOWN = 24


def run(case: dict[str, Any], path: Path) -> list[str]:
    """Run one case of kind ``capture``, ``encap``, ``decap`` or ``header``; one line for each difference, none if it passed."""
    check = {"capture": _check_frame, "encap": _check_frame, "decap": _check_decap, "header": _check_header}[case["kind"]]
    failures = []
    for number, vector in enumerate(case["vectors"], 1):
        title = f"vector {number} ({vector.get('frame') or vector.get('description') or 'no name'})"
        failures += [f"{title}: {line}" for line in check(vector, case)]
    return failures


def kind_of(encap: str, outer: Outer) -> str:
    """The encapsulation that a case means: ``gre`` stands for all that GRE carries."""
    return (guess(outer.protocol, outer.body) or encap) if encap == "gre" else encap


def _check_frame(vector: dict[str, Any], case: dict[str, Any]) -> list[str]:
    expected = bytes.fromhex(vector["outer_hex"])
    outer = outer_of(expected, vector["linktype"])
    if outer is None:
        return ["outer_hex holds no whole IP packet"]
    kind = kind_of(vector["encap"], outer)
    params = raw_fields(vector["params"])
    taken = take_apart(kind, outer, {}, params)
    lines = param_differences(vector["params"], outer_fields(outer) + taken.fields, outer)
    lines += _inner_differences(vector, taken)
    if not vector.get("rebuilds"):
        return lines
    inner = Rebuilt(kind, bytes.fromhex(vector["inner_hex"]), INNER_TYPES[vector["inner_type"]], vector["linktype"])
    mask = bytes.fromhex(vector["deterministic_fields_mask"])
    return lines + rebuilt_differences(expected, rebuild(inner, vector["params"], params), mask, vector["linktype"])


def _inner_differences(vector: dict[str, Any], taken: Taken) -> list[str]:
    got = taken.inner if taken.reason is None else taken.rest
    lines = _bytes_difference("inner packet", bytes.fromhex(vector["inner_hex"]), got)
    wanted = INNER_TYPES[vector["inner_type"]]
    if taken.reason is None and taken.inner_protocol != wanted:
        lines.append(f"inner type: expected 0x{wanted:04x} ({vector['inner_type']}), got 0x{taken.inner_protocol:04x}")
    if lines and taken.reason:
        lines.append(f"and pop refuses the packet: {taken.reason}")
    return lines


def _bytes_difference(what: str, expected: bytes, got: bytes) -> list[str]:
    if expected == got:
        return []
    at = next((at for at, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    shown = [data[at : at + _SHOWN].hex() or "nothing" for data in (expected, got)]
    return [f"{what}: expected {len(expected)} bytes, got {len(got)}; from byte {at} on expected {shown[0]}, got {shown[1]}"]


def _decapsulate(frame: bytes) -> tuple[str, bool, bytes]:
    """Verdict, whether a tunnel was taken off, and the frame then: what a packet filter does, which cannot wait for fragments."""
    outer = outer_of(frame)
    if outer is not None and outer.fragment:
        return "drop", False, frame
    kind = guess(outer.protocol, outer.body) if outer else None
    if outer is None or kind is None:
        return "pass", False, frame
    taken = take_apart(kind, outer, {})
    if taken.reason is not None:
        return "drop", False, frame
    if taken.inner_protocol == ETHERTYPE_TEB:
        return "pass", True, taken.inner
    return "pass", True, outer.link[:-2] + taken.inner_protocol.to_bytes(2, "big") + taken.inner


def _check_decap(vector: dict[str, Any], case: dict[str, Any]) -> list[str]:
    verdict, decapsulated, frame = _decapsulate(bytes.fromhex(vector["outer_hex"]))
    lines = []
    if verdict != vector["verdict"]:
        lines.append(f"verdict: expected {vector['verdict']}, got {verdict}")
    if decapsulated != vector["decapsulated"]:
        lines.append(f"decapsulated: expected {vector['decapsulated']}, got {decapsulated}")
    return lines + _bytes_difference("frame", bytes.fromhex(vector["inner_hex"]), frame)


def _check_header(vector: dict[str, Any], case: dict[str, Any]) -> list[str]:
    kind = vector.get("encap") or next((feature for feature in case["features"] if feature in known()), "")
    data = bytes.fromhex(vector["outer_hex"])
    protocol, port = carried_by(kind)
    if port and not any(name.startswith("udp_") for name in vector["params"]):
        data = bytes(2) + port.to_bytes(2, "big") + (8 + len(data)).to_bytes(2, "big") + bytes(2) + data
    fields, size = described(kind, protocol, data)
    if size < 0:
        return ["the header is broken off"]
    lines = param_differences(vector["params"], fields, None)
    return lines + _bytes_difference("inner packet", bytes.fromhex(vector["inner_hex"]), data[size:])
