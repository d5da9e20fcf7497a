"""Every path's MTU budget, proven by frames; what is wrong with it, and what the MTUs should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dataplane.control.topology import Topology
from dataplane.explain.mtu_budget import INSIDE, IPV6_LEAST_MTU, SWITCH, Budget, Fate, Limit, Result
from dataplane.explain.mtu_pairs import Case, every_case, named_cases
from dataplane.explain.mtu_path import Devices, role_of
from dataplane.explain.mtu_proof import Proof
from dataplane.k8s.objects import Manifests

LEAST_PROBE = {4: 64, 6: 84}  # bytes: more than any header of TCP, UDP and SCTP that a probe has


@dataclass(frozen=True, slots=True)
class Trial:
    """One length: what was computed of it and what frames showed."""

    size: int
    computed: Fate
    seen: Fate
    again: Fate | None = None  # seen of the same packet once more, where the first was lost silently

    @property
    def contradicts(self) -> bool:
        return not self.computed.agrees(self.seen)


@dataclass(frozen=True, slots=True)
class PathReport:
    """One path for one IP version."""

    case: Case
    budget: Budget | None  # None: not even a short packet arrives
    trials: tuple[Trial, ...]
    unreached: Fate | None = None

    @property
    def name(self) -> str:
        return f"{self.case.path.source.ref} to {self.case.path.label}"

    @property
    def family(self) -> int:
        return self.case.path.address.version

    @property
    def at_sender_mtu(self) -> Trial | None:
        """The longest packet that the sender's device takes."""
        return next((trial for trial in self.trials if self.budget and trial.size == self.budget.sender_mtu), None)


