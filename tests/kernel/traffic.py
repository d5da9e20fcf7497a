"""Who talks to whom, and how the conversation goes on: well-formed frames of several flows, and answers to what really arrived."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from . import wire
from .taps import Seen
from .topology import Host, Pod, Topology
from .wire import ACK, FIN, PSH, RST, SYN, Ip, Ip6, Parsed, Tcp

OUTSIDE = ("8.8.8.8", "203.0.113.5", "198.51.100.77", "203.0.113.200")
SPECIAL_TARGETS = (
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "224.0.0.251",
    "239.1.2.3",
    "240.0.0.1",
    "169.254.1.1",
    "169.254.7.7",
)
SPECIAL_SOURCES = ("127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.5", "240.0.0.1", "169.254.3.3", "0.1.2.3")
PORTS = (80, 8080, 53, 443, 5000, 9, 0, 65535, 40000, 8472, 30080)
CLIENT_PORTS = (40000, 40001, 511, 68, 1023, 1024, 32768, 65535)


@dataclass
class Talk:
    """One end of a TCP connection as its own stack would see it."""

    station: Station
    local: str
    remote: str
    sport: int
    dport: int
    next_seq: int
    next_ack: int = 0
    window: int = 64240


@dataclass(frozen=True)
class Station:
    """Something that sends: a pod, a host, or a node's underlay device."""

    ns: str
    address: str
    mac: str
    pod: Pod | None = None


@dataclass(frozen=True)
class Packet:
    """An IP packet on its way out of a station."""

    station: Station
    next_hop: str  # MAC
    ip: Ip | Ip6
    note: str

    def frame(self) -> bytes:
        kind = wire.IP_TYPE if isinstance(self.ip, Ip) else wire.IP6_TYPE
        return wire.ethernet(self.next_hop, self.station.mac, self.ip.build(), kind)


@dataclass(frozen=True)
class Arrival:
    """A frame that reached the end it was meant for."""

    station: Station
    peer_mac: str
    parsed: Parsed


