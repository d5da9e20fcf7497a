"""The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (Noise Protocol Framework revision 34; drivers/net/wireguard/noise.c).

Curve25519, ChaCha20-Poly1305 and ChaCha20 come from the package ``cryptography`` (extra ``wireguard``), BLAKE2s from Python.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, replace
from hashlib import blake2s

from dataplane.encap.wireguard.messages import Initiation, Response

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
NO_PRESHARED_KEY = bytes(32)

_TAI64_EPOCH = 0x400000000000000A  # TAI64 label of 1970-01-01 00:00:10 TAI
_SECOND = 1_000_000_000
_TIMESTAMP_STEP = 1 << 24  # ns: the largest power of two not above 1/50 s (tai64n_now())


class Unauthentic(Exception):
    """Somebody else's message, or one that was changed on its way."""


def public_key(private: bytes) -> bytes:
    """Of 32 bytes (RFC 7748 section 5, clamped there)."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def shared_secret(private: bytes, public: bytes) -> bytes:
    """Curve25519. Unauthentic: the point is of small order."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Unauthentic(str(error)) from error


def seal(key: bytes, counter: int, plaintext: bytes, authenticated: bytes = b"") -> bytes:
    """ChaCha20-Poly1305 (RFC 8439), the nonce four zero bytes and the little-endian counter; the tag is the last 16 bytes."""
    return seal_with_nonce(key, struct.pack("<4xQ", counter), plaintext, authenticated)


def seal_with_nonce(key: bytes, nonce: bytes, plaintext: bytes, authenticated: bytes) -> bytes:
    """``seal`` with all 12 bytes of the nonce given."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(nonce, plaintext, authenticated)


def unseal(key: bytes, counter: int, ciphertext: bytes, authenticated: bytes = b"") -> bytes:
    """Undo ``seal``. Unauthentic: the tag is wrong."""
    return unseal_with_nonce(key, struct.pack("<4xQ", counter), ciphertext, authenticated)


def unseal_with_nonce(key: bytes, nonce: bytes, ciphertext: bytes, authenticated: bytes) -> bytes:
    """Undo ``seal_with_nonce``. Unauthentic: the tag is wrong."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, authenticated)
    except InvalidTag as error:
        raise Unauthentic("wrong tag") from error


def extended_key(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20 (draft-irtf-cfrg-xchacha-03 section 2.2) of a key and the first 16 bytes of XChaCha20-Poly1305's nonce.

    A block of ChaCha20's key stream is HChaCha20's state plus the state it began with; what began there is known for the
    words that HChaCha20 keeps: the constants and the nonce.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    block = struct.unpack("<16I", Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64)))
    began = struct.unpack("<8I", b"expand 32-byte k" + nonce)
    return struct.pack("<8I", *((kept - first) & 0xFFFFFFFF for kept, first in zip(block[:4] + block[12:], began, strict=True)))


def derive(chaining_key: bytes, secret: bytes, count: int) -> list[bytes]:
    """HKDF over HMAC-BLAKE2s (RFC 5869): ``count`` keys of 32 bytes (kdf())."""
    extracted = hmac.digest(chaining_key, secret, "blake2s")
    keys = [hmac.digest(extracted, b"\x01", "blake2s")]
    while len(keys) < count:
        keys.append(hmac.digest(extracted, keys[-1] + bytes([len(keys) + 1]), "blake2s"))
    return keys