@dataclass(frozen=True, slots=True)
class Advice:
    """The MTU of devices of one role as it is and as it should be."""

    role: str
    now: int
    wanted: int
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it; ``errors`` are verdicts that frames contradict."""

    paths: tuple[PathReport, ...]
    advice: tuple[Advice, ...]
    findings: tuple[str, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.findings and not self.errors


def examine(manifests: Manifests, *, ends: tuple[str, str] | None = None, namespace: str = "default", seed: int = 0) -> Report:
    """Compute and prove each path of the cluster, or with ``ends`` that from one place to another. InputError: wrong names."""
    proof = Proof(manifests, seed)
    if ends is None:
        cases = list(every_case(manifests, proof.topology, proof.devices))
    else:
        cases = list(named_cases(manifests, proof.topology, *ends, namespace))
    paths = tuple(_examine_path(proof, case) for case in cases)
    return Report(
        paths,
        tuple(advise(paths, proof.topology, proof.devices)),
        tuple(finding for path in paths for finding in findings_of(path)),
        tuple(warning for path in paths for warning in warnings_of(path)),
        tuple(error for path in paths for error in errors_of(path)),
    )


def _examine_path(proof: Proof, case: Case) -> PathReport:
    budget = proof.budget(case.path)
    if isinstance(budget, Fate):
        return PathReport(case, None, (), budget)
    trials = []
    for size in budget.sizes(LEAST_PROBE[budget.family]):
        seen = proof.seen(case.path, proof.send(case.path, size))
        again = proof.seen(case.path, proof.send(case.path, size, again=True)) if seen.result is Result.SILENT else None
        trials.append(Trial(size, budget.fate(size), seen, again))
    return PathReport(case, budget, tuple(trials))


# ---- what is wrong


def findings_of(path: PathReport) -> Iterator[str]:
    """Where the path does not carry what its sender may send, by what was seen."""
    name, budget = f"{path.name} (IPv{path.family})", path.budget
    if path.unreached is not None:
        end = path.unreached
        yield f"{name}: not even a short packet arrives: {end.reason or 'it was not heard of again'} at {end.place}"
    if budget is None:
        return
    lost = [trial for trial in path.trials if trial.size <= budget.sender_mtu and trial.seen.result is not Result.DELIVERED]
    for (place, consequence), group in groupby(lost, key=lambda trial: (_lost_at(trial), _consequence(trial))):
        sizes = [trial.size for trial in group]
        yield f"{name}: packets of {_range(sizes)} bytes are lost at {place}: {consequence}"
    if budget.family == 6 and budget.largest < IPV6_LEAST_MTU:
        yield f"{name}: the path carries {budget.largest} bytes, and IPv6 requires {IPV6_LEAST_MTU} (RFC 8200 5)"


def _lost_at(trial: Trial) -> str:
    """A router drops before the device that is too narrow, and only the computation names that one."""
    return trial.seen.place if trial.contradicts else trial.computed.place


def _range(sizes: Sequence[int]) -> str:
    return f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])


def _consequence(trial: Trial) -> str:
    seen, again = trial.seen, trial.again
    hang = "so connections hang as soon as they carry data"
    if seen.result is not Result.TOLD:
        if again is not None and again.result is not Result.SILENT:
            return f"nobody tells the sender ({seen.reason}); of the next one: {fate_words(again)}"
        return f"nobody tells the sender ({seen.reason}), {hang}"
    message = f"{seen.told_by} says so in ICMP with MTU {seen.told_mtu}"
    if not seen.heard:
        lost = f" ({seen.message_lost})" if seen.message_lost else ""
        return f"{message}, which never reaches the sender{lost}, {hang}"
    return f"{message}, and the sender hears it: each connection loses its first long packet"


def warnings_of(path: PathReport) -> Iterator[str]:
    trial = path.at_sender_mtu
    if trial is not None and trial.seen.result is Result.DELIVERED and trial.seen.fragmented:
        yield f"{path.name} (IPv{path.family}): packets of {trial.size} bytes arrive, but in fragments from {trial.seen.fragmented} on"


def errors_of(path: PathReport) -> Iterator[str]:
    for trial in path.trials:
        if trial.contradicts:
            what = f"{path.name} (IPv{path.family}), {trial.size} bytes"
            yield f"{what}: computed: {fate_words(trial.computed)}; seen: {fate_words(trial.seen)}"


def fate_words(fate: Fate) -> str:
    """``delivered, fragmented at node1/eth0``."""
    words = str(fate.result)
    if fate.place:
        words += f" at {fate.place}"
    if fate.reason and fate.result is not Result.REFUSED:
        words += f" ({fate.reason})"
    if fate.told_mtu:
        lost = f" ({fate.message_lost})" if fate.message_lost else ""
        end = "heard by the sender" if fate.heard else f"lost on its way to the sender{lost}"
        words += f" by {fate.told_by}: MTU {fate.told_mtu}, {end}"
    return f"{words}, fragmented at {fate.fragmented}" if fate.fragmented else words


# ---- what it should be


def advise(paths: Sequence[PathReport], topology: Topology, devices: Devices) -> Iterator[Advice]:
    """Of every device of a role that some path leads through; ``Advice.now`` differs where devices of a role do."""
    wanted: dict[str, int] = {}
    for path in paths:
        limits = path.budget.limits if path.budget is not None else ()
        for limit in limits:
            room = _room(limit, limits)
            wanted[limit.role] = min(wanted.get(limit.role, room), room)
    inside = min((wanted[role] for role in INSIDE if role in wanted), default=0)
    found: dict[tuple[str, int], list[str]] = {}
    for device in devices.values():
        role = role_of(topology, device)
        if role in wanted:
            found.setdefault((role, device["mtu"]), []).append(topology.device_name(device["id"]))
    for role in wanted:
        for (_, now), places in sorted(item for item in found.items() if item[0][0] == role):
            yield Advice(role, now, inside if role in INSIDE else wanted[role], tuple(places))


def _room(limit: Limit, limits: Sequence[Limit]) -> int:
    """What the underlay leaves for a device at its own depth of tunnels; without an underlay on the path, what it has."""
    given = [other for other in limits if other.role == SWITCH]
    return min((_within(other, limit) for other in given), default=limit.mtu)


def _within(outer: Limit, limit: Limit) -> int:
    """The longest packet of ``limit``'s depth that ``outer`` lets through."""
    room = outer.mtu
    for tunnel in reversed(outer.tunnels[len(limit.tunnels) :]):
        room = tunnel.most(room)
    return room
