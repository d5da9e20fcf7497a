"""Starts the applications of resolved flows on a core and runs them to their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dataplane.traffic.loop import Core, Loop
from dataplane.traffic.ping import PingFlow
from dataplane.traffic.resolve import ResolvedFlow
from dataplane.traffic.summary import FlowSummary
from dataplane.traffic.tcp import TcpFlow, TcpListener
from dataplane.traffic.udp import UdpFlow, UdpListener

_FLOWS: dict[str, type[PingFlow | UdpFlow | TcpFlow]] = {"ping": PingFlow, "udp": UdpFlow, "tcp": TcpFlow}
_LISTENERS: dict[str, type[UdpListener | TcpListener]] = {"udp": UdpListener, "tcp": TcpListener}


def start_flows(loop: Loop, flows: Sequence[ResolvedFlow]) -> list[FlowSummary]:
    """Open the listeners and schedule the flows; the summaries, one for each, are filled while the loop runs."""
    summaries = [FlowSummary(resolved.flow.name, resolved.flow.kind) for resolved in flows]
    listeners = dict.fromkeys((resolved.flow.kind, listener) for resolved in flows for listener in resolved.listeners)
    for kind, listener in listeners:
        _LISTENERS[kind](loop, listener, summaries).start()
    for resolved, summary in zip(flows, summaries, strict=True):
        _FLOWS[resolved.flow.kind](loop, resolved, summary).start()
    return summaries


def run_flows(
    core: Core, flows: Sequence[ResolvedFlow], seed: int, *, until: int | None = None, drain: Callable[[], None] | None = None
) -> list[FlowSummary]:
    """Carry the flows over ``core`` to their end or to virtual nanosecond ``until``; a summary for each, in order.

    ``drain`` is called now and then, and at the end, to take captured frames out of the core. Same core, flows and seed: same packets.
    """
    loop = Loop(core, seed)
    summaries = start_flows(loop, flows)
    loop.run(until, drain)
    return summaries
