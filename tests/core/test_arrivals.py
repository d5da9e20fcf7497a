"""Packets that come from a wire while others are sent on to it, eight at a time: everything shows as through the stages alone."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from random import Random
from types import ModuleType
from typing import Any

import pytest

from core.test_onward import LEG, Wire, filtered, forgotten, moved, nothing, unplugged, watched
from core.worlds import TCP, ether, filter_table, ip, ipv4, mac, tcp, tcp_packet, udp_packet

SYN, ACK, FIN_ACK, SYN_ACK, RST_ACK = 0x02, 0x10, 0x11, 0x12, 0x14
INVALID = 1
NEAR, FAR = "10.0.0.9", "10.3.0.9"
STRANGER = mac(99)  # no station has it: whoever receives it drops it
CONNECTIONS = 24
EIGHT = 8
PORT = 2000
GAP = 100  # ns
IN_FLIGHT = 2 * LEG // GAP  # packets that come while one is on the wire
ENDS = ("dropped", "seen and dropped", "left", "seen and left", "denied")

ASIDE = 2
Sent = tuple[int, bytes]  # from the client, the far end or aside; packet


@pytest.fixture(scope="module", autouse=True)
def _wide(probe: Callable[[str], ModuleType]) -> None:
    if not probe("segments_probe").WIDE:
        pytest.skip("the processor has no AVX2")


class Nodes(Wire):
    """Both routers track connections, and send what is for the other side through a tunnel, or as it is. What is for the client may come
    from aside, too."""

    def __init__(self, *, slow: bool, tunnel: bool = True, end: str = "seen and dropped", open_: bool = True) -> None:
        super().__init__(slow=slow)
        engine = self.engine
        forward: Any = [{"ctstate": INVALID, "target": "DROP"}]
        for ns in self.routers:
            engine.set_rules(ns, 4, "filter", filter_table(FORWARD=forward))
            engine.set_sysctl(ns, "net.netfilter.nf_conntrack_tcp_timeout_max_retrans", 10)
        engine.add_neighbour(self.right, ip("10.2.0.1"), mac(11))
        engine.add_neighbour(self.back, ip(FAR), STRANGER)
        engine.add_neighbour(self.front, ip(NEAR), STRANGER)
        self.aside = engine.add_device(engine.add_namespace("aside"), "eth0", "veth", mac=mac(70), mtu=1500)
        beside = engine.add_device(self.routers[0], "eth2", "veth", mac=mac(71), mtu=1500)
        engine.connect(self.aside, beside)
        self.tunnels: list[int] = []
        if tunnel:
            self._tunnel(0, "10.2.0.1", "10.2.0.2", "10.3.0.0")
            self._tunnel(1, "10.2.0.2", "10.2.0.1", "10.0.0.0")
        if open_:
            for number in range(CONNECTIONS):
                self.send([there(number, 99, flags=SYN)])
                self.send([back(number, 199, flags=SYN_ACK)])
                self.send([there(number, 100)])
        if "left" in end:
            engine.disconnect(self.front)
            engine.disconnect(self.back)
        for device in (self.front, self.left, self.right, self.back, self.client, self.server, self.aside, beside, *self.tunnels):
            engine.set_device(device, capture="seen" in end and device in (self.front, self.back, self.client, self.server))
        if end == "denied":
            denied: Any = {"proto": TCP, "sport": (PORT, PORT + 7), "target": "DROP"}
            engine.set_rules(self.routers[1], 4, "filter", filter_table(FORWARD=[*forward, denied]))

    def _tunnel(self, number: int, own: str, other: str, network: str) -> None:
        engine, ns, peer = self.engine, self.routers[number], 1 - number
        device = engine.add_device(ns, "vxlan7", "vxlan", mac=mac(40 + number), mtu=1450, id=7, port=8472, local=ip(own))
        self.tunnels.append(device)
        engine.add_address(device, ip(f"10.9.{number}.0"), 32)
        engine.add_fdb(device, mac(40 + peer), dst=ip(other))
        engine.add_neighbour(device, ip(f"10.9.{peer}.0"), mac(40 + peer))
        engine.del_route(ns, ip(network), 24)
        engine.add_route(ns, ip(network), 24, via=ip(f"10.9.{peer}.0"), dev=device, onlink=True)

    def send(self, packets: Sequence[Sent], *, gap: int = 3 * LEG) -> None:
        """From both ends and from aside, the last one now."""
        stations = ((self.client, 10, 1), (self.server, 21, 3), (self.aside, 71, 70))
        frames = [ether(packet, dst=mac(stations[far][1]), src=mac(stations[far][2])) for far, packet in packets]
        starts = array("Q", [0])
        for frame in frames:
            starts.append(starts[-1] + len(frame))
        times = array("q", [self.engine.now + number * gap for number in range(1, len(frames) + 1)])
        devices, lengths = array("i", [stations[far][0] for far, _ in packets]), array("I", map(len, frames))
        assert self.engine.carry(b"".join(frames), devices, starts[:-1], lengths, times, bytearray(len(frames))) == len(frames)


def there(number: int, seq: int, *, flags: int = ACK, size: int = 0) -> Sent:
    segment = tcp(flags, sport=PORT + number, dport=80, seq=seq, ack=0 if flags == SYN else 200, payload=bytes(size), src=NEAR, dst=FAR)
    return False, ipv4(segment, src=NEAR, dst=FAR, proto=TCP)


def back(number: int, seq: int, *, flags: int = ACK) -> Sent:
    return True, tcp_packet(flags, src=FAR, dst=NEAR, sport=80, dport=PORT + number, seq=seq, ack=100)


def data(far: bool, number: int, seq: int, ack: int, size: int) -> Sent:
    ends, ports = ((FAR, NEAR), (80, PORT + number)) if far else ((NEAR, FAR), (PORT + number, 80))
    segment = tcp(ACK, sport=ports[0], dport=ports[1], seq=seq, ack=ack, payload=bytes(size), src=ends[0], dst=ends[1])
    return far, ipv4(segment, src=ends[0], dst=ends[1], proto=TCP)


def rounds(count: int) -> list[Sent]:
    return [there(number, 100 + step) for step in range(count) for number in range(CONNECTIONS)]


def abreast(
    *bursts: Sequence[Sent], gap: int = GAP, change: Callable[[Wire], None] = nothing, tunnel: bool = True, end: str = "seen and dropped",
    open_: bool = True,
) -> int:  # fmt: skip
    """How many packets went eight at a time, once that has come to what the slow path alone does. Between bursts something changes."""
    fast, slow = (Nodes(slow=slow, tunnel=tunnel, end=end, open_=open_) for slow in (False, True))
    before = fast.engine.flow_cache()["abreast"]
    for number, burst in enumerate(bursts):
        for nodes in (fast, slow):
            if number == 1:
                change(nodes)
            nodes.send(burst, gap=gap)
    gone = fast.engine.flow_cache()["abreast"] - before
    assert fast.shown() == slow.shown()
    return gone


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("tunnel", [True, False])
def test_what_is_sent_on_and_what_is_received_go_eight_at_a_time(tunnel: bool, end: str) -> None:
    packets = rounds(60)
    assert abreast(packets, tunnel=tunnel, end=end) > 1.5 * len(packets)


@pytest.mark.parametrize("gap", [0, 1, 67, 1000, 2 * LEG // 17, 2 * LEG // 9, 2 * LEG // 5, 2 * LEG // 3, LEG, 2 * LEG, 3 * LEG])
def test_packets_that_are_on_the_wire_for_as_long_as_others_take_to_come(gap: int) -> None:
    """Fewer than four at a time are received one by one."""
    packets = rounds(30)
    gone = abreast(packets, rounds(10), gap=gap)
    assert gone > len(packets) // 2 or gap > 2 * LEG // 9


def test_both_directions_of_the_same_connections() -> None:
    rng = Random("both")
    packets = [rng.choice([there, back])(number, 100) for number in (rng.randrange(CONNECTIONS) for _ in range(2000))]
    packets = [(far, packet) if not far else back(rng.randrange(CONNECTIONS), 200) for far, packet in packets]
    assert abreast(packets) > len(packets) // 4


@pytest.mark.parametrize("connections", [1, 8, 20])
def test_data_and_acknowledgements_of_both_ends_of_few_connections(connections: int) -> None:
    """A router sees a packet that it sends on and one that it receives of the same connection close behind each other, and data that it
    has just received are acknowledged at once: what one packet has left in the connection is there for the other."""
    gone = 0
    for seed in range(12):
        rng, packets = Random(f"data {connections} {seed}"), []
        sent = [[100, 200] for _ in range(connections)]
        heard = [[100, 200] for _ in range(connections)]
        way: list[tuple[int, int, int]] = []  # what each packet brings to its other end: connection, end, number behind its data
        for place in range(1500):
            if place > IN_FLIGHT:
                number, far, seq = way[place - IN_FLIGHT - 1]
                heard[number][far] = seq
            number, far, size = rng.randrange(connections), rng.randrange(2), rng.choice([0, 20])
            packets.append(data(far == 1, number, sent[number][far], heard[number][1 - far], size))
            sent[number][far] += size
            way.append((number, far, sent[number][far]))
        gone += abreast(packets)
    assert gone > 12 * 1500 // 2


@pytest.mark.parametrize("before", range(1, 9))
def test_data_sent_just_before_something_is_received(before: int) -> None:
    """Nobody acknowledges them, so that their connections live for five minutes from then on, not for days."""
    packets = [there(number % 12, 100 + number // 12) for number in range(1200)]
    for number in range(12, CONNECTIONS):
        place = 30 * number
        packets[place] = back(number, 200)
        packets[place + IN_FLIGHT - before] = data(False, number, 100, 200, 20)
    warm = [each for number in range(CONNECTIONS) for each in (data(False, number, 80, 200, 20), back(number, 200))] * 40
    assert abreast(warm, packets) > len(warm) + len(packets) // 2


@pytest.mark.parametrize("apart", [1, 8, 16])
@pytest.mark.parametrize("seed", range(3))
def test_packets_that_leave_unseen_while_others_of_their_connections_come_from_the_wire(seed: int, apart: int) -> None:
    """Connections see old segments from the wire and new ones from aside. One that forgot a new one would not have the client's
    acknowledgement later; and when each saw a segment last shows in its timeout."""
    fast, slow = (Nodes(slow=slow, end="left") for slow in (False, True))
    for nodes in (fast, slow):
        nodes.engine.set_sysctl(nodes.routers[0], "net.netfilter.nf_conntrack_tcp_max_retrans", 1)
    rng, sent = Random(f"aside {seed}"), 0
    before = fast.engine.flow_cache()["abreast"]
    heard = [200] * CONNECTIONS
    for turn in range(120):
        packets = [data(False, number, 100, heard[number], 0) for number in range(CONNECTIONS if turn else 0)]
        for _ in range(rng.randrange(5, 12) * 16 // apart):
            far, *aside = rng.sample(range(CONNECTIONS), apart + 1)
            packets.append(back(far, 200 + turn))
            packets += [(ASIDE, data(True, number, heard[number], 100, 1)[1]) for number in aside]
            for number in aside:
                heard[number] += 1
        for _ in range(rng.randrange(min(EIGHT, apart + 1))):
            heard[aside.pop()] -= 1
            packets.pop()
        sent += len(packets)
        for nodes in (fast, slow):
            nodes.send(packets, gap=LEG // 50)
            nodes.engine.run()
        assert fast.engine.conntrack(fast.routers[0]) == slow.engine.conntrack(slow.routers[0])
    assert fast.engine.flow_cache()["abreast"] - before > sent // 5
    assert fast.shown() == slow.shown()


def test_tunnels_whose_connections_have_ended_meanwhile() -> None:
    """A tunnel's connection lives for 30 s; what is sent through it later is the first packet of another one."""
    numbers = [each for turn in range(60) for each in (*range(12), *((12,) if turn % 7 == 3 else ()), *range(20, 24))]
    times = dict.fromkeys(numbers, 0)
    packets = []
    for number in numbers:
        times[number] += 1
        packets.append(there(number, 100 + times[number]))
    shown = []
    for slow in (False, True):
        nodes = Nodes(slow=slow, end="left")
        nodes.engine.disconnect(nodes.left)
        before = nodes.engine.flow_cache()["abreast"]
        nodes.send(rounds(3))
        nodes.send(packets, gap=1_400_000_000)
        assert slow or nodes.engine.flow_cache()["abreast"] - before > len(packets) // 2
        shown.append(nodes.shown())
    assert shown[0] == shown[1]


