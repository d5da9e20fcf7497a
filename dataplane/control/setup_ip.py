"""``ip link|addr|route|neigh|tunnel`` of setup commands (ip(8)), for both families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.control.addrconf import follow, why_not
from dataplane.control.setup_tunnel import add_link, add_tunnel
from dataplane.control.topology import Topology
from dataplane.control.underlay import default_route
from dataplane.control.wiring import DEFAULT_METRICS, IPInterface
from dataplane.control.words import Words
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, IPNetwork

if TYPE_CHECKING:
    from dataplane._core import Engine

ROUTE_KINDS = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
SCOPES = {"global": 0, "link": 253, "host": 254}  # RT_SCOPE_*, include/uapi/linux/rtnetlink.h
PERMANENT_STATES = ("permanent", "noarp")
DYNAMIC_STATES = ("reachable", "stale", "delay", "probe")


@dataclass(slots=True)
class Command:
    """One ``ip`` command under way: where it runs, its words and its family."""

    engine: Engine
    topology: Topology
    namespace: int
    words: Words
    family: int = 0  # 4, 6, or 0 while nothing has said which

    def device(self) -> int:
        """The device that the next word names."""
        return self.topology.device_id(f"{self.topology.namespace_name(self.namespace)}/{self.words.next('device')}")


def run(engine: Engine, topology: Topology, namespace: int, words: Words) -> None:
    command = Command(engine, topology, namespace, words)
    for option, family in (("-4", 4), ("-6", 6)):
        if words.take(option):
            command.family = family
    objects = {"link": link, "address": address, "addr": address, "route": route, "neighbour": neighbour, "neighbor": neighbour,
               "tunnel": add_tunnel}  # fmt: skip
    objects[words.choice("ip object", tuple(objects))](command)
    words.nothing_left()


# ---- ip link


def link(command: Command) -> None:
    """``ip link set [dev] NAME [up|down] [mtu N] [address MAC] [master NAME|nomaster]``, and ``ip link add`` of tunnels"""
    words, engine = command.words, command.engine
    if words.choice("ip link command", ("set", "add")) == "add":
        add_link(command)
        follow(engine, command.topology, command.namespace)
        return
    words.take("dev")
    device = command.device()
    while words:
        key = words.next("link setting")
        if key in ("up", "down"):
            engine.set_device(device, up=key == "up")
        elif key == "mtu":
            engine.set_device(device, mtu=words.number("mtu"))
        elif key == "address":
            engine.set_device(device, mac=words.mac("address"))
        elif key == "master":
            engine.set_device(device, master=command.device())
        elif key == "nomaster":
            engine.set_device(device, master=-1)
        else:
            raise InputError(f"{key!r} is not a link setting known here: use up, down, mtu, address, master or nomaster")
    follow(engine, command.topology, command.namespace)


# ---- ip addr


def address(command: Command) -> None:
    """``ip addr add|del ADDRESS[/LENGTH] [broadcast ADDRESS|+] [scope S] [nodad] dev NAME``"""
    words = command.words
    action = words.choice("ip addr command", ("add", "replace", "change", "delete"))
    words.take("local")
    interface = words.interface("address", command.family)
    device, broadcast = -1, None
    while words:
        key = words.next("address attribute")
        if key == "dev":
            device = command.device()
        elif key in ("brd", "broadcast"):
            broadcast = broadcast_of(command, interface)
        elif key == "scope":
            words.choice("scope", tuple(SCOPES))  # decides only which source address a socket picks
        elif key != "nodad":
            raise InputError(f"{key!r} is not an address attribute known here")
    if device < 0:
        raise InputError("dev is missing")
    refuse_without_ipv6(command, device, interface)
    if action == "delete":
        command.engine.del_address(device, interface.packed, interface.network.prefixlen)
    else:
        command.engine.add_address(device, interface.packed, interface.network.prefixlen, broadcast=broadcast)


def refuse_without_ipv6(command: Command, device: int, interface: IPInterface) -> None:
    for described in command.engine.devices(command.namespace) if interface.version == 6 else ():
        if described["id"] == device and (reason := why_not(command.engine, command.namespace, described)):
            raise InputError(reason)


def broadcast_of(command: Command, interface: IPInterface) -> bytes:
    if command.words.take("+"):
        return interface.network.broadcast_address.packed
    return command.words.address("broadcast", interface.version).packed


# ---- ip route


@dataclass(slots=True)
class Route:
    """What a route command says beyond its prefix; -1 and None: not said."""

    kind: str = "unicast"
    device: int = -1
    via: IPAddress | None = None
    src: IPAddress | None = None
    metric: int = -1
    mtu: int = 0
    mtu_lock: bool = False
    scope: int = -1
    onlink: bool = False


def route(command: Command) -> None:
    """``ip route add|append|replace|change|del [KIND] PREFIX [via A] [dev NAME] [metric N] [src A] [mtu [lock] N] [scope S] [onlink]``"""
    words = command.words
    action = words.choice("ip route command", ("add", "append", "change", "replace", "delete"))
    wanted = Route()
    kind_given = False
    for kind in ROUTE_KINDS:
        if words.take(kind):
            wanted.kind, kind_given = kind, True
    everything = words.take("default")
    network = None if everything else prefix_of(command)
    while words:
        read_route_attribute(command, wanted)
    network = network or default_route(command.family or 4)
    if action == "delete" and not delete_route(command, network, wanted, any_kind=not kind_given):
        raise InputError("there is no such route")
    if action == "change" and not delete_route(command, network, Route(metric=wanted.metric), any_kind=True):
        raise InputError("there is no such route to change")
    if action != "delete":
        add_route(command, network, wanted, replace=action == "replace")


def prefix_of(command: Command) -> IPNetwork:
    """The prefix that the next word is; from here on its family is the command's."""
    prefix = command.words.interface("prefix", command.family)
    command.family = prefix.version
    if prefix.ip != prefix.network.network_address:
        raise InputError(f"{prefix} has bits set beyond its prefix length: write {prefix.network}")
    return prefix.network


