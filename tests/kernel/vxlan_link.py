"""A namespace with the kernel's own vxlan device, whose datagrams come and go on the other end of a veth pair."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

from . import netns

UNDERLAY = {4: ("192.0.2.1", "192.0.2.2", 24), 6: ("2001:db8::1", "2001:db8::2", 64)}
LOCAL = {family: ip_address(ends[0]).packed for family, ends in UNDERLAY.items()}
REMOTE = {family: ip_address(ends[1]).packed for family, ends in UNDERLAY.items()}
NEAR_MAC, FAR_MAC, TUNNEL_MAC = (bytes((2, 0, 0, 0, 0, last)) for last in (0x21, 0x22, 0x07))
OUTER_TYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
IP_HEADER = {4: 20, 6: 40}
ETH_HLEN, ETH_P_ALL = 14, 3
PATIENCE_S = 5.0  # a frame that has not come by then never will


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


class Link:
    """One namespace; ``device`` makes a tunnel device in it for as long as it is looked at."""

    def __init__(self) -> None:
        self.name = f"dp{os.getpid()}-vxlan"
        netns.remove(self.name)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        netns.run(self.name, "sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.default.router_solicitations=0")
        lines = [f"link add v0 address {mac_text(NEAR_MAC)} type veth peer name v1"]
        lines += ["link set lo up", "link set v0 up", "link set v1 up arp off"]
        for near, far, prefix in UNDERLAY.values():
            lines += [f"addr add {near}/{prefix} dev v0 nodad", f"neigh add {far} lladdr {mac_text(FAR_MAC)} dev v0"]
        netns.batch(self.name, "ip", lines)
        netns.offloads_off(self.name)
        self.far = self.open("v1")

    def open(self, device: str) -> socket.socket:
        """A packet socket on the device."""
        with netns.entered(self.name):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        opened.bind((device, ETH_P_ALL))
        opened.settimeout(PATIENCE_S)
        return opened

    @contextlib.contextmanager
    def device(self, family: int, arguments: str, ends: str = "") -> Iterator[socket.socket]:
        """A packet socket on a vxlan device made with these words of ip-link(8); ``ends``: instead of id 7 and the far end."""
        near, far, _ = UNDERLAY[family]
        add = f"link add vx0 type vxlan {ends or f'id 7 remote {far}'} local {near} dev v0 {arguments}"
        address = [] if "gpe" in arguments else [f"link set vx0 address {mac_text(TUNNEL_MAC)}"]  # without frames it has no MAC
        try:
            netns.batch(self.name, "ip", [add, *address, "link set vx0 up"])
            with contextlib.closing(self.open("vx0")) as opened:
                yield opened
        finally:
            subprocess.run(["ip", "-n", self.name, "link", "del", "vx0"], capture_output=True, check=False)

    def sent(self, family: int, port: int) -> bytes:
        """The next outer IP packet to this UDP port that leaves for the far end."""
        while True:
            frame = self.far.recv(65536)
            at = ETH_HLEN + IP_HEADER[family]
            if frame[12:14] == OUTER_TYPE[family] and frame[at + 2 : at + 4] == port.to_bytes(2, "big"):
                return frame[ETH_HLEN:]

    def arrive(self, family: int, packet: bytes) -> None:
        """An outer IP packet comes from the far end."""
        self.far.send(NEAR_MAC + FAR_MAC + OUTER_TYPE[family] + packet)

    def close(self) -> None:
        self.far.close()
        netns.remove(self.name)


def received_before(device: socket.socket, last: bytes) -> list[bytes]:
    """Frames that the kernel received on the device, until ``last`` came."""
    frames: list[bytes] = []
    while True:
        frame, address = device.recvfrom(65536)
        if address[2] == socket.PACKET_OUTGOING:
            continue
        if frame == last:
            return frames
        frames.append(frame)
