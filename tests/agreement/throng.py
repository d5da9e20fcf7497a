"""Thousands of conversations at once: tables that grow, ways that are learnt only when they come again, flows that are forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from dataplane._core import Frame
from kernel import wire
from kernel.wire import ACK, FIN, PSH, RST, SYN, Ip, Tcp

from .changes import change
from .clusters import PATHS, random_cluster
from .compare import Race
from .mutate import damaged
from .play import Mode, Player
from .scenario import MICROSECOND, MILLISECOND, SCOUT, SECOND
from .script import Burst, Call, Given, Step, World
from .terrain import Door, Station, Terrain, of_cluster

FLOWS = 4000  # that packets are drawn from; of the first table of flows 1536 are the most
ROUNDS = 6
PACKETS = 4000  # of a round
STRANGERS = 700  # addresses of senders behind the underlay's hosts
AT_ONCE = Mode("slow path, looked at in the end", slow=True, batch=1 << 30, looks=False)
PAIRS = tuple(
    (AT_ONCE, Mode(f"batches of {batch}, {threads} threads, windows of {window}", batch=batch, threads=threads, window=window, looks=False))
    for batch, threads, window in ((1 << 30, 1, 1024), (200, 1, 1024), (1 << 30, 3, 100))
)


def place(rng: Random) -> World:
    """A cluster whose pods have IPv4 addresses alone."""
    paths = [path._replace(families=((4,),)) for path in PATHS if (4,) in path.families]
    return random_cluster(rng, paths)


class Throng:
    """What is sent into a cluster; answers are seen on a slow engine of its own."""

    def __init__(self, world: World, seed: int, sink: Callable[[Step], None]) -> None:
        self.rng, self.sink, self.scout = Random(f"throng {seed}"), sink, Player(world, seed, SCOUT)
        assert self.scout.topology is not None
        self.terrain: Terrain = of_cluster(self.scout.engine, self.scout.topology)
        self.by_device = {station.device: station for station in self.terrain.stations}
        self.senders = [station for station in self.terrain.stations if station.kind != "node"]
        self.doors = [door for door in self.terrain.doors if door.family == 4 and door.proto != "sctp"]
        self.flows = [self._flow() for _ in range(FLOWS)]
        self.heard: list[Frame] = []
        self.macs = [station.mac for station in self.terrain.stations]

    def _flow(self) -> tuple[Station, bytes, Door, int, str]:
        rng = self.rng
        station, door = rng.choice(self.senders), rng.choice(self.doors)
        source = station.address(4) or bytes(4)
        if station.kind == "host":
            source = b"\xc6\x33" + (0x6400 + rng.randrange(STRANGERS)).to_bytes(2)
        return station, source, door, rng.randrange(1024, 65536), door.proto or rng.choice(("tcp", "udp"))

    def _frame(self, flow: tuple[Station, bytes, Door, int, str]) -> Given:
        station, source, door, port, proto = flow
        rng = self.rng
        one, other = (".".join(map(str, address)) for address in (source, door.address))
        data = wire.filler(rng.choice((0, 8, 40)), rng.randrange(256))
        if proto == "udp":
            packet = Ip(one, other, wire.UDP, wire.udp(one, other, port, door.port, data))
        else:
            flags = rng.choice((SYN, SYN, ACK, ACK, ACK | PSH, ACK | PSH, FIN | ACK, RST))
            packet = Ip(one, other, wire.TCP, Tcp(port, door.port, 1000, 0, flags, b"" if flags & SYN else data, 500).build(one, other))
        frame = self.terrain.next_hop(station, door.address) + station.mac + wire.IP_TYPE.to_bytes(2) + packet.build()
        return Given(0, station.device, frame)

    def _answer(self, heard: Frame) -> Given | None:
        """The other way round."""
        parsed = wire.parse(heard.data)
        if (
            parsed is None
            or parsed.version != 4
            or parsed.fragmented
            or parsed.proto not in (wire.TCP, wire.UDP)
            or len(parsed.payload) < 14
        ):
            return None
        (sport, dport), data = parsed.ports, heard.data
        if parsed.proto == wire.UDP:
            payload = wire.udp(parsed.target, parsed.source, dport, sport, b"answer")
        else:
            flags = SYN | ACK if parsed.payload[13] & SYN else ACK
            payload = Tcp(dport, sport, 5000, 1001, flags, b"", 500).build(parsed.target, parsed.source)
        return Given(0, heard.device, data[6:12] + data[:6] + data[12:14] + Ip(parsed.target, parsed.source, parsed.proto, payload).build())

    def _packets(self) -> Iterator[Given]:
        wild = self.rng.choice((0, 0.01, 0.05))
        for _ in range(PACKETS):
            answer = self._answer(self.rng.choice(self.heard)) if self.heard and self.rng.random() < 0.3 else None
            given = answer or self._frame(self.rng.choice(self.flows))
            frames = damaged(given.data, self.rng, self.macs) if self.rng.random() < wild else [given.data]
            for data in frames:
                yield given._replace(data=data)

    def _emit(self, step: Step) -> None:
        self.sink(step)
        self.scout.play(step)
        seen = self.scout.seen.pop().frames
        self.heard += [frame for frame in seen if frame.device in self.by_device and not frame.outgoing]

    def begin(self) -> None:
        """Few devices are captured, other ones in the scout."""
        engine = self.scout.engine
        for namespace in self.scout.namespaces:
            for row in engine.devices(namespace):
                if self.rng.random() < 0.9:
                    self.sink(Call("set_device", (row["id"],), {"capture": False}))
                engine.set_device(row["id"], capture=row["id"] in self.by_device)

    def go(self) -> None:
        self.begin()
        for number in range(ROUNDS):
            gap = self.rng.choice((0, 300, 20 * MICROSECOND))
            start = self.scout.engine.now
            self._emit(Burst(tuple(given._replace(time=start + i * gap) for i, given in enumerate(self._packets()))))
            self._emit(Call("run", (self.scout.engine.now + self.rng.choice((MILLISECOND, 5 * SECOND, 40 * SECOND)),)))
            for step in change(self.rng, self.terrain, self.scout.engine) if number % 2 else ():
                self._emit(step)


def run(world: World, seed: int) -> Race:
    """Raises Disagreement."""
    race = Race(world, seed, PAIRS)
    Throng(world, seed, race.play).go()
    race.finish()
    return race
