"""A frame that a captured device sees and that a rule drops behind it: what is kept of it is what it was at each of the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.worlds import MILLISECOND, SCTP, Router, ether, filter_table, udp_packet
from dataplane._core import Chain, Engine, Records

if TYPE_CHECKING:
    from dataplane._core import Match

HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
PADDING = b"\x55" * 20
FRAMES = 12


def world(hook: str, *, slow: bool, captured: bool = True, at_server: bool = False) -> Router:
    """Datagrams are dropped at this hook of the router, behind eth0 and before eth1, or of the server behind it."""
    router = Router(engine=Engine(3, slow_path_only=slow))
    drop: Match = {"proto": 17, "target": "DROP", "origin": 7}
    chains = [Chain(name, "ACCEPT", [drop] if name == hook else []) for name in HOOKS]
    router.engine.set_rules(router.server if at_server else router.ns, 4, "mangle", chains)
    router.engine.set_rules(router.ns, 4, "filter", filter_table(FORWARD=[{"proto": SCTP, "target": "DROP"}]))  # else routes alone decide
    if not captured:
        router.engine.set_device(router.eth0, capture=False)
    router.engine.set_device(router.client_eth, capture=False)
    return router


def datagram(number: int) -> bytes:
    return ether(udp_packet(b"1234%c" % number))


def sent(router: Router, padding: bytes = b"") -> None:
    for number in range(FRAMES):
        at = router.engine.now + MILLISECOND
        router.engine.inject(router.client_eth, datagram(number) + padding, at=at)
        router.engine.run(at)


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("padding", [b"", PADDING])
@pytest.mark.parametrize("hook", ["PREROUTING", "FORWARD", "POSTROUTING"])
def test_frame_and_drop_have_the_bytes_of_their_moment(hook: str, padding: bytes, captured: bool) -> None:
    """Behind it padding is cut off, and the TTL one less when the packet is routed."""
    fast, slow = world(hook, slow=False, captured=captured), world(hook, slow=True, captured=captured)
    for router in (fast, slow):
        sent(router, padding)
    assert fast.engine.flow_cache()["hits"] >= FRAMES - 2
    drops = fast.engine.drops()
    assert drops == slow.engine.drops() and len(drops) == FRAMES
    frames = fast.engine.frames()
    assert frames == slow.engine.frames() and len(frames) == FRAMES * captured
    assert {len(drop.data) for drop in drops} == {len(datagram(0))}
    if captured and not padding:
        assert [each.data[22] for each in frames] == [64] * FRAMES
        assert [each.data[22] for each in drops] == [64 - (hook != "PREROUTING")] * FRAMES


def test_what_is_dropped_as_it_was_seen_is_kept_once() -> None:
    """The stages keep what three devices and the drop show four times; on a known way it is kept as it came and as it went on."""
    fast, slow = (world("PREROUTING", slow=slow, at_server=True) for slow in (False, True))
    kept = []
    for router in (fast, slow):
        sent(router)
        records = Records(), Records(), Records()
        router.engine.exchange(*records)
        kept.append(len(records[2]))
    stages = 2  # frames, of which the others' way is learnt
    assert kept[1] == 4 * FRAMES * len(datagram(0))
    assert kept[0] == kept[1] - 2 * (FRAMES - stages) * len(datagram(0))
    for router in (fast, slow):
        sent(router)
    drops = fast.engine.drops()
    assert drops == slow.engine.drops() and [drop.data[22] for drop in drops] == [63] * FRAMES
    assert fast.engine.frames() == slow.engine.frames()
