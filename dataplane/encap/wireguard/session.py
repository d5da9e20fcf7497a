"""Sessions: the keys of a finished handshake, their counters and their order (drivers/net/wireguard/noise.c, receive.c)."""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND = 1_000_000_000
REKEY_AFTER_MESSAGES = 1 << 60
REKEY_AFTER_TIME = 120 * SECOND
REJECT_AFTER_TIME = 180 * SECOND
REKEY_TIMEOUT = 5 * SECOND
KEEPALIVE_TIMEOUT = 10 * SECOND
WINDOW = 8192 - 64  # messages (COUNTER_WINDOW_SIZE on 64-bit machines)
REJECT_AFTER_MESSAGES = (1 << 64) - 1 - WINDOW - 1


class ReplayWindow:
    """Which counters were seen (RFC 6479 as counter_validate() has it)."""

    __slots__ = ("_next", "_seen")

    def __init__(self) -> None:
        self._next = 0  # the highest counter seen, plus one
        self._seen = 0  # bit n: the counter n below the highest

    def accept(self, counter: int) -> bool:
        """False: it was seen before, lies too far back, or is beyond the limit of a session."""
        if counter >= REJECT_AFTER_MESSAGES or counter + 1 + WINDOW < self._next:
            return False
        ahead = counter + 1 - self._next
        if ahead > 0:
            self._seen = 1 if ahead > WINDOW else (self._seen << ahead | 1) & ((2 << WINDOW) - 1)
            self._next = counter + 1
            return True
        bit = 1 << -ahead
        seen = bool(self._seen & bit)
        self._seen |= bit
        return not seen


@dataclass(slots=True, eq=False)
class Keypair:
    """The keys of one session."""

    sending_key: bytes
    receiving_key: bytes
    local_index: int
    remote_index: int
    initiator: bool
    born: int
    counter: int = 0  # of the next message
    may_send: bool = True
    may_receive: bool = True
    window: ReplayWindow = field(default_factory=ReplayWindow)

    def age(self, now: int) -> int:
        return now - self.born

    def can_send(self, now: int) -> bool:
        """False from then on once it is too old or has sent too much (wg_packet_send_staged_packets())."""
        self.may_send = self.may_send and self.age(now) < REJECT_AFTER_TIME and self.counter < REJECT_AFTER_MESSAGES
        return self.may_send

    def can_receive(self, now: int) -> bool:
        """False from then on once it is too old (decrypt_packet())."""
        self.may_receive = self.may_receive and self.age(now) < REJECT_AFTER_TIME
        return self.may_receive

    def wants_rekey_after_sending(self, now: int) -> bool:
        """keep_key_fresh() of send.c."""
        old = self.initiator and self.age(now) >= REKEY_AFTER_TIME
        return self.may_send and (self.counter > REKEY_AFTER_MESSAGES or old)

    def wants_rekey_after_receiving(self, now: int) -> bool:
        """keep_key_fresh() of receive.c: the last minute, for who only receives."""
        return self.may_send and self.initiator and self.age(now) >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT


@dataclass(slots=True)
class Keypairs:
    """The sessions of one peer: ``next`` is a responder's until the initiator has used it."""

    current: Keypair | None = None
    previous: Keypair | None = None
    next: Keypair | None = None

    def all(self) -> list[Keypair]:
        return [keypair for keypair in (self.current, self.previous, self.next) if keypair is not None]

    def add(self, new: Keypair) -> None:
        """add_new_keypair()."""
        if not new.initiator:
            self.next, self.previous = new, None
            return
        self.previous = self.next or self.current
        self.current, self.next = new, None

    def confirm(self, keypair: Keypair) -> bool:
        """A message came inside ``keypair``: True if that makes it the current one (wg_noise_received_with_keypair())."""
        if keypair is not self.next:
            return False
        self.previous, self.current, self.next = self.current, keypair, None
        return True

    def clear(self) -> None:
        self.current = self.previous = self.next = None
