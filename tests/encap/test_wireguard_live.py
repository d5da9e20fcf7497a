"""Our device and a WireGuard that others wrote (wireguard-go, in a network namespace), in both directions."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from dataplane.encap.python_plugin import Incoming, Outgoing, Refused
from dataplane.encap.wireguard.device import WireGuard
from dataplane.encap.wireguard.noise import public_key
from encap.wireguard_world import COOKIE, IPV4, IPV6, KEY, PSK, SECOND, config
from kernel import netns

pytestmark = pytest.mark.kernel

OUR_PORT, THEIR_PORT = 51820, 51821
LOOPBACK = bytes([127, 0, 0, 1])
PATIENCE = 15.0  # seconds until an answer counts as missing


class Ours:
    """Our device on a real socket; its virtual time stands still unless a test moves it."""

    def __init__(self, sock: socket.socket, *, under_load: int = 0) -> None:
        self.sock = sock
        self.now = 1_700_000_000 * SECOND
        self.cookies = 0
        allowed = "10.9.0.2/32, fd00:9::2/128"
        written = config(KEY["left"], public_key(KEY["right"]), endpoint=f"127.0.0.1:{THEIR_PORT}", allowed=allowed, psk=PSK)
        self.device = WireGuard({"config": written, "under_load": under_load}, self)

    def send(self, outer: Outgoing, payload: bytes) -> None:
        if payload[8] == COOKIE:
            self.cookies += 1
        self.sock.sendto(payload[8:], ("127.0.0.1", THEIR_PORT))

    def receive(self, incoming: Incoming, inner: bytes) -> None:
        raise AssertionError("WireGuard hands inner packets over as results")

    def wake(self, at: int) -> None:
        pass

    def add_secret(self, kind: int, data: bytes) -> None:
        pass

    def transmit(self, inner: bytes) -> None:
        outer = Outgoing(self.now, LOOPBACK, LOOPBACK, inner_protocol=IPV4 if inner[0] >> 4 == 4 else IPV6)
        datagram = self.device.push(outer, inner)
        if datagram is not None:
            self.send(outer, datagram)
        self.device.timer(self.now)

    def receive_packet(self) -> bytes:
        """The next inner packet, whatever else comes before it."""
        while True:
            message, (_, port) = self.sock.recvfrom(65535)
            datagram = bytes(UDP(sport=port, dport=OUR_PORT) / Raw(message))
            try:
                inner = self.device.pop(Incoming(self.now, LOOPBACK, LOOPBACK), datagram)
            except Refused as refusal:
                assert str(refusal) == "cookie_demanded"
                continue
            if inner is not None and not is_chatter(inner):
                return inner


def is_chatter(inner: bytes) -> bool:
    """What a Linux machine says of its own accord on a new interface."""
    return inner[0] >> 4 == 6 and ICMPv6EchoReply not in IPv6(inner) and UDP not in IPv6(inner)


@pytest.fixture
def namespace() -> Iterator[str]:
    """With wireguard-go on it: 10.9.0.2 and fd00:9::2 inside, peer of our device."""
    missing = [tool for tool in ("wireguard-go", "ip") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip(f"needs root, /dev/net/tun and {', '.join(missing) or 'nothing else'} (packages wireguard-go, iproute2)")
    name, device = f"dp{os.getpid()}-wg", f"dpwg{os.getpid() % 10000}"
    with ExitStack() as stack:
        subprocess.run(["ip", "netns", "add", name], check=True)
        stack.callback(netns.remove, name)
        with netns.entered(name):
            command = ["wireguard-go", "-f", device]
            peer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(peer.wait)
        stack.callback(peer.terminate)
        configure(Path("/var/run/wireguard") / f"{device}.sock")
        netns.batch(
            name,
            "ip",
            ["link set lo up", f"addr add 10.9.0.2/24 dev {device}", f"addr add fd00:9::2/64 dev {device} nodad", f"link set {device} up"],
        )
        yield name


def configure(path: Path) -> None:
    """Through wireguard-go's configuration protocol (https://www.wireguard.com/xplatform/)."""
    for _ in range(int(PATIENCE / 0.05)):
        if path.exists():
            break
        time.sleep(0.05)
    settings = {
        "private_key": KEY["right"].hex(),
        "listen_port": THEIR_PORT,
        "public_key": public_key(KEY["left"]).hex(),
        "preshared_key": PSK.hex(),
        "endpoint": f"127.0.0.1:{OUR_PORT}",
    }
    lines = [f"{key}={value}" for key, value in settings.items()] + ["allowed_ip=10.9.0.1/32", "allowed_ip=fd00:9::1/128"]
    with closing(socket.socket(socket.AF_UNIX)) as control:
        control.connect(str(path))
        control.sendall(("set=1\n" + "\n".join(lines) + "\n\n").encode())
        assert control.recv(100) == b"errno=0\n\n"


@pytest.fixture
def sock(namespace: str) -> Iterator[socket.socket]:
    with netns.entered(namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(opened):
        opened.bind(("127.0.0.1", OUR_PORT))
        opened.settimeout(PATIENCE)
        yield opened


def test_it_answers_our_handshake_and_our_packets(sock: socket.socket) -> None:
    ours = Ours(sock)
    for number in range(3):
        ours.transmit(bytes(IP(src="10.9.0.1", dst="10.9.0.2") / ICMP(id=7, seq=number) / Raw(b"x" * (500 * number))))
        answer = IP(ours.receive_packet())
        assert (answer.src, answer[ICMP].type, answer[ICMP].seq, len(answer[ICMP].payload)) == ("10.9.0.2", 0, number, 500 * number)
    ours.transmit(bytes(IPv6(src="fd00:9::1", dst="fd00:9::2") / ICMPv6EchoRequest(id=7, data=b"six")))
    assert IPv6(ours.receive_packet())[ICMPv6EchoReply].data == b"six"


@pytest.mark.parametrize("under_load", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_we_answer_its_handshake_and_its_packets(sock: socket.socket, namespace: str, under_load: int) -> None:
    """Under load its first initiation gets a cookie, which the one that follows bears."""
    ours = Ours(sock, under_load=under_load)
    with netns.entered(namespace):
        application = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(application):
        application.bind(("10.9.0.2", 5000))
        application.settimeout(PATIENCE)
        application.sendto(b"question", ("10.9.0.1", 6000))
        asked = IP(ours.receive_packet())
        assert (asked.src, asked[UDP].dport, bytes(asked[UDP].payload)) == ("10.9.0.2", 6000, b"question")
        ours.transmit(bytes(IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=6000, dport=5000) / Raw(b"answer")))
        assert application.recvfrom(100) == (b"answer", ("10.9.0.1", 6000))
    assert ours.cookies == under_load
