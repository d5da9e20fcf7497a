"""``bridge fdb add|append|replace|del`` and ``bridge link set`` of setup commands (bridge(8))."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from dataplane.control.topology import Topology
from dataplane.control.words import Words
from dataplane.errors import InputError

if TYPE_CHECKING:
    from dataplane._core import Engine


def run(engine: Engine, topology: Topology, namespace: int, words: Words) -> None:
    if words.choice("bridge object", ("link", "fdb")) == "link":
        words.choice("bridge link command", ("set",))
        set_port(engine, topology, namespace, words)
    else:
        change_fdb(engine, topology, namespace, words)


def device_of(topology: Topology, namespace: int, name: str) -> int:
    return topology.device_id(f"{topology.namespace_name(namespace)}/{name}")


def set_port(engine: Engine, topology: Topology, namespace: int, words: Words) -> None:
    if not words.take("dev"):
        raise InputError("dev is missing: use bridge link set dev NAME hairpin|learning on|off")
    device = device_of(topology, namespace, words.next("device"))
    while words:
        if words.choice("port setting", ("hairpin", "learning")) == "hairpin":
            engine.set_device(device, hairpin=words.on_off("hairpin"))
        else:
            engine.set_device(device, learning=words.on_off("learning"))


def change_fdb(engine: Engine, topology: Topology, namespace: int, words: Words) -> None:
    """Without ``dst`` the entry is the bridge's (``master``); with it, the tunnel device's own (``self``)."""
    action = words.choice("bridge fdb command", ("add", "append", "replace", "delete"))
    mac = words.mac("MAC address")
    device, remote, state, master = -1, None, "permanent", False
    while words:
        key = words.next("fdb attribute")
        if key == "dev":
            device = device_of(topology, namespace, words.next("device"))
        elif key == "dst":
            remote = ip_address(words.next("dst")).packed
        elif key in ("permanent", "local", "static", "dynamic"):
            state = key
        elif key == "master":
            master = True
        elif key != "self":
            raise InputError(f"{key!r} is not an fdb attribute known here")
    if device < 0:
        raise InputError("dev is missing: use bridge fdb add MAC dev NAME")
    if action == "delete":
        if not engine.del_fdb(device, mac):
            raise InputError("there is no such entry")
        return
    if remote is None and not master:
        raise InputError("say master (the bridge's table) or dst ADDRESS (a tunnel's)")
    local = remote is None and state in ("permanent", "local")  # a bridge's own address: delivered to the bridge itself
    engine.add_fdb(device, mac, local=local, static=state != "dynamic", dst=remote)