def test_the_same_segment_many_times_in_a_row() -> None:
    """As often as it may be: then its connection lives for less long."""
    packets = [there(number, 100 + step) for step in range(6) for number in range(12) for _ in range(5)]
    others = [there(number % 12 + 12, 100 + number // 12) for number in range(2 * IN_FLIGHT)]
    assert abreast(rounds(60), [*packets, *others]) > len(rounds(60)) + len(packets)


def test_connections_of_which_only_one_end_is_heard() -> None:
    """Picked up in mid-stream, segments are let through that fit no window."""
    packets = [there(number, 100 + 50 * step, size=10) for step in range(60) for number in range(CONNECTIONS)]
    assert abreast(packets, open_=False) > len(packets)


@pytest.mark.parametrize("place", range(700, 700 + 17))
@pytest.mark.parametrize("kind", ["beyond", "end", "reset", "begin", "datagram", "longer", "hops"])
def test_one_packet_that_goes_another_way(place: int, kind: str) -> None:
    packets = rounds(60)
    number, seq = place % CONNECTIONS, 100 + place // CONNECTIONS
    packets[place] = {
        "beyond": there(number, 3_000_000_000),
        "end": there(number, seq, flags=FIN_ACK),
        "reset": there(number, seq, flags=RST_ACK),
        "begin": there(number, seq, flags=SYN),
        "datagram": (False, udp_packet(src=NEAR, dst=FAR, sport=PORT, dport=53)),
        "longer": there(number, seq, size=1000),
        "hops": (
            False,
            ipv4(tcp(ACK, sport=PORT + number, dport=80, seq=seq, ack=200, src=NEAR, dst=FAR), src=NEAR, dst=FAR, proto=TCP, ttl=2),
        ),
    }[kind]
    assert abreast(packets) > len(packets) // 2


@pytest.mark.parametrize("size", [0, 1, 27, 28, 29, 100, 1300])
def test_segments_of_any_length(size: int) -> None:
    packets = [there(number, 100 + step * size, size=size) for step in range(40) for number in range(CONNECTIONS)]
    assert abreast(packets) > len(packets) // 2


@pytest.mark.parametrize("change", [moved, forgotten, unplugged, watched, filtered, nothing])
def test_what_changes_while_packets_are_on_the_wire(change: Callable[[Wire], None]) -> None:
    packets = rounds(30)
    assert abreast(packets, packets, packets, change=change) > len(packets) // 2


def test_packets_that_nobody_has_looked_at_when_the_engine_goes() -> None:
    for _ in range(10):
        nodes = Nodes(slow=False)
        nodes.send(rounds(30), gap=GAP)
        assert nodes.engine.flow_cache()["abreast"] > 0
        nodes.engine.run(nodes.engine.now + LEG // 2)
        del nodes


def test_a_socket_that_is_opened_while_packets_are_on_the_wire() -> None:
    fast, slow = Nodes(slow=False), Nodes(slow=True)
    for nodes in (fast, slow):
        nodes.send(rounds(20), gap=GAP)
        nodes.engine.open_socket(nodes.routers[1], 17, 53)
        nodes.send(rounds(20), gap=GAP)
    assert fast.shown() == slow.shown()
