"""Decryption secrets of WireGuard in Wireshark's key log format (epan/dissectors/packet-wireguard.c, ``wg.keylog_file``)."""

from __future__ import annotations

from base64 import b64encode

SECRETS_TYPE = 0x57474B4C  # of a pcapng decryption secrets block: WireGuard Key Log


def key_log(static_private: bytes, remote_static: bytes, ephemeral_private: bytes, preshared: bytes) -> bytes:
    """What decrypts one handshake and its session: the private keys of one end. A preshared key belongs to the ephemeral before it."""
    keys = {
        "LOCAL_STATIC_PRIVATE_KEY": static_private,
        "REMOTE_STATIC_PUBLIC_KEY": remote_static,
        "LOCAL_EPHEMERAL_PRIVATE_KEY": ephemeral_private,
        "PRESHARED_KEY": preshared,
    }
    return b"".join(f"{name} = {b64encode(key).decode()}\n".encode() for name, key in keys.items())
