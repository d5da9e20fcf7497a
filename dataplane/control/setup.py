"""Carries out the setup commands of case files and scenarios: the subset of people's own commands that has a meaning here.

``ip [-4|-6] link|addr|route|neigh|tunnel``, ``bridge fdb|link``, ``sysctl -w``, ``iptables`` and ``ip6tables``, and
``cluster masquerade=random-fully|default``; several in one line with ``;`` or ``&&``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dataplane.control import setup_bridge, setup_ip
from dataplane.control.addrconf import follow
from dataplane.control.firewall import firewall_of, load, load_node_rules
from dataplane.control.sysctl import device_names, expand, write_order
from dataplane.control.topology import Topology
from dataplane.control.words import Words
from dataplane.errors import InputError

if TYPE_CHECKING:
    from dataplane._core import Engine

SEPARATORS = frozenset({";", "&&"})


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command runs: a namespace of an engine."""

    engine: Engine
    topology: Topology
    namespace: int


def apply(topology: Topology, engine: Engine, namespace: str, commands: str) -> None:
    """Run ``commands`` in the namespace that cases call ``namespace``.

    Raises ``InputError`` with the command and the reason for one that is unknown or that Linux would refuse;
    commands before it in the line have taken effect.
    """
    target = Target(engine, topology, topology.namespace_id(namespace))
    for words in split_commands(commands):
        try:
            run_command(target, words)
        except (InputError, ValueError, KeyError) as error:
            raise InputError(f"setup of {namespace}: {shlex.join(words)}: {error}") from error


def split_commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a line."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*tokens(lexer, text), ";"):
        if word not in SEPARATORS:
            words.append(word)
        elif words:
            yield words
            words = []


def tokens(lexer: shlex.shlex, text: str) -> list[str]:
    try:
        return list(lexer)
    except ValueError as error:
        raise InputError(f"setup: {text}: {error}") from error


def run_command(target: Target, words: list[str]) -> None:
    program = words[0]
    if program not in PROGRAMS:
        raise InputError(f"{program!r} is not a setup command: use one of {', '.join(PROGRAMS)}")
    PROGRAMS[program](target, words)


def run_ip(target: Target, words: list[str]) -> None:
    setup_ip.run(target.engine, target.topology, target.namespace, Words(words[1:]))


def run_bridge(target: Target, words: list[str]) -> None:
    setup_bridge.run(target.engine, target.topology, target.namespace, Words(words[1:]))


def run_sysctl(target: Target, words: list[str]) -> None:
    """``sysctl [-q] -w NAME=VALUE...``; a NAME may hold patterns for devices."""
    options = [word for word in words[1:] if word.startswith("-")]
    settings = [word for word in words[1:] if not word.startswith("-")]
    if not settings or not any("w" in option for option in options) or any(set(option) - set("-qw") for option in options):
        raise InputError("use sysctl -w NAME=VALUE")
    names = device_names(target.topology, target.namespace)
    for setting in settings:
        pattern, equals, value = setting.partition("=")
        if not equals or not value.removeprefix("-").isdecimal():
            raise InputError(f"{setting!r} is not NAME=NUMBER")
        concrete = sorted(expand(pattern, names), key=write_order)
        if not concrete:
            raise InputError(f"{pattern} fits no device of this namespace: it has {', '.join(names)}")
        for name in concrete:
            set_sysctl(target, name, int(value))
        if pattern.endswith("disable_ipv6"):
            follow(target.engine, target.topology, target.namespace)


def set_sysctl(target: Target, name: str, value: int) -> None:
    try:
        target.engine.set_sysctl(target.namespace, name, value)
    except KeyError:
        raise InputError(f"{name} is not emulated") from None


def run_iptables(target: Target, words: list[str]) -> None:
    tables = firewall_of(target.topology, target.namespace)[6 if words[0] == "ip6tables" else 4]
    tables.command(shlex.join(words))
    load(target.engine, target.topology, target.namespace, tables)


def run_cluster(target: Target, words: list[str]) -> None:
    """Rewrites kube-proxy's and the CNI's rules on all nodes, as restarting them would."""
    choices = {"masquerade=random-fully": True, "masquerade=default": False}
    if len(words) != 2 or words[1] not in choices:
        raise InputError(f"use cluster {' or '.join(choices)}")
    manifests = target.topology.manifests
    proxy = replace(manifests.config.proxy, masquerade_random_fully=choices[words[1]])
    target.topology.follow(replace(manifests, config=replace(manifests.config, proxy=proxy)))
    load_node_rules(target.engine, target.topology, target.topology.manifests.nodes)


PROGRAMS: dict[str, Callable[[Target, list[str]], None]] = {
    "ip": run_ip,
    "bridge": run_bridge,
    "sysctl": run_sysctl,
    "iptables": run_iptables,
    "ip6tables": run_iptables,
    "cluster": run_cluster,
}
