"""Macs and cookies of handshake messages (drivers/net/wireguard/cookie.c; sections 5.3 and 5.4.4 to 5.4.7 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest

from dataplane.encap.python_plugin import Refused
from dataplane.encap.wireguard.messages import MAC_LENGTH, CookieReply
from dataplane.encap.wireguard.noise import Unauthentic, extended_key, seal_with_nonce, unseal_with_nonce

_SECOND = 1_000_000_000
SECRET_MAX_AGE = 120 * _SECOND
SECRET_LATENCY = 5 * _SECOND
PACKET_COST = _SECOND // 20  # of the rate limit: 20 handshakes a second from one address
BURST = 5


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s with 16 bytes of output."""
    return blake2s(data, key=key, digest_size=MAC_LENGTH).digest()


def mac1_key(public: bytes) -> bytes:
    return blake2s(b"mac1----" + public).digest()


def cookie_key(public: bytes) -> bytes:
    return blake2s(b"cookie--" + public).digest()


def seal_cookie(key: bytes, nonce: bytes, cookie: bytes, mac1: bytes) -> bytes:
    """XChaCha20-Poly1305 with a nonce of 24 bytes (draft-irtf-cfrg-xchacha-03 section 2.3)."""
    return seal_with_nonce(extended_key(key, nonce[:16]), bytes(4) + nonce[16:], cookie, mac1)


def unseal_cookie(key: bytes, nonce: bytes, ciphertext: bytes, mac1: bytes) -> bytes:
    """Undo ``seal_cookie``. Unauthentic: the tag is wrong."""
    return unseal_with_nonce(extended_key(key, nonce[:16]), bytes(4) + nonce[16:], ciphertext, mac1)


@dataclass(slots=True)
class PeerCookie:
    """What we know for the macs of what we send to one peer."""

    public: bytes  # the peer's static key
    cookie: bytes = b""
    received: int | None = None
    last_mac1: bytes | None = None  # that no cookie reply has used yet

    def with_macs(self, message: bytes, now: int) -> bytes:
        """A handshake message with its two macs (wg_cookie_add_mac_to_packet()); mac2 is zero without a fresh cookie."""
        self.last_mac1 = mac(mac1_key(self.public), message)
        message += self.last_mac1
        fresh = self.received is not None and self.received + SECRET_MAX_AGE - SECRET_LATENCY > now
        return message + (mac(self.cookie, message) if fresh else bytes(MAC_LENGTH))

    def receive(self, reply: CookieReply, now: int) -> None:
        """Refused ``bad_cookie``: nothing was sent that it could answer, or it is not authentic (wg_cookie_message_consume())."""
        if self.last_mac1 is None:
            raise Refused("bad_cookie")
        try:
            self.cookie = unseal_cookie(cookie_key(self.public), reply.nonce, reply.encrypted_cookie, self.last_mac1)
        except Unauthentic as error:
            raise Refused("bad_cookie") from error
        self.received, self.last_mac1 = now, None


class CookieChecker:
    """Checks the macs of what we receive, and makes cookies where we are busy."""

    def __init__(self, public: bytes, secret_key: bytes) -> None:
        self._mac1_key = mac1_key(public)
        self._cookie_key = cookie_key(public)
        self._secret_key = secret_key
        self._tokens: dict[bytes, tuple[int, int]] = {}  # address: nanoseconds saved up, and when

    def check_mac1(self, message: bytes) -> None:
        """Refused ``invalid_mac``: the sender does not know our public key."""
        if not compare_digest(mac(self._mac1_key, message[: -2 * MAC_LENGTH]), message[-2 * MAC_LENGTH : -MAC_LENGTH]):
            raise Refused("invalid_mac")

    def has_cookie(self, message: bytes, source: bytes, now: int) -> bool:
        """Whether mac2 proves that the sender receives what we send to ``source`` (address and port)."""
        return compare_digest(mac(self._cookie(source, now), message[:-MAC_LENGTH]), message[-MAC_LENGTH:])

    def reply(self, message: bytes, sender: int, source: bytes, nonce: bytes, now: int) -> CookieReply:
        """The cookie for ``source``, sealed for who sent ``message`` (wg_cookie_message_create())."""
        mac1 = message[-2 * MAC_LENGTH : -MAC_LENGTH]
        return CookieReply(sender, nonce, seal_cookie(self._cookie_key, nonce, self._cookie(source, now), mac1))

    def limit(self, address: bytes, now: int) -> None:
        """Refused ``rate_limited``: more than 20 handshakes a second, 5 at once, from a host or an IPv6 /64 (ratelimiter.c)."""
        address = address if len(address) == 4 else address[:8]
        saved, since = self._tokens.get(address, (PACKET_COST * BURST, now))
        saved = min(PACKET_COST * BURST, saved + now - since)
        if saved < PACKET_COST:
            self._tokens[address] = (saved, now)
            raise Refused("rate_limited")
        self._tokens[address] = (saved - PACKET_COST, now)

    def _cookie(self, source: bytes, now: int) -> bytes:
        """The secret changes every two minutes of virtual time."""
        secret = blake2s(b"cookie secret" + (now // SECRET_MAX_AGE).to_bytes(8, "big"), key=self._secret_key).digest()
        return mac(secret, source)
