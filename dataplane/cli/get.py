"""``dataplane get``: what is in a cluster, with kubectl's columns and habits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from dataplane.cli import options

if TYPE_CHECKING:
    from dataplane.k8s.objects import Manifests
    from dataplane.report.tables import Listing
    from dataplane.report.world import World

HELP = "show pods, nodes, services, endpoints, and what the network holds: routes, rules, conntrack, drops, ..."

ALIASES = {
    "pods": ("pod", "po"),
    "nodes": ("node", "no"),
    "services": ("service", "svc"),
    "endpoints": ("endpoint", "ep"),
    "routes": ("route",),
    "neighbours": ("neighbour", "neighbors", "neighbor", "neigh"),
    "fdb": (),
    "rules": ("rule",),
    "conntrack": ("ct",),
    "interfaces": ("interface", "link"),
    "drops": ("drop",),
}
"""Every resource, and its other names."""

_OF_MACHINES = ("routes", "neighbours", "fdb", "rules", "conntrack", "interfaces", "drops")
_AFTER_TRAFFIC = ("conntrack", "drops")
_WITH_MORE = ("routes", "drops")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("resource", metavar="RESOURCE", help=", ".join(ALIASES))
    named = "only these; for what machines hold: a node, or pod/NAMESPACE/NAME, node/NAME, host/NAME (default: all nodes)"
    parser.add_argument("names", nargs="*", metavar="NAME", help=named)
    options.add_cluster(parser)
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="Kubernetes objects of all namespaces")
    options.add_output(parser)
    parser.add_argument("--node", metavar="NODE", help="only what this node holds")
    parser.add_argument("--all", action="store_true", help="routes: table local too; drops: every reason there is")
    options.add_seed(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """0. Raises InputError for an unknown resource, name or node, and for a cluster that cannot be."""
    from dataplane.k8s import load
    from dataplane.report.tables import render

    resource = resource_of(args.resource)
    _check_options(resource, args)
    manifests = load(args.filename)
    for warning in manifests.warnings:
        options.progress(f"warning: {warning}", args.quiet)
    listing = _of_machines(resource, manifests, args) if resource in _OF_MACHINES else _of_objects(resource, manifests, args)
    print(render(listing, args.output, single=len(args.names) == 1), end="")
    if not listing.rows and resource not in _AFTER_TRAFFIC:
        scoped = resource not in (*_OF_MACHINES, "nodes") and not args.all_namespaces
        options.progress(f"No {resource} found{f' in {args.namespace} namespace' if scoped else ''}.", args.quiet)
    return 0


def resource_of(word: str) -> str:
    """The resource that ``word`` names. InputError, with all of them, if there is none."""
    from dataplane.errors import InputError

    for resource, aliases in ALIASES.items():
        if word == resource or word in aliases:
            return resource
    known = ", ".join(f"{resource} ({', '.join(aliases)})" if aliases else resource for resource, aliases in ALIASES.items())
    raise InputError(f"unknown resource {word!r}: there are {known}")


def _check_options(resource: str, args: argparse.Namespace) -> None:
    from dataplane.errors import InputError

    if args.node is not None and resource not in _OF_MACHINES:
        raise InputError(f"--node has no meaning for {resource}: it restricts {', '.join(_OF_MACHINES)}")
    if args.all and resource not in _WITH_MORE:
        raise InputError(f"--all has no meaning for {resource}: it is for {' and '.join(_WITH_MORE)}; -A shows all namespaces")


def _of_objects(resource: str, manifests: Manifests, args: argparse.Namespace) -> Listing:
    from dataplane.report import resources

    namespace = resources.ALL_NAMESPACES if args.all_namespaces else args.namespace
    if resource == "nodes":
        return resources.nodes(manifests, args.names)
    listed = {"pods": resources.pods, "services": resources.services, "endpoints": resources.endpoints}
    return listed[resource](manifests, namespace, args.names)


def _of_machines(resource: str, manifests: Manifests, args: argparse.Namespace) -> Listing:
    from dataplane.report import drops, firewall, network
    from dataplane.report.world import build_world, choose_machines

    world = build_world(manifests, args.seed)
    machines = choose_machines(world.topology, args.names, args.node)
    if resource in _AFTER_TRAFFIC:
        for warning in world.topology.warnings:
            options.progress(f"warning: {warning}", args.quiet)
        _carry_traffic(world, resource, args)
    if resource == "drops":
        everywhere = not args.names and args.node is None
        namespaces = None if everywhere else {machine.namespace for machine in machines}
        return drops.drops(world, namespaces, with_unseen=args.all)
    if resource == "rules":
        return firewall.rules(world.topology, machines, None)
    if resource == "routes":
        return network.routes(world, machines, with_local=args.all)
    listed: dict[str, Callable[..., Listing]] = {
        "interfaces": network.interfaces,
        "neighbours": network.neighbours,
        "fdb": network.fdb,
        "conntrack": network.conntrack,
    }
    return listed[resource](world, machines)


def _carry_traffic(world: World, resource: str, args: argparse.Namespace) -> None:
    from dataplane.report.world import run_traffic

    warnings: list[str] = []
    flows = run_traffic(world, args.seed, warnings)
    for warning in warnings:
        options.progress(f"warning: {warning}", args.quiet)
    if not flows:
        options.progress(f"nothing was sent, so {resource} is empty: add a document of kind: Traffic to -f", args.quiet)
    elif resource == "conntrack":
        options.progress(f"after {flows} flows, at {world.engine.now} ns of virtual time", args.quiet)
    else:
        options.progress(f"after {flows} flows: {len(world.drops)} frames dropped", args.quiet)
