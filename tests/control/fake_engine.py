"""An engine that carries nothing and remembers what it was told, as the lines that ip(8) and bridge(8) would print."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

UNKNOWN_SYSCTL = "net.ipv4.conf.all.unknown_setting"


@dataclass
class FakeDevice:
    namespace: int
    name: str
    kind: str
    mac: str
    mtu: int
    params: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    peer: int = -1
    latency: int = 0
    addresses: list[str] = field(default_factory=list)
    origins: dict[str, int] = field(default_factory=dict)  # of addresses
    neighbours: list[str] = field(default_factory=list)
    proxies: list[str] = field(default_factory=list)
    fdb: list[str] = field(default_factory=list)


class FakeEngine:
    """The methods of ``dataplane._core.Engine`` that control calls."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.all_devices: list[FakeDevice] = []
        self.all_routes: dict[int, list[str]] = {}
        self.sysctls: dict[tuple[int, str], int] = {}
        self.sysctl_order: list[str] = []
        self.rules: dict[tuple[int, int, str], list[Any]] = {}
        self.flushed: list[tuple[int, str]] = []
        self.route_origins: dict[tuple[int, str], int] = {}

    # ---- what tests ask
    def device(self, name: str) -> FakeDevice:
        """Of ``node1/eth0``."""
        owner, _, device = name.rpartition("/")
        return self.all_devices[self.find_device(self.names.index(owner), device)]

    def routes_of(self, namespace: str) -> list[str]:
        return list(self.all_routes[self.names.index(namespace)])

    def sysctl(self, namespace: str, name: str) -> int | None:
        return self.sysctls.get((self.names.index(namespace), name))

    def devices_of(self, namespace: str) -> list[str]:
        return [device.name for device in self.all_devices if self.names[device.namespace] == namespace]

    # ---- what control calls
    def add_namespace(self, name: str) -> int:
        self.names.append(name)
        self.all_routes[len(self.names) - 1] = []
        lo = self.add_device(len(self.names) - 1, "lo", "lo", mac=bytes(6), mtu=65536)
        self.add_address(lo, ip_address("::1").packed, 128)
        return len(self.names) - 1

    def add_device(self, ns: int, name: str, kind: str, *, mac: bytes, mtu: int, up: bool = True, number: int = -1, **params: Any) -> int:
        if self.find_device(ns, name) >= 0:
            raise ValueError(f"{name} exists")
        self.all_devices.append(FakeDevice(ns, name, kind, mac.hex(":"), mtu, params, {"up": up}))
        return len(self.all_devices) - 1

    def find_device(self, ns: int, name: str) -> int:
        found = [number for number, device in enumerate(self.all_devices) if (device.namespace, device.name) == (ns, name)]
        return found[0] if found else -1

    def connect(self, a: int, b: int, *, latency: int = 0) -> None:
        for one, other in ((a, b), (b, a)):
            self.all_devices[one].peer, self.all_devices[one].latency = other, latency

    def set_device(self, dev: int, **settings: Any) -> None:
        self.all_devices[dev].settings |= settings

    def set_sysctl(self, ns: int, name: str, value: int) -> None:
        if name == UNKNOWN_SYSCTL:
            raise KeyError(name)
        self.sysctls[ns, name] = value
        self.sysctl_order.append(name)

    def get_sysctl(self, ns: int, name: str) -> int:
        return self.sysctls.get((ns, name), self.sysctls.get((ns, ".".join([*name.split(".")[:3], "all", name.split(".")[-1]])), 0))

    def devices(self, ns: int) -> list[dict[str, Any]]:
        return [self._described(number) for number, device in enumerate(self.all_devices) if device.namespace == ns]

    def _described(self, number: int) -> dict[str, Any]:
        device = self.all_devices[number]
        found = {"id": number, "name": device.name, "kind": device.kind, "mac": bytes.fromhex(device.mac.replace(":", ""))}
        addresses = [ip_interface(line.split()[0]) for line in device.addresses]
        listed = [{"address": a.packed, "prefix_len": a.network.prefixlen, "origin": device.origins[str(a)]} for a in addresses]
        ethernet = device.kind == "lo" or device.mac != "00:00:00:00:00:00"
        return found | {"mtu": device.mtu, "master": -1, "ethernet": ethernet} | device.settings | {"addresses": listed}

    def routes(self, ns: int) -> list[dict[str, Any]]:
        """Those that were added, as far as taking a device's IPv6 away needs them."""
        found = []
        for line in self.all_routes[ns]:
            words = line.split()
            network = ip_network(words[0] if "/" in words[0] else words[1])
            device = self.find_device(ns, words[words.index("dev") + 1]) if "dev" in words else -1
            metric = int(words[words.index("metric") + 1]) if "metric" in words else 0
            prefix = {"prefix": network.network_address.packed, "prefix_len": network.prefixlen}
            found.append(prefix | {"kind": words[0] if "/" not in words[0] else "unicast", "dev": device, "metric": metric})
        return found

    def add_address(self, dev: int, address: bytes, prefix_len: int, *, broadcast: bytes | None = None, origin: int = 0) -> None:
        brd = f" brd {ip_address(broadcast)}" if broadcast else ""
        self.all_devices[dev].addresses.append(f"{ip_address(address)}/{prefix_len}{brd}")
        self.all_devices[dev].origins[f"{ip_address(address)}/{prefix_len}"] = origin

    def del_address(self, dev: int, address: bytes, prefix_len: int) -> None:
        self.all_devices[dev].addresses.remove(f"{ip_address(address)}/{prefix_len}")

    def add_route(self, ns: int, prefix: bytes, prefix_len: int, *, kind: str = "unicast", via: bytes | None = None, dev: int = -1,
                  onlink: bool = False, metric: int = 0, src: bytes | None = None, mtu: int = 0, mtu_lock: bool = False,
                  scope: int = -1, replace: bool = False, origin: int = 0) -> None:  # fmt: skip
        network = f"{ip_address(prefix)}/{prefix_len}"
        if replace:
            self.all_routes[ns] = [route for route in self.all_routes[ns] if network not in route.split()[:2]]
        elif any(network in route.split()[:2] for route in self.all_routes[ns]):
            raise ValueError("exists")
        words = [kind] if kind != "unicast" else []
        words += [network]
        words += [f"via {ip_address(via)}"] if via else []
        words += [f"dev {self.all_devices[dev].name}"] if dev >= 0 else []
        words += ["scope link"] if scope == 253 else []
        words += ["onlink"] if onlink else []
        words += [f"metric {metric}"] if metric else []
        words += [f"src {ip_address(src)}"] if src else []
        words += [f"mtu {'lock ' if mtu_lock else ''}{mtu}"] if mtu else []
        self.all_routes[ns].append(" ".join(words))
        self.route_origins[ns, network] = origin

    def del_route(self, ns: int, prefix: bytes, prefix_len: int, *, kind: str | None = None, via: bytes | None = None, dev: int = -1,
                  metric: int = -1) -> bool:  # fmt: skip
        network = f"{ip_address(prefix)}/{prefix_len}"
        left = [route for route in self.all_routes[ns] if network not in route.split()[:2]]
        found = len(left) < len(self.all_routes[ns])
        self.all_routes[ns] = left
        return found

    def add_neighbour(self, dev: int, address: bytes, mac: bytes, *, permanent: bool = True, origin: int = 0) -> None:
        self.all_devices[dev].neighbours.append(f"{ip_address(address)} {mac.hex(':')}{'' if permanent else ' dynamic'}")

    def add_proxy(self, dev: int, address: bytes, *, origin: int = 0) -> None:
        self.all_devices[dev].proxies.append(str(ip_address(address)))

    def del_proxy(self, dev: int, address: bytes) -> bool:
        known = str(ip_address(address)) in self.all_devices[dev].proxies
        self.all_devices[dev].proxies = [line for line in self.all_devices[dev].proxies if line != str(ip_address(address))]
        return known

    def del_neighbour(self, dev: int, address: bytes) -> bool:
        before = self.all_devices[dev].neighbours
        self.all_devices[dev].neighbours = [line for line in before if line.split()[0] != str(ip_address(address))]
        return len(self.all_devices[dev].neighbours) < len(before)

    def add_fdb(self, dev: int, mac: bytes, *, local: bool = False, static: bool = True, dst: bytes | None = None, origin: int = 0) -> None:
        words = (
            [mac.hex(":")] + ([f"dst {ip_address(dst)}"] if dst else []) + (["local"] if local else []) + ([] if static else ["dynamic"])
        )
        self.all_devices[dev].fdb.append(" ".join(words))

    def del_fdb(self, dev: int, mac: bytes) -> bool:
        before = self.all_devices[dev].fdb
        self.all_devices[dev].fdb = [line for line in before if line.split()[0] != mac.hex(":")]
        return len(self.all_devices[dev].fdb) < len(before)

    def set_rules(self, ns: int, family: int, table: str, chains: list[Any]) -> None:
        self.rules[ns, family, table] = chains

    def flush(self, ns: int, what: str) -> None:
        self.flushed.append((ns, what))
