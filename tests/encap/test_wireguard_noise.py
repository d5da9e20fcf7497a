"""The handshake's cryptography against published vectors and other implementations."""

from __future__ import annotations

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from dataplane.encap.wireguard import noise
from dataplane.encap.wireguard.cookie import seal_cookie, unseal_cookie
from dataplane.encap.wireguard.messages import Response
from dataplane.encap.wireguard.noise import Identity, Unauthentic

# Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s in the vectors of the Haskell implementation cacophony (public domain), vectors/cacophony.txt
PROLOGUE = bytes.fromhex("4a6f686e2047616c74")
PRESHARED = bytes.fromhex("54686973206973206d7920417573747269616e20706572737065637469766521")
INITIATOR = bytes.fromhex("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1")
INITIATOR_EPHEMERAL = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
RESPONDER = bytes.fromhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893")
RESPONDER_PUBLIC = bytes.fromhex("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62")
RESPONDER_EPHEMERAL = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
FIRST_PAYLOAD = b"Ludwig von Mises"
FIRST = bytes.fromhex(
    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57527207feb56253c9c94a9e496782ecfcb2a75fbcaf"
    "1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985464cf17e51ee93109008399a21f7e13f"
)
SECOND_EPHEMERAL = bytes.fromhex("95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843")
TRANSPORT = [
    (b"F. A. Hayek", "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"),
    (b"Carl Menger", "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"),
    (b"Jean-Baptiste Say", "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d"),
    ("Eugen B\xf6hm von Bawerk".encode("latin-1"), "dfc346c0d2296ae6cf1acf6f12b8456a1dba228cf8d8b774aacf1c47fc53aa80ebc7a4c292"),
]


@pytest.fixture(autouse=True)
def published_prologue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "IDENTIFIER", PROLOGUE)


def handshake() -> tuple[noise.Transcript, noise.ReadInitiation, Response, noise.Transcript]:
    """The initiator's transcript after the first message, and what the responder has read, answered and kept."""
    sent, first = noise.write_initiation(Identity.of(INITIATOR), RESPONDER_PUBLIC, Identity.of(INITIATOR_EPHEMERAL), FIRST_PAYLOAD, 1)
    read = noise.read_initiation(Identity.of(RESPONDER), first)
    kept, second = noise.write_response(read, Identity.of(RESPONDER_EPHEMERAL), PRESHARED, 2, 1)
    return sent, read, second, kept


def test_the_first_message_is_the_published_one() -> None:
    _, first = noise.write_initiation(Identity.of(INITIATOR), RESPONDER_PUBLIC, Identity.of(INITIATOR_EPHEMERAL), FIRST_PAYLOAD, 1)
    assert first.ephemeral + first.encrypted_static + first.encrypted_timestamp == FIRST


def test_the_responder_reads_the_published_first_message() -> None:
    _, read, second, _ = handshake()
    assert (read.static, read.timestamp) == (noise.public_key(INITIATOR), FIRST_PAYLOAD)
    assert second.ephemeral == SECOND_EPHEMERAL


def test_the_sessions_messages_are_the_published_ones() -> None:
    sent, _, second, kept = handshake()
    finished = noise.read_response(sent, Identity.of(INITIATOR), INITIATOR_EPHEMERAL, PRESHARED, second)
    assert finished.session_keys() == kept.session_keys()
    for number, (plaintext, ciphertext) in enumerate(TRANSPORT):
        key = finished.session_keys()[number % 2]
        assert noise.seal(key, number // 2, plaintext) == bytes.fromhex(ciphertext)
        assert noise.unseal(key, number // 2, bytes.fromhex(ciphertext)) == plaintext


def test_another_preshared_key_does_not_read_the_response() -> None:
    sent, _, second, _ = handshake()
    with pytest.raises(Unauthentic):
        noise.read_response(sent, Identity.of(INITIATOR), INITIATOR_EPHEMERAL, bytes(32), second)


def test_a_public_key_of_small_order_is_refused() -> None:
    """RFC 7748 section 6.1: an all-zero shared secret."""
    with pytest.raises(Unauthentic):
        noise.shared_secret(INITIATOR, bytes(32))


def test_hchacha20_is_the_drafts() -> None:
    """draft-irtf-cfrg-xchacha-03 section 2.2.1."""
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert noise.extended_key(bytes(range(32)), nonce).hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


def test_cookies_are_sealed_as_libsodium_does() -> None:
    key, nonce, cookie, mac = bytes(range(32)), bytes(range(100, 124)), bytes(range(16)), bytes(range(50, 66))
    sealed = seal_cookie(key, nonce, cookie, mac)
    assert sealed == crypto_aead_xchacha20poly1305_ietf_encrypt(cookie, mac, nonce, key)
    assert unseal_cookie(key, nonce, sealed, mac) == cookie
    with pytest.raises(Unauthentic):
        unseal_cookie(key, nonce, sealed, bytes(16))


@pytest.mark.parametrize(
    ("now", "label"),
    [
        (0, "400000000000000a00000000"),
        (707_472_419_000_000_000, "400000002a2b2c2d00000000"),
        (999_999_999, "400000000000000a3b000000"),
    ],
)
def test_timestamps_are_tai64n_in_steps_of_a_sixtieth_second(now: int, label: str) -> None:
    """https://cr.yp.to/libtai/tai64.html labels 1992-06-02 08:07:09 TAI, ten seconds on from Linux's count, 400000002a2b2c2d.
    The nanoseconds lose their low 24 bits, 999999999 being 0x3b9ac9ff."""
    assert noise.timestamp(now).hex() == label
