"""Resolving neighbours: ARP requests and their retries, what waits meanwhile, proxy ARP, the states of RFC 4861 in Linux' ARP."""

from __future__ import annotations

from core.worlds import (
    ARP,
    BROADCAST,
    CLIENT,
    CLIENT_MAC,
    ICMP,
    MILLISECOND,
    OUTSIDE,
    ROUTER0,
    ROUTER0_MAC,
    ROUTER1,
    ROUTER1_MAC,
    SECOND,
    SERVER,
    SERVER_MAC,
    Router,
    arp,
    ether,
    ip,
    mac,
    udp_packet,
    unaccounted,
)

NEW, NEW_MAC = "10.0.1.9", mac(9)
REACHABLE_SECONDS, DELAY_SECONDS, RETRANS_SECONDS = 30, 5, 1  # net.ipv4.neigh.default.*


def state(router: Router, address: str) -> str:
    found = [row["state"] for row in router.engine.neighbours(router.ns) if row["address"] == ip(address)]
    return found[0] if found else "none"


def answer(router: Router, address: str, hardware: bytes) -> None:
    """The neighbour on eth1 answers the router."""
    frame = ether(arp(2, hardware, address, ROUTER1, ROUTER1_MAC), dst=ROUTER1_MAC, src=hardware, kind=ARP)
    router.engine.receive(router.eth1, frame)
    router.engine.run(router.engine.now)


def test_three_requests_then_host_unreachable_for_all_that_waited() -> None:
    router = Router()
    router.take(ether(udp_packet(b"first", dst=NEW)), ether(udp_packet(b"second", dst=NEW)))
    router.engine.run(10 * SECOND)
    frames = router.engine.frames()
    asked = [(frame.time, frame.data) for frame in frames if frame.device == router.eth1 and frame.outgoing]
    request = ether(arp(1, ROUTER1_MAC, ROUTER1, NEW), dst=BROADCAST, src=ROUTER1_MAC, kind=ARP)
    assert asked == [(number * RETRANS_SECONDS * SECOND, request) for number in range(3)]
    told = [frame for frame in frames if frame.device == router.eth0 and frame.outgoing]
    assert [frame.time for frame in told] == [3 * SECOND] * 2
    for frame, payload in zip(told, (b"first", b"second"), strict=True):
        assert (frame.data[:12], frame.data[14 + 9]) == (CLIENT_MAC + ROUTER0_MAC, ICMP)
        assert frame.data[34:36] == b"\x03\x01"  # destination unreachable, host
        assert frame.data[-len(payload) :] == payload
    assert state(router, NEW) == "failed"
    assert unaccounted(router.engine) == 0


def test_what_waits_is_sent_in_order_when_the_answer_comes() -> None:
    router = Router()
    router.take(*(ether(udp_packet(bytes([number]), dst=NEW)) for number in range(3)))
    assert router.engine.counters()["held"] == 3
    router.engine.frames()
    answer(router, NEW, NEW_MAC)
    sent = router.seen(router.eth1, outgoing=True)
    assert [frame[-1] for frame in sent] == [0, 1, 2]
    assert {frame[:12] for frame in sent} == {NEW_MAC + ROUTER1_MAC}
    assert unaccounted(router.engine) == 0


def test_retrans_time_and_number_of_requests_are_sysctls() -> None:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv4.neigh.eth1.retrans_time_ms", 200)
    router.engine.set_sysctl(router.ns, "net.ipv4.neigh.eth1.mcast_solicit", 5)
    router.take(ether(udp_packet(dst=NEW)))
    router.engine.run(10 * SECOND)
    times = [frame.time for frame in router.engine.frames() if frame.device == router.eth1 and frame.outgoing]
    assert times == [number * 200 * MILLISECOND for number in range(5)]


def test_a_neighbour_grows_stale_and_is_asked_alone_before_it_is_given_up() -> None:
    router = Router()
    router.take(ether(udp_packet(dst=NEW)))
    answer(router, NEW, NEW_MAC)
    assert state(router, NEW) == "reachable"
    router.engine.run(2 * REACHABLE_SECONDS * SECOND)
    assert state(router, NEW) == "stale"
    router.engine.frames()
    router.take(ether(udp_packet(dst=NEW)))
    assert len(router.seen(router.eth1, outgoing=True)) == 1, "a stale address is used"
    assert state(router, NEW) == "delay"
    start = router.engine.now
    router.engine.run(start + DELAY_SECONDS * SECOND)
    assert state(router, NEW) == "probe"
    router.engine.run(start + 20 * SECOND)
    asked = [(frame.time - start, frame.data) for frame in router.engine.frames() if frame.device == router.eth1 and frame.outgoing]
    probe = ether(arp(1, ROUTER1_MAC, ROUTER1, NEW), dst=NEW_MAC, src=ROUTER1_MAC, kind=ARP)
    assert asked == [((DELAY_SECONDS + number) * SECOND, probe) for number in range(3)]
    assert state(router, NEW) == "failed"


def test_an_answer_to_a_probe_makes_it_reachable_again() -> None:
    router = Router()
    router.engine.add_neighbour(router.eth1, ip(NEW), NEW_MAC, permanent=False)
    router.take(ether(udp_packet(dst=NEW)))
    router.engine.run(DELAY_SECONDS * SECOND)
    answer(router, NEW, NEW_MAC)
    assert state(router, NEW) == "reachable"


def test_a_request_tells_the_address_of_who_asks() -> None:
    router = Router()
    router.take(ether(arp(1, mac(5), "10.0.0.5", ROUTER0), dst=BROADCAST, src=mac(5), kind=ARP))
    reply = ether(arp(2, ROUTER0_MAC, ROUTER0, "10.0.0.5", mac(5)), dst=mac(5), src=ROUTER0_MAC, kind=ARP)
    assert router.seen(router.eth0, outgoing=True) == [reply]
    assert state(router, "10.0.0.5") == "stale"


def test_an_answer_that_nobody_asked_for_makes_no_entry() -> None:
    router = Router()
    answer(router, NEW, NEW_MAC)
    assert state(router, NEW) == "none"


def test_proxy_arp_answers_for_what_lies_behind_another_device_only() -> None:
    router = Router()
    router.engine.set_sysctl(router.ns, "net.ipv4.conf.eth0.proxy_arp", 1)
    router.engine.set_sysctl(router.ns, "net.ipv4.neigh.eth0.proxy_delay", 0)
    for target in (SERVER, "10.0.0.77", OUTSIDE):
        router.take(ether(arp(1, CLIENT_MAC, CLIENT, target), dst=BROADCAST, kind=ARP))
    router.engine.run(router.engine.now + SECOND)
    reply = ether(arp(2, ROUTER0_MAC, SERVER, CLIENT, CLIENT_MAC), dst=CLIENT_MAC, src=ROUTER0_MAC, kind=ARP)
    assert router.seen(router.eth0, outgoing=True) == [reply]


def test_a_permanent_neighbour_is_never_asked_for_nor_changed() -> None:
    router = Router()
    answer(router, SERVER, mac(0x66))
    router.take(ether(udp_packet()))
    router.engine.run(100 * SECOND)
    assert [frame[:6] for frame in router.seen(router.eth1, outgoing=True)] == [SERVER_MAC]
    assert state(router, SERVER) == "permanent"
