"""REJECT of TCP segments whose sender no answer can reach: nothing is sent, and the segment is dropped as ever."""

from __future__ import annotations

from core.worlds import OUTSIDE, SERVER, Bridge, Router, ether, ip, mac, tcp_packet, unaccounted
from dataplane.control.iptables import IptablesTables

SYN = 0x02


def refusing(engine_of: Router | Bridge) -> None:
    tables = IptablesTables(4)
    tables.append("filter", "FORWARD", "-p tcp -j REJECT --reject-with tcp-reset")
    for table, chains in tables.compile().items():
        engine_of.engine.set_rules(engine_of.ns, 4, table, chains)


def test_a_reset_goes_back_to_a_sender_there_is_a_route_to() -> None:
    router = Router()
    refusing(router)
    router.take(ether(tcp_packet(SYN)))
    (reset,) = router.seen(router.eth0, outgoing=True)
    assert (reset[30:34], reset[47]) == (ip("10.0.0.2"), 0x14)
    assert unaccounted(router.engine) == 0


def test_no_reset_goes_to_a_sender_there_is_no_route_to() -> None:
    """nf_send_reset() frees what ip_route_me_harder() finds no way for."""
    router = Router()
    refusing(router)
    router.take(ether(tcp_packet(SYN, src=OUTSIDE)))
    assert router.dropped("rules/rejected") == 1
    assert [frame for frame in router.engine.frames() if frame.outgoing] == []
    assert unaccounted(router.engine) == 0


def test_nor_to_one_on_the_same_bridge_whom_a_route_declares_unreachable() -> None:
    bridge = Bridge()
    bridge.engine.set_sysctl(bridge.ns, "net.bridge.bridge-nf-call-iptables", 1)
    refusing(bridge)
    bridge.engine.add_route(bridge.ns, ip("10.0.0.9"), 32, kind="unreachable")
    for known in (mac(0x10), mac(0x11)):
        bridge.engine.add_fdb(bridge.ports[known[-1] - 0x10], known)
    for sender, answers in (("10.0.0.8", 1), ("10.0.0.9", 0)):
        bridge.take(0, ether(tcp_packet(SYN, src=sender, dst=SERVER), dst=mac(0x11), src=mac(0x10)))
        assert len(bridge.ports_out()) == answers
    assert bridge.engine.counters()["drop/rules/rejected"] == 2
    assert unaccounted(bridge.engine) == 0