class Traffic:
    """Flows of one sequence and one address family, here IPv4. All choices come from ``rng``."""

    outside: Sequence[str] = OUTSIDE
    special_sources: Sequence[str] = SPECIAL_SOURCES
    special_targets: Sequence[str] = SPECIAL_TARGETS
    other_protocols: Sequence[int] = (0, 2, 4, 41, 46, wire.GRE, wire.ESP, 51, 58, 89, 94, 103, wire.SCTP, wire.UDPLITE, 200, 255)
    icmp = wire.ICMP
    extended = 0.0  # how many packets have extension headers
    overheads: Sequence[int] = (28, 28, 40, 60)  # of IP and what it carries

    def __init__(self, topology: Topology, rng: Random) -> None:
        self.topology, self.rng = topology, rng
        self.large = 0.06
        self.limits = [1400, topology.pod_mtu, topology.mtu]
        # A packet that dies on the way to one of several endpoints leaves no entry that tells which was chosen: no recording can hold it.
        self.ambiguous = {a for s in topology.services if len(s.endpoints) > 1 for a in (s.address, *s.outside)}
        pods = [Station(p.name, p.address, p.mac, p) for p in topology.pods.values()]
        hosts = [Station(h.name, h.address, h.mac) for h in topology.hosts.values() if h.behind is None]
        nodes = [Station(n.name, n.address, n.macs["eth0"]) for n in topology.nodes.values()]
        self.stations = [*pods, *hosts, *nodes]
        self.favourites = [pods[0], *rng.sample(pods[1:], 1), *hosts]
        self.by_name = {s.ns: s for s in self.stations}
        self.arrivals: list[Arrival] = []
        self.talks: list[Talk] = []
        self.opened: list[Packet] = []
        self.port = rng.randrange(20000, 60000)

    # ---- who
    def client(self) -> Station:
        choice = self.rng.random()
        if choice < 0.75:
            return self.rng.choice(self.favourites)
        return self.rng.choice(self.stations if choice > 0.95 else [s for s in self.stations if s.ns not in self.topology.nodes])

    def source(self, station: Station) -> str:
        """Mostly the station's own address."""
        if self.rng.random() < 0.93:
            return station.address
        topology = self.topology
        node = self.rng.choice(list(topology.nodes.values()))
        near = [p.address for p in topology.pods.values()] + [
            node.address,
            node.gateway,
            node.tunnel,
            str(node.network[77]),
            str(node.network[-1]),
        ]
        services = [s.address for s in topology.services]
        return self.rng.choice(
            [*near, *self.special_sources, *self.outside, self.rng.choice(services), str(topology.underlay[-1]), str(topology.underlay[77])]
        )

    def target(self, station: Station) -> tuple[str, int, str, str]:
        """Address, port, protocol ("" any) and what it is."""
        kinds = {
            "service": 26,
            "same node": 12,
            "other node": 16,
            "node port": 10,
            "balancer": 6,
            "node": 6,
            "outside": 8,
            "host": 6,
            "nobody": 4,
            "special": 3,
            "self": 2,
            "wrong port": 3,
            "peer": 8,
        }
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        address, port, proto = self._service_target(kind) or (self._plain_target(kind, station), self.rng.choice(PORTS), "")
        return address, port, proto, kind

    def _service_target(self, kind: str) -> tuple[str, int, str] | None:
        services, nodes = self.topology.services, list(self.topology.nodes.values())
        if kind == "service":
            service = self.rng.choice(services)
            return service.address, service.port, service.protocol
        if kind == "wrong port":
            return self.rng.choice([*(s.address for s in services), str(self._unused_service())]), self.rng.choice(PORTS), ""
        if kind == "node port":
            service = self.rng.choice([s for s in services if s.node_port])
            node = self.rng.choice(nodes)
            return (
                self.rng.choice([node.address, node.address, node.address, node.gateway, node.tunnel]),
                service.node_port,
                service.protocol,
            )
        if kind == "balancer":
            service = self.rng.choice([s for s in services if s.outside])
            return service.outside[0], service.port, service.protocol
        if kind == "peer":  # the endpoint of a service, straight: port clashes with flows through the service
            service = self.rng.choice([s for s in services if s.endpoints])
            address, port = self.rng.choice(service.endpoints)
            return address, port, service.protocol
        return None

    def _unused_service(self) -> str:
        head = wire.packed(self.topology.services[0].address)[:-1]
        return str(ip_address(head + bytes([self.rng.choice((1, 199, 254))])))

    def _plain_target(self, kind: str, station: Station) -> str:
        topology, pods = self.topology, list(self.topology.pods.values())
        node = self.rng.choice(list(topology.nodes.values()))
        home = station.pod.node if station.pod else node.name
        if kind == "same node":
            return self.rng.choice([p.address for p in pods if p.node == home])
        if kind == "other node":
            return self.rng.choice([p.address for p in pods if p.node != home])
        if kind == "node":
            return self.rng.choice([node.address, node.address, node.gateway, node.tunnel])
        if kind == "outside":
            return self.rng.choice(self.outside)
        if kind == "host":
            return self.rng.choice([h.address for h in topology.hosts.values()])
        if kind == "nobody":
            beyond = str(node.network.broadcast_address + 77 + 256 * 40)
            return self.rng.choice(
                [
                    str(node.network[99]),
                    str(node.network[-1]),
                    beyond,
                    str(topology.underlay[99]),
                    str(topology.underlay[-1]),
                    str(topology.underlay[0]),
                ]
            )
        return station.address if kind == "self" else self.rng.choice(self.special_targets)

    def next_hop(self, station: Station, address: str) -> str:
        """The MAC that the station's own stack would send to; on the underlay, towards the cluster, any node's."""
        topology, nodes = self.topology, list(self.topology.nodes.values())
        if station.pod is not None:
            near = next((p for p in topology.pods.values() if p.address == address), None)
            if topology.bridged and near is not None and near.node == station.pod.node:
                return near.mac
            return topology.pod_gateway_mac(station.pod)
        on_link: list[Host | None] = [h for h in topology.hosts.values() if h.address == address]
        if on_link and on_link[0] is not None:
            return on_link[0].mac
        own = [n for n in nodes if n.address == address]
        holder = [n for n in nodes for p in topology.pods.values() if p.address == address and p.node == n.name]
        others = [n for n in nodes if n.name != station.ns]
        if own:
            return own[0].macs["eth0"]
        if holder and self.rng.random() < 0.7:
            return holder[0].macs["eth0"]
        return self.rng.choice(others).macs["eth0"]

    # ---- what
    def ip(self, source: str, target: str, proto: int, payload: bytes) -> Ip | Ip6:
        rng = self.rng
        ttl = rng.choices([64, 1, 2, 3, 0, 255], [80, 6, 6, 3, 1, 2])[0]
        if target in self.ambiguous:
            ttl = max(2, ttl)
        tos = rng.choices([0, rng.randrange(256)], [80, 20])[0]
        fragment = rng.choices([0, wire.DF, wire.RESERVED | wire.DF, wire.RESERVED], [48, 50, 1, 1])[0]
        return Ip(source, target, proto, payload, ttl=ttl, tos=tos, ident=rng.randrange(1, 65536), fragment=fragment)

    def payload(self) -> bytes:
        """Mostly short; ``large`` of them about as long as a smaller MTU, a pod's or the underlay's allows."""
        rng = self.rng
        if rng.random() < self.large:
            limit = rng.choice(self.limits) - rng.choice(self.overheads)
            size = limit + rng.choice([0, 1, -1, 4, 8, -8, 50, -rng.randrange(60)])
        else:
            size = rng.choices([rng.randrange(0, 64), rng.randrange(64, 600)], [80, 20])[0]
        return wire.filler(size, rng.randrange(256))

    def client_port(self) -> int:
        if self.rng.random() < 0.2:
            return self.rng.choice(CLIENT_PORTS)
        self.port += 1
        return self.port

    def open(self) -> Packet:
        """The first packet of a new flow, or of an old one's addresses and ports towards another door."""
        station = self.client()
        source = self.source(station)
        address, port, proto, kind = self.target(station)
        name = proto or self.rng.choices(["tcp", "udp", "icmp", "other"], [40, 25, 25, 10])[0]
        if name == "tcp" and self.rng.random() < 0.9:
            talk = Talk(station, source, address, self.client_port(), port, self.rng.randrange(1 << 32))
            self.talks.append(talk)
            packet = self.segment(talk, SYN)
        elif name == "tcp":
            talk = Talk(station, source, address, self.client_port(), port, self.rng.randrange(1 << 32), self.rng.randrange(1 << 32))
            packet = self.segment(talk, self.rng.randrange(256), self.payload())
        elif name == "udp":
            body = wire.udp(source, address, self.client_port(), port, self.payload())
            packet = self.packet(station, source, address, wire.UDP, body, "udp")
        elif name == "icmp":
            packet = self.packet(station, source, address, self.icmp, *self.icmp_request(source, address))
        else:
            number = self.rng.choice(self.other_protocols)
            packet = self.packet(station, source, address, number, self.other_request(number, port), f"protocol {number}")
        packet = Packet(packet.station, packet.next_hop, packet.ip, f"{kind}: {packet.note}")
        self.opened.append(packet)
        return packet

    def icmp_request(self, source: str, target: str) -> tuple[bytes, str]:
        """Mostly an echo request."""
        kind, code = (
            (8, 0)
            if self.rng.random() < 0.8
            else (
                self.rng.choice([0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30, 42, 43, 255]),
                self.rng.choice([0, 0, 0, 1, 4, 13, 99]),
            )
        )
        return wire.icmp(kind, code, struct.pack(">HH", self.rng.randrange(65536), 1), self.payload()), f"icmp {kind}/{code}"

    def packet(self, station: Station, source: str, target: str, proto: int, body: bytes, note: str) -> Packet:
        return Packet(station, self.next_hop(station, target), self.ip(source, target, proto, body), note)

    def other_request(self, number: int, port: int) -> bytes:
        """The first payload of some other protocol."""
        return self.payload()

    # ---- TCP
    def segment(self, talk: Talk, flags: int, payload: bytes = b"", shift: int = 0) -> Packet:
        """A segment of this end; the sequence number moves on by what it occupies."""
        options = self._tcp_options(flags)
        tcp = Tcp(talk.sport, talk.dport, talk.next_seq + shift, talk.next_ack if flags & ACK else 0, flags, payload, talk.window, options)
        if not shift:
            talk.next_seq += len(payload) + bool(flags & SYN) + bool(flags & FIN)
        letters = "".join(letter for bit, letter in enumerate("FSRPAUEC") if flags >> bit & 1)
        body = tcp.build(talk.local, talk.remote)
        return self.packet(
            talk.station, talk.local, talk.remote, wire.TCP, body, f"tcp {letters or 'no flags'}{f' seq {shift:+d}' if shift else ''}"
        )

    def _tcp_options(self, flags: int) -> bytes:
        rng = self.rng
        stamp = struct.pack(">BBII", 8, 10, rng.randrange(1 << 16), 0)
        if flags & SYN:
            return rng.choice(
                [b"", b"\x02\x04\x05\xb4\x04\x02" + stamp + b"\x01\x03\x03" + bytes([rng.choice([0, 7, 14, 15])]), b"\x02\x04\x05\xb4"]
            )
        sack = b"\x01\x01\x05\x0a" + struct.pack(">II", rng.randrange(1 << 32), rng.randrange(1 << 32))
        return rng.choices([b"", b"\x01\x01" + stamp, sack, bytes([rng.randrange(256), rng.randrange(12), 3, 4])], [70, 20, 5, 5])[0]

    def go_on(self) -> Packet:
        """Some end of some connection sends more: usually what is due, sometimes out of window or with other flags."""
        rng, talk = self.rng, self.rng.choice(self.talks[-4:])
        flags = rng.choices([ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN, SYN | ACK, rng.randrange(256)], [25, 35, 15, 5, 5, 6, 3, 6])[0]
        payload = self.payload() if flags & PSH else b""
        shift = rng.choices([0, -1, 1, 1000, 100000, -100000, 1 << 31], [84, 4, 3, 3, 2, 2, 2])[0]
        return self.segment(talk, flags, payload, shift)

    # ---- answers
    def note_arrivals(self, frames: Sequence[Seen]) -> None:
        """Remember IP packets that came to the station they were addressed to (Ethernet)."""
        for seen in frames:
            station = self.by_name.get(seen.ns)
            parsed = wire.parse(seen.data)
            if (
                station is None
                or station.ns in self.topology.nodes
                or seen.outgoing
                or parsed is None
                or parsed.version != self.topology.family
                or seen.data[:6] != wire.mac(station.mac)
            ):
                continue
            self.arrivals.append(Arrival(station, seen.data[6:12].hex(":"), parsed))
        del self.arrivals[:-6]

    def answer(self) -> Packet | None:
        """What the end that a packet arrived at would say."""
        arrival = self.rng.choice(self.arrivals[-2:])
        got = arrival.parsed
        if got.fragmented:
            return None
        if got.proto == wire.TCP and len(got.payload) >= 20:
            return self._answer_tcp(arrival)
        if got.proto == wire.UDP and len(got.payload) >= 8:
            sport, dport = got.ports
            body = wire.udp(got.target, got.source, dport, sport, self.payload())
            return self.reply(arrival, wire.UDP, body, "answer: udp")
        if got.proto == self.icmp and len(got.payload) >= 8 and (packet := self.answer_icmp(arrival)) is not None:
            return packet
        if got.proto in (wire.TCP, wire.UDP, self.icmp) and self.rng.random() < 0.9:
            return None  # nothing to say to an ICMP error, or to half a header
        return self.answer_other(arrival)

    def answer_other(self, arrival: Arrival) -> Packet | None:
        number = arrival.parsed.proto
        return self.reply(arrival, number, self.payload(), f"answer: protocol {number}")

    def answer_icmp(self, arrival: Arrival) -> Packet | None:
        """The reply to a query; None for anything else."""
        got = arrival.parsed
        kind = {8: 0, 13: 14, 17: 18}.get(got.payload[0])
        if kind is None:
            return None
        return self.reply(arrival, wire.ICMP, wire.icmp(kind, 0, got.payload[4:8], got.payload[8:]), f"answer: icmp {kind}")

    def reply(self, arrival: Arrival, proto: int, body: bytes, note: str) -> Packet:
        """A packet back to where another came from."""
        got = arrival.parsed
        return Packet(arrival.station, arrival.peer_mac, self.ip(got.target, got.source, proto, body), note)

    def _answer_tcp(self, arrival: Arrival) -> Packet | None:
        got = arrival.parsed
        sport, dport, seq, ack, offset, flags = struct.unpack_from(">HHIIBB", got.payload)
        size = max(0, len(got.payload) - (offset >> 4) * 4)
        talk = next((t for t in self.talks if (t.local, t.remote, t.sport, t.dport) == (got.target, got.source, dport, sport)), None)
        if talk is None:
            talk = Talk(arrival.station, got.target, got.source, dport, sport, self.rng.randrange(1 << 32) if flags & SYN else ack)
            self.talks.append(talk)
        talk.next_ack = (seq + size + bool(flags & SYN) + bool(flags & FIN)) & 0xFFFFFFFF
        if flags & RST:
            return None
        due = (
            SYN | ACK
            if flags & SYN and not flags & ACK
            else FIN | ACK
            if flags & FIN
            else ACK
            if flags & SYN or self.rng.random() < 0.5
            else PSH | ACK
        )
        if self.rng.random() < 0.08:
            due = self.rng.choice([RST | ACK, RST, SYN, FIN | ACK, ACK])
        packet = self.segment(talk, due, self.payload() if due & PSH else b"")
        return Packet(packet.station, arrival.peer_mac, packet.ip, f"answer: {packet.note}")

    # ---- ICMP errors
    def error(self) -> Packet | None:
        """An end (or somebody outside) complains about a packet that arrived; the quote is right, short or subtly wrong."""
        rng, arrival = self.rng, self.rng.choice(self.arrivals)
        got, (kind, code) = (
            arrival.parsed,
            rng.choice([(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 13), (3, 99), (4, 0), (5, 1), (11, 0), (11, 1), (12, 0)]),
        )
        header = (got.packet[0] & 15) * 4
        quote = bytearray(got.packet[: rng.choice([header + 8, header + 8, header + 7, header, 19, header + 20, 60, 200, 548, 1400])])
        wrong = ""
        if rng.random() < 0.3:
            at = rng.choice([0, 1, 3, 6, 8, 9, 10, 12, 15, 16, 19, 20, 21, 22, 23])
            if at < len(quote):
                quote[at] ^= 1 << rng.randrange(8)
                wrong = f", byte {at} of the quote wrong"
        rest = struct.pack(">HH", 0, rng.choice([1400, 1280, 68, 0])) if (kind, code) == (3, 4) else bytes(4)
        body = wire.icmp(kind, code, rest, bytes(quote), check_error=rng.choices([0, 1], [95, 5])[0])
        source = got.target if rng.random() < 0.7 else rng.choice([self.source(arrival.station), rng.choice(self.outside)])
        note = f"icmp {kind}/{code} from {source} quoting {len(quote)} bytes{wrong}"
        return Packet(arrival.station, arrival.peer_mac, self.ip(source, got.source, wire.ICMP, body), note)
