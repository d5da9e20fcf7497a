"""Every way that the random choices in the rules can go for one probe, with its probability, each walked to its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.control.build import build
from dataplane.explain.probe import PROTO_SCTP
from dataplane.explain.steps import Step, link_type
from dataplane.explain.walk import Pin, Question, Run, run_probe
from dataplane.k8s.objects import Manifests
from dataplane.traffic.packets import PROTO_TCP, PROTO_UDP, parse_ip

if TYPE_CHECKING:
    from dataplane._core import Engine, Outcome

_PORT_PROTOCOLS = {PROTO_TCP, PROTO_UDP, PROTO_SCTP}


@dataclass(frozen=True, slots=True)
class Choice:
    """One outcome: how likely, and the pins that bring it about."""

    probability: float
    pins: tuple[Pin, ...]
    run: Run

    @property
    def endpoint(self) -> tuple[bytes, int] | None:
        """Address and port that the last random choice led to; None where nothing is left to chance."""
        return self.pins[-1].endpoint if self.pins else None


def every_outcome(manifests: Manifests, question: Question, *, seed: int = 0) -> list[Choice]:
    """All outcomes, in the order of the rules. One that no choice leads to is alone, with probability 1."""
    explorer = _Explorer(manifests, question, seed)
    return list(explorer.explore((), 1.0))


def as_it_fell(manifests: Manifests, question: Question, *, seed: int = 0) -> tuple[Choice, int]:
    """The outcome that the seed chooses, and how many others there are at its first random choice."""
    run = run_probe(manifests, question, seed=seed)
    met = _first_choice(_fresh(manifests, seed), run, set())
    if met is None:
        return Choice(1.0, (), run), 0
    step, ways = met
    endpoint = next(_endpoint(later) for later in run.forward.steps if later.order > step.order and later.what == "dnat")
    return Choice(ways[endpoint], (_pin(step, endpoint),), run), len(ways) - 1


class _Explorer:
    def __init__(self, manifests: Manifests, question: Question, seed: int) -> None:
        self._manifests = manifests
        self._question = question
        self._seed = seed
        self._engine = _fresh(manifests, seed)  # asked only; the walks have engines of their own

    def explore(self, pins: tuple[Pin, ...], probability: float) -> Iterator[Choice]:
        """Walk with these choices made; where a further one is met, once for each way it can go."""
        run = run_probe(self._manifests, self._question, seed=self._seed, pins=pins)
        met = _first_choice(self._engine, run, {pin.namespace for pin in pins})
        if met is None:
            yield Choice(probability, pins, run)
            return
        step, ways = met
        for endpoint, chance in ways.items():
            pin = _pin(step, endpoint)
            yield from self.explore((*pins, pin), probability * chance)


def _fresh(manifests: Manifests, seed: int) -> Engine:
    from dataplane._core import Engine

    engine = Engine(seed)
    build(manifests, engine)
    return engine


def _first_choice(engine: Engine, run: Run, settled: set[int]) -> tuple[Step, dict[tuple[bytes, int], float]] | None:
    """The first namespace, but for the settled ones, whose rules left the way to chance, and its ways."""
    for step in run.forward.steps:
        if step.stage != "conntrack" or step.namespace in settled:
            continue
        settled = settled | {step.namespace}
        ways = _ways(_outcomes_at(engine, run, step))
        if len(ways) > 1:
            return step, ways
    return None


def _outcomes_at(engine: Engine, run: Run, step: Step) -> list[Outcome]:
    packet = _ip_bytes(step)
    parsed = parse_ip(packet)
    if parsed is None or parsed.proto not in _PORT_PROTOCOLS:
        return []
    local = run.topology.short_device_name(step.device) == "lo" if step.device >= 0 else True
    family = 4 if len(parsed.src) == 4 else 6
    return engine.outcomes(step.namespace, family, "output" if local else "prerouting", packet, iif=-1 if local else step.device)


def _endpoint(step: Step) -> tuple[bytes, int]:
    """Where a translated packet goes."""
    _, _, destination, port = _pin(step, (b"", 0)).original
    return destination, port


def _ip_bytes(step: Step) -> bytes:
    """Without the Ethernet header."""
    return step.data if link_type(step.data) else step.data[14:]


def _ways(outcomes: list[Outcome]) -> dict[tuple[bytes, int], float]:
    """Endpoint to probability; several ways to the same endpoint are one."""
    ways: dict[tuple[bytes, int], float] = {}
    for outcome in outcomes:
        if outcome.dnat is not None:
            ways[outcome.dnat] = ways.get(outcome.dnat, 0.0) + outcome.probability
    return ways


def _pin(step: Step, endpoint: tuple[bytes, int]) -> Pin:
    packet = parse_ip(_ip_bytes(step))
    assert packet is not None, "only packets with ports have random choices"
    sport, dport = int.from_bytes(packet.payload[:2], "big"), int.from_bytes(packet.payload[2:4], "big")
    return Pin(step.namespace, packet.proto, (packet.src, sport, packet.dst, dport), endpoint)
