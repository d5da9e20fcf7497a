"""``ip link add ... type KIND`` and ``ip tunnel add`` of setup commands (ip-link(8), ip-tunnel(8)) for every registered encapsulation.

iproute2's words are translated to the options of the encapsulation; its options by their own names (``dataplane encap show
KIND``) are understood as well, which is all there is for a kind that iproute2 does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from dataplane.control.mac import mac_of
from dataplane.control.setup_tunnel_udp import Around
from dataplane.control.words import Words
from dataplane.encap import registry
from dataplane.encap.mtu import inner_mtu
from dataplane.encap.option_text import option_value
from dataplane.errors import InputError

if TYPE_CHECKING:
    from dataplane.control.setup_ip import Command

DEFAULT_MTU = 1500  # ETH_DATA_LEN, for a tunnel whose underlying device is not known
ALIASES = {
    "sit": "ipip", "ip6tnl": "ipip", "ip/ip": "ipip", "ipv6/ip": "ipip", "ipip6": "ipip", "ip6ip6": "ipip",
    "gre/ip": "gre", "ip6gre": "gre", "ip6gretap": "gretap", "ip6erspan": "erspan",
}  # fmt: skip
"""Linux' kinds and tunnel modes that are one encapsulation here."""
SPECIFIC: dict[str, dict[str, int | bytes]] = {
    kind: {"encaplimit": 4} for kind in ("ip6tnl", "ip6ip6", "ipip6", "ip6gre", "ip6gretap", "ip6erspan")
}
"""Defaults of such a kind that are not the encapsulation's (IPV6_DEFAULT_TNL_ENCAP_LIMIT)."""
OWN_WORDS = {"erspan": {"key": "session", "erspan_ver": "version", "erspan": "index", "erspan_hwid": "hwid"}}
"""Numbers that mean another option in one encapsulation, or that only it has."""
WIREGUARD_MTU = 1420  # wg_setup(): ETH_DATA_LEN less what an IPv6 underlay takes, whatever is below
DF_WORDS = {"unset": 0, "set": 1, "inherit": 2}
FLAGS: dict[str, tuple[str, int]] = {
    "udpcsum": ("udp_checksum", 1), "noudpcsum": ("udp_checksum", 0),
    "udp6zerocsumtx": ("udp6_zero_checksum_tx", 1), "noudp6zerocsumtx": ("udp6_zero_checksum_tx", 0),
    "udp6zerocsumrx": ("udp6_zero_checksum_rx", 1), "noudp6zerocsumrx": ("udp6_zero_checksum_rx", 0),
    "pmtudisc": ("df", 1), "nopmtudisc": ("df", 2), "ignore-df": ("df", 0),
    "csum": ("checksum", 1), "nocsum": ("checksum", 0), "seq": ("sequence", 0), "noseq": ("sequence", -1), "nokey": ("key", -1),
    "gbp": ("gbp", 1),
}  # fmt: skip
NUMBERS = {"id": "id", "vni": "id", "dstport": "port"}
WITHOUT_EFFECT = {"nolearning", "learning", "noexternal", "allow-localremote", "noallow-localremote"}
"""FDB entries of tunnels are given, never learned; the others say what holds here anyhow."""


@dataclass(slots=True)
class Wanted:
    """A tunnel device that a command asks for."""

    kind: str
    options: dict[str, int | bytes] = field(default_factory=dict)
    local: bytes | None = None
    remote: bytes | None = None
    lower: int = -1
    mtu: int = 0
    mac: bytes | None = None
    one_way: dict[str, int] = field(default_factory=dict)  # ikey, okey, iseq, ...: what holds for one direction alone
    around: Around = field(default_factory=Around)