def timestamp(now: int) -> bytes:
    """TAI64N label of virtual time, which is taken for time since 1970, rounded down as Linux does."""
    return struct.pack("!QI", _TAI64_EPOCH + now // _SECOND, now % _SECOND // _TIMESTAMP_STEP * _TIMESTAMP_STEP)


@dataclass(slots=True)
class Transcript:
    """The chaining key and the hash of all that was said so far (Noise's SymmetricState)."""

    chaining_key: bytes
    hash: bytes

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2s(self.hash + data).digest()

    def mix_ephemeral(self, public: bytes) -> None:
        self.mix_hash(public)
        (self.chaining_key,) = derive(self.chaining_key, public, 1)

    def mix_secret(self, secret: bytes) -> bytes:
        """Returns the key for what is encrypted next."""
        self.chaining_key, key = derive(self.chaining_key, secret, 2)
        return key

    def mix_preshared(self, preshared: bytes) -> bytes:
        """Returns the key for what is encrypted next."""
        self.chaining_key, mixed, key = derive(self.chaining_key, preshared, 3)
        self.mix_hash(mixed)
        return key

    def seal(self, key: bytes, plaintext: bytes) -> bytes:
        ciphertext = seal(key, 0, plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def unseal(self, key: bytes, ciphertext: bytes) -> bytes:
        plaintext = unseal(key, 0, ciphertext, self.hash)
        self.mix_hash(ciphertext)
        return plaintext

    def session_keys(self) -> tuple[bytes, bytes]:
        """For what the initiator sends, and for what it receives."""
        first, second = derive(self.chaining_key, b"", 2)
        return first, second


@dataclass(frozen=True, slots=True)
class Identity:
    """A static key pair."""

    private: bytes
    public: bytes

    @classmethod
    def of(cls, private: bytes) -> Identity:
        return cls(private, public_key(private))


@dataclass(slots=True)
class ReadInitiation:
    """What a responder takes from the first message."""

    transcript: Transcript
    static: bytes
    ephemeral: bytes
    timestamp: bytes


def begin(responder: bytes) -> Transcript:
    """The transcript before the first message, which is about the responder's static public key."""
    chaining_key = blake2s(CONSTRUCTION).digest()
    transcript = Transcript(chaining_key, blake2s(chaining_key + IDENTIFIER).digest())
    transcript.mix_hash(responder)
    return transcript


def write_initiation(identity: Identity, responder: bytes, ephemeral: Identity, time: bytes, sender: int) -> tuple[Transcript, Initiation]:
    """First message: e, es, s, ss, then the timestamp (wg_noise_handshake_create_initiation())."""
    transcript = begin(responder)
    transcript.mix_ephemeral(ephemeral.public)
    key = transcript.mix_secret(shared_secret(ephemeral.private, responder))
    static = transcript.seal(key, identity.public)
    key = transcript.mix_secret(shared_secret(identity.private, responder))
    return transcript, Initiation(sender, ephemeral.public, static, transcript.seal(key, time))


def read_initiation(identity: Identity, message: Initiation) -> ReadInitiation:
    """Unauthentic: it is not for this identity, or not from whom it says (wg_noise_handshake_consume_initiation())."""
    transcript = begin(identity.public)
    transcript.mix_ephemeral(message.ephemeral)
    key = transcript.mix_secret(shared_secret(identity.private, message.ephemeral))
    static = transcript.unseal(key, message.encrypted_static)
    key = transcript.mix_secret(shared_secret(identity.private, static))
    return ReadInitiation(transcript, static, message.ephemeral, transcript.unseal(key, message.encrypted_timestamp))


def write_response(read: ReadInitiation, ephemeral: Identity, preshared: bytes, sender: int, receiver: int) -> tuple[Transcript, Response]:
    """Second message: e, ee, se, psk, then nothing (wg_noise_handshake_create_response())."""
    transcript = replace(read.transcript)
    transcript.mix_ephemeral(ephemeral.public)
    transcript.mix_secret(shared_secret(ephemeral.private, read.ephemeral))
    transcript.mix_secret(shared_secret(ephemeral.private, read.static))
    key = transcript.mix_preshared(preshared)
    return transcript, Response(sender, receiver, ephemeral.public, transcript.seal(key, b""))


def read_response(transcript: Transcript, identity: Identity, ephemeral: bytes, preshared: bytes, message: Response) -> Transcript:
    """The finished transcript; ``transcript`` stays what it was. Unauthentic: wg_noise_handshake_consume_response() fails."""
    finished = replace(transcript)
    finished.mix_ephemeral(message.ephemeral)
    finished.mix_secret(shared_secret(ephemeral, message.ephemeral))
    finished.mix_secret(shared_secret(identity.private, message.ephemeral))
    finished.unseal(finished.mix_preshared(preshared), message.encrypted_nothing)
    return finished
