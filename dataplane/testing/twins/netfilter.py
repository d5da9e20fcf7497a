"""Slow, obvious twin of the core's netfilter: every way that the rules of one namespace can go for one new packet.

Order of tables and hooks: include/uapi/linux/netfilter_ipv4.h (nf_ip_hook_priorities), net/ipv4/netfilter/ip_tables.c.
The packet opens a connection (ctstate NEW), or belongs to the state that the caller says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dataplane import _core
from dataplane._core import Chain, Outcome

_TCP, _UDP, _SCTP, _ICMP, _ICMPV6 = 6, 17, 132, 1, 58
_WITH_PORTS = (_TCP, _UDP, _SCTP)


@dataclass(frozen=True, slots=True)
class _Walk:
    """One branch of the walk: the packet as it stands, and what has happened to it."""

    src: bytes
    dst: bytes
    proto: int
    sport: int
    dport: int
    icmp: tuple[int, int]
    tcp_flags: int
    later_fragment: bool
    iif: str
    oif: str
    ctstate: int
    probability: float = 1.0
    mark: int = 0
    dnat: tuple[bytes, int] | None = None
    origins: tuple[int, ...] = ()
    verdict: str = ""  # of the table it is in: "" while it goes on


@dataclass(frozen=True)
class NetfilterTwin:
    """The rules of one namespace and family, and what they ask of the namespace.

    ``tables`` holds chains by table. ``address_type`` gives the ADDR_* bit of an address, ``route`` the device that
    a destination leaves by ("" for an address of the namespace itself). ``recent`` holds for each list the age in
    seconds of each source address that is in it.
    """

    tables: Mapping[str, Sequence[Chain]]
    address_type: Callable[[bytes], int]
    route: Callable[[bytes], str]
    recent: Mapping[str, Mapping[bytes, float]] = field(default_factory=dict)

    def outcomes(self, hook: str, packet: bytes, *, iif: str = "", ctstate: int = _core.CT_NEW) -> list[Outcome]:
        """Outcomes for an IP packet that arrives on ``iif`` (hook ``prerouting``) or that the namespace sends (``output``).

        Branches that end alike (verdict, translation, mark, rules) are one outcome. What the namespace sends to itself
        comes back in through ``lo``.
        """
        start = _parse(packet, iif, ctstate)
        if hook == "output":
            start = replace(start, oif=self.route(start.dst))
        chain = hook.upper()
        walks = self._tables_of(chain, ("raw", "mangle", "nat"), [start])
        if hook == "output":
            walks = [end for walk in self._tables_of(chain, ("filter",), walks) for end in self._looped_back(walk)]
        else:
            walks = [end for walk in walks for end in self._after_routing(walk)]
        return _merged(walks)

    def _after_routing(self, walk: _Walk) -> list[_Walk]:
        if walk.verdict in ("DROP", "REJECT"):
            return [walk]
        oif = self.route(walk.dst)
        return self._tables_of("FORWARD" if oif else "INPUT", ("mangle", "filter"), [replace(walk, oif=oif)])

    def _looped_back(self, walk: _Walk) -> list[_Walk]:
        if walk.verdict in ("DROP", "REJECT") or self.route(walk.dst):
            return [walk]
        return self._tables_of("INPUT", ("mangle", "filter"), [replace(walk, iif="lo", oif="")])

    def _tables_of(self, hook: str, tables: Sequence[str], walks: Iterable[_Walk]) -> list[_Walk]:
        current = list(walks)
        for table in tables:
            chains = {chain.name: chain for chain in self.tables.get(table, ())}
            if hook in chains:
                current = [end for walk in current for end in self._enter(chains, hook, walk)]
        return current

    def _enter(self, chains: Mapping[str, Chain], hook: str, walk: _Walk) -> list[_Walk]:
        if walk.verdict in ("DROP", "REJECT"):
            return [walk]
        ended, fallen = self._chain(chains, hook, [replace(walk, verdict="")])
        return ended + [replace(walk, verdict=chains[hook].policy) for walk in fallen]

    def _chain(self, chains: Mapping[str, Chain], name: str, walks: list[_Walk]) -> tuple[list[_Walk], list[_Walk]]:
        """(branches with a verdict, branches that come back to the caller)."""
        ended: list[_Walk] = []
        returned: list[_Walk] = []
        for rule in chains[name].rules:
            going: list[_Walk] = []
            for walk in walks:
                for chance in self._chances(rule, walk):
                    if not chance.hit:
                        going.append(chance.walk)
                        continue
                    done, back, on = self._apply(chains, rule, chance.walk)
                    ended += done
                    returned += back
                    going += on
            walks = going
        return ended, returned + walks

    def _chances(self, rule: Mapping[str, Any], walk: _Walk) -> list[_Chance]:
        if not self._matches(rule, walk):
            return [_Chance(False, walk)]
        hit = replace(walk, origins=(*walk.origins, rule["origin"]) if rule.get("origin") else walk.origins)
        share = rule.get("probability", 1.0)
        chances = [_Chance(True, replace(hit, probability=walk.probability * share))] if share else []
        if share < 1:
            chances.append(_Chance(False, replace(walk, probability=walk.probability * (1 - share))))
        return chances

    def _apply(self, chains: Mapping[str, Chain], rule: Mapping[str, Any], walk: _Walk) -> tuple[list[_Walk], list[_Walk], list[_Walk]]:
        """(ended, returned to the caller of this chain, going on with the next rule)."""
        target = rule["target"]
        if target == "":
            return [], [], [walk]
        if target == "RETURN":
            return [], [walk], []
        if target == "MARK":
            value, mask = rule["set_mark"]
            return [], [], [replace(walk, mark=(walk.mark & ~mask & 0xFFFFFFFF) ^ value)]
        if target in ("ACCEPT", "DROP", "REJECT"):
            return [replace(walk, verdict=target)], [], []
        if target in ("SNAT", "MASQUERADE"):
            return [replace(walk, verdict="ACCEPT")], [], []
        if target == "DNAT":
            return [_translated(rule["to"], walk)], [], []
        ended, back = self._chain(chains, target, [walk])
        return (ended, back, []) if rule.get("goto") else (ended, [], back)

    def _matches(self, rule: Mapping[str, Any], walk: _Walk) -> bool:
        return all(
            self._test(key, rule[key], walk) != rule.get(key + "_not", False)
            for key in rule
            if key in _TESTS or key in ("src_type", "dst_type", "recent")
        )

    def _test(self, key: str, wanted: Any, walk: _Walk) -> bool:
        if key == "src_type":
            return bool(self.address_type(walk.src) & wanted)
        if key == "dst_type":
            return bool(self.address_type(walk.dst) & wanted)
        if key == "recent":
            return self._recent(wanted, walk.src)
        return _TESTS[key](wanted, walk)

    def _recent(self, wanted: tuple[str, str, int, bool], src: bytes) -> bool:
        action, name, seconds, _ = wanted
        if action == "set":
            return True
        age = self.recent.get(name, {}).get(src)
        return age is not None and (not seconds or age <= seconds)


@dataclass(frozen=True, slots=True)
class _Chance:
    hit: bool
    walk: _Walk


def _in_prefix(wanted: tuple[bytes, int], address: bytes) -> bool:
    network, length = wanted
    shift = 8 * len(address) - length
    return int.from_bytes(address) >> shift == int.from_bytes(network) >> shift


def _in_range(wanted: tuple[int, int], value: int, walk: _Walk) -> bool:
    return walk.proto in _WITH_PORTS and not walk.later_fragment and wanted[0] <= value <= wanted[1]


def _is_interface(wanted: str, name: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("+") else name == wanted


def _is_icmp(wanted: tuple[int, int, int], walk: _Walk) -> bool:
    kind, low, high = wanted
    return walk.proto in (_ICMP, _ICMPV6) and not walk.later_fragment and walk.icmp[0] == kind and low <= walk.icmp[1] <= high


_TESTS: Mapping[str, Callable[[Any, _Walk], bool]] = {
    "src": lambda wanted, walk: _in_prefix(wanted, walk.src),
    "dst": lambda wanted, walk: _in_prefix(wanted, walk.dst),
    "iif": lambda wanted, walk: _is_interface(wanted, walk.iif),
    "oif": lambda wanted, walk: _is_interface(wanted, walk.oif),
    "proto": lambda wanted, walk: walk.proto == wanted,
    "sport": lambda wanted, walk: _in_range(wanted, walk.sport, walk),
    "dport": lambda wanted, walk: _in_range(wanted, walk.dport, walk),
    "ctstate": lambda wanted, walk: bool(walk.ctstate & wanted),
    "mark": lambda wanted, walk: walk.mark & wanted[1] == wanted[0],
    "icmp_type": _is_icmp,
    "tcp_flags": lambda wanted, walk: walk.proto == _TCP and not walk.later_fragment and walk.tcp_flags & wanted[0] == wanted[1],
    "fragment": lambda wanted, walk: walk.later_fragment == wanted,
}


def _translated(to: tuple[bytes, bytes, int, int], walk: _Walk) -> _Walk:
    low, high, port_low, port_high = to
    if low != high or port_low != port_high:
        raise ValueError("a choice out of a range is not enumerated")
    dst, dport = low or walk.dst, (port_low or walk.dport) if walk.proto in _WITH_PORTS else 0
    return replace(walk, dst=dst, dport=dport, dnat=(dst, dport), ctstate=walk.ctstate | _core.CT_DNAT, verdict="ACCEPT")


def _merged(walks: Iterable[_Walk]) -> list[Outcome]:
    shares: dict[tuple[Any, ...], float] = {}
    for walk in walks:
        key = (walk.verdict or "ACCEPT", walk.dnat, walk.mark, walk.origins)
        shares[key] = shares.get(key, 0.0) + walk.probability
    return [Outcome(share, *key) for key, share in shares.items()]


def _parse(packet: bytes, iif: str, ctstate: int) -> _Walk:
    """The fields that rules can ask for; IPv6 extension headers are not followed."""
    if packet[0] >> 4 == 4:
        proto, src, dst = packet[9], packet[12:16], packet[16:20]
        payload = packet[(packet[0] & 15) * 4 :]
        later_fragment = bool(int.from_bytes(packet[6:8]) & 0x1FFF)
    else:
        proto, src, dst, payload, later_fragment = packet[6], packet[8:24], packet[24:40], packet[40:], False
    has_ports = proto in _WITH_PORTS and not later_fragment
    return _Walk(
        src=src,
        dst=dst,
        proto=proto,
        sport=int.from_bytes(payload[0:2]) if has_ports else 0,
        dport=int.from_bytes(payload[2:4]) if has_ports else 0,
        icmp=(payload[0], payload[1]) if proto in (_ICMP, _ICMPV6) and not later_fragment else (-1, -1),
        tcp_flags=payload[13] if proto == _TCP and not later_fragment else 0,
        later_fragment=later_fragment,
        iif=iif,
        oif="",
        ctstate=ctstate,
    )
