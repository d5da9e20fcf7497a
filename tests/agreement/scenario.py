"""Random steps on a world: conversations are begun, go on, are disturbed and end; time passes; tables change.

Each step is drawn from its own seed and does what there is to do then, so that any part of a list of steps is a list of steps.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from random import Random

from dataplane._core import Frame
from kernel import wire

from . import mutate
from .changes import capture_some, change
from .flows import SCALES, End, Flow, arrived, far_end
from .play import Mode, Player
from .script import Burst, Call, Given, Step, World
from .terrain import SPECIAL, Door, Station, Terrain, multicast_mac, of_cluster, packed

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000
FLOWS_MAX = 10
REMEMBERED = 400  # frames that may be sent again where they were seen
# Around what there are timers for: links and jiffies, neighbours, conntrack's states, fragments, ageing forwarding entries, MTU exceptions.
SECONDS = (1, 2, 5, 6, 10, 20, 30, 31, 45, 60, 61, 120, 121, 180, 299, 300, 301, 601)
GAPS = (0, 1, 4_000, *(n * MILLISECOND for n in (1, 9, 100, 999)), *(n * SECOND for n in SECONDS))
LONG_GAPS = (3600 * SECOND, 432_001 * SECOND)
KINDS: dict[str, int] = {
    "open": 20, "talk": 45, "close": 6, "linger": 6, "again": 10, "noise": 7, "error": 5, "gap": 12, "change": 12, "applications": 6,
    "pull": 6, "crowd": 9, "amend": 6, "pin": 2, "alone": 3,
}  # fmt: skip
SERVERS = ((wire.TCP, 8080), (wire.UDP, 53), (wire.UDP, 8080), (wire.ICMP, 0))  # what applications listen to
SCOUT = Mode("scout", slow=True)


class Scenario:
    """Makes steps and hands them to ``sink``. What there is to answer is seen on a slow engine of its own, on which all is captured."""

    def __init__(self, world: World, seed: int, sink: Callable[[Step], None], terrain: Terrain | None = None) -> None:
        self.scout = Player(world, seed, SCOUT)
        self.sink = sink
        if terrain is None:
            assert self.scout.topology is not None
            terrain = of_cluster(self.scout.engine, self.scout.topology)
        self.terrain = terrain
        self.flows: list[Flow] = []
        self.memory: deque[Frame] = deque(maxlen=REMEMBERED)
        self.last: list[Frame] = []  # frames of the last step
        self._look_around()
        self.port = 20_000
        self.listens = False  # are there applications?
        self.pulled: dict[int, tuple[int, int]] = {}  # the other end of a station's cable that was pulled: the station's device, latency

    def _look_around(self) -> None:
        self.by_device = {station.device: station for station in self.terrain.stations}
        engine = self.scout.engine
        made = [ns for ns in range(engine.places()[0]) if engine.is_made(ns)]
        self.macs = [station.mac for station in self.terrain.stations] + [
            row["mac"] for ns in made for row in engine.devices(ns) if any(row["mac"])
        ]

    @property
    def now(self) -> int:
        return self.scout.engine.now

    def do(self, kind: str, seed: int) -> None:
        """One step, which may be several of the script's."""
        getattr(self, f"_{kind}")(Random(seed))

    def begin(self, seed: int) -> None:
        """Sockets, and what is not captured."""
        rng = Random(seed)
        if rng.random() < 0.5:
            self.listens = True
            for station in self.terrain.stations:
                for proto, port in SERVERS:
                    if rng.random() < 0.8:
                        self._emit(Call("open_socket", (station.namespace, proto, port)))
        if rng.random() < 0.5:
            devices = [row["id"] for ns in range(self.scout.engine.places()[0]) for row in self.scout.engine.devices(ns)]
            self._emit_all(capture_some(rng, devices))
        if rng.random() < 0.07:
            self._emit(Call("trace", (True,)))

    def end(self, seed: int) -> None:
        """What is hidden in tables shows in what they do next: every conversation goes on, again and again as timers run out."""
        rng = Random(seed)
        for gap in (0, SECOND, 7 * SECOND, 40 * SECOND, 301 * SECOND):
            self._emit(Call("run", (self.now + gap,)))
            frames = [Given(self.now, end.station.device, flow.next(end, rng)) for flow in self.flows for end in flow.ends()]
            self._emit_frames(frames)
        self._emit(Call("run", (self.now + SECOND,)))
        self._emit(Call("run"))

    # ---- emission
    def _emit(self, step: Step) -> None:
        self.sink(step)
        if isinstance(step, Call) and ("capture" in step.kwargs or step.name == "profile"):
            return
        self.scout.play(step)
        self.last = self.scout.seen.pop().frames
        self.memory.extend(self.last)

    def _emit_all(self, steps: list[Call]) -> None:
        for step in steps:
            self._emit(step)

    def _emit_frames(self, frames: list[Given], how: str = "inject") -> None:
        if frames:
            self._emit(Burst(tuple(frames), how))

    def _times(self, rng: Random, count: int) -> list[int]:
        """All at one instant, close together, apart, or some of each; rarely some lie before the ones in front of them."""
        step = rng.choice((0, 0, 700, 20 * MICROSECOND, MILLISECOND, 150 * MILLISECOND))
        time, times = self.now, []
        for _ in range(count):
            times.append(time)
            time += rng.choice((0, step, step, 2 * step))
        if rng.random() < 0.04:
            rng.shuffle(times)
        return times

    # ---- conversations
    def _station(self, rng: Random) -> Station:
        kinds = {"pod": 6, "host": 3, "node": 1}
        return rng.choices(self.terrain.stations, [kinds[station.kind] for station in self.terrain.stations])[0]

    def _open(self, rng: Random) -> None:
        """A new conversation, or an old one's ports again."""
        old = [flow for flow in self.flows if flow.proto == "tcp" and not flow.opened]
        if old and rng.random() < 0.4:
            flow = rng.choice(old)
            flow.far = None
        else:
            flow = self._new_flow(rng)
            self.flows.append(flow)
            del self.flows[:-FLOWS_MAX]
        self._introduce(flow, rng)

    def _new_flow(self, rng: Random) -> Flow:
        station = self._station(rng)
        doors = [door for door in self.terrain.doors if station.address(door.family) is not None]
        services = [door for door in doors if door.what.startswith("service")]
        door = rng.choice(services if services and rng.random() < 0.65 else doors)
        if rng.random() < 0.03:
            door = Door(packed(rng.choice(SPECIAL[door.family])), 53, "", "special")
        proto = door.proto or rng.choice(("udp", "udp", "tcp", "tcp", "icmp", "icmp", "sctp", "other"))
        local = station.address(door.family)
        assert local is not None
        self.port += 1
        port = self.port if rng.random() < 0.85 else rng.choice((1023, 32768, 68, 40000))
        near = End(station, self.terrain.next_hop(station, door.address), local, door.address, port, door.port)
        if self.listens and proto in ("tcp", "udp") and rng.random() < 0.8:
            self._emit(Call("open_socket", (station.namespace, wire.TCP if proto == "tcp" else wire.UDP, port)))
        return Flow(proto, near, door, rng.choice(SCALES))

    def _introduce(self, flow: Flow, rng: Random) -> None:
        """The first frame, and what follows of a handshake if it arrived somewhere."""
        first = flow.first(rng)
        self._emit_frames([Given(self.now, flow.near.station.device, first)])
        seen = self.last
        if self._find(flow, first, seen) is None:
            self._emit(Call("run", (self.now + rng.choice((1, 30, 50)) * MILLISECOND,)))
            seen = seen + self.last
        flow.far = self._find(flow, first, seen)
        if flow.far is not None and flow.proto == "tcp":
            for end, frame in zip((flow.far, flow.near), flow.handshake(rng), strict=True):
                self._emit_frames([Given(self.now, end.station.device, frame)])
                self._emit(Call("run", (self.now + rng.choice((0, 1, 7)) * MILLISECOND,)))

    def _find(self, flow: Flow, first: bytes, frames: list[Frame]) -> End | None:
        """Where a first frame arrived."""
        for frame in frames:
            station = self.by_device.get(frame.device)
            if station and not frame.outgoing and frame.data[:6] == station.mac and arrived(first, frame.data):
                return far_end(station, frame.data, flow)
        return None

    def _talk(self, rng: Random) -> None:
        """Many frames of few conversations, most of them as they should be."""
        if not self.flows:
            return self._open(rng)
        flows = rng.sample(self.flows, min(len(self.flows), rng.choice((1, 1, 2, 4, 8))))
        wild, large, count = rng.choice((0, 0, 0.02, 0.1, 0.5)), rng.choice((0, 0.02, 0.3)), rng.choice((6, 25, 60, 120))
        frames: list[tuple[int, bytes]] = []
        for _ in range(count):
            flow = rng.choice(flows)
            end = rng.choice(flow.ends())
            if rng.random() >= wild:
                made = [flow.next(end, rng, large=large)]
            elif flow.proto == "tcp" and rng.random() < 0.5:
                made = [flow.odd_segment(end, rng)]
            else:
                made = mutate.damaged(flow.next(end, rng, large=large), rng, self.macs)
            frames += [(end.station.device, data) for data in made]
        if rng.random() < 0.2 * (wild > 0):
            place = rng.randrange(len(frames))
            frames[place:] = rng.sample(frames[place:], len(frames) - place)
        times = self._times(rng, len(frames))
        self._emit_frames([Given(time, device, data) for time, (device, data) in zip(times, frames, strict=True)])
        return None

    def _crowd(self, rng: Random) -> None:
        """Many new conversations of few senders, who go to few doors: all first packets, then all answers, and so on; some are damaged."""
        wild, count, kept = rng.choice((0, 0, 0.05, 0.3)), rng.choice((8, 20, 40)), rng.choice((0, 1, 3))
        models = [self._new_flow(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
        crowd = [self._like(rng.choice(models), rng) for _ in range(count)]
        firsts = [flow.first(rng) for flow in crowd]
        self._emit_crowd([(flow.near, data) for flow, data in zip(crowd, firsts, strict=True)], wild, rng)
        seen = self.last
        self._emit(Call("run", (self.now + rng.choice((1, 30)) * MILLISECOND,)))
        seen = [frame for frame in seen + self.last if not frame.outgoing and frame.device in self.by_device]
        for flow, first in zip(crowd, firsts, strict=True):
            flow.far = self._find(flow, first, seen)
        heard = [flow for flow in crowd if flow.far is not None]
        tcp = [(flow, flow.handshake(rng)) for flow in heard if flow.proto == "tcp"]
        for step in range(2):
            frames = [(flow.ends()[1 - step], answers[step]) for flow, answers in tcp]
            frames += [(end, flow.next(end, rng)) for flow in heard if flow.proto != "tcp" for end in flow.ends()[1 - step :][:1]]
            self._emit_crowd(frames, wild, rng)
        self._emit_crowd([(flow.near, flow.next(flow.near, rng)) for flow in heard], wild, rng)
        if rng.random() < 0.4:
            partings = [flow.farewell(rng) for flow in heard if flow.proto == "tcp"]
            for step in range(4):
                self._emit_crowd([parting[step] for parting in partings if step < len(parting)], wild, rng)
        self.flows += heard[:kept]
        del self.flows[:-FLOWS_MAX]

    def _like(self, model: Flow, rng: Random) -> Flow:
        """Another conversation of the same sender with the same door, by another port, or by one that others have too."""
        self.port += 1
        port = self.port if rng.random() < 0.9 else rng.choice((40_000, 40_001, 1023))
        return replace(model, near=replace(model.near, sport=port), far=None, opened=False)

    def _emit_crowd(self, frames: list[tuple[End, bytes]], wild: float, rng: Random) -> None:
        made: list[tuple[int, bytes]] = []
        for end, data in frames:
            kept = mutate.damaged(data, rng, self.macs) if rng.random() < wild else [data]
            made += [(end.station.device, one) for one in kept * (2 if rng.random() < 0.05 else 1)]
        times = self._times(rng, len(made))
        self._emit_frames([Given(time, device, data) for time, (device, data) in zip(times, made, strict=True)])

    def _linger(self, rng: Random) -> None:
        """A conversation of which one end falls silent, while the other one keeps alive what would else be forgotten."""
        if not self.flows:
            return
        flow, lifetime = rng.choice(self.flows), rng.choice((10, 30, 60, 120, 180, 300)) * SECOND
        lively = rng.choice(flow.ends())
        for _ in range(rng.choice((1, 2, 3))):
            self._emit(Call("run", (self.now + int(lifetime * rng.choice((0.6, 0.9, 0.999))),)))
            self._emit_frames([Given(self.now, lively.station.device, flow.next(lively, rng)) for _ in range(rng.choice((1, 2, 5)))])
        self._emit(Call("run", (self.now + int(lifetime * rng.choice((0.5, 0.999, 1))),)))
        self._emit_frames([Given(self.now, end.station.device, flow.next(end, rng)) for end in flow.ends()[::-1]])

    def _close(self, rng: Random) -> None:
        """A connection ends, and sometimes begins anew at once."""
        open_ones = [flow for flow in self.flows if flow.opened and flow.far is not None]
        if not open_ones:
            return
        flow = rng.choice(open_ones)
        gap = rng.choice((0, MILLISECOND))
        parting = flow.farewell(rng)
        self._emit_frames([Given(self.now + number * gap, end.station.device, data) for number, (end, data) in enumerate(parting)])
        if rng.random() < 0.4:
            flow.far = None
            self._introduce(flow, rng)

    def _alone(self, rng: Random) -> None:
        """What a station's applications say to each other, by its own addresses or by services that lead back to it."""
        station = self._station(rng)
        near = rng.choice(list(station.addresses) or [b"\x7f\0\0\1"])
        doors = [door.address for door in self.terrain.doors if door.family == (4 if len(near) == 4 else 6)]
        far = rng.choice([address for address in (*station.addresses, *doors[:3]) if len(address) == len(near)] or [near])
        if len(near) == 4 and rng.random() < 0.2:
            near = far = b"\x7f\0\0\1"
        self.port += 1
        one = End(station, station.mac, near, far, self.port, rng.choice((8080, 53)))
        other = End(station, station.mac, far, near, one.dport, one.sport)
        flow = Flow(rng.choice(("udp", "udp", "tcp")), one, Door(far, one.dport, "", "itself"), rng.choice(SCALES), far=other)
        packets = [(one, flow.first(rng))]
        if flow.proto == "tcp":
            packets += zip((other, one), flow.handshake(rng), strict=True)
        packets += [(end, flow.next(end, rng)) for end in rng.choices((one, other), k=rng.choice((3, 8)))]
        times = self._times(rng, len(packets))
        self._emit_frames([Given(time, station.namespace, data[14:]) for time, (_, data) in zip(times, packets, strict=True)], "send")
        self._emit(Call("run", (self.now + rng.choice((0, 40, 400)) * SECOND,)))
        self._emit_frames([Given(self.now, station.namespace, flow.next(other, rng)[14:]) for _ in range(rng.choice((1, 3)))], "send")

    def _applications(self, rng: Random) -> None:
        """Packets that go through their station's own stack."""
        if not self.flows:
            return
        packets = []
        for time in self._times(rng, rng.choice((2, 10, 30))):
            flow = rng.choice(self.flows)
            end = rng.choice(flow.ends())
            packets.append(Given(time, end.station.namespace, flow.next(end, rng)[14:]))
        self._emit_frames(packets, "send")

    # ---- disturbances
    def _pin(self, rng: Random) -> None:
        """A choice that chance would make is made for a connection that begins then, or for one that nobody begins."""
        flow = self._new_flow(rng)
        other = rng.choice([station for station in self.terrain.stations if station.address(flow.near.family)])
        target = other.address(flow.near.family), rng.choice((8080, 53, flow.near.dport))
        answers_to = rng.choice((flow.near.local, other.address(flow.near.family))), rng.choice((flow.near.sport, 33_333))
        near = (flow.near.local, flow.near.sport, flow.near.remote, flow.near.dport)
        for namespace in self.terrain.routers:
            if rng.random() < 0.6:
                self._emit(Call("add_pin", (namespace, {"tcp": wire.TCP}.get(flow.proto, wire.UDP), near, (*target, *answers_to))))
        self.flows.append(flow)
        self._introduce(flow, rng)
        self._emit(Call("pin_failures"))

    def _again(self, rng: Random) -> None:
        """Frames that were seen somewhere come there once more, many times, sometimes not quite as they were: tunnel frames too."""
        if not self.memory:
            return
        chosen = [rng.choice(self.memory) for _ in range(rng.choice((1, 1, 2, 3)))]
        outgoing = chosen[0].outgoing
        chosen = [frame for frame in chosen if frame.outgoing == outgoing]
        wild = rng.choice((0, 0, 0.1, 0.5))
        frames: list[tuple[int, bytes]] = []
        for _ in range(rng.choice((1, 5, 20, 50))):
            frame = rng.choice(chosen)
            made = [frame.data]
            if rng.random() < wild:
                made = mutate.damaged(frame.data, rng, self.macs) if rng.random() < 0.6 else [self._flipped(frame.data, rng)]
            frames += [(frame.device, data) for data in made]
        times = self._times(rng, len(frames))
        given = [Given(time, device, data) for time, (device, data) in zip(times, frames, strict=True)]
        self._emit_frames(given, "inject" if outgoing else "receive")

    def _flipped(self, data: bytes, rng: Random) -> bytes:
        """Bits of the headers, an outer UDP source port for instance."""
        at = rng.randrange(min(len(data), 90))
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]

    def _noise(self, rng: Random) -> None:
        """Address resolution, broadcasts, groups, frames of other kinds."""
        frames = []
        for time in self._times(rng, rng.choice((1, 3, 10))):
            station = self._station(rng)
            family = rng.choice([4 if len(address) == 4 else 6 for address in station.addresses] or [4])
            make = rng.choice((self._resolution, self._resolution, self._group, self._strange))
            frames.append(Given(time, station.device, make(rng, station, family)))
        self._emit_frames(frames)

    def _resolution(self, rng: Random, station: Station, family: int) -> bytes:
        own = station.address(family) or bytes(4 if family == 4 else 16)
        about = rng.choice([door.address for door in self.terrain.doors if door.family == family] or [own])
        sender = rng.choice((own, own, own, about))
        source, target = str(ip_address(sender)), str(ip_address(about))
        if family == 4:
            to = rng.choice((b"\xff" * 6, rng.choice(self.macs)))
            mac = station.mac.hex(":")
            body = wire.arp(rng.choice((1, 1, 2)), mac, source, rng.choice((mac, "00:00:00:00:00:00")), target)
            return to + station.mac + b"\x08\x06" + body
        advert = rng.random() < 0.4
        goal = str(ip_address(b"\xff\x02" + bytes(9) + b"\x01\xff" + about[13:])) if rng.random() < 0.6 else target
        option = bytes((2 if advert else 1, 1)) + station.mac
        flags = struct.pack(">I", rng.choice((0x20, 0x60, 0x40, 0)) << 24) if advert else bytes(4)
        kind = wire.NEIGHBOUR_ADVERTISEMENT if advert else wire.NEIGHBOUR_SOLICITATION
        body = wire.icmp6(source, goal, kind, 0, flags, about + option)
        to = multicast_mac(packed(goal)) or rng.choice(self.macs)
        return to + station.mac + b"\x86\xdd" + wire.Ip6(source, goal, wire.ICMP6, body, ttl=255).build()

    def _group(self, rng: Random, station: Station, family: int) -> bytes:
        address = packed(rng.choice(SPECIAL[family][:2]))
        end = End(station, multicast_mac(address) or b"\xff" * 6, station.address(family) or bytes(len(address)), address, 5353, 5353)
        return Flow("udp", end, Door(address, 5353, "udp", "group"), None).next(end, rng)

    def _strange(self, rng: Random, station: Station, family: int) -> bytes:
        kind = rng.choice((0x88CC, 0x8847, 0x0000, 0x05DC, 0x9000, 0x0800, 0x86DD, 0x0806))
        to = rng.choice((rng.choice(self.macs), b"\xff" * 6, bytes.fromhex("0180c2000000")))
        frame = to + station.mac + kind.to_bytes(2) + wire.filler(rng.choice((0, 1, 20, 46, 100, 1600)), rng.randrange(256))
        return frame[: rng.choice((9, 15, 2000))]

    def _error(self, rng: Random) -> None:
        """An end, or a router between, complains about a packet of a conversation: unreachable, too big, expired, redirected."""
        heard = [flow for flow in self.flows if flow.far is not None]
        if not heard:
            return
        flow = rng.choice(heard)
        end, other = rng.sample(flow.ends(), 2)
        header = 20 if end.family == 4 else 40
        # As this end saw it: the packet that it complains about came from its remote end.
        seen = End(end.station, end.next_hop, end.remote, end.local, end.dport, end.sport)
        quote = seen.packet(flow.number, flow.next(other, rng)[14 + header :], rng)
        source, target = str(ip_address(end.local)), str(ip_address(end.remote))
        mtu = rng.choice((1400, 1280, 600, 0))
        if end.family == 4:
            kind, code = rng.choice(((3, 0), (3, 1), (3, 3), (3, 4), (3, 4), (3, 13), (5, 1), (11, 0), (12, 0)))
            rest = struct.pack(">HH", 0, mtu if code == 4 else 0)
            body = wire.icmp(kind, code, rest, quote[: rng.choice((28, 60, 548))])
            frame = end.frame(wire.ICMP, body, rng)
        else:
            kind, code = rng.choice(((1, 0), (1, 3), (1, 4), (2, 0), (2, 0), (3, 0), (4, 1)))
            frame = end.frame(wire.ICMP6, wire.icmp6(source, target, kind, code, struct.pack(">I", mtu * (kind == 2)), quote[:1200]), rng)
        self._emit_frames([Given(self.now, end.station.device, frame)] * rng.choice((1, 1, 2, 5)))

    def _gap(self, rng: Random) -> None:
        gap = rng.choice(GAPS) if rng.random() < 0.95 else rng.choice(LONG_GAPS)
        self._emit(Call("run", (self.now + gap + rng.choice((0, 0, 1, -1)) * (gap > 0),)))

    def _change(self, rng: Random) -> None:
        if self.listens and rng.random() < 0.1:
            self._emit(Call("close_socket", (rng.randrange(20),)))
        else:
            self._emit_all(change(rng, self.terrain, self.scout.engine))

    def _amend(self, rng: Random) -> None:
        """The cluster's own objects change; who is not there any more says nothing more."""
        topology = self.scout.topology
        if topology is None:
            return
        self._emit(Call("amend", (rng.randrange(1 << 32),)))
        self.terrain = of_cluster(self.scout.engine, topology)
        self._look_around()
        self.flows = [flow for flow in self.flows if all(end.station.device in self.by_device for end in flow.ends())]

    def _pull(self, rng: Random) -> None:
        """What is sent to some stations leaves the world from now on, and what nodes among them send; pods and hosts still send. Or all
        cables are plugged in again."""
        if self.pulled and rng.random() < 0.4:
            for peer, (device, latency) in self.pulled.items():
                self._emit(Call("connect", (device, peer), {"latency": latency}))
            self.pulled.clear()
            return
        self._unplug(rng.sample(self.terrain.stations, rng.randrange(1, len(self.terrain.stations) + 1)))

    def _pull_all(self, rng: Random) -> None:
        self._unplug(self.terrain.stations)

    def _unplug(self, stations: Sequence[Station]) -> None:
        for station in stations:
            row = next(row for row in self.scout.engine.devices(station.namespace) if row["id"] == station.device)
            if row["peer"] >= 0 and row["peer"] not in self.pulled:
                self.pulled[row["peer"]] = station.device, row["latency"]
                self._emit(Call("disconnect", (row["peer"],)))
                if station.kind == "node":
                    self._emit(Call("disconnect", (station.device,)))


def drawn_kinds(rng: Random, count: int) -> list[tuple[str, int]]:
    """Kinds and seeds of steps, conversations first."""
    kinds = ["open"] * rng.choice((1, 3, 5)) + rng.choices(list(KINDS), list(KINDS.values()), k=count)
    return [(kind, rng.randrange(1 << 32)) for kind in kinds]
