"""Conntrack entries as lines of conntrack(8), without timeouts, and tables of them compared as multisets.

Shape: libnetfilter_conntrack, src/conntrack/snprintf_default.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite"}
NOT_COMPARED = ("use=", "mark=", "zone=", "id=", "secctx=")
FREE_PORTS = {"sport=*", "dport=*"}


def address_text(packed: bytes) -> str:
    """As inet_ntop(3) writes it, which keeps the dots of an IPv4-mapped address."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def tuple_text(half: Mapping[str, Any]) -> str:
    """One direction: addresses, then what identifies the flow beside them."""
    fields = [f"src={address_text(half['src'])}", f"dst={address_text(half['dst'])}"]
    if "sport" in half:
        fields += [f"sport={half['sport']}", f"dport={half['dport']}"]
    elif "type" in half:
        fields += [f"type={half['type']}", f"code={half['code']}", f"id={half['id']}"]
    elif "srckey" in half:
        fields += [f"srckey=0x{half['srckey']:x}", f"dstkey=0x{half['dstkey']:x}"]
    return " ".join(fields)


def line(entry: Mapping[str, Any]) -> str:
    """An entry of ``Engine.conntrack()`` as conntrack(8) prints it."""
    protocol = entry["proto"]
    fields = [f"{PROTOCOL_NAMES.get(protocol, 'unknown'):<8} {protocol}", entry["state"] or "", tuple_text(entry["orig"])]
    if not entry["seen_reply"]:
        fields.append("[UNREPLIED]")
    fields.append(tuple_text(entry["reply"]))
    if entry["assured"]:
        fields.append("[ASSURED]")
    return " ".join(field for field in fields if field)


def words(text: str) -> tuple[str, ...]:
    """What is compared of a line."""
    kept: list[str] = []
    for word in text.split():
        icmp_id = word.startswith("id=") and kept[-1].startswith("code=")  # elsewhere it is the entry's own number
        if icmp_id or not word.startswith(NOT_COMPARED):
            kept.append(word)
    return tuple(kept)


def flow(entry: tuple[str, ...]) -> tuple[str, ...]:
    """Protocol and original tuple: what makes two lines speak of the same connection."""
    originals: dict[str, str] = {}
    for word in entry:
        name, equals, _ = word.partition("=")
        if equals:
            originals.setdefault(name, word)
    return (entry[0], entry[1], *originals.values())


def answers(expected: tuple[str, ...], got: tuple[str, ...], free_ports: frozenset[int]) -> bool:
    """Whether ``got`` is ``expected``; a port written ``*`` is any one of ``free_ports``, the same wherever it stands."""
    if len(expected) != len(got):
        return False
    drawn = set()
    for want, have in zip(expected, got, strict=True):
        if want in FREE_PORTS and have.startswith(want[:-1]):
            drawn.add(int(have[len(want) - 1 :]))
        elif want != have:
            return False
    return len(drawn) <= 1 and drawn <= free_ports


def unmatched(
    expected: Sequence[tuple[str, ...]], got: Sequence[tuple[str, ...]], free_ports: frozenset[int]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """What is left on both sides when every expected line has taken one that answers it; lines without ``*`` choose first."""
    rest, missing = list(got), []
    for want in sorted(expected, key=lambda entry: bool(FREE_PORTS & set(entry))):
        match = next((have for have in rest if answers(want, have, free_ports)), None)
        if match is None:
            missing.append(want)
        else:
            rest.remove(match)
    return missing, rest


def differences(expected: Sequence[str], got: Sequence[str], free_ports: frozenset[int]) -> Iterator[str]:
    """One sentence per entry that is missing, too many, or another than expected.

    ``free_ports``: source ports that this node's tunnel frames bore where the case leaves them free.
    """
    missing, extra = unmatched([words(text) for text in expected], [words(text) for text in got], free_ports)
    for want in missing:
        same_flow = next((have for have in extra if flow(have) == flow(want)), None)
        if same_flow is None:
            yield f"entry missing: {' '.join(want)}"
        else:
            extra.remove(same_flow)
            yield f"entry differs: expected {' '.join(want)}, got {' '.join(same_flow)}"
    for have in extra:
        yield f"entry not expected: {' '.join(have)}"
