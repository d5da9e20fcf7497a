"""Times by stage: which stages a packet enters is exact, how long it stays is the machine's affair."""

from __future__ import annotations

from core.worlds import DONT_FRAGMENT, Router, ether, udp_packet
from dataplane._core import Engine


def visits(engine: Engine) -> dict[str, int]:
    return {name: entered for name, (entered, _) in engine.stage_times().items()}


def test_nothing_is_measured_unless_asked() -> None:
    router = Router()
    router.engine.inject(router.client_eth, ether(udp_packet()))
    router.engine.run()
    assert router.engine.stage_times() == {}


def test_a_forwarded_packet_enters_each_stage_of_its_way() -> None:
    router = Router()
    router.engine.profile(True)
    for _ in range(3):
        router.engine.inject(router.client_eth, ether(udp_packet()))
    router.engine.run()
    found = visits(router.engine)
    # Out of the client, into the router, out of it, into the server, which has no address and takes nothing.
    assert (found["transmit"], found["receive"]) == (6, 6)
    assert (found["ip_receive"], found["forward"], found["output"], found["fragment"], found["neighbour"]) == (6, 3, 3, 3, 3)
    assert all(ns >= 0 for _, ns in router.engine.stage_times().values())
    assert sum(ns for _, ns in router.engine.stage_times().values()) > 0


def test_what_is_made_on_the_side_counts_for_its_own_stages() -> None:
    """A packet that is cut in two is transmitted twice by the stage that cuts it, and the time goes on in that stage."""
    router = Router()
    router.engine.set_device(router.eth1, mtu=1000)
    router.engine.profile(True)
    router.engine.inject(router.client_eth, ether(udp_packet(bytes(1400))))
    router.engine.run()
    assert visits(router.engine)["neighbour"] == 2
    assert visits(router.engine)["transmit"] == 3
    router.engine.profile(True)
    router.engine.inject(router.client_eth, ether(udp_packet(bytes(1400), fragment=DONT_FRAGMENT)))
    router.engine.run()
    found = visits(router.engine)
    assert "fragment" in found  # of the ICMP message, which the router sends back
    assert found["local_out"] == 1


def test_measuring_begins_anew_and_ends() -> None:
    router = Router()
    router.engine.profile(True)
    router.engine.inject(router.client_eth, ether(udp_packet()))
    router.engine.run()
    first = visits(router.engine)
    router.engine.profile(False)
    router.engine.inject(router.client_eth, ether(udp_packet()))
    router.engine.run()
    assert visits(router.engine) == first
    router.engine.profile(True)
    assert router.engine.stage_times() == {}


def test_measuring_changes_no_frame() -> None:
    frames = []
    for on in (False, True):
        router = Router(silent=False)
        router.engine.profile(on)
        router.engine.inject(router.client_eth, ether(udp_packet(bytes(100))))
        router.engine.run()
        frames.append(router.engine.frames())
    assert frames[0] == frames[1]
    assert frames[0]
