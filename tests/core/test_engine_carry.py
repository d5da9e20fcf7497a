"""``carry``: many frames at once come to what they come to one by one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from core.worlds import CLIENT_MAC, MILLISECOND, ROUTER1_MAC, SERVER_MAC, Router, arp, ether, ping, udp_packet

FRAMES = [ether(udp_packet()), ether(ping()), ether(arp(1, CLIENT_MAC, "10.0.0.2", "10.0.0.1")), ether(udp_packet(dport=53))]
TIMES = [0, 2 * MILLISECOND, 2 * MILLISECOND, MILLISECOND]  # the last one is late: it goes at once


def carried(router: Router, frames: Sequence[bytes], times: Sequence[int]) -> tuple[int, bytes]:
    """How many frames were taken, and which of them were refused."""
    data, lengths = b"".join(frames), [len(frame) for frame in frames]
    starts = [sum(lengths[:i]) for i in range(len(frames))]
    refused = bytearray(len(frames))
    devices = array("i", [router.client_eth] * len(frames))
    taken = router.engine.carry(data, devices, array("Q", starts), array("I", lengths), array("q", times), refused)
    return taken, bytes(refused)


def test_a_batch_comes_to_what_its_frames_come_to_one_by_one() -> None:
    single, batch = Router(), Router()
    for frame, time in zip(FRAMES, TIMES, strict=True):
        at = max(time, single.engine.now)
        single.engine.inject(single.client_eth, frame, at=at)
        single.engine.run(at)
    assert carried(batch, FRAMES, TIMES) == (len(FRAMES), bytes(len(FRAMES)))
    assert batch.engine.frames() == single.engine.frames()
    assert batch.engine.drops() == single.engine.drops()
    assert batch.engine.counters() == single.engine.counters()
    assert batch.engine.now == 2 * MILLISECOND


def test_ids_are_given_in_the_same_order_with_what_is_still_under_way() -> None:
    """Errors that the router sends are made while later frames wait to be injected, and on a wire with a latency."""
    single, batch = Router(silent=False), Router(silent=False)
    frames = [ether(udp_packet(ttl=1, dport=port)) for port in range(6)]
    times = [0, 2 * MILLISECOND, 3 * MILLISECOND, 3 * MILLISECOND, 5 * MILLISECOND, 4 * MILLISECOND]
    for router in (single, batch):
        router.engine.connect(router.eth0, router.client_eth, latency=2 * MILLISECOND)
    for frame, time in zip(frames, times, strict=True):
        at = max(time, single.engine.now)
        single.engine.inject(single.client_eth, frame, at=at)
        single.engine.run(at)
    assert carried(batch, frames, times) == (len(frames), bytes(len(frames)))
    single.engine.run()
    batch.engine.run()
    recorded = single.engine.frames()
    ids = [frame.packet for frame in recorded if frame.device == single.client_eth and frame.outgoing]
    assert len(ids) == len(frames)
    assert ids != list(range(1, len(frames) + 1)), "some packet was made in between"
    assert batch.engine.frames() == recorded


def test_what_a_packet_socket_refuses_is_marked_and_left_out() -> None:
    router = Router()
    assert carried(router, [b"short", FRAMES[0], FRAMES[0] + bytes(1500)], [0, 0, 0]) == (3, b"\1\0\1")
    assert router.engine.counters()["in"] == 1


def test_a_batch_stops_where_an_application_has_something_to_receive() -> None:
    router = Router()
    router.engine.open_socket(router.ns, 17, 9)
    to_router = ether(udp_packet(dst="10.0.0.1", dport=9))
    assert carried(router, [to_router, FRAMES[0]], [0, MILLISECOND])[0] == 1
    assert [delivery.time for delivery in router.engine.deliveries()] == [0]


def test_what_a_disconnected_device_sends_goes_nowhere_and_it_still_receives() -> None:
    router = Router()
    router.engine.disconnect(router.eth1)
    assert carried(router, FRAMES[:1], [0]) == (1, b"\0")
    assert len(router.seen(router.eth1, outgoing=True)) == 1
    assert router.engine.counters()["out"] == 1
    back = ether(udp_packet(src="10.0.1.2", dst="10.0.0.2"), dst=ROUTER1_MAC, src=SERVER_MAC)
    router.engine.inject(router.server_eth, back)
    router.engine.run()
    assert len(router.seen(router.eth0, outgoing=True)) == 1


def test_a_batch_for_a_device_that_is_only_described_makes_it_first() -> None:
    router = Router()
    engine, places = router.engine, router.engine.places()
    engine.reserve(places[0] + 1, places[1] + 2)
    place = places[1] + 1
    asked: list[tuple[int, int]] = []

    def supply(namespace: int, device: int) -> None:
        asked.append((namespace, device))
        made = engine.add_namespace("far", number=places[0], lo=places[1])
        engine.connect(engine.add_device(made, "eth0", "veth", mac=CLIENT_MAC, mtu=1500, number=place), router.eth0)

    engine.supply_with(supply)
    router.client_eth = place
    assert carried(router, FRAMES[:2], [0, 0]) == (2, b"\0\0")
    assert asked == [(-1, place)]
    assert len(router.seen(router.eth1, outgoing=True)) == 2


def test_a_batch_for_a_described_device_that_nobody_makes_is_refused() -> None:
    router = Router()
    namespaces, router.client_eth = router.engine.places()
    router.engine.reserve(namespaces, router.client_eth + 1)
    with pytest.raises(ValueError, match=f"device {router.client_eth} is not there"):
        carried(router, FRAMES[:1], [0])

    def fails(namespace: int, device: int) -> None:
        raise LookupError("nobody knows it")

    router.engine.supply_with(fails)
    with pytest.raises(LookupError, match="nobody knows it"):
        carried(router, FRAMES[:1], [0])
    assert router.engine.counters()["in"] == 0


@pytest.mark.parametrize("place", [0, 3, 8, 30, 39])
def test_a_described_device_anywhere_in_a_batch_of_more_frames_than_there_are_devices(place: int) -> None:
    router = Router()
    engine, places = router.engine, router.engine.places()
    engine.reserve(places[0], places[1] + 1)

    def supply(_: int, device: int) -> None:
        engine.connect(engine.add_device(router.ns, "late", "veth", mac=CLIENT_MAC, mtu=1500, number=device), router.eth0)

    engine.supply_with(supply)
    devices, frame = array("i", [router.server_eth] * 40), FRAMES[0]
    devices[place] = places[1]
    starts, lengths = array("Q", range(0, 40 * len(frame), len(frame))), array("I", [len(frame)] * 40)
    assert engine.carry(frame * 40, devices, starts, lengths, array("q", [0] * 40), bytearray(40)) == 40
    assert engine.counters()["in"] == 40


@pytest.mark.parametrize("place", [0, 3, 8, 30, 38])
@pytest.mark.parametrize("wrong", ["device", "negative", "start", "length"])
def test_one_frame_that_cannot_be_in_a_long_batch_is_named(wrong: str, place: int) -> None:
    engine = Router().engine
    devices, starts, lengths = array("i", [0, 1, 2] * 13), array("Q", [0] * 39), array("I", [60] * 39)
    if wrong in ("device", "negative"):
        devices[place] = 10_000 if wrong == "device" else -1
    elif wrong == "start":
        starts[place] = 41
    else:
        lengths[place] = 101
    with pytest.raises(ValueError, match=f"frame {place}"):
        engine.carry(bytes(100), devices, starts, lengths, array("q", [0] * 39), bytearray(39))
    assert engine.counters()["in"] == 0


@pytest.mark.parametrize(
    ("devices", "starts", "lengths", "complaint"),
    [
        (array("i", [10_000]), array("Q", [0]), array("I", [1]), "frame 0: no device 10000"),
        (array("i", [-1]), array("Q", [0]), array("I", [1]), "frame 0: no device -1"),
        (array("i", [0]), array("Q", [1]), array("I", [100]), "frame 0 lies outside of the data"),
        (array("i", [0]), array("Q", [2**64 - 1]), array("I", [2]), "frame 0 lies outside of the data"),
        (array("i"), array("Q", [0]), array("I", [1]), "devs has 0 bytes, 4 are needed"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(devices: array[int], starts: array[int], lengths: array[int], complaint: str) -> None:
    engine = Router().engine
    with pytest.raises(ValueError, match=complaint):
        engine.carry(bytes(100), devices, starts, lengths, array("q", [0]), bytearray(1))
    assert engine.counters()["in"] == 0
