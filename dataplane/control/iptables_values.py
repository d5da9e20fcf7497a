"""Values of iptables options: each reader takes a word as a user writes it and gives it as iptables-save prints it.

A reader has the form ``(word, family) -> word`` and raises InputError when the word makes no sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError

from dataplane.errors import InputError

Reader = Callable[[str, int], str]

PROTOCOLS: Mapping[str, int] = {
    "tcp": 6, "udp": 17, "udplite": 136, "icmp": 1, "ipv6-icmp": 58, "esp": 50, "ah": 51, "sctp": 132, "gre": 47, "all": 0,
}  # fmt: skip
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
# ICMP codes of type 3 (RFC 792, RFC 1812 5.2.7.1) and of ICMPv6 type 1 (RFC 4443 3.1); TCP_RESET stands for a RST instead.
TCP_RESET = 256
REJECT_CODES: Mapping[int, Mapping[str, int]] = {
    4: {
        "icmp-net-unreachable": 0, "icmp-host-unreachable": 1, "icmp-proto-unreachable": 2, "icmp-port-unreachable": 3,
        "icmp-net-prohibited": 9, "icmp-host-prohibited": 10, "icmp-admin-prohibited": 13, "tcp-reset": TCP_RESET,
    },
    6: {
        "icmp6-no-route": 0, "icmp6-adm-prohibited": 1, "icmp6-addr-unreachable": 3, "icmp6-port-unreachable": 4,
        "icmp6-policy-fail": 5, "icmp6-reject-route": 6, "tcp-reset": TCP_RESET,
    },
}  # fmt: skip
DEFAULT_REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}
_REJECT_ALIASES: Mapping[int, Mapping[str, str]] = {
    4: {
        "net-unreach": "icmp-net-unreachable", "host-unreach": "icmp-host-unreachable", "proto-unreach": "icmp-proto-unreachable",
        "port-unreach": "icmp-port-unreachable", "net-prohib": "icmp-net-prohibited", "host-prohib": "icmp-host-prohibited",
        "admin-prohib": "icmp-admin-prohibited", "tcp-rst": "tcp-reset",
    },
    6: {
        "no-route": "icmp6-no-route", "adm-prohibited": "icmp6-adm-prohibited", "addr-unreach": "icmp6-addr-unreachable",
        "port-unreach": "icmp6-port-unreachable", "policy-fail": "icmp6-policy-fail", "reject-route": "icmp6-reject-route",
    },
}  # fmt: skip
FULL_MASK = {4: "255.255.255.255", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
ICMP_ANY = "any"
_ICMP_NAMES: Mapping[str, str] = {
    "echo-reply": "0", "pong": "0", "destination-unreachable": "3", "network-unreachable": "3/0", "host-unreachable": "3/1",
    "protocol-unreachable": "3/2", "port-unreachable": "3/3", "fragmentation-needed": "3/4", "source-route-failed": "3/5",
    "source-quench": "4", "redirect": "5", "echo-request": "8", "ping": "8", "router-advertisement": "9",
    "router-solicitation": "10", "time-exceeded": "11", "ttl-exceeded": "11", "ttl-zero-during-transit": "11/0",
    "ttl-zero-during-reassembly": "11/1", "parameter-problem": "12", "timestamp-request": "13", "timestamp-reply": "14",
    "address-mask-request": "17", "address-mask-reply": "18", ICMP_ANY: ICMP_ANY,
}  # fmt: skip
_ICMPV6_NAMES: Mapping[str, str] = {
    "destination-unreachable": "1", "no-route": "1/0", "communication-prohibited": "1/1", "beyond-scope": "1/2",
    "address-unreachable": "1/3", "port-unreachable": "1/4", "failed-policy": "1/5", "reject-route": "1/6", "packet-too-big": "2",
    "time-exceeded": "3", "ttl-exceeded": "3", "ttl-zero-during-transit": "3/0", "ttl-zero-during-reassembly": "3/1",
    "parameter-problem": "4", "bad-header": "4/0", "unknown-header-type": "4/1", "unknown-option": "4/2", "echo-request": "128",
    "ping": "128", "echo-reply": "129", "pong": "129", "router-solicitation": "133", "router-advertisement": "134",
    "neighbour-solicitation": "135", "neighbor-solicitation": "135", "neighbour-advertisement": "136",
    "neighbor-advertisement": "136", "redirect": "137",
}  # fmt: skip
TCP_FLAGS: Mapping[str, int] = {"FIN": 0x01, "SYN": 0x02, "RST": 0x04, "PSH": 0x08, "ACK": 0x10, "URG": 0x20}  # RFC 9293 3.1
# Order as iptables-save prints them.
PLAIN_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED")
CONNTRACK_STATES = (*PLAIN_STATES, "SNAT", "DNAT")
ADDRESS_TYPES = {  # for IPv6: net/netfilter/xt_addrtype.c, addrtype_mt_checkentry_v1
    4: ("UNICAST", "LOCAL", "BROADCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT"),
    6: ("UNICAST", "LOCAL", "MULTICAST", "UNREACHABLE"),
}
# xt_statistic compares 31 random bits with this share of 2^31 (include/uapi/linux/netfilter/xt_statistic.h).
PROBABILITY_UNIT = 1 << 31


def _integer(word: str, low: int, high: int, what: str) -> int:
    try:
        number = int(word, 0) if word[:2].lower() == "0x" else int(word, 10)
    except ValueError:
        raise InputError(f"{what} {word!r} is not a number") from None
    if not low <= number <= high:
        raise InputError(f"{what} {word} is not in {low}..{high}")
    return number


def number(word: str, family: int) -> str:
    return str(_integer(word, 0, 0xFFFFFFFF, "value"))


def positive_number(word: str, family: int) -> str:
    return str(_integer(word, 1, 0xFFFFFFFF, "value"))


def network(word: str, family: int) -> str:
    """Address, address/length or address/mask; host bits are cleared, as iptables does."""
    try:
        net = IPv4Network(word, strict=False) if family == 4 else IPv6Network(word, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InputError(f"{word!r} is not an IPv{family} address or prefix (one per rule)") from None
    return str(net)


def matches_everything(net: str) -> bool:
    return net in ("0.0.0.0/0", "::/0")


def interface(word: str, family: int) -> str:
    if not 1 <= len(word) <= 15 or "/" in word or any(char.isspace() for char in word):
        raise InputError(f"{word!r} is not an interface name (1 to 15 characters)")
    return word


def protocol(word: str, family: int) -> str:
    lowered = word.lower()
    if lowered in ("icmpv6", "icmp6"):
        lowered = "ipv6-icmp"
    number = PROTOCOLS[lowered] if lowered in PROTOCOLS else _integer(word, 0, 255, "protocol")
    return _PROTOCOL_NAMES.get(number, str(number))


def protocol_number(name: str) -> int:
    """Number of a protocol in canonical words."""
    return PROTOCOLS[name] if name in PROTOCOLS else int(name)


def port_bounds(word: str) -> tuple[int, int]:
    """(lowest, highest) of ``80``, ``80:90``, ``:90`` or ``80:``. Raises InputError."""
    low, colon, high = word.partition(":")
    if not colon:
        port = _integer(low, 0, 65535, "port")
        return port, port
    first = _integer(low, 0, 65535, "port") if low else 0
    last = _integer(high, 0, 65535, "port") if high else 65535
    if first > last:
        raise InputError(f"port range {word} runs backwards")
    return first, last


def port_range(word: str, family: int) -> str:
    low, high = port_bounds(word)
    return str(low) if low == high else f"{low}:{high}"


def port_list(word: str, family: int) -> str:
    parts = word.split(",")
    # xt_multiport holds 15 ports, a range takes two of them.
    if sum(2 if ":" in part else 1 for part in parts) > 15:
        raise InputError("-m multiport takes up to 15 ports (a range counts twice); use several rules")
    return ",".join(port_range(part, family) for part in parts)


def tcp_flags(word: str, family: int) -> str:
    if word.upper() == "NONE":
        return "NONE"
    names = list(TCP_FLAGS) if word.upper() == "ALL" else word.upper().split(",")
    return ",".join(_picked(names, tuple(TCP_FLAGS), "TCP flag"))


def _picked(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"unknown {what} {unknown[0]!r}; known: {', '.join(known)}")
    return [name for name in known if name in names]


def plain_states(word: str, family: int) -> str:
    return ",".join(_picked(word.upper().split(","), PLAIN_STATES, "state"))


def conntrack_states(word: str, family: int) -> str:
    return ",".join(_picked(word.upper().split(","), CONNTRACK_STATES, "ctstate"))


def address_types(word: str, family: int) -> str:
    return ",".join(_picked(word.upper().split(","), ADDRESS_TYPES[family], f"IPv{family} address type"))


def _icmp(word: str, names: Mapping[str, str]) -> str:
    if word in names:
        return names[word]
    kind, slash, code = word.partition("/")
    text = str(_integer(kind, 0, 255, "ICMP type"))
    return f"{text}/{_integer(code, 0, 255, 'ICMP code')}" if slash else text


def icmp_type(word: str, family: int) -> str:
    return _icmp(word, _ICMP_NAMES)


def icmpv6_type(word: str, family: int) -> str:
    return _icmp(word, _ICMPV6_NAMES)


def split_mark(word: str) -> tuple[int, int]:
    """(value, mask) of ``value[/mask]``."""
    value, slash, mask = word.partition("/")
    return _integer(value, 0, 0xFFFFFFFF, "mark"), _integer(mask, 0, 0xFFFFFFFF, "mark mask") if slash else 0xFFFFFFFF


def mark_match(word: str, family: int) -> str:
    value, mask = split_mark(word)
    return f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}"


def mark_and_mask(word: str, family: int) -> str:
    value, mask = split_mark(word)
    return f"{value:#x}/{mask:#x}"


def statistic_mode(word: str, family: int) -> str:
    if word != "random":
        raise InputError(f"-m statistic --mode {word} is not supported; use --mode random")
    return word


def probability_share(word: str) -> int:
    """The probability as the kernel holds it: a share of 2^31, rounded."""
    try:
        value = float(word)
    except ValueError:
        raise InputError(f"probability {word!r} is not a number") from None
    if not 0 <= value <= 1:
        raise InputError(f"probability {word} is not in 0..1")
    return round(value * PROBABILITY_UNIT)


def probability(word: str, family: int) -> str:
    return f"{probability_share(word) / PROBABILITY_UNIT:.11f}"


def list_name(word: str, family: int) -> str:
    if not 1 <= len(word) < 200 or "/" in word:
        raise InputError(f"{word!r} is not a name of a recent list (1 to 199 characters, no slash)")
    return word


def full_mask(word: str, family: int) -> str:
    if word.lower() != FULL_MASK[family]:
        raise InputError(f"-m recent --mask {word} is not supported: lists hold whole addresses")
    return FULL_MASK[family]


def comment(word: str, family: int) -> str:
    if len(word.encode()) > 255 or "\n" in word:
        raise InputError("a comment or prefix is one line of up to 255 bytes")
    return word


def quoted(text: str) -> str:
    """Text as iptables-save quotes it (libxtables, xtables_save_string)."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return text
    return '"' + re.sub(r"([\"\\'])", r"\\\1", text) + '"'


