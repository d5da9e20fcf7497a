"""Every drop reason is a sentence about a packet that really occurs: each has frames that provoke it."""

from __future__ import annotations

import pytest

import core.provoke_frames
import core.provoke_ipv6
import core.provoke_packets
import core.provoke_tunnels  # noqa: F401
from core.provoked import PROVOCATIONS
from core.worlds import unaccounted
from dataplane import _core
from dataplane.encap import registry

registry.ensure("vxlan")
NEVER_BY_FRAMES = {
    "tunnel/no_headroom": "memory is out",
    "vxlan/no_headroom": "the core broke the contract of encap_abi.h",
}
"""Reasons for what no frame can bring about."""


@pytest.mark.parametrize("reason", sorted(PROVOCATIONS))
def test_frames_provoke_the_reason(reason: str) -> None:
    engine = PROVOCATIONS[reason]()
    counters = engine.counters()
    assert counters.get(f"drop/{reason}", 0) > 0, {name: count for name, count in counters.items() if name.startswith("drop/")}
    assert {_core.drop_reasons()[drop.reason].name for drop in engine.drops()} >= {reason}
    assert unaccounted(engine) == 0


def test_every_declared_reason_is_provoked() -> None:
    others = set(_core.encapsulations()) - {"vxlan"}
    declared = {reason.name for reason in _core.drop_reasons() if reason.name.split("/")[0] not in others}
    assert declared - PROVOCATIONS.keys() == NEVER_BY_FRAMES.keys()
