"""The rules that the kernel gets: those of our own control plane, and before them rules that repeat a recording's choices."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from dataplane.control.cni.masquerade import add_cni_rules
from dataplane.control.proxy.iptables import node_rules
from dataplane.k8s import load

UNPINNED = "unpinned"


@dataclass(frozen=True)
class Pin:
    """A mapping that the kernel drew: tuples are (source, source port, destination, destination port)."""

    ns: str
    proto: str
    original: tuple[str, int, str, int]
    reply: tuple[str, int, str, int]

    @property
    def family(self) -> int:
        return ip_address(self.original[0]).version


@cache
def node_text(cluster: Path, node: str, family: int) -> str:
    """What kube-proxy and the CNI load on a node of the cluster in that file, for one address family."""
    manifests = load([str(cluster)])
    chosen = next(n for n in manifests.nodes if n.name == node)
    tables = node_rules(manifests, chosen, family, origins=lambda _: 0)
    add_cni_rules(tables, manifests, chosen, 0)
    return tables.save_text()


def pinned(text: str, pins: Sequence[Pin], *, only: bool) -> str:
    """Rules in which every choice among endpoints, and every port that was picked, comes out as in the run that ``pins`` are from.

    With ``only``, a flow without a pin is not translated where there is a choice, and its source is put on the list ``UNPINNED`` of
    match ``recent``: such a flow died before it had a conntrack entry, so nobody can tell what was chosen.
    """
    lines = text.splitlines()
    choices = _choices(lines)
    ports = [_port_rule(pin) for pin in pins if pin.reply[3] != pin.original[1]]
    out: list[str] = []
    for line in lines:
        chain = line.split()[1] if line.startswith("-A ") else ""
        if chain in choices and " -m statistic " in line:
            rules = choices.pop(chain)
            out += [
                f"-A {chain} -p {pin.proto} {_original(pin)} -j {rules[end]}"
                for pin in pins
                if (end := (pin.proto, *pin.reply[:2])) in rules
            ]
            out += [f"-A {chain} -m recent --name {UNPINNED} --set -j RETURN"] * only
        if chain == "POSTROUTING":
            out, ports = out + ports, []
        out.append(line)
    return "\n".join([*out, ""])


def _choices(lines: Sequence[str]) -> dict[str, dict[tuple[str, str, int], str]]:
    """By chain that chooses at random: the endpoint chain of each (protocol, address, port)."""
    ends = {}
    for line in lines:
        found = re.match(r"-A (\S+) .*-p (\w+) .*--to-destination \[?([\da-f.:]+?)\]?:(\d+)$", line)
        if found:
            ends[found[1]] = (found[2], found[3], int(found[4]))
    choices: dict[str, dict[tuple[str, str, int], str]] = defaultdict(dict)
    for line in lines:
        found = re.match(r"-A (\S+) .*-j (\S+)$", line)
        if found and found[2] in ends:
            choices[found[1]][ends[found[2]]] = found[2]
    return choices


def end_text(address: str, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _original(pin: Pin) -> str:
    source, source_port, target, target_port = pin.original
    return f"-m conntrack --ctorigsrc {source} --ctorigsrcport {source_port} --ctorigdst {target} --ctorigdstport {target_port}"


def _port_rule(pin: Pin) -> str:
    return f"-A POSTROUTING -p {pin.proto} {_original(pin)} -j SNAT --to-source {end_text(pin.reply[2], pin.reply[3])}"