def reject_with(word: str, family: int) -> str:
    name = _REJECT_ALIASES[family].get(word, word)
    if name not in REJECT_CODES[family]:
        raise InputError(f"unknown --reject-with {word}; known: {', '.join(REJECT_CODES[family])}")
    return name


def nat_ports(word: str, family: int) -> str:
    low, high = _nat_port_bounds(word)
    return str(low) if low == high else f"{low}-{high}"


def _nat_port_bounds(word: str) -> tuple[int, int]:
    low, dash, high = word.partition("-")
    first = _integer(low, 1, 65535, "port")
    last = _integer(high, 1, 65535, "port") if dash else first
    if first > last:
        raise InputError(f"port range {word} runs backwards")
    return first, last


def nat_bounds(word: str, family: int) -> tuple[bytes, bytes, int, int]:
    """Lowest and highest address (b"": keep) and port (0: keep) of a --to-destination or --to-source. Raises InputError."""
    addresses, ports = _split_nat(word, family)
    low, dash, high = addresses.partition("-")
    port_low, port_high = _nat_port_bounds(ports) if ports else (0, 0)
    if not addresses:
        return b"", b"", port_low, port_high
    first = _packed(low, family)
    last = _packed(high, family) if dash else first
    if first > last:
        raise InputError(f"address range {addresses} runs backwards")
    return first, last, port_low, port_high