def add_link(command: Command) -> None:
    """``ip link add [dev] NAME [mtu N] [address MAC] type KIND [WORDS...]``; the device is down, as Linux leaves it."""
    words = command.words
    words.take("dev", "name")
    name = words.next("device name")
    wanted = Wanted("")
    while not words.take("type"):
        key = words.next("type")
        if key == "mtu":
            wanted.mtu = words.number("mtu")
        elif key == "address":
            wanted.mac = words.mac("address")
        elif key in ("dev", "link"):
            wanted.lower = command.device()
        else:
            raise InputError(f"{key!r} is not understood before type: use mtu, address or link")
    choose_kind(wanted, words.next("type"))
    read_words(command, wanted)
    make(command, name, wanted)


def add_tunnel(command: Command) -> None:
    """``ip tunnel add NAME mode MODE [WORDS...]``"""
    words = command.words
    words.choice("ip tunnel command", ("add",))
    name = words.next("device name")
    if not words.take("mode"):
        raise InputError("say ip tunnel add NAME mode MODE")
    wanted = Wanted("")
    choose_kind(wanted, words.next("mode"))
    read_words(command, wanted)
    make(command, name, wanted)


def choose_kind(wanted: Wanted, word: str) -> None:
    wanted.kind = ALIASES.get(word, word)
    registry.ensure(wanted.kind)
    wanted.options |= SPECIFIC.get(word, {})


def read_words(command: Command, wanted: Wanted) -> None:
    from dataplane import _core

    own = {option.key for option in _core.encap_options(wanted.kind)}
    while command.words:
        read_word(command, wanted, own)
    join_directions(wanted)
    wanted.kind, wanted.options = wanted.around.put_around(wanted.kind, wanted.options)
    registry.ensure(wanted.kind)


def read_word(command: Command, wanted: Wanted, own: set[str]) -> None:
    """One setting; ``own``: option names of the encapsulation."""
    words = command.words
    key = words.next("setting")
    if key in ("local", "remote", "group"):
        setattr(wanted, "local" if key == "local" else "remote", words.address(key, command.family).packed)
    elif key == "dev":
        wanted.lower = command.device()
    elif key in OWN_WORDS.get(wanted.kind, {}):
        wanted.options[OWN_WORDS[wanted.kind][key]] = words.number(key)
    elif key in DIRECTIONS:
        wanted.one_way[key] = read_key(words, key) if key.endswith("key") else 1
    elif wanted.around.read(key, words):
        return
    elif key in READERS:
        wanted.options |= READERS[key](words)
    elif key in FLAGS:
        option, value = FLAGS[key]
        wanted.options[option] = value
    elif key in NUMBERS:
        wanted.options[NUMBERS[key]] = words.number(key)
    elif key in own:
        wanted.options[key] = option_value(words.next(key))
    elif key not in WITHOUT_EFFECT:
        raise InputError(f"{key!r} is not understood for {wanted.kind}: its options are {', '.join(sorted(own))}")


def join_directions(wanted: Wanted) -> None:
    """An encapsulation has one key, and numbers and checksums in both directions or in none."""
    for incoming, outgoing, option, value in ONE_OPTION:
        given = {wanted.one_way.get(incoming), wanted.one_way.get(outgoing)}
        if len(given) > 1:
            raise InputError(f"{incoming} and {outgoing} can only be given both and equal: write {incoming.removeprefix('i')} for both")
        number = given.pop()
        if number is not None:
            wanted.options[option] = number if value is None else value


def read_key(words: Words, what: str) -> int:
    """A number, or as ip(8) takes it too, an IPv4 address."""
    word = words.next(what)
    try:
        return int(ip_address(word)) if "." in word else int(word, 0)
    except ValueError:
        raise InputError(f"{what} must be a number or written as an IPv4 address, not {word!r}") from None


def read_ttl(words: Words) -> dict[str, int | bytes]:
    if words.take("inherit"):
        return {"ttl": 0, "ttl_inherit": 1}
    return {"ttl": 0, "ttl_inherit": 0} if words.take("auto", "default") else {"ttl": words.number("ttl")}


