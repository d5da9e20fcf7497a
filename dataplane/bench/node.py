"""One node of a cluster, alone: what it sends to its pods or onto the underlay goes nowhere else, so that only its work is timed."""

from __future__ import annotations

from dataplane._core import Engine
from dataplane.bench.cluster import MEASURED, OTHER, Shape, client_name, objects
from dataplane.control.build import build
from dataplane.k8s import load_objects


class Node:
    """The measured node of a cluster of ``shape``, as the control plane builds it, and the ends that frames reach it from.

    ``clients`` are its pods' interfaces; ``wire`` is the switch's port that its uplink hangs on. Frames are captured nowhere.
    """

    def __init__(self, shape: Shape, seed: int, *, slow_path_only: bool = False) -> None:
        self.shape = shape
        self.engine = Engine(seed, slow_path_only=slow_path_only)
        self.topology = build(load_objects(objects(shape), "bench"), self.engine)
        machine, other = self.topology.endpoint(f"node/{MEASURED}"), self.topology.endpoint(f"node/{OTHER}")
        self.namespace, self.uplink, self.mac, self.other_mac = machine.namespace, machine.eth0, machine.mac, other.mac
        self.other = other.namespace
        self.clients = [self.topology.endpoint(f"pod/default/{client_name(number)}") for number in range(shape.clients)]
        for namespace in (*self.topology.machines, self.topology.switch):
            for device in self.topology.devices_of(namespace).values():
                self.engine.set_device(device, capture=False)
        self.wire = self._peer(self.uplink)
        self.engine.connect(self.uplink, self.wire, latency=0)
        self.ports = [self._peer(client.eth0) for client in self.clients]  # the node's ends of its pods' links
        for device in (self.uplink, *self.ports):
            self.engine.disconnect(device)

    def _peer(self, device: int) -> int:
        devices = self.engine.devices(self.topology.device_namespace(device))
        return int(next(each["peer"] for each in devices if each["id"] == device))

    def device_mac(self, namespace: int, name: str) -> bytes:
        """Of a device of the node or the other one."""
        return bytes(next(each["mac"] for each in self.engine.devices(namespace) if each["name"] == name))

    def watch(self, device: int, on: bool) -> None:
        """Capture a device's frames, or stop it."""
        self.engine.set_device(device, capture=on)

    def captured(self, device: int) -> list[bytes]:
        """What left by ``device`` since the last call."""
        return [frame.data for frame in self.engine.frames() if frame.device == device and frame.outgoing]