def _split_nat(word: str, family: int) -> tuple[str, str]:
    if family == 4:
        addresses, colon, ports = word.partition(":")
    elif word.startswith("["):
        addresses, bracket, rest = word[1:].partition("]")
        colon, ports = rest[:1], rest[1:]
        if not bracket or (rest and colon != ":"):
            raise InputError(f"{word!r} is not [address]:port")
    else:
        addresses, colon, ports = (word, "", "") if not re.fullmatch(r":\d+(-\d+)?", word) else ("", ":", word[1:])
    if (colon and not ports) or not (addresses or ports):
        raise InputError(f"{word!r} is not an address or address and port")
    return addresses, ports


def _packed(word: str, family: int) -> bytes:
    try:
        return IPv4Address(word).packed if family == 4 else IPv6Address(word).packed
    except AddressValueError:
        raise InputError(f"{word!r} is not an IPv{family} address") from None


def nat_range(word: str, family: int) -> str:
    first, last, port_low, port_high = nat_bounds(word, family)
    kind = IPv4Address if family == 4 else IPv6Address
    text = str(kind(first)) if first else ""
    if first != last:
        text += f"-{kind(last)}"
    if not port_low:
        return text
    ports = nat_ports(f"{port_low}-{port_high}", family)
    return f"[{text}]:{ports}" if family == 6 and text else f"{text}:{ports}"
