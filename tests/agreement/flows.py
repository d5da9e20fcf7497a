"""Conversations that repeat themselves: two ends that know what the other one sees, and what they say next, right or wrong."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from kernel import sctp, wire
from kernel.wire import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Ip, Ip6, Tcp

from .terrain import Door, Station

NUMBERS = {"tcp": wire.TCP, "udp": wire.UDP, "sctp": wire.SCTP, "other": 50}
ECHO = {4: (wire.ICMP, 8, 0), 6: (wire.ICMP6, 128, 129)}  # protocol, request, reply
SMALL = (0, 1, 8, 26, 64, 200)
LARGE = (536, 1180, 1400, 1418, 1428, 1440, 1448, 1460, 1472, 1473, 2000, 3700, 3800, 3900, 4100, 8800)
SCALES = (None, 0, 7, 14)  # of windows; None: no such option
WINDOW = 502


@dataclass
class End:
    """One end of a conversation: its station, addresses and ports as it sees them, and the MAC it sends to."""

    station: Station
    next_hop: bytes
    local: bytes
    remote: bytes
    sport: int
    dport: int
    seq: int = 0  # of its next byte
    heard: int = 0  # next byte expected from the other end

    @property
    def family(self) -> int:
        return 4 if len(self.local) == 4 else 6

    def packet(self, proto: int, payload: bytes, rng: Random) -> bytes:
        """An IP packet as this end usually sends it."""
        source, target = str(ip_address(self.local)), str(ip_address(self.remote))
        if self.family == 4:
            flags = wire.DF if proto == wire.TCP else 0
            return Ip(source, target, proto, payload, ident=rng.randrange(1 << 16), fragment=flags).build()
        return Ip6(source, target, proto, payload, label=self.sport).build()

    def frame(self, proto: int, payload: bytes, rng: Random) -> bytes:
        kind = wire.IP_TYPE if self.family == 4 else wire.IP6_TYPE
        return self.next_hop + self.station.mac + kind.to_bytes(2) + self.packet(proto, payload, rng)


@dataclass
class Flow:
    """A conversation of ``near``, who began it, with ``far``, known once something has arrived there."""

    proto: str  # tcp, udp, icmp, sctp, other
    near: End
    door: Door
    scale: int | None
    far: End | None = None
    opened: bool = False  # TCP: the handshake is over

    @property
    def number(self) -> int:
        return ECHO[self.near.family][0] if self.proto == "icmp" else NUMBERS[self.proto]

    def ends(self) -> list[End]:
        return [self.near] if self.far is None else [self.near, self.far]

    def first(self, rng: Random) -> bytes:
        """What opens it, a SYN in TCP."""
        if self.proto == "tcp":
            self.near.seq = rng.choice((rng.randrange(1 << 32), 0xFFFFFFF0))
            self.opened = False
            return self.segment(self.near, rng, SYN)
        return self.next(self.near, rng)

    def next(self, end: End, rng: Random, *, large: float = 0.1) -> bytes:
        """What an end says when all goes well."""
        size = rng.choice(LARGE if rng.random() < large else SMALL)
        if self.proto == "tcp":
            flags = ACK if size == 0 or rng.random() < 0.3 else ACK | PSH
            return self.segment(end, rng, flags, wire.filler(0 if flags == ACK else size, rng.randrange(256)))
        source, target = str(ip_address(end.local)), str(ip_address(end.remote))
        data = wire.filler(size, rng.randrange(256))
        if self.proto == "udp":
            check = 0 if end.family == 4 and self.near.sport % 4 == 0 else None
            return end.frame(wire.UDP, wire.udp(source, target, end.sport, end.dport, data, check=check), rng)
        if self.proto == "icmp":
            proto, request, reply = ECHO[end.family]
            kind, rest = request if end is self.near else reply, struct.pack(">HH", self.near.sport, rng.randrange(4))
            body = wire.icmp(kind, 0, rest, data) if end.family == 4 else wire.icmp6(source, target, kind, 0, rest, data)
            return end.frame(proto, body, rng)
        if self.proto == "sctp":
            return end.frame(wire.SCTP, sctp.packet(end.sport, end.dport, rng.choice(range(15)), rng), rng)
        return end.frame(NUMBERS["other"], data, rng)

    # ---- TCP
    def segment(self, end: End, rng: Random, flags: int, data: bytes = b"", *, shift: int = 0, window: int = WINDOW, ack: int = 0) -> bytes:
        """``shift`` moves the sequence number away from what is due, ``ack`` the number that is acknowledged; neither end notes it then."""
        options = self._syn_options() if flags & SYN else b""
        heard = end.heard + ack if flags & ACK else 0
        tcp = Tcp(end.sport, end.dport, end.seq + shift, heard, flags, data, 64240 if flags & SYN else window, options)
        if not shift and not ack:
            end.seq = (end.seq + len(data) + bool(flags & SYN) + bool(flags & FIN)) & 0xFFFFFFFF
            other = self.far if end is self.near else self.near
            if other is not None:
                other.heard = end.seq
        return end.frame(wire.TCP, tcp.build(str(ip_address(end.local)), str(ip_address(end.remote))), rng)

    def _syn_options(self) -> bytes:
        sack = b"\x04\x02\x01\x01"
        return b"\x02\x04\x05\xb4" + (b"" if self.scale is None else sack + b"\x01\x03\x03" + bytes([self.scale]))

    def handshake(self, rng: Random) -> list[bytes]:
        """The frames after the SYN, each to be sent when the one before it has arrived, with whom they are from left to the caller."""
        assert self.far is not None
        self.far.seq, self.far.heard = rng.randrange(1 << 32), self.near.seq
        self.opened = True
        return [self.segment(self.far, rng, SYN | ACK), self.segment(self.near, rng, ACK)]

    def farewell(self, rng: Random) -> list[tuple[End, bytes]]:
        """Closed in one of the usual ways, rarely left half open."""
        assert self.far is not None
        self.opened = False
        one, other = rng.choice(([self.near, self.far], [self.far, self.near]))
        if rng.random() < 0.25:
            return [(one, self.segment(one, rng, rng.choice((RST, RST | ACK))))]
        steps = [(one, FIN | ACK), (other, ACK), (other, FIN | ACK), (one, ACK)]
        return [(end, self.segment(end, rng, flags)) for end, flags in steps[: rng.choice((4, 4, 4, 3, 2, 1))]]

    def odd_segment(self, end: End, rng: Random) -> bytes:
        """A segment that a window or a state machine has to look at."""
        data = wire.filler(rng.choice((1, 100, 1000)), 3)
        kind = rng.randrange(12)
        if kind == 0:
            return self.segment(end, rng, ACK, shift=-1)  # keep-alive
        if kind == 1:
            return self.segment(end, rng, ACK | PSH, data, shift=-len(data))  # sent again
        if kind == 2:
            edge = (WINDOW << (self.scale or 0)) - len(data)
            return self.segment(end, rng, ACK | PSH, data, shift=rng.choice((1, edge - 1, edge, edge + 1, 70000, -70000, 1 << 31)))
        if kind == 3:
            return self.segment(end, rng, ACK, window=0)
        if kind == 4:
            return self.segment(end, rng, ACK, window=rng.choice((1, 20, 65535)))
        if kind == 5:
            return self.segment(end, rng, ACK, ack=rng.choice((1, 1000, -1000, 1 << 20, 1 << 31)))
        if kind == 6:
            return self.segment(end, rng, rng.choice((RST, RST | ACK, FIN | ACK, FIN)), shift=rng.choice((0, 1, 5000, 1 << 30)))
        if kind == 7:
            return self.segment(end, rng, SYN, shift=rng.choice((1, -1, 1 << 20)))
        if kind == 8:
            return self.segment(end, rng, ACK | rng.choice((ECE, CWR, ECE | CWR, URG)), data)
        if kind == 9:
            return self.segment(end, rng, rng.choice((0, SYN | FIN, SYN | RST, FIN, PSH, 0xFF, SYN | ACK)), shift=1)
        sack = struct.pack(">II", *((end.heard + n) & 0xFFFFFFFF for n in (100, 300)))
        options = b"\x01\x01\x05\x0a" + sack if kind == 10 else b"\x01\x01\x08\x0a" + bytes(8)
        tcp = Tcp(end.sport, end.dport, end.seq, end.heard, ACK, b"", 502, options)
        return end.frame(wire.TCP, tcp.build(str(ip_address(end.local)), str(ip_address(end.remote))), rng)


def arrived(sent: bytes, seen: bytes) -> bool:
    """Is a frame that was seen the one that was sent, whatever was translated on the way? Told by its protocol and its last bytes."""
    one, other = wire.parse(sent), wire.parse(seen)
    if one is None or other is None or one.proto != other.proto or len(one.payload) != len(other.payload):
        return False
    if one.proto == wire.TCP:
        return one.payload[4:8] == other.payload[4:8]
    start = {wire.UDP: 8, wire.ICMP: 8, wire.ICMP6: 8, wire.SCTP: 12}.get(one.proto, 0)
    return one.payload[start:] == other.payload[start:]


def far_end(station: Station, frame: bytes, flow: Flow) -> End:
    """The end that a first frame arrived at."""
    parsed = wire.parse(frame)
    assert parsed is not None
    local, remote = wire.packed(parsed.target), wire.packed(parsed.source)
    if flow.proto in ("tcp", "udp", "sctp"):
        sport, dport = parsed.ports
        return End(station, frame[6:12], local, remote, dport, sport)
    return End(station, frame[6:12], local, remote, flow.near.dport, flow.near.sport)
