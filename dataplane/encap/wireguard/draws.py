"""What the kernel takes from its random generator, drawn by hashing: emulation only, for anybody can compute these keys."""

from __future__ import annotations

from hashlib import blake2s

_JITTER_STEPS = 333  # REKEY_TIMEOUT_JITTER_MAX_JIFFIES: up to a third of a second
_MILLISECOND = 1_000_000


class Draws:
    """A device's draws: each is a hash of its private key, virtual time, what it is for, and how many there were before."""

    def __init__(self, private_key: bytes) -> None:
        self._key = private_key
        self._count = 0

    def draw(self, purpose: bytes, size: int, now: int) -> bytes:
        """``size`` bytes, at most 32."""
        self._count += 1
        subject = now.to_bytes(8, "big", signed=True) + self._count.to_bytes(8, "big") + purpose
        return blake2s(subject, key=self._key, digest_size=size).digest()

    def index(self, now: int) -> int:
        """32 bits by which a peer names a handshake or a session."""
        return int.from_bytes(self.draw(b"index", 4, now), "big")

    def jitter(self, now: int) -> int:
        """Nanoseconds added to a timer, so that two peers do not stay in step."""
        return int.from_bytes(self.draw(b"jitter", 4, now), "big") % _JITTER_STEPS * _MILLISECOND
