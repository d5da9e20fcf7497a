"""A row whose frames are not what they should be has no numbers: each check is shown a difference."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dataplane.bench import flows as tcp
from dataplane.bench.cluster import Shape
from dataplane.bench.connections import ConnectionMemoryWork
from dataplane.bench.first_packet import FirstPacketWork
from dataplane.bench.flows import structured
from dataplane.bench.forward import ForwardWork
from dataplane.bench.lookup import LookupWork, match
from dataplane.bench.service import EstablishedWork, require_all_left
from dataplane.bench.threads import ThreadsWork
from dataplane.bench.work import Mismatch, Settings, Work

QUICK = Settings(seed=1, quick=True)
OTHER_MAC = bytes.fromhex("0200000000ee")


def established(kind: str = "vxlan", **how: bool) -> EstablishedWork:
    return EstablishedWork(QUICK, structured(20, 200, 4), Shape(services=4), kind, **how)


@pytest.mark.parametrize("kind", ["vxlan", "geneve", "ipip", "gre"])
def test_frames_through_each_tunnel_are_what_they_should_be(kind: str) -> None:
    measurement = established(kind).measure(QUICK)
    assert measurement.checked == "20 frames: headers written anew, and the slow path alone"
    assert measurement.least > 0


def test_frames_on_the_way_back_are_what_they_should_be() -> None:
    assert established(back=True).measure(QUICK).checked.startswith("20 frames")


def changed_uplink(work: EstablishedWork) -> None:
    work.service.node.engine.set_device(work.service.node.uplink, mac=OTHER_MAC)


def changed_bridge(work: EstablishedWork) -> None:
    node = work.service.node
    node.engine.set_device(node.engine.find_device(node.namespace, "cni0"), mac=OTHER_MAC)


@pytest.mark.parametrize(("change", "back"), [(changed_uplink, False), (changed_bridge, True)])
def test_another_byte_in_a_translated_frame_is_found(change: Callable[[EstablishedWork], None], back: bool) -> None:
    work = established(back=back)
    change(work)
    with pytest.raises(Mismatch, match="frame 0 is not the headers it should have, from byte 6 on"):
        work.check()


def test_frames_that_the_slow_path_alone_sends_otherwise_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    work = established()
    monkeypatch.setattr(work, "_expected", lambda seen, flows, servers: seen)
    changed_uplink(work)
    with pytest.raises(Mismatch, match="what the slow path alone sends"):
        work.check()


def test_frames_that_do_not_leave_are_found() -> None:
    work = established()
    work.before()
    work.service.node.engine.set_device(work.service.node.uplink, up=False)
    work.run()
    with pytest.raises(Mismatch, match=r"of 240 frames 240 came in, 0 left .*240 were dropped"):
        work.after()


def test_a_segment_outside_of_the_window_is_found() -> None:
    """So connections of a row cannot leave their window unnoticed."""
    service = established().service
    far = service.from_clients(service.flows, tcp.ACK, tcp.CLIENT_DATA + 0x30000, tcp.SERVER_DATA, tcp.SEGMENT)
    with pytest.raises(Mismatch, match="20 were dropped"):
        service.carry(far)


def test_a_route_that_leads_elsewhere_is_found() -> None:
    work = ForwardWork(QUICK, 1)
    assert work.measure(QUICK).checked.startswith("256 frames")
    work.router.engine.add_route(0, bytes(4), 0, via=bytes([198, 51, 100, 2]), dev=work.router.out, replace=True)
    with pytest.raises(Mismatch, match="the frame it should be"):
        work.check()


def test_a_wrong_value_of_a_lookup_is_found() -> None:
    work = LookupWork(QUICK, 6, 50)
    assert work.measure(QUICK).checked.startswith("1024 lookups")
    address, length, _ = work.routes[0]
    for _, length, _ in work.routes:
        work.table.insert(address.to_bytes(16, "big"), length, 999_999)
    work.run()
    with pytest.raises(Mismatch, match="999999"):
        work.check()


def test_the_lookup_that_is_easy_to_trust() -> None:
    prefixes = {(0, 0): 1, (8, 10 << 24): 2, (32, (10 << 24) + 7): 3}
    assert [match(prefixes, address, 32) for address in (5, (10 << 24) + 8, (10 << 24) + 7)] == [1, 2, 3]
    assert match({(8, 10 << 24): 2}, 5, 32) is None


def test_a_first_packet_that_goes_elsewhere_is_found() -> None:
    work = FirstPacketWork(QUICK, 10)
    measurement = work.measure(QUICK)
    assert measurement.checked.startswith("64 frames")
    assert measurement.details["rules_walked"] > 10
    work.service.shape = Shape(services=10, endpoints=1)  # as if two of each service's endpoints were none
    with pytest.raises(Mismatch, match="not among its endpoints"):
        work.check()


@pytest.mark.parametrize("family", [4, 6])
def test_memory_is_measured_of_established_connections(family: int) -> None:
    measurement = ConnectionMemoryWork(QUICK, family, 400).measure(QUICK)
    assert 50 < measurement.least < 5000


def test_drops_are_named() -> None:
    before = {"in": 0, "out": 0, "dropped": 0}
    after = {"in": 2, "out": 1, "dropped": 1, "drop/route/no_route": 1}
    with pytest.raises(Mismatch, match=r"1 were dropped \(drop/route/no_route\)"):
        require_all_left(before, after, 2)


class Counted(Work):
    """Counts what is done with it."""

    units = 2
    warm_up, shortest = 1, 3

    def __init__(self) -> None:
        self.calls: list[str] = []

    def before(self) -> None:
        self.calls.append("before")

    def run(self) -> None:
        self.calls.append("run")

    def after(self) -> None:
        self.calls.append("after")

    def check(self) -> None:
        self.calls.append("check")


def test_passes_that_count_follow_those_that_warm_up_and_the_check_is_last() -> None:
    work = Counted()
    measurement = work.measure(Settings(passes=4))
    assert measurement.passes == 4
    assert work.calls == ["before", "run", "after"] * 5 + ["check"]
    assert 0 < measurement.least <= measurement.median


def both() -> ThreadsWork:
    return ThreadsWork(QUICK, structured(1000, 200, 4), Shape(services=4))


def test_two_threads_come_to_what_one_comes_to() -> None:
    measurement = both().measure(QUICK)
    assert measurement.checked.startswith("1000 frames, all connections and counters")
    assert measurement.details["times_one_thread"] > 0
    assert measurement.details["together"] > 0.9


def test_a_world_that_two_threads_leave_otherwise_has_no_numbers() -> None:
    work = both()
    changed_uplink(work.two)
    with pytest.raises(Mismatch, match="2 threads have come to something else than one"):
        work.measure(QUICK)


def test_two_threads_that_do_not_carry_together_have_no_numbers() -> None:
    work = both()
    work.two.threads = 1
    with pytest.raises(Mismatch, match="2 threads carried 0 together"):
        work.measure(QUICK)