def delete_route(command: Command, network: IPNetwork, wanted: Route, *, any_kind: bool) -> bool:
    """False: there was none like ``wanted``. ``any_kind``: a blackhole, say, will do as well."""
    kind = None if any_kind else wanted.kind
    via = wanted.via.packed if wanted.via else None
    return command.engine.del_route(
        command.namespace, network.network_address.packed, network.prefixlen, kind=kind, via=via, dev=wanted.device, metric=wanted.metric
    )


def add_route(command: Command, network: IPNetwork, wanted: Route, *, replace: bool) -> None:
    if wanted.via is not None and wanted.via.version == 6 and wanted.via.is_link_local and wanted.device < 0:
        raise InputError(f"via {wanted.via} is on every link: say dev NAME")
    via, src = (address.packed if address else None for address in (wanted.via, wanted.src))
    metric = wanted.metric if wanted.metric > 0 else DEFAULT_METRICS[network.version]
    command.engine.add_route(
        command.namespace, network.network_address.packed, network.prefixlen, kind=wanted.kind, via=via, dev=wanted.device,
        onlink=wanted.onlink, metric=metric, src=src, mtu=wanted.mtu, mtu_lock=wanted.mtu_lock, scope=wanted.scope,
        replace=replace,
    )  # fmt: skip


def read_route_attribute(command: Command, wanted: Route) -> None:
    words = command.words
    key = words.next("route attribute")
    if key == "dev":
        wanted.device = command.device()
    elif key == "via":
        words.take("inet", "inet6")
        wanted.via = words.address("via", command.family)
        command.family = wanted.via.version
    elif key == "src":
        wanted.src = words.address("src", command.family)
    elif key in ("metric", "priority", "preference"):
        wanted.metric = words.number("metric")
    elif key == "mtu":
        wanted.mtu_lock = words.take("lock")
        wanted.mtu = words.number("mtu")
    elif key == "scope":
        wanted.scope = SCOPES[words.choice("scope", tuple(SCOPES))]
    elif key == "onlink":
        wanted.onlink = True
    elif key in ("proto", "protocol"):
        words.next("protocol")  # says who added the route; no packet meets it
    else:
        raise InputError(f"{key!r} is not a route attribute known here")


# ---- ip neigh


def neighbour(command: Command) -> None:
    """``ip neigh add|replace|change|del ADDRESS [lladdr MAC] dev NAME [nud STATE]``, ``ip neigh add|del proxy ADDRESS dev NAME``
    and ``ip neigh flush all``"""
    words, engine = command.words, command.engine
    action = words.choice("ip neigh command", ("add", "change", "replace", "delete", "flush"))
    if action == "flush":
        if not words.take("all"):
            raise InputError("use ip neigh flush all")
        engine.flush(command.namespace, "neighbours")
        return
    if words.take("proxy"):
        proxy(command, action)
        return
    words.take("to")
    target = words.address("address", command.family)
    device, mac, state = -1, None, "permanent"
    while words:
        key = words.next("neighbour attribute")
        if key == "dev":
            device = command.device()
        elif key == "lladdr":
            mac = words.mac("lladdr")
        elif key in ("nud", *PERMANENT_STATES, *DYNAMIC_STATES):
            state = words.choice("neighbour state", (*PERMANENT_STATES, *DYNAMIC_STATES)) if key == "nud" else key
        else:
            raise InputError(f"{key!r} is not a neighbour attribute known here")
    if device < 0:
        raise InputError("dev is missing")
    if action == "delete":
        if not engine.del_neighbour(device, target.packed):
            raise InputError("there is no such neighbour")
    elif mac is None:
        raise InputError("lladdr is missing")
    else:
        engine.add_neighbour(device, target.packed, mac, permanent=state in PERMANENT_STATES)


def proxy(command: Command, action: str) -> None:
    """An address for which a device answers neighbour solicitations; for IPv4 ``proxy_arp`` answers by the routes."""
    target = command.words.address("address", command.family)
    if target.version == 4:
        raise InputError(f"{target}: only IPv6 addresses are proxied one by one, set net.ipv4.conf.DEVICE.proxy_arp instead")
    if not command.words.take("dev"):
        raise InputError("dev is missing")
    device = command.device()
    if action != "delete":
        command.engine.add_proxy(device, target.packed)
    elif not command.engine.del_proxy(device, target.packed):
        raise InputError("there is no such proxied address")
