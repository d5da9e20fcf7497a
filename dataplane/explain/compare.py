"""The same flows through the same cluster under several data paths, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dataplane.control.cni.data_paths import cni_of
from dataplane.errors import InputError
from dataplane.explain.compare_flows import BoundFlow, Flow, bind, named_flow, own_flows
from dataplane.explain.compare_lab import Lab, Tally
from dataplane.explain.compare_sizes import Size
from dataplane.explain.compare_time import StageTimes, measure_stages
from dataplane.k8s.objects import Manifests
from dataplane.k8s.other_cni import WrittenCluster
from dataplane.traffic.model import Traffic, traffic_of
from dataplane.traffic.summary import FlowSummary


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    paths: tuple[str, ...]
    sizes: tuple[Size, ...]
    rate: int  # of every link, bit/s
    packets: int = 120  # of each size
    flows: tuple[str, ...] = ()  # FROM,TO; none: those of ``own_flows``
    namespace: str = "default"
    family: int = 0  # 4 or 6; 0: that of the first pod's first address
    pod_mtu: int = 0  # 0: what each data path leaves
    seed: int = 0
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One flow and size under one data path."""

    flow: Flow
    size: Size
    dont_fragment: bool
    tally: Tally

    @property
    def is_cut(self) -> bool:
        """Fragments were made on the way."""
        return self.tally.fragments > 0

    @property
    def is_short(self) -> bool:
        """Something did not arrive, or not as it was sent first."""
        tally = self.tally
        return bool(tally.retransmitted or tally.error or (tally.arrived is not None and tally.arrived < tally.sent))


@dataclass(frozen=True, slots=True)
class PathReport:
    """One data path."""

    name: str
    pod_mtu: int
    rows: tuple[Row, ...]
    unreached: tuple[tuple[Flow, str], ...]  # flows whose shortest packet does not arrive, and why
    scenario: tuple[Tally, tuple[FlowSummary, ...]] | None  # kind: Traffic of the manifests
    times: tuple[tuple[Flow, StageTimes], ...]  # measured on this machine; none if it was not asked for
    warnings: tuple[str, ...]

    def row(self, flow: Flow, size: Size) -> Row | None:
        """The one whose packets may be cut, or TCP's."""
        return next((row for row in self.plain_rows if (row.flow, row.size) == (flow, size)), None)

    @property
    def plain_rows(self) -> Iterator[Row]:
        """Each flow and size once."""
        return (row for row in self.rows if row.size.is_tcp or not row.dont_fragment)

    @property
    def totals(self) -> tuple[int, int, int]:
        """Packets that were sent, frames and bytes on all links, of ``plain_rows``."""
        tallies = [row.tally for row in self.plain_rows]
        return sum(each.sent for each in tallies), sum(each.frames for each in tallies), sum(each.wire_bytes for each in tallies)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    cluster: str
    nodes: int
    pods: int
    version: int  # of IP
    flows: tuple[Flow, ...]
    crossing: tuple[Flow, ...]  # those that go over links
    wanted: Wanted
    paths: tuple[PathReport, ...]


def compare(cluster: WrittenCluster, wanted: Wanted, tell: Callable[[str], None]) -> Report:
    """Carry the flows through every data path; ``tell`` hears what is going on. Raises InputError for what cannot be."""
    config = cluster.manifests.config
    cnis = {path: cni_of(path, config, wanted.pod_mtu) for path in wanted.paths}  # unknown names are found before any work
    version = wanted.family or _first_family(cluster.manifests)
    traffic = traffic_of(cluster.manifests, [])
    flows: list[Flow] = []
    found: list[PathReport] = []
    bound: list[BoundFlow] = []
    for path, cni in cnis.items():
        tell(f"{path} ({len(found) + 1} of {len(cnis)})")
        try:
            manifests = cluster.under(cni)
            lab = Lab(manifests, wanted.seed, version)
            flows = flows or list(_flows(manifests, lab, wanted, version))
            bound = [bind(manifests, lab.topology, flow, version) for flow in flows]
            warnings = (*manifests.warnings, *_unanswered(manifests, version))
            found.append(_examine(path, lab, bound, wanted, traffic, warnings))
        except InputError as error:
            raise InputError(f"path {path}: {error}") from error
    crossing = tuple(each.flow for each in bound if each.crosses)
    manifests = cluster.manifests
    return Report(config.name, len(manifests.nodes), len(manifests.pods), version, tuple(flows), crossing, wanted, tuple(found))


def _unanswered(manifests: Manifests, version: int) -> Iterator[str]:
    """Why no pod of Calico may get anything out: what a node is a proxy for, it must have a route to (see ``k8s.cidrs``).

    In IPv6 the pods' gateway is the node's own link-local address.
    """
    config = manifests.config
    if version == 4 and config.cni.name == "calico" and all(gateway.version != 4 for gateway in config.underlay.default_gateways):
        yield "nodes have no IPv4 default route, so none answers for the gateway of Calico's pods: write underlay.defaultGateways"


def _first_family(manifests: Manifests) -> int:
    return next((address.version for pod in manifests.pods for address in pod.addresses), 4)


def _flows(manifests: Manifests, lab: Lab, wanted: Wanted, version: int) -> Iterator[Flow]:
    if not wanted.flows:
        yield from own_flows(manifests, lab.topology, version)
    for text in wanted.flows:
        yield named_flow(manifests, lab.topology, text, wanted.namespace, version)


def _examine(
    path: str, lab: Lab, flows: Sequence[BoundFlow], wanted: Wanted, traffic: Sequence[Traffic], warnings: tuple[str, ...]
) -> PathReport:
    rows: list[Row] = []
    unreached, times = [], []
    for bound in flows:
        why = lab.reach(bound)
        if why:
            unreached.append((bound.flow, why))
            continue
        rows += _measure(lab, bound, wanted)
        if wanted.timed:
            times.append((bound.flow, measure_stages(lab, bound)))
    scenario = lab.carry(traffic) if traffic else None
    told = scenario and (scenario[0], tuple(scenario[1]))
    return PathReport(path, lab.pod_mtu(), tuple(rows), tuple(unreached), told, tuple(times), warnings)


def _measure(lab: Lab, bound: BoundFlow, wanted: Wanted) -> Iterator[Row]:
    """Packets may be cut, as UDP's may; in IPv4 once more with the don't-fragment bit. IPv6 has none: only senders cut."""
    for size in wanted.sizes:
        if not size.is_tcp:
            for dont_fragment in (False, True) if lab.version == 4 else (False,):
                yield Row(bound.flow, size, dont_fragment, lab.measure(bound, size, wanted.packets, dont_fragment=dont_fragment))
        elif bound.flow.protocol == "tcp" or not bound.flow.target.startswith("service/"):
            yield Row(bound.flow, size, True, lab.connect(bound))
