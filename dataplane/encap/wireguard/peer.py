"""What a device remembers of a peer, and the peer's timers (drivers/net/wireguard/peer.h, timers.c)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from dataplane.encap.wireguard.config import Endpoint, PeerConfig
from dataplane.encap.wireguard.cookie import PeerCookie
from dataplane.encap.wireguard.noise import Transcript
from dataplane.encap.wireguard.session import KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_TIMEOUT, SECOND, Keypairs

MAX_STAGED_PACKETS = 128
MAX_HANDSHAKE_ATTEMPTS = 90 * SECOND // REKEY_TIMEOUT
INITIATION_INTERVAL = SECOND // 50  # the shortest between two from one peer


class Timer(IntEnum):
    """In the order in which those of one instant run."""

    INITIATE = 0  # behind a packet in hand; Linux has a work queue for it
    RETRANSMIT_HANDSHAKE = 1
    SEND_KEEPALIVE = 2
    NEW_HANDSHAKE = 3
    ZERO_KEYS = 4
    PERSISTENT_KEEPALIVE = 5


@dataclass(slots=True)
class Handshake:
    """An initiation that was sent and waits for its response."""

    local_index: int
    transcript: Transcript
    ephemeral: bytes  # private


@dataclass(slots=True)
class Staged:
    """A packet that waits for a session; empty: a keepalive."""

    packet: bytes
    tos: int
    number: int  # in traces


@dataclass(slots=True, eq=False)
class Peer:
    """One peer of a device."""

    number: int
    config: PeerConfig
    cookie: PeerCookie
    endpoint: Endpoint | None
    local: bytes | None = None  # our address on the way to the endpoint, as last seen
    keypairs: Keypairs = field(default_factory=Keypairs)
    handshake: Handshake | None = None
    staged: deque[Staged] = field(default_factory=deque)
    timers: dict[Timer, int] = field(default_factory=dict)
    attempts: int = 0
    last_sent_handshake: int | None = None
    last_initiation: int | None = None  # received
    latest_timestamp: bytes = b""
    need_another_keepalive: bool = False
    sent_lastminute_handshake: bool = False

    def stage(self, packet: Staged) -> None:
        """The oldest make room for the newest (wg_xmit())."""
        while len(self.staged) > MAX_STAGED_PACKETS:
            self.staged.popleft()
        self.staged.append(packet)

    def may_initiate(self, now: int) -> bool:
        return self.last_sent_handshake is None or self.last_sent_handshake + REKEY_TIMEOUT <= now

    def data_sent(self, now: int, jitter: int) -> None:
        """Somebody who stays silent from now on may have lost the session."""
        self.timers.setdefault(Timer.NEW_HANDSHAKE, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter)

    def data_received(self, now: int) -> None:
        """Who sends data expects some answer."""
        if Timer.SEND_KEEPALIVE in self.timers:
            self.need_another_keepalive = True
        else:
            self.timers[Timer.SEND_KEEPALIVE] = now + KEEPALIVE_TIMEOUT

    def any_sent(self, now: int) -> None:
        """Of data, keepalives and handshakes."""
        self.timers.pop(Timer.SEND_KEEPALIVE, None)
        self._traversal(now)

    def any_received(self, now: int) -> None:
        """Likewise, of authentic ones."""
        self.timers.pop(Timer.NEW_HANDSHAKE, None)
        self._traversal(now)

    def handshake_initiated(self, now: int, jitter: int) -> None:
        self.timers[Timer.RETRANSMIT_HANDSHAKE] = now + REKEY_TIMEOUT + jitter

    def handshake_complete(self) -> None:
        self.timers.pop(Timer.RETRANSMIT_HANDSHAKE, None)
        self.attempts = 0
        self.sent_lastminute_handshake = False

    def session_derived(self, now: int) -> None:
        self.timers[Timer.ZERO_KEYS] = now + REJECT_AFTER_TIME * 3

    def _traversal(self, now: int) -> None:
        if self.config.persistent_keepalive:
            self.timers[Timer.PERSISTENT_KEEPALIVE] = now + self.config.persistent_keepalive * SECOND
