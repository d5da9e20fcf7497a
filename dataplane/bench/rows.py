"""The rows of the benchmark by name. A name is API: rows are added and retired, not renamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from dataplane.bench.captures import PACKETS, ReadWork, ReplayWork
from dataplane.bench.cluster import CLIENTS, Shape
from dataplane.bench.cluster_change import ClusterChangeWork
from dataplane.bench.connections import ConnectionMemoryWork
from dataplane.bench.first_packet import FirstPacketWork
from dataplane.bench.flows import scattered, structured
from dataplane.bench.forward import ForwardWork
from dataplane.bench.large_cluster import LargeClusterWork
from dataplane.bench.lookup import LookupWork
from dataplane.bench.service import EstablishedWork
from dataplane.bench.threads import ThreadsWork
from dataplane.bench.work import Measured, Settings
from dataplane.errors import InputError

PACKET, LOOKUP, CONNECTION, BYTES = "ns/packet", "ns/lookup", "ns/connection", "B/connection"
SECONDS, MILLISECONDS = "s", "ms"
SERVICES = 100  # that established connections go to
MILLION = 1_000_000


@dataclass(frozen=True)
class Row:
    """What is measured under a name. More than one size makes it a curve, with one measurement for each."""

    name: str
    what: str
    unit: str
    make: Callable[[Settings, int], Measured]
    sizes: tuple[int, ...]
    quick: int  # the size, or the largest, where only the working matters
    goal: str = ""
    size_is: str = ""  # what sizes count
    growth: float = 0  # how many times the cheapest the dearest point of a curve may cost

    @property
    def curve(self) -> bool:
        return len(self.sizes) > 1

    def chosen_sizes(self, quick: bool) -> tuple[int, ...]:
        """Those to measure."""
        if not quick:
            return self.sizes
        return (max(1, self.quick // 4), self.quick) if self.curve else (self.quick,)


def established(settings: Settings, flows: int, *, kind: str = "vxlan", keys: str = "random", **how: bool) -> Measured:
    """Segments of ``flows`` connections through a tunnel of a kind."""
    services = min(SERVICES, flows)
    drawn = structured(flows, CLIENTS, services) if keys == "structured" else scattered(flows, CLIENTS, services, settings.seed)
    return EstablishedWork(settings, drawn, Shape(services=services), kind, **how)


def two_threads(settings: Settings, flows: int) -> Measured:
    """The same segments by one thread and by two."""
    services = min(SERVICES, flows)
    return ThreadsWork(settings, scattered(flows, CLIENTS, services, settings.seed), Shape(services=services))


def lookup(settings: Settings, count: int, *, family: int) -> Measured:
    return LookupWork(settings, family, count)


def connection_memory(settings: Settings, count: int, *, family: int) -> Measured:
    return ConnectionMemoryWork(settings, family, count)


def replay(settings: Settings, packets: int, *, everywhere: bool, comments: str) -> Measured:
    return ReplayWork(settings, packets, everywhere=everywhere, comments=comments)


def _service_rows() -> list[Row]:
    rows = []
    for way, goals in (("out", ("<= 25", "<= 60")), ("in", ("<= 28", "<= 62"))):
        what = "conntrack, DNAT, VXLAN out" if way == "out" else "VXLAN in, conntrack, un-NAT"
        for flows, label, goal in ((1000, "1k", goals[0]), (MILLION, "1m", goals[1])):
            for keys in ("structured", "random"):
                make = partial(established, keys=keys, back=way == "in")
                sentence = f"established ClusterIP connections: {what}; {flows:,} flows, {keys} keys"
                rows.append(Row(f"service/vxlan-{way}/{label}/{keys}", sentence, PACKET, make, (flows,), 20, goal, "flows"))
    for kind in ("geneve", "ipip", "gre"):
        make = partial(established, kind=kind, keys="structured")
        what = f"established ClusterIP connections: conntrack, DNAT, {kind} out; 1,000 flows"
        rows.append(Row(f"service/{kind}-out/1k", what, PACKET, make, (1000,), 20, "<= VXLAN's", "flows"))
    make = partial(established, keys="structured", slow_path_only=True)
    for flows, label in ((1000, "1k"), (MILLION, "1m")):
        what = f"the same by two threads, beside one thread in turn: conntrack, DNAT, VXLAN out; {flows:,} flows, random keys"
        rows.append(Row(f"service/two-threads/{label}", what, PACKET, two_threads, (flows,), 1000, ">= 1.8 times as fast as one", "flows"))
    what = "the slow path alone: conntrack, DNAT, VXLAN out; 1,000 established flows"
    return [*rows, Row("service/slow-path/1k", what, PACKET, make, (1000,), 20, "<= 500", "flows")]


def _all_rows() -> list[Row]:
    first = "SYN of a new connection to one of {} services: choice, draw, conntrack, DNAT, VXLAN out"
    return [
        Row("lpm/v4-1m", "IPv4 longest-prefix match, batched, 1,000,000 BGP-like routes, random destinations", LOOKUP,
            partial(lookup, family=4), (MILLION,), 1000, "<= 10, ahead of rte_fib", "routes"),
        Row("lpm/v6-200k", "IPv6 longest-prefix match, batched, 200,000 BGP-like routes, random destinations", LOOKUP,
            partial(lookup, family=6), (200_000,), 1000, "ahead of rte_fib6", "routes"),
        Row("forward/1-route", "route and forward: parse, verify the checksum, look up, TTL, rewrite; the default route", PACKET,
            ForwardWork, (1,), 1, "<= 10", "routes"),
        Row("forward/1m-routes", "route and forward, 1,000,000 BGP-like routes, a destination in each", PACKET,
            ForwardWork, (MILLION,), 1000, "<= 30", "routes"),
        *_service_rows(),
        *(Row(f"first-packet/{label}", first.format(f"{count:,}"), CONNECTION, FirstPacketWork, (count,), 10, "<= 600", "services")
          for label, count in (("10", 10), ("1k", 1000), ("10k", 10_000))),
        Row("memory/v4", "resident memory for each IPv4 connection with NAT, both directions", BYTES,
            partial(connection_memory, family=4), (MILLION,), 100, "<= 128", "flows"),
        Row("memory/v6", "resident memory for each IPv6 connection with NAT, both directions", BYTES,
            partial(connection_memory, family=6), (MILLION,), 100, "<= 256", "flows"),
        Row("capture/two-nodes", "replay, whole process: capture in, two nodes and their wire in virtual time, the receivers' capture out",
            PACKET, partial(replay, everywhere=False, comments="changes"), (MILLION,), 2500, "<= 250", "packets"),
        Row("capture/all-interfaces", "replay, whole process: the same with all ten interfaces on the way captured", PACKET,
            partial(replay, everywhere=True, comments="none"), (PACKETS,), 500, ">= 70 % of cp's byte rate", "packets"),
        Row("capture/comments", "replay, whole process: the same with comments on changes, as a plain command writes them", PACKET,
            partial(replay, everywhere=True, comments="changes"), (PACKETS,), 500, "", "packets"),
        Row("capture/read", "reading a capture packet by packet in Python", PACKET, ReadWork, (PACKETS,), 500, "", "packets"),
        Row("cluster/5000-nodes", "5,000 nodes, 150,000 pods, 10,000 services: manifests to the walk of one packet, whole process", SECONDS,
            LargeClusterWork, (5000,), 4, "<= 30 s, <= 4 GiB", "nodes"),
        Row("cluster/change", "a service, an EndpointSlice or a pod of the same cluster comes, goes or changes in a running emulation",
            MILLISECONDS, ClusterChangeWork, (5000,), 4, "<= 50", "nodes"),
        Row("growth/flows", "established connections through VXLAN by their number, random keys", PACKET, established,
            (1000, 10_000, 100_000, MILLION, 10 * MILLION), 40, "at most 4 times", "flows", 4),
        Row("growth/services", "SYN of a new connection by the number of services", CONNECTION, FirstPacketWork,
            (10, 100, 1000, 10_000), 20, "at most 1.3 times", "services", 1.3),
        Row("growth/routes", "route and forward by the number of routes, the same random destinations for all", PACKET, ForwardWork,
            (1, 10, 100, 1000, 10_000, 100_000, MILLION), 100, "at most 3 times", "routes", 3),
        Row("growth/lpm", "IPv4 longest-prefix match, batched, by the number of routes", LOOKUP, partial(lookup, family=4),
            (1, 100, 10_000, MILLION), 1000, "at most 3 times", "routes", 3),
    ]  # fmt: skip


ROWS = {row.name: row for row in _all_rows()}


def select(names: Sequence[str]) -> list[Row]:
    """Rows by name, by the beginning of their names up to a slash, or by shell patterns; all of them for none.

    Raises InputError for a name that chooses nothing.
    """
    if not names:
        return list(ROWS.values())
    chosen: dict[str, Row] = {}
    for name in names:
        found = {each: row for each, row in ROWS.items() if each == name or each.startswith(f"{name}/") or fnmatchcase(each, name)}
        if not found:
            raise InputError(f"no row is called {name!r}: there are {', '.join(ROWS)}")
        chosen |= found
    return [row for row in ROWS.values() if row.name in chosen]
