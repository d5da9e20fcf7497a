"""What was built: which integer of the core is which node, pod, host, device or manifest line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.control.iptables import IptablesTables
from dataplane.errors import InputError
from dataplane.k8s.objects import IPAddress, Manifests, Origin

if TYPE_CHECKING:
    from dataplane.control.rule_books import Local
    from dataplane.control.sites import Sites

Firewall = dict[int, IptablesTables]
"""The iptables of one namespace by family, 4 or 6."""

NO_ORIGIN = Origin("", 0, "nothing written")


@dataclass(frozen=True, slots=True)
class Machine:
    """A node, a pod or a host of the underlay: a namespace with an ``eth0``."""

    namespace: int
    name: str  # as cases and captures write it: node1, p15, kube-system/dns, cl
    kind: str  # node | pod | host
    ref: str  # node/node1, pod/default/p15, host/cl
    eth0: int
    mac: bytes
    addresses: tuple[IPAddress, ...]
    origin: Origin


def first_origins() -> tuple[list[Origin], dict[Origin, int]]:
    return [NO_ORIGIN], {NO_ORIGIN: 0}


class Topology:
    """Names of everything in the core. Filled by ``build``; everybody else only reads.

    ``origins[n]`` is the origin that the core knows as ``n``; 0 is "nothing written". ``macs`` maps the
    address of every device with an address (packed, either family) to that device's MAC.
    """

    def __init__(self, manifests: Manifests) -> None:
        self.manifests = manifests
        # Of all worlds of the same manifests, which may have rules in common.
        self.origins, self._origin_ids = manifests.remembered("origins", first_origins)
        self.machines: dict[int, Machine] = {}
        self.switch = -1
        self.firewalls: dict[int, Firewall] = {}  # of those whose rules are not in ``books``, see ``firewall.firewall_of``
        self.books: dict[tuple[int, int], dict[str, Local]] = {}  # by namespace and family: tables that nodes have in common
        self.macs: dict[bytes, bytes] = {}
        self.warnings: list[str] = []
        self._namespaces: dict[int, str] = {}
        self._namespace_ids: dict[str, int] = {}
        self._devices: dict[int, tuple[int, str]] = {}
        self._bare: set[int] = set()
        self._gone: set[int] = set()  # devices that were there once
        self._adopted: set[int] = set()  # namespaces whose devices another world names too, in the same dictionary
        self._device_ids: dict[int, dict[str, int]] = {}
        self._refs: dict[str, Machine] = {}
        self.sites: Sites | None = None  # who makes nodes and pods when something concerns them; None: they were made at once
        self._described_macs: dict[bytes, bytes] = {}

    def follow(self, manifests: Manifests) -> None:
        """The cluster is another from now on, and origins keep their numbers."""
        manifests.memo["origins"] = self.origins, self._origin_ids
        self.manifests = manifests

    # ---- filled while building
    def origin_id(self, origin: Origin) -> int:
        """The integer that stands for ``origin`` in the core; the same one each time."""
        if origin not in self._origin_ids:
            self._origin_ids[origin] = len(self.origins)
            self.origins.append(origin)
        return self._origin_ids[origin]

    def add_namespace(self, namespace: int, name: str) -> None:
        self._namespaces[namespace] = name
        self._namespace_ids[name] = namespace
        self._device_ids[namespace] = {}

    def add_device(self, namespace: int, name: str, device: int, *, ethernet: bool = True) -> None:
        """``ethernet``: its frames begin with an Ethernet header, not with an IP header."""
        self._devices[device] = (namespace, name)
        self._own_devices(namespace)
        self._device_ids[namespace][name] = device
        if not ethernet:
            self._bare.add(device)

    def described_device(self, namespace: int, name: str) -> int:
        """The number of a device that is named already, -1: there is none. Machines may be named long before they are made."""
        return self._device_ids[namespace].get(name, -1)

    def machine(self, ref: str) -> Machine | None:
        """As ``endpoint``; None: there is none."""
        return self._refs.get(ref)

    def adopt(self, other: Topology) -> None:
        """Take all names of another world of the same manifests, in which nothing has been made by hand so far."""
        self.machines, self._refs = dict(other.machines), dict(other._refs)
        self._namespaces, self._namespace_ids = dict(other._namespaces), dict(other._namespace_ids)
        self._devices, self._device_ids, self._bare = dict(other._devices), dict(other._device_ids), set(other._bare)
        self._adopted = set(self._device_ids)

    def add_machine(self, machine: Machine) -> None:
        self.machines[machine.namespace] = machine
        self._refs[machine.ref] = machine
        if self._described_macs:
            self._described_macs |= {each.packed: machine.mac for each in machine.addresses}

    def forget_device(self, namespace: int, name: str) -> None:
        """It is gone; what the core still says of it keeps its name."""
        self._own_devices(namespace)
        self._gone.add(self._device_ids[namespace].pop(name))

    def _own_devices(self, namespace: int) -> None:
        """Their dictionary is about to change: let other worlds keep theirs."""
        if namespace in self._adopted:
            self._adopted.remove(namespace)
            self._device_ids[namespace] = dict(self._device_ids[namespace])

    def forget_machine(self, machine: Machine) -> None:
        """With its namespace and all devices."""
        for name in list(self._device_ids[machine.namespace]):
            self.forget_device(machine.namespace, name)
        del self.machines[machine.namespace], self._refs[machine.ref], self._namespace_ids[machine.name]
        self.firewalls.pop(machine.namespace, None)
        for address in machine.addresses:
            self.macs.pop(address.packed, None)
            self._described_macs.pop(address.packed, None)

    def forget_alias(self, ref: str) -> None:
        self._refs.pop(ref, None)

    def add_alias(self, ref: str, machine: Machine) -> None:
        """A pod on its node's network is reached as that node."""
        self._refs[ref] = machine

    @property
    def is_described(self) -> bool:
        """Machines are named, and made when something concerns them."""
        return self.sites is not None

    # ---- looked up
    def origin(self, number: int) -> Origin | None:
        """The origin behind an integer of the core; None for 0."""
        return self.origins[number] if number else None

    def has_namespace(self, name: str) -> bool:
        return name in self._namespace_ids

    def namespace_id(self, name: str) -> int:
        """``InputError`` for a name that no node, pod or host has."""
        if name not in self._namespace_ids:
            raise InputError(f"no node, pod or host is called {name!r}: write pods of namespace default as NAME, others as NAMESPACE/NAME")
        return self._namespace_ids[name]

    def namespace_name(self, namespace: int) -> str:
        return self._namespaces[namespace]

    def device_id(self, name: str) -> int:
        """Of ``node1/eth0`` or ``kube-system/dns/eth0``; ``InputError`` if there is none."""
        owner, _, device = name.rpartition("/")
        if not device or not owner:
            raise InputError(f"{name!r} is not an interface: write it as node1/eth0")
        namespace = self.namespace_id(owner)
        devices = self._device_ids[namespace]
        if device not in devices:
            raise InputError(f"{owner} has no interface {device!r}: it has {', '.join(devices)}")
        return devices[device]

    def has_device(self, name: str) -> bool:
        owner, _, device = name.rpartition("/")
        return device in self._device_ids.get(self._namespace_ids.get(owner, -1), {})

    def mac_of(self, address: bytes) -> bytes | None:
        """The MAC of the device that has this address (packed), or of the machine that will have it once it is made."""
        found = self.macs.get(address)
        if found is None and self.is_described:
            if not self._described_macs:
                self._described_macs = {each.packed: machine.mac for machine in self.machines.values() for each in machine.addresses}
            found = self._described_macs.get(address)
        return found

    def device_name(self, device: int) -> str:
        """``node1/eth0``."""
        namespace, name = self._devices[device]
        return f"{self._namespaces[namespace]}/{name}"

    def short_device_name(self, device: int) -> str:
        """``eth0``."""
        return self._devices[device][1]

    def has_ethernet(self, device: int) -> bool:
        """False: what is seen on it are IP packets, as on a tunnel that carries no Ethernet frames."""
        return device not in self._bare

    def device_namespace(self, device: int) -> int:
        return self._devices[device][0]

    def devices_of(self, namespace: int) -> dict[str, int]:
        """A namespace's devices by name, in the order they were made, ``lo`` first."""
        return dict(self._device_ids[namespace])

    def is_captured(self, device: int) -> bool:
        """Are frames captured on it? On a device that is gone they were."""
        return device in self._devices and self._devices[device][0] != self.switch

    def device_ids(self) -> list[int]:
        """Every device that frames are captured on: all but the underlay's switch."""
        return [device for device, (namespace, _) in self._devices.items() if namespace != self.switch and device not in self._gone]

    def endpoint(self, ref: str) -> Machine:
        """The machine behind ``pod/NAMESPACE/NAME``, ``node/NAME`` or ``host/NAME``; ``InputError`` if there is none."""
        machine = self._refs.get(ref)
        if machine is None:
            raise InputError(f"{ref}: {self._why_absent(ref)}")
        return machine

    def _why_absent(self, ref: str) -> str:
        kind, _, name = ref.partition("/")
        if kind == "pod":
            for pod in self.manifests.pods:
                if pod.key == name:
                    state = f"phase {pod.phase}, node {pod.node or 'none'}, {len(pod.addresses)} addresses"
                    return f"this pod ({pod.origin}) has no network: {state}"
        if kind == "host":
            for host in self.manifests.config.underlay.hosts:
                if host.name == name:
                    return f"this host is only an address behind {host.behind}: name that one"
        if kind not in ("pod", "node", "host"):
            return "write pod/NAMESPACE/NAME, node/NAME or host/NAME"
        known = [other for other in self._refs if other.startswith(f"{kind}/")]
        return f"there is no such {kind}: there are {', '.join(known[:8]) or 'none'}{' and more' if len(known) > 8 else ''}"
