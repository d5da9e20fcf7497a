"""A trace as a capture: the frames of every walk, each with what was decided since the frame before it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from dataplane.capture.names import address_names, interfaces
from dataplane.capture.pcapng_write import TC_ACT_OK, TC_ACT_SHOT, CaptureWriter, Record
from dataplane.control.topology import Topology
from dataplane.explain.outcomes import Choice
from dataplane.explain.reasons import details, reason, verdict_line
from dataplane.explain.rule_path import decisive
from dataplane.explain.text import change_text
from dataplane.explain.walk import DROPPED, Walk
from dataplane.k8s.objects import Manifests

APART_NS = 1_000_000_000
"""Outcomes stand one second apart, so that a reader who sorts by time keeps them together."""


def write_walks(path: str | os.PathLike[str], manifests: Manifests, choices: Sequence[Choice], *, reply: bool = False) -> None:
    """Write pcapng; packet ids of the second outcome start at 1000000, of the third at 2000000. InputError: cannot be written."""
    topology = choices[0].run.topology
    devices = topology.device_ids()
    index = {device: number for number, device in enumerate(devices)}
    with CaptureWriter(path, interfaces(topology, devices), address_names(manifests), comment="dataplane trace") as writer:
        for number, choice in enumerate(choices):
            for secret in choice.run.secrets:
                writer.add_secrets(*secret)
            walks = [choice.run.forward, choice.run.back if reply else None]
            if choice.run.secrets:  # which nobody can use who has not seen the handshake
                walks += choice.run.messages
            records = [each for walk in walks if walk is not None for each in _records(walk, topology, index)]
            for record in sorted(records, key=lambda each: each[0]):
                frame = record[1]
                writer.write(
                    frame.interface,
                    frame.time_ns + number * APART_NS,
                    frame.data,
                    frame.outgoing,
                    frame.packet_id + number * 1_000_000,
                    frame.verdict,
                    frame.comments,
                )


def _records(walk: Walk, topology: Topology, index: dict[int, int]) -> Iterator[tuple[int, Record]]:
    """Frames with their place in the order of all steps; the last one bears the verdict."""
    frames = [step for step in walk.steps if step.what == "frame"]
    said: list[str] = []
    for step in decisive(walk.steps):
        if step.what != "frame":
            said.append(_comment(step.what, step.text, change_text(step.changes), str(step.origin or "")))
            continue
        comments, verdict = said, None
        if step is frames[-1]:
            comments = [*said, *details(walk, topology), f"{verdict_line(walk, topology)}: {reason(walk)}"]
            verdict = TC_ACT_SHOT if walk.verdict.result == DROPPED else TC_ACT_OK
        yield step.order, Record(index[step.device], step.time, step.data, step.stage == "out", walk.packet, verdict, tuple(comments))
        said = []


def _comment(what: str, text: str, changed: str, origin: str) -> str:
    return f"{what}: {text}" + (f" ({changed})" if changed else "") + (f" [{origin}]" if origin else "")
