"""What the kernel lets us see: frames on every interface of a namespace, and why it dropped packets."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from . import netns

# linux/if_packet.h
PACKET_RX_RING = 5
PACKET_VERSION = 10
SOL_PACKET = 263
TPACKET_V2 = 1
TP_STATUS_USER = 1
ETH_P_ALL = 3
PACKET_OUTGOING = 4
# tpacket2_hdr: status, len, snaplen, mac, net, sec, nsec; the sockaddr_ll follows at the next multiple of 16
HEADER = struct.Struct("IIIHHII")
ADDRESS = struct.Struct("HHiHB")
ADDRESS_AT = 32

TRACEFS = "/sys/kernel/tracing"

SLOT = 4096  # holds a frame of the largest MTU here (1500) and the header
SLOTS = 512


@dataclass(frozen=True)
class Seen:
    """One frame as a packet socket saw it."""

    time: float  # seconds
    ns: str
    iface: str
    outgoing: bool
    data: bytes

    @property
    def place(self) -> tuple[str, str, str]:
        return self.ns, self.iface, "out" if self.outgoing else "in"


class Tap:
    """All frames of a namespace in a ring that the kernel fills: it copies at tap time, so later rewriting in place is not seen."""

    def __init__(self, name: str, label: str) -> None:
        self.label = label
        self.slot = 0
        with netns.entered(name):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.names = dict(socket.if_nameindex())
            self.sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            self.sock.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("IIII", SLOT * 16, SLOTS // 16, SLOT, SLOTS))
            self.ring = mmap.mmap(self.sock.fileno(), SLOT * SLOTS)

    def read(self) -> Iterator[Seen]:
        while True:
            at = self.slot * SLOT
            status, _, kept, mac, _, seconds, nanoseconds = HEADER.unpack_from(self.ring, at)
            if not status & TP_STATUS_USER:
                return
            _, _, index, _, kind = ADDRESS.unpack_from(self.ring, at + ADDRESS_AT)
            seen = Seen(
                seconds + nanoseconds / 1e9,
                self.label,
                self.names.get(index, str(index)),
                kind == PACKET_OUTGOING,
                self.ring[at + mac : at + mac + kept],
            )
            struct.pack_into("I", self.ring, at, 0)
            self.slot = (self.slot + 1) % SLOTS
            yield seen

    def close(self) -> None:
        self.ring.close()
        self.sock.close()


def instances() -> list[str]:
    """Names of all traces, of any process."""
    with contextlib.suppress(OSError):
        return sorted(os.listdir(f"{TRACEFS}/instances"))
    return []


def remove_instance(name: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(f"{TRACEFS}/instances/{name}")


class DropTrace:
    """The tracepoint skb:kfree_skb for packets that this process caused. Says nothing where tracefs is not to be had."""

    def __init__(self) -> None:
        if not os.path.exists(f"{TRACEFS}/instances"):
            subprocess.run(["mount", "-t", "tracefs", "nodev", TRACEFS], capture_output=True, check=False)
        self.folder = f"{TRACEFS}/instances/dp{os.getpid()}"
        self.pipe = -1
        with contextlib.suppress(OSError):
            os.makedirs(self.folder, exist_ok=True)
            self._write("set_event_pid", str(os.getpid()))
            self._write("events/skb/kfree_skb/enable", "1")
            self.pipe = os.open(f"{self.folder}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _write(self, name: str, text: str) -> None:
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)

    def read(self) -> list[str]:
        """``REASON@function`` for each packet freed since the last call, in order."""
        text = b""
        with contextlib.suppress(OSError):  # EAGAIN: nothing more; EBADF: no tracefs
            while chunk := os.read(self.pipe, 65536):
                text += chunk
        lines = re.findall(r"protocol=(\d+) location=([^\s+]+)\S* reason: (\S+)", text.decode())
        return [f"{reason}@{where}" for protocol, where, reason in lines if protocol != "0" and not where.startswith(("netlink", "unix"))]

    def close(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self._write("events/skb/kfree_skb/enable", "0")
            remove_instance(os.path.basename(self.folder))
