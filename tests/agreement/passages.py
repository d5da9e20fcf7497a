"""Routers that packets only pass through: routes, neighbours and settings of every kind, frames of every kind, and changes in between."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from core.worlds import checksum, ether, ipv4
from dataplane._core import Chain
from kernel import broken

from .handmade import Maker, mac
from .script import Burst, Call, Given, Step, World
from .terrain import packed

ROUTER_MAC, HOP_MAC = 0x100, 0x200
NETWORKS = 24  # that routes lead to
USUAL_SOURCES = ("192.0.2.7", "203.0.113.200", "8.8.8.8", "172.16.3.4", "223.255.255.254", "1.0.0.1", "126.1.2.3", "128.0.0.1")
ODD_SOURCES = ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.1.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "255.255.255.254")
ODD_TARGETS = (*ODD_SOURCES, "224.0.0.251", "169.254.9.9", "203.0.113.1")
FILTER = ("INPUT", "FORWARD", "OUTPUT")
SETTINGS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("net.ipv4.ip_forward", (0, 1, 1, 1)),
    ("net.ipv4.conf.eth1.forwarding", (0, 1, 1)),
    ("net.ipv4.conf.all.rp_filter", (0, 0, 1, 2)),
    ("net.ipv4.conf.eth1.rp_filter", (0, 1, 2)),
    ("net.ipv4.conf.all.accept_local", (0, 1)),
    ("net.ipv4.conf.all.send_redirects", (0, 1)),
    ("net.ipv4.conf.eth1.send_redirects", (0, 1)),
    ("net.ipv4.conf.all.shared_media", (0, 1)),
    ("net.ipv4.conf.all.route_localnet", (0, 0, 1)),
    ("net.ipv4.conf.all.proxy_arp", (0, 1)),
    ("net.ipv4.conf.eth1.bc_forwarding", (0, 1)),
    ("net.ipv4.conf.all.drop_unicast_in_l2_multicast", (0, 1)),
    ("net.ipv4.neigh.eth1.base_reachable_time_ms", (20, 30000)),
    ("net.ipv4.neigh.eth2.delay_first_probe_time", (0, 5)),
    ("net.ipv4.ip_default_ttl", (64, 33)),
)


def text_of(address: bytes) -> str:
    return ".".join(map(str, address))


class Passages:
    """One or two routers in a row. Each port leads to a station, into the other router, or nowhere."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.maker = rng, Maker()
        self.routers: list[int] = []
        self.ports: list[tuple[int, int, int]] = []  # router, device, number
        self.doors: list[tuple[int, str, bytes]] = []  # a device, what makes it take frames, the MAC they are for
        self.own: list[str] = ["10.0.1.1"]
        self.hops: list[tuple[int, int, bytes]] = []  # router, device, next hop
        self.targets: list[bytes] = []
        self.prefixes: list[tuple[bytes, int]] = []  # that there is or was a route to
        self.repairs: list[Call] = []  # what makes the routers forward again
        self.networks = [bytes([rng.randrange(20, 26), rng.randrange(4), rng.randrange(8), 0]) for _ in range(NETWORKS)]
        self._uplink: int | None = None
        for number in range(rng.choice((1, 1, 2))):
            self._router(number)

    @property
    def world(self) -> World:
        return World("passages", calls=tuple(self.maker.calls))

    def _router(self, number: int) -> None:
        rng, do = self.rng, self.maker.do
        router = do("add_namespace", f"router{number}")
        self.routers.append(router)
        do("set_sysctl", router, "net.ipv4.ip_forward", 1)
        for port in range(1, rng.choice((2, 3, 4)) + 1):
            self._port(router, number, port)
        if number == 0:
            self._uplink = do("add_device", router, "up", "veth", mac=mac(ROUTER_MAC + 9), mtu=1500)
            do("add_address", self._uplink, packed("10.9.0.1"), 30)
            self.hops.append((router, self._uplink, packed("10.9.0.2")))
        else:
            down = do("add_device", router, "down", "veth", mac=mac(ROUTER_MAC + 25), mtu=rng.choice((1500, 900)))
            do("add_address", down, packed("10.9.0.2"), 30)
            do("add_neighbour", down, packed("10.9.0.1"), mac(ROUTER_MAC + 9))
            do("add_neighbour", self._uplink, packed("10.9.0.2"), mac(ROUTER_MAC + 25))
            self.maker.cable(down, self._uplink or 0, rng.choice((0, 5_000)))
        for _ in range(rng.choice((4, 20, 60))):
            self.maker.calls += [call for call in self.route(router) if self._works(call)]
        for name, values in rng.sample(SETTINGS, rng.choice((0, 0, 1, 3))):
            self.maker.calls += [call for call in [Call("set_sysctl", (router, name, rng.choice(values)))] if self._works(call)]

    def _works(self, call: Call) -> bool:
        try:
            getattr(self.maker.engine, call.name)(*call.args, **call.kwargs)
        except (KeyError, ValueError):
            return False
        return True

    def _port(self, router: int, number: int, port: int) -> None:
        rng, do = self.rng, self.maker.do
        own = mac(ROUTER_MAC + 16 * number + port)
        device = do("add_device", router, f"eth{port}", "veth", mac=own, mtu=rng.choice((1500, 1500, 900, 9000)))
        self.ports.append((router, device, port))
        subnet = f"10.{number}.{port}"
        do("add_address", device, packed(f"{subnet}.1"), 24)
        self.own.append(f"{subnet}.1")
        kind = rng.choice(("nowhere", "silent", "silent", "answers"))
        latency = rng.choice((0, 0, 0, 5_000))
        if kind != "nowhere" or port == 1:
            addresses = [(f"{subnet}.{host}", 24) for host in (2, 3)] if kind == "answers" else []
            station = self.maker.station(f"end{number}.{port}", HOP_MAC + 16 * number + port, device, latency, addresses)
            self.doors.append((station.device, "inject", own))
            do("set_device", station.device, capture=rng.random() < 0.3)
            if addresses:
                do("add_route", station.namespace, bytes(4), 0, via=packed(f"{subnet}.1"))
        self.doors.append((device, "receive", own))
        for host in (2, 3, 4, 5):
            address = packed(f"{subnet}.{host}")
            self.hops.append((router, device, address))
            self.targets.append(address)
            if kind != "answers" or rng.random() < 0.5:
                do("add_neighbour", device, address, mac(HOP_MAC + 16 * number + port), permanent=rng.random() < 0.8)
        do("set_device", device, capture=rng.random() < 0.3)

    # ---- what happens

    def route(self, router: int) -> list[Call]:
        """A route, or several of one prefix."""
        rng = self.rng
        network, length = rng.choice(self.networks), rng.choice((8, 16, 22, 24, 24, 28, 32, 32, 0))
        prefix = (int.from_bytes(network) >> (32 - length) << (32 - length)).to_bytes(4) if length < 32 else network[:3] + b"\x07"
        self.prefixes.append((prefix, length))
        kwargs: dict[str, Any] = {"metric": rng.choice((0, 0, 0, 7)), "replace": rng.random() < 0.7}
        if rng.random() < 0.12:
            kwargs["kind"] = rng.choice(("blackhole", "unreachable", "prohibit", "throw"))
            return [Call("add_route", (router, prefix, length), kwargs)]
        _, device, via = rng.choice([hop for hop in self.hops if hop[0] == router])
        if rng.random() < 0.1:
            return [Call("add_route", (router, prefix, length), kwargs | {"dev": device})]
        if rng.random() < 0.1:
            via = packed("169.254.1.1")
            neighbour = Call("add_neighbour", (device, via, mac(HOP_MAC + 99)))
            return [neighbour, Call("add_route", (router, prefix, length), kwargs | {"via": via, "dev": device, "onlink": True})]
        kwargs |= {"via": via, "dev": device, "mtu": rng.choice((0, 0, 0, 600)), "mtu_lock": rng.random() < 0.1}
        return [Call("add_route", (router, prefix, length), kwargs)]

    def change(self) -> list[Call]:
        """Something about a router, a port, a neighbour or what is told."""
        rng = self.rng
        router, device, port = rng.choice(self.ports)
        name, values = rng.choice(SETTINGS)
        name = name.replace("eth1", f"eth{port}")
        setting, state = rng.choice(values), rng.choice(("up", "capture", "filters_too_big", "wire"))
        self.repairs.append(Call("set_sysctl", (router, name, values[-1] if "forward" in name else values[0])))
        self.repairs.append(Call("set_device", (device,), {"up": True, "filters_too_big": False}))
        self.repairs.append(Call("set_rules", (router, 4, "filter", [Chain(name, "ACCEPT", []) for name in FILTER])))
        self.repairs.append(Call("trace", (rng.random() < 0.5,), {"changes": True}))
        _, beside, hop = rng.choice(self.hops)
        taken = rng.choice(USUAL_SOURCES)
        chains = [Chain(name, "ACCEPT", [{"proto": 132, "target": "DROP"}] if rng.random() < 0.5 else []) for name in FILTER]
        tracked = [Chain(name, "ACCEPT", [{"ctstate": 2, "target": "ACCEPT"}] if name == "FORWARD" else []) for name in FILTER]
        choices: list[Callable[[], list[Call]]] = [
            lambda: self.route(router),
            lambda: [Call("del_route", (router, rng.choice(self.networks), 24))],
            *[lambda: [Call("set_sysctl", (router, name, setting))]] * 4,
            lambda: [Call("add_neighbour", (beside, hop, mac(HOP_MAC + rng.randrange(64))), {"permanent": rng.random() < 0.8})],
            lambda: [Call("del_neighbour", (beside, hop))],
            lambda: [Call("flush", (router, rng.choice(("neighbours", "exceptions"))))],
            lambda: [Call("set_device", (device,), {state: rng.random() < 0.6})],
            lambda: [Call("set_device", (device,), {"mtu": rng.choice((600, 900, 1500))})],
            lambda: [Call("set_device", (device,), {"mac": mac(0x999)})],
            lambda: [Call("add_address", (device, packed(taken), 32))],
            lambda: [Call("del_address", (device, packed(taken), 32))],
            lambda: [Call("trace", (rng.random() < 0.5,), {"changes": rng.random() < 0.7})],
            lambda: [Call("set_rules", (router, 4, "filter", tracked if rng.random() < 0.1 else chains))],
            lambda: [Call("set_device", (each,), {"capture": rng.random() < 0.3}) for each, _, _ in self.doors],
        ]
        return rng.choice(choices)()

    def target(self) -> str:
        rng = self.rng
        if rng.random() < 0.15:
            return text_of(rng.choice(self.targets))
        prefix, length = rng.choice(self.prefixes) if rng.random() < 0.8 else (rng.choice(self.networks), 24)
        beyond = rng.choice((1, 7, 9, 200, rng.randrange(1 << 24))) & (0xFFFFFFFF >> length)
        return text_of((int.from_bytes(prefix) | beyond | (0 if prefix[0] else 20 << 24)).to_bytes(4))

    def frame(self, door_mac: bytes) -> bytes:
        """An ordinary one; two in five are odd in some way."""
        rng = self.rng
        odd = rng.random() < 0.4
        size = rng.choice((0, 8, 18, 26, 200, 580, 872, 1400, 1480 if odd else 400))
        source, target, ttl = rng.choice(USUAL_SOURCES), self.target(), rng.choice((64, 64, 2, 255))
        kind = rng.randrange(12) if odd else -1
        if kind == 0:
            source = rng.choice((*ODD_SOURCES, *self.own))
        elif kind == 1:
            target = rng.choice((*ODD_TARGETS, *self.own))
        elif kind == 2:
            ttl = rng.choice((0, 1))
        header: dict[str, Any] = {"proto": rng.choice((17, 6, 1, 50)), "ttl": ttl, "tos": rng.choice((0, 0, 0xB8, 1))}
        header["ident"] = rng.randrange(1 << 16)
        header["fragment"] = rng.choice((0, 0x4000, 0x4000, 0x8000)) if kind != 3 else rng.choice((0x2000, 0x2005, 5, 0x6000))
        if kind == 4:
            header["options"] = rng.choice((bytes([1] * 4), b"\x94\x04\0\0", b"\x07\x07\x04\0\0\0\0\0", b"\x44\x08\x05\0\0\0\0\0"))
        frame = ether(ipv4(rng.randbytes(size), src=source, dst=target, bad_checksum=kind == 5, **header), dst=door_mac, src=mac(0x777))
        return self._bent(frame, kind)

    def _bent(self, frame: bytes, kind: int) -> bytes:
        rng = self.rng
        if kind == 6:
            return frame[: rng.randrange(14, len(frame))]
        if kind == 7:
            return frame + bytes(rng.randrange(1, 30))
        if kind == 8:
            return frame[:12] + rng.choice((b"\x81\0\0\x05", b"\x81\0\0\0", b"\x88\xa8\0\x01")) + frame[12:]
        if kind == 9:
            return rng.choice((b"\xff" * 6, b"\x01\0\x5e\0\0\x01", mac(0x555))) + frame[6:]
        if kind == 10:
            return broken.fixed(frame[:14] + bytes([rng.choice((0x44, 0x46, 0x65, 0x4F))]) + frame[15:])
        if kind == 11:
            head = frame[14:16] + rng.choice((0, 19, 20, 21, len(frame) - 13, 65535)).to_bytes(2) + frame[18:24] + b"\0\0" + frame[26:34]
            return frame[:14] + head[:10] + checksum(head).to_bytes(2) + head[12:] + frame[34:]
        return frame

    def burst(self, now: int) -> Burst:
        """Up to 80 frames, some of them to the same flow again, by one door or several."""
        rng = self.rng
        how = rng.choice(("inject", "inject", "inject", "receive"))
        doors = [door for door in self.doors if door[1] == how]
        if rng.random() < 0.5:
            doors = [rng.choice(doors)]
        gap = rng.choice((0, 0, 70, 6_000, 2_000_000))
        frames: list[Given] = []
        for number in range(rng.choice((1, 5, 33, 80))):
            device, _, own = rng.choice(doors)
            data = rng.choice(frames).data if frames and rng.random() < 0.2 else self.frame(own)
            frames.append(Given(now + number * gap, device, data))
        return Burst(tuple(frames), how)

    def step(self, now: int) -> list[Step]:
        """What is to be done next."""
        if self.repairs and self.rng.random() < 0.4:
            repairs, self.repairs = self.repairs, []
            return list(repairs)
        if self.rng.random() < 0.3:
            return list(self.change())
        if self.rng.random() < 0.1:
            return [Call("run", (now + self.rng.choice((1_000_000, 40_000_000, 6_000_000_000)),))]
        return [self.burst(now)]
