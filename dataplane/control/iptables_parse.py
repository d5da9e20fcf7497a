"""Rules of iptables as text: parsed into a canonical form, and written as iptables-save writes them.

The canonical form of a rule is what iptables-save(8) prints: options in its order, numbers instead of
names, defaults spelled out. Two texts that the kernel would hold as the same rule parse to equal ``Rule``.
Words and defaults: iptables-extensions(8); extensions/libxt_*.c and libipt_*.c of iptables 1.8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from dataplane.control import iptables_values as values
from dataplane.errors import InputError


@dataclass(frozen=True, slots=True)
class Option:
    """One option in canonical words; ``values`` is empty for a flag."""

    name: str
    values: tuple[str, ...] = ()
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """A match (``-m``) or a target (``-j``, ``-g``) with its options in iptables-save's order."""

    name: str
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule without its chain."""

    general: tuple[Option, ...]  # -s -d -i -o -p -f
    matches: tuple[Extension, ...]
    target: Extension | None
    goto: bool = False


class Spec(NamedTuple):
    """How one option is read: its canonical name and, for each word that follows, a reader (word, family) -> canonical word."""

    name: str
    readers: tuple[values.Reader, ...] = ()
    invertible: bool = False


def _specs(*specs: Spec, **aliases: str) -> Mapping[str, Spec]:
    table = {spec.name: spec for spec in specs}
    for alias, name in aliases.items():
        table["--" + alias.replace("_", "-")] = table[name]
    return table


_PORTS = (
    Spec("--sport", (values.port_range,), invertible=True),
    Spec("--dport", (values.port_range,), invertible=True),
)
_PORT_ALIASES = {"source_port": "--sport", "destination_port": "--dport"}

# Key order is iptables-save's order.
_GENERAL: Mapping[str, Spec] = {
    "-s": Spec("-s", (values.network,), invertible=True),
    "-d": Spec("-d", (values.network,), invertible=True),
    "-i": Spec("-i", (values.interface,), invertible=True),
    "-o": Spec("-o", (values.interface,), invertible=True),
    "-p": Spec("-p", (values.protocol,), invertible=True),
    "-f": Spec("-f"),
}
_GENERAL_ALIASES = {
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i", "--out-interface": "-o",
    "--protocol": "-p", "--proto": "-p", "--fragment": "-f",
}  # fmt: skip

_MATCHES: Mapping[str, Mapping[str, Spec]] = {
    "comment": _specs(Spec("--comment", (values.comment,))),
    "tcp": _specs(*_PORTS, Spec("--tcp-flags", (values.tcp_flags, values.tcp_flags), invertible=True), **_PORT_ALIASES),
    "udp": _specs(*_PORTS, **_PORT_ALIASES),
    "sctp": _specs(*_PORTS, **_PORT_ALIASES),
    "multiport": _specs(
        Spec("--sports", (values.port_list,), invertible=True),
        Spec("--dports", (values.port_list,), invertible=True),
        source_ports="--sports",
        destination_ports="--dports",
    ),
    "icmp": _specs(Spec("--icmp-type", (values.icmp_type,))),
    "icmp6": _specs(Spec("--icmpv6-type", (values.icmpv6_type,))),
    "conntrack": _specs(Spec("--ctstate", (values.conntrack_states,), invertible=True)),
    "state": _specs(Spec("--state", (values.plain_states,), invertible=True)),
    "addrtype": _specs(
        Spec("--src-type", (values.address_types,), invertible=True),
        Spec("--dst-type", (values.address_types,), invertible=True),
    ),
    "mark": _specs(Spec("--mark", (values.mark_match,), invertible=True)),
    "statistic": _specs(Spec("--mode", (values.statistic_mode,)), Spec("--probability", (values.probability,))),
    "recent": _specs(
        Spec("--set", invertible=True),
        Spec("--rcheck", invertible=True),
        Spec("--update", invertible=True),
        Spec("--remove", invertible=True),
        Spec("--seconds", (values.positive_number,)),
        Spec("--reap"),
        Spec("--name", (values.list_name,)),
        Spec("--mask", (values.full_mask,)),
        Spec("--rsource"),
    ),
}
_IMPLIED_BY_PROTOCOL = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "icmp": "icmp", "ipv6-icmp": "icmp6"}
_REFUSED_MATCHES = {
    "physdev": "bridge ports are not visible to rules here; match the bridge device with -i or -o instead",
}

_NAT_FLAGS = (Spec("--random"), Spec("--persistent"))
_TARGETS: Mapping[str, Mapping[str, Spec]] = {
    "ACCEPT": {},
    "DROP": {},
    "RETURN": {},
    "REJECT": _specs(Spec("--reject-with", (values.reject_with,))),
    "MARK": _specs(Spec("--set-xmark", (values.mark_and_mask,))),
    "DNAT": _specs(Spec("--to-destination", (values.nat_range,)), *_NAT_FLAGS),
    "SNAT": _specs(Spec("--to-source", (values.nat_range,)), Spec("--random"), Spec("--random-fully"), Spec("--persistent")),
    "MASQUERADE": _specs(Spec("--to-ports", (values.nat_ports,)), Spec("--random"), Spec("--random-fully")),
    "LOG": _specs(
        Spec("--log-prefix", (values.comment,)),
        Spec("--log-level", (values.number,)),
        Spec("--log-tcp-sequence"),
        Spec("--log-tcp-options"),
        Spec("--log-ip-options"),
        Spec("--log-uid"),
    ),
    "NFLOG": _specs(
        Spec("--nflog-prefix", (values.comment,)),
        Spec("--nflog-group", (values.number,)),
        Spec("--nflog-size", (values.number,)),
        Spec("--nflog-threshold", (values.number,)),
    ),
}
TARGETS = frozenset(_TARGETS)
_REFUSED_MATCH_OPTIONS = {
    "--rdest": "only the source address can be listed (--rsource)",
    "--hitcount": "hit counts are not kept",
    "--rttl": "the TTL is not kept",
    "--every": "only --mode random is supported",
    "--packet": "only --mode random is supported",
    "--ports": "give --sports or --dports",
}
_MARK_REWRITES: Mapping[str, Callable[[int, int], tuple[int, int]]] = {
    # option -> (value, mask) of mark = (mark & ~mask) ^ value; iptables, extensions/libxt_MARK.c
    "--set-mark": lambda value, mask: (value, value | mask),
    "--or-mark": lambda value, mask: (value, value),
    "--xor-mark": lambda value, mask: (value, 0),
    "--and-mark": lambda value, mask: (0, ~value & 0xFFFFFFFF),
}


_WORD = re.compile(r'"[^"\\]*"|[^\s"\\]+')
_SIMPLE = re.compile(rf"\s*(?:{_WORD.pattern})(?:\s+(?:{_WORD.pattern}))*\s*")  # words that are quoted whole or not at all


def split_words(text: str) -> list[str]:
    """Words of a line as iptables-restore splits them: blanks separate, double quotes group, a backslash inside quotes escapes."""
    if _SIMPLE.fullmatch(text):
        return [word.strip('"') for word in _WORD.findall(text)]
    words: list[str] = []
    word: list[str] | None = None
    quoted = False
    chars = iter(text)
    for char in chars:
        if quoted and char == "\\":
            char = next(chars, "\\")
        elif char == '"':
            quoted = not quoted
            word = [] if word is None else word
            continue
        elif not quoted and char.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        word.append(char)
    if quoted:
        raise InputError(f"unclosed double quote in rule: {text.strip()}")
    if word is not None:
        words.append("".join(word))
    return words


class _Parser:
    """One pass over the words of one rule."""

    def __init__(self, words: list[str], family: int) -> None:
        self._words: Iterator[str] = iter(words)
        self._family = family
        self._general: dict[str, Option] = {}
        self._matches: dict[str, dict[str, Option]] = {}
        self._target: str | None = None
        self._goto = False
        self._target_options: dict[str, Option] = {}

    def parse(self) -> Rule:
        inverted = False
        for word in self._words:
            if word == "!":
                if inverted:
                    raise InputError('"!" twice in a row')
                inverted = True
                continue
            self._option(word, inverted)
            inverted = False
        if inverted:
            raise InputError('nothing follows "!"')
        return self._finish()

    def _next(self, option: str) -> str:
        word = next(self._words, None)
        if word is None:
            raise InputError(f"option {option} needs a value")
        return word

    def _option(self, word: str, inverted: bool) -> None:
        if word in ("-m", "--match", "-j", "--jump", "-g", "--goto"):
            if inverted:
                raise InputError(f'"!" cannot stand before {word}')
            name = self._next(word)
            self._load_match(name) if word in ("-m", "--match") else self._set_target(name, word in ("-g", "--goto"))
        elif (general := _GENERAL_ALIASES.get(word, word)) in _GENERAL:
            self._store(self._general, _GENERAL[general], word, inverted)
        elif self._target is not None and self._target_option(word, inverted):
            pass
        else:
            self._match_option(word, inverted)

    def _load_match(self, name: str) -> None:
        if name in _REFUSED_MATCHES:
            raise InputError(f"match {name} is not supported: {_REFUSED_MATCHES[name]}")
        if name == "icmpv6":
            name = "icmp6"
        if name not in _MATCHES:
            raise InputError(f"unknown match -m {name}; supported: {', '.join(sorted(_MATCHES))}")
        self._matches.setdefault(name, {})

    def _set_target(self, name: str, goto: bool) -> None:
        if self._target is not None:
            raise InputError(f"a second target {name} after {self._target}")
        if goto and name in _TARGETS:
            raise InputError(f"-g {name}: only a chain can be gone to; use -j")
        self._target, self._goto = name, goto

    def _target_option(self, word: str, inverted: bool) -> bool:
        target = self._target or ""
        if target == "MARK" and word in _MARK_REWRITES:
            value, mask = values.split_mark(self._next(word))
            value, mask = _MARK_REWRITES[word](value, mask)
            self._put(self._target_options, Option("--set-xmark", (f"{value:#x}/{mask:#x}",), inverted), word)
            return True
        spec = _TARGETS.get(target, {}).get(word)
        if spec is None:
            return False
        self._store(self._target_options, spec, word, inverted)
        return True

    def _match_option(self, word: str, inverted: bool) -> None:
        if word in _REFUSED_MATCH_OPTIONS:
            raise InputError(f"option {word} is not supported: {_REFUSED_MATCH_OPTIONS[word]}")
        module = self._module_for(word)
        if word == "--syn":
            # iptables-save writes --syn as the flags it stands for (extensions/libxt_tcp.c).
            self._put(self._matches[module], Option("--tcp-flags", ("FIN,SYN,RST,ACK", "SYN"), inverted), word)
            return
        self._store(self._matches[module], _MATCHES[module][word], word, inverted)

    def _module_for(self, word: str) -> str:
        key = "--tcp-flags" if word == "--syn" else word
        for module in reversed(self._matches):
            if key in _MATCHES[module]:
                return module
        protocol = self._general.get("-p")
        implied = _IMPLIED_BY_PROTOCOL.get(protocol.values[0], "") if protocol else ""
        if key not in _MATCHES.get(implied, {}):
            raise InputError(f"unknown option {word} (is its -m or -p missing before it?)")
        self._matches[implied] = {}
        return implied

    def _store(self, into: dict[str, Option], spec: Spec, word: str, inverted: bool) -> None:
        if inverted and not spec.invertible:
            raise InputError(f'option {word} cannot be inverted with "!" here')
        read = tuple(reader(self._next(word), self._family) for reader in spec.readers)
        self._put(into, Option(spec.name, read, inverted), word)

    def _put(self, into: dict[str, Option], option: Option, word: str) -> None:
        if option.name in into:
            raise InputError(f"option {word} is given twice in one rule")
        into[option.name] = option

    def _finish(self) -> Rule:
        general = self._general
        if general.get("-p") == Option("-p", ("all",)):
            del general["-p"]
        for name in ("-s", "-d"):
            # 0.0.0.0/0 is how "any address" is written: iptables-save leaves it out.
            if name in general and values.matches_everything(general[name].values[0]) and not general[name].inverted:
                del general[name]
        self._check_protocol()
        if "recent" in self._matches:
            self._complete_recent(self._matches["recent"])
        if self._target == "REJECT" and not self._target_options:
            default = values.DEFAULT_REJECT[self._family]
            self._target_options["--reject-with"] = Option("--reject-with", (default,))
        self._check_complete()
        matches = tuple(Extension(name, _ordered(options, _MATCHES[name])) for name, options in self._matches.items())
        target = None
        if self._target is not None:
            target = Extension(self._target, _ordered(self._target_options, _TARGETS.get(self._target, {})))
        return Rule(_ordered(general, _GENERAL), matches, target, self._goto)

    def _complete_recent(self, options: dict[str, Option]) -> None:
        options.setdefault("--name", Option("--name", ("DEFAULT",)))
        options.setdefault("--mask", Option("--mask", (values.FULL_MASK[self._family],)))
        options.setdefault("--rsource", Option("--rsource"))
        if sum(name in options for name in ("--set", "--rcheck", "--update", "--remove")) != 1:
            raise InputError("-m recent needs exactly one of --set, --rcheck, --update, --remove")
        if "--reap" in options and "--seconds" not in options:
            raise InputError("-m recent --reap needs --seconds")

    def _check_protocol(self) -> None:
        protocol = self._general.get("-p")
        name = protocol.values[0] if protocol and not protocol.inverted else ""
        for module in self._matches:
            if module in _IMPLIED_BY_PROTOCOL.values() and _IMPLIED_BY_PROTOCOL.get(name) != module:
                wanted = "icmpv6" if module == "icmp6" else module
                raise InputError(f"-m {wanted} needs -p {wanted}")
        if "multiport" in self._matches and name not in ("tcp", "udp", "sctp"):
            raise InputError("-m multiport needs -p tcp, udp or sctp")
        if name != "tcp" and self._target_options.get("--reject-with") == Option("--reject-with", ("tcp-reset",)):
            raise InputError("--reject-with tcp-reset needs -p tcp")
        if name not in ("tcp", "udp", "sctp") and any(self._has_ports(option) for option in self._target_options.values()):
            raise InputError("a translation of ports needs -p tcp, udp or sctp")
        if self._family == 6 and "-f" in self._general:
            raise InputError("-f is not an option of ip6tables")

    def _has_ports(self, option: Option) -> bool:
        if option.name in ("--to-destination", "--to-source"):
            return values.nat_bounds(option.values[0], self._family)[2] != 0
        return option.name == "--to-ports"

    def _check_complete(self) -> None:
        for module, needed in (("multiport", ("--sports", "--dports")), ("statistic", ("--probability",)), ("mark", ("--mark",)),
                               ("conntrack", ("--ctstate",)), ("state", ("--state",)), ("addrtype", ("--src-type", "--dst-type")),
                               ("comment", ("--comment",))):  # fmt: skip
            if module in self._matches and not any(name in self._matches[module] for name in needed):
                raise InputError(f"-m {module} needs {' or '.join(needed)}")
        for target, option in (("MARK", "--set-xmark"), ("DNAT", "--to-destination"), ("SNAT", "--to-source")):
            if self._target == target and option not in self._target_options:
                raise InputError(f"-j {target} needs {option}")


def _ordered(options: Mapping[str, Option], specs: Mapping[str, Spec]) -> tuple[Option, ...]:
    return tuple(options[name] for name in dict.fromkeys(spec.name for spec in specs.values()) if name in options)


@lru_cache(maxsize=1 << 16)  # the nodes of a cluster share most of their rules
def parse_rule(text: str, family: int) -> Rule:
    """Parse the part of a rule that follows its chain (``-p tcp --dport 80 -j DROP``).

    ``family`` is 4 or 6. Raises InputError for anything that the emulated netfilter does not know.
    """
    try:
        return _Parser(split_words(text), family).parse()
    except InputError as error:
        raise InputError(f"{error} in rule: {text.strip()}") from None


def write_rule(rule: Rule) -> str:
    """The rule as iptables-save prints it after the chain; ``parse_rule`` of it gives an equal rule."""
    words: list[str] = []
    for option in rule.general:
        words += _option_words(option)
    for match in rule.matches:
        words += ["-m", match.name]
        for option in match.options:
            words += _option_words(option)
    if rule.target is not None:
        words += ["-g" if rule.goto else "-j", rule.target.name]
        for option in rule.target.options:
            words += _option_words(option)
    return " ".join(words)


def _option_words(option: Option) -> list[str]:
    quote = option.name in ("--comment", "--log-prefix", "--nflog-prefix")
    written = [values.quoted(value) if quote else value for value in option.values]
    return (["!"] if option.inverted else []) + [option.name, *written]