def read_tos(words: Words) -> dict[str, int | bytes]:
    """``inherit`` is 1, as in the kernel's interface; like ip(8) a number without 0x is hexadecimal."""
    if words.take("inherit"):
        return {"tos": 1}
    text = words.next("tos")
    try:
        return {"tos": int(text, 16)}
    except ValueError:
        raise InputError(f"tos must be inherit or a hexadecimal number, not {text!r}") from None


def read_df(words: Words) -> dict[str, int | bytes]:
    return {"df": DF_WORDS[words.choice("df", tuple(DF_WORDS))]}


def read_flow_label(words: Words) -> dict[str, int | bytes]:
    return {"flow_label_inherit": 1} if words.take("inherit") else {"flow_label": words.number("flowlabel")}


def read_source_ports(words: Words) -> dict[str, int | bytes]:
    return {"port_min": words.number("srcport"), "port_max": words.number("srcport")}


def read_limit(words: Words) -> dict[str, int | bytes]:
    return {"encaplimit": -1} if words.take("none") else {"encaplimit": words.number("encaplimit")}


READERS: dict[str, Callable[[Words], dict[str, int | bytes]]] = {
    "ttl": read_ttl, "hoplimit": read_ttl, "tos": read_tos, "dsfield": read_tos, "tclass": read_tos, "df": read_df,
    "flowlabel": read_flow_label, "srcport": read_source_ports, "encaplimit": read_limit,
    "key": lambda words: {"key": read_key(words, "key")},
    "erspan_dir": lambda words: {"direction": ("ingress", "egress").index(words.choice("erspan_dir", ("ingress", "egress")))},
}  # fmt: skip
ONE_OPTION: tuple[tuple[str, str, str, int | None], ...] = (
    ("ikey", "okey", "key", None), ("iseq", "oseq", "sequence", 0), ("icsum", "ocsum", "checksum", 1),
)  # fmt: skip
"""Words for received and for sent packets, the option that they are together, and its value (None: as given)."""
DIRECTIONS = frozenset(word for incoming, outgoing, *_ in ONE_OPTION for word in (incoming, outgoing))


def make(command: Command, name: str, wanted: Wanted) -> None:
    from dataplane import _core

    mtu = wanted.mtu or default_mtu(command, wanted)
    if wanted.kind == "wireguard":
        wanted.options.setdefault("device_mtu", mtu)
    ethernet = _core.Codec(wanted.kind, wanted.options).ethernet
    mac = wanted.mac or (mac_of(None, "", name, command.topology.namespace_name(command.namespace)) if ethernet else bytes(6))
    fdb_remote = wanted.remote if wanted.kind == "vxlan" else None  # only a default: frames from others are received too
    ends: dict[str, int | bytes] = {"local": wanted.local} if wanted.local else {}
    if wanted.remote and not fdb_remote:
        ends["remote"] = wanted.remote
    device = command.engine.add_device(
        command.namespace, name, wanted.kind, mac=mac, mtu=mtu, up=False, number=-1,
        **ends, dev=wanted.lower, **wanted.options,
    )  # fmt: skip
    command.topology.add_device(command.namespace, name, device, ethernet=ethernet)
    if fdb_remote:
        command.engine.add_fdb(device, bytes(6), dst=fdb_remote)


def default_mtu(command: Command, wanted: Wanted) -> int:
    """What fits on the device below: the one named, or the way to the remote end (ip_tunnel_bind_dev())."""
    if wanted.kind == "wireguard":
        return WIREGUARD_MTU
    lower = wanted.lower
    if lower < 0 and wanted.remote:
        lower = command.engine.lookup_route(command.namespace, wanted.remote)["dev"]
    mtus = {device["id"]: device["mtu"] for device in command.engine.devices(command.namespace)}
    family = 6 if len(wanted.remote or wanted.local or b"") == 16 else 4
    return inner_mtu(wanted.kind, wanted.options, family, mtus.get(lower, DEFAULT_MTU))
