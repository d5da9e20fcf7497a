"""Routes as ``ip route`` changes them, and what packets make of them."""

from __future__ import annotations

import pytest

from core.worlds import CLIENT_MAC, OUTSIDE, ROUTER1, SERVER, SERVER_MAC, Router, ether, ip, mac, udp_packet

NETWORK, LENGTH = "198.51.100.0", 24
OTHER, OTHER_MAC = "10.0.1.3", mac(0x33)


def forwarding(router: Router, dst: str = OUTSIDE) -> bytes | None:
    """Destination MAC of a packet to ``dst`` from the client, None if it does not go on."""
    router.engine.frames()
    router.take(ether(udp_packet(dst=dst)))
    sent = router.seen(router.eth1, outgoing=True)
    return sent[0][:6] if sent else None


def two_gateways() -> Router:
    router = Router()
    router.engine.add_neighbour(router.eth1, ip(OTHER), OTHER_MAC)
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip(SERVER))
    return router


def test_a_route_is_taken_from_when_it_is_added_until_it_is_deleted() -> None:
    router = Router()
    assert forwarding(router) is None
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip(SERVER))
    assert forwarding(router) == SERVER_MAC
    assert router.engine.del_route(router.ns, ip(NETWORK), LENGTH)
    assert forwarding(router) is None
    assert not router.engine.del_route(router.ns, ip(NETWORK), LENGTH)


def test_the_longest_prefix_wins() -> None:
    router = two_gateways()
    router.engine.add_route(router.ns, ip(OUTSIDE), 32, via=ip(OTHER))
    assert (forwarding(router), forwarding(router, "198.51.100.8")) == (OTHER_MAC, SERVER_MAC)
    router.engine.del_route(router.ns, ip(OUTSIDE), 32)
    assert forwarding(router) == SERVER_MAC


def test_the_same_route_twice_is_refused_and_replacing_is_not() -> None:
    router = two_gateways()
    with pytest.raises(ValueError, match="exists"):
        router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip(OTHER))
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip(OTHER), replace=True)
    assert forwarding(router) == OTHER_MAC
    assert sum(row["prefix"] == ip(NETWORK) for row in router.engine.routes(router.ns)) == 1


def test_the_lower_metric_wins_and_the_other_takes_over() -> None:
    router = two_gateways()
    router.engine.add_route(router.ns, ip("203.0.113.0"), 24, via=ip(SERVER), metric=20)
    router.engine.add_route(router.ns, ip("203.0.113.0"), 24, via=ip(OTHER), metric=10)
    assert forwarding(router, "203.0.113.1") == OTHER_MAC
    router.engine.del_route(router.ns, ip("203.0.113.0"), 24, metric=10)
    assert forwarding(router, "203.0.113.1") == SERVER_MAC


def test_throw_ends_the_lookup_in_the_table() -> None:
    """No other table is asked after main here, so nothing is found (fib_lookup())."""
    router = two_gateways()
    router.engine.add_route(router.ns, ip(OUTSIDE), 32, kind="throw")
    assert forwarding(router) is None
    assert router.dropped("route/no_route") == 1
    assert forwarding(router, "198.51.100.8") == SERVER_MAC


@pytest.mark.parametrize(("kind", "code"), [("unreachable", 1), ("prohibit", 13), ("blackhole", None)])
def test_what_a_route_that_leads_nowhere_tells_the_sender(kind: str, code: int | None) -> None:
    router = Router()
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, kind=kind)
    router.take(ether(udp_packet(dst=OUTSIDE)))
    told = router.seen(router.eth0, outgoing=True)
    assert [(frame[:6], frame[34], frame[35]) for frame in told] == ([] if code is None else [(CLIENT_MAC, 3, code)])


def test_a_gateway_must_be_on_a_link() -> None:
    router = Router()
    with pytest.raises(ValueError, match="gateway"):
        router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip("192.0.2.1"))
    router.engine.add_neighbour(router.eth1, ip("192.0.2.1"), OTHER_MAC)
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip("192.0.2.1"), dev=router.eth1, onlink=True)
    assert forwarding(router) == OTHER_MAC


def test_routes_of_a_device_that_is_down_do_not_count() -> None:
    router = two_gateways()
    router.engine.set_device(router.eth1, up=False)
    assert router.engine.lookup_route(router.ns, ip(OUTSIDE))["kind"] == "unreachable"
    router.engine.set_device(router.eth1, up=True)
    assert forwarding(router) == SERVER_MAC


def test_an_address_that_goes_takes_its_routes_along() -> None:
    router = Router()
    before = len(router.engine.routes(router.ns))
    router.engine.add_address(router.eth1, ip("192.0.2.1"), 24)
    assert len(router.engine.routes(router.ns)) > before
    router.engine.del_address(router.eth1, ip("192.0.2.1"), 24)
    assert len(router.engine.routes(router.ns)) == before


def test_a_route_s_own_mtu_counts_before_the_device_s() -> None:
    router = Router()
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip(SERVER), mtu=600)
    router.take(ether(udp_packet(bytes(1000), dst=OUTSIDE)))
    assert [len(frame) for frame in router.seen(router.eth1, outgoing=True)] == [14 + 20 + 576, 14 + 20 + 1008 - 576]


def test_the_source_of_an_own_packet_is_that_of_the_route() -> None:
    router = Router()
    router.engine.add_route(router.ns, ip(NETWORK), LENGTH, via=ip(SERVER), src=ip("10.0.0.1"))
    for dst, expected in ((OUTSIDE, "10.0.0.1"), (SERVER, ROUTER1)):
        router.engine.send(router.ns, udp_packet(src="0.0.0.0", dst=dst))
        router.engine.run(0)
        assert [frame[26:30] for frame in router.seen(router.eth1, outgoing=True)] == [ip(expected)]
