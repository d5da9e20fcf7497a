"""Weave Net's sleeve: Ethernet frames in UDP, encrypted or not (weaveworks/weave router/sleeve.go, crypto.go).

A datagram holds the sender's name, then frames with the names of the peers they go from and to; where the connection has a session
key, all but the first name is a NaCl secretbox (PyNaCl, extra ``sleeve``) behind its sequence number.

Emulated is what carries frames between peers that know each other. Not emulated: the TCP handshake between routers that agrees on a
session key (it is an option here), heartbeats and roaming by them, discovery of the path's MTU and the fragmentation test (what of
these comes in is swallowed, and the stack is taken to fragment), the ICMP messages and fragments that the router makes itself,
waiting for more frames to fill a datagram (several in one that is received are taken apart), relaying for other peers, and
topology: where a frame goes is the device's FDB, as fast datapath has it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from ipaddress import ip_address
from typing import ClassVar, NamedTuple

from dataplane.encap import python_plugin, udp
from dataplane.encap.mtu import ETHERNET_HEADER, IP_HEADER
from dataplane.encap.python_plugin import ETHERTYPE_TEB, Encapsulation, Field, Host, Incoming, OptionHelp, Outgoing, Reason, Refused

DEFAULT_PORT = 6783
NAME_LENGTH = 6  # names are MAC addresses in Weave's default build (mesh: peer_name_mac.go)
KEY_LENGTH = 32
_FRAME_HEADER = struct.Struct(f"!{NAME_LENGTH}s{NAME_LENGTH}sH")
_SEQUENCE = struct.Struct("!Q")
_BOX_OVERHEAD = 16
_DF_FLAG = 1 << 63  # of the sequence number; frames with DF have a sequence of their own
_WINDOW_BITS = 20


class Frame(NamedTuple):
    """One entry of a datagram."""

    source: bytes  # name of a peer
    destination: bytes
    data: bytes


class SequenceWindow:
    """Which sequence numbers were seen, in two windows of 2**20 (NaClDecryptorInstance.advanceState())."""

    def __init__(self) -> None:
        self._window = 0
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()  # in the window before

    def accept(self, sequence: int) -> bool:
        """False: seen before, or too old to tell."""
        window = sequence >> _WINDOW_BITS
        if window > self._window:
            self._seen_before = self._seen if window == self._window + 1 else set()
            self._seen, self._window = set(), window
        if window < self._window - 1:
            return False
        seen = self._seen if window == self._window else self._seen_before
        new = sequence not in seen
        seen.add(sequence)
        return new


@dataclass(slots=True)
class Connection:
    """To one peer. ``key`` is empty for a connection in the clear."""

    name: bytes
    key: bytes
    outbound: bool  # we made it: decides whose nonces have the top bit
    sequence: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})  # by DF
    windows: dict[bool, SequenceWindow] = field(default_factory=lambda: {False: SequenceWindow(), True: SequenceWindow()})

    def seal(self, frames: bytes, dont_fragment: bool) -> bytes:
        """NaClEncryptor.Bytes()."""
        if not self.key:
            return frames
        from nacl.bindings import crypto_secretbox

        number = self.sequence[dont_fragment] | (_DF_FLAG if dont_fragment else 0)
        self.sequence[dont_fragment] += 1
        return _SEQUENCE.pack(number) + crypto_secretbox(frames, _nonce(number, self.outbound), self.key)

    def unseal(self, body: bytes) -> bytes:
        """Refused ``not_authentic``, ``replayed`` (NaClDecryptor.decrypt())."""
        if not self.key:
            return body
        from nacl.bindings import crypto_secretbox_open
        from nacl.exceptions import CryptoError

        if len(body) < _SEQUENCE.size + _BOX_OVERHEAD:
            raise Refused("not_authentic")
        (number,) = _SEQUENCE.unpack_from(body)
        try:
            frames = crypto_secretbox_open(body[_SEQUENCE.size :], _nonce(number, not self.outbound), self.key)
        except CryptoError as error:
            raise Refused("not_authentic") from error
        if not self.windows[bool(number & _DF_FLAG)].accept(number & ~_DF_FLAG):
            raise Refused("replayed")
        return frames


def _nonce(number: int, outbound: bool) -> bytes:
    """24 bytes: the sender's direction in the top bit, the sequence number at the end."""
    return bytes([outbound << 7]) + bytes(15) + _SEQUENCE.pack(number)


def session_key(local_private: bytes, remote_public: bytes, password: bytes) -> bytes:
    """The key that two routers agree on in their TCP handshake (FormSessionKey()): Curve25519 keys of 32 bytes, and ``--password``."""
    from nacl.bindings import crypto_box_beforenm

    return sha256(crypto_box_beforenm(remote_public, local_private) + password).digest()


class Sleeve(Encapsulation):
    """One router's sleeve."""

    name: ClassVar[str] = "sleeve"
    sentence: ClassVar[str] = "Ethernet frames in UDP, with or without NaCl secretbox, as Weave Net's sleeve (weave router/sleeve.go)"
    ethernet: ClassVar[bool] = True
    options = (
        OptionHelp("peer_name", "this peer's name, 6 bytes", "00:00:00:00:00:00"),
        OptionHelp("peers", "text, a line for each peer: ADDRESS NAME [outbound|inbound KEY], KEY being 32 bytes in hex", "none"),
        OptionHelp("port", "UDP port, 1 to 65535", str(DEFAULT_PORT)),
    )
    reasons = (
        Reason("truncated", "The sleeve's UDP header or payload is broken off", "PKT_TOO_SMALL"),
        Reason("too_big", "The frame and its sleeve do not fit a UDP datagram"),
        Reason("ipv4_only", "The sleeve is carried in IPv4 only"),
        Reason("unknown_peer", "No connection is known to the other router"),
        Reason("not_authentic", "The datagram does not decrypt with the connection's session key"),
        Reason("replayed", "The datagram's sequence number was seen before or is too old"),
        Reason("bad_frame", "No whole frame stands in the datagram"),
        Reason("unknown_name", "The frame is from or for a peer that is not known"),
        Reason("not_for_us", "The frame is for another peer, and relaying is not emulated"),
    )

    def __init__(self, options: Mapping[str, int | bytes], host: Host | None) -> None:
        for key in options:
            if key not in [option.key for option in self.options]:
                raise ValueError(f"sleeve: option '{key}' is unknown")
        name, peers, port = options.get("peer_name", bytes(NAME_LENGTH)), options.get("peers", b""), options.get("port", DEFAULT_PORT)
        if not isinstance(name, bytes) or len(name) != NAME_LENGTH:
            raise ValueError(f"sleeve: option 'peer_name' has {NAME_LENGTH} bytes")
        if not isinstance(peers, bytes):
            raise ValueError("sleeve: option 'peers' is text")
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError("sleeve: option 'port' is a number from 1 to 65535")
        self._name, self._port, self._host = name, port, host
        self._connections = _read_peers(peers.decode("utf-8", "replace"))
        self._by_name = {connection.name: connection for connection in self._connections.values()}
        if any(connection.key for connection in self._connections.values()) and find_spec("nacl") is None:
            raise ValueError("sleeve needs the package PyNaCl to encrypt: pip install 'podplane[sleeve]'")

    def overhead(self, family: int) -> int:
        """As if all connections were encrypted, if one is."""
        encrypted = any(connection.key for connection in self._connections.values())
        box = _SEQUENCE.size + _BOX_OVERHEAD if encrypted else 0
        return IP_HEADER[family] + udp.UDP_HEADER_LENGTH + NAME_LENGTH + box + _FRAME_HEADER.size

    def port(self) -> int:
        return self._port

    def push(self, outer: Outgoing, packet: bytes) -> bytes | None:
        """Frames with DF go out with DF, from a socket that writes no checksum (udpSenderDF)."""
        if len(outer.remote) != 4:
            raise Refused("ipv4_only")
        connection = self._connections.get(outer.remote)
        if connection is None:
            raise Refused("unknown_peer")
        if len(packet) > 0xFFFF:
            raise Refused("too_big")
        dont_fragment = outer.dont_fragment = outer.inner_dont_fragment
        frames = _FRAME_HEADER.pack(self._name, connection.name, len(packet)) + packet
        body = self._name + connection.seal(frames, dont_fragment)
        return udp.datagram(self._port, self._port, body, outer, checksum=not dont_fragment)

    def pop(self, incoming: Incoming, payload: bytes) -> bytes | None:
        _, body = udp.split(payload)
        connection = self._by_name.get(body[:NAME_LENGTH])
        if connection is None:
            raise Refused("unknown_peer")
        incoming.inner_protocol = ETHERTYPE_TEB
        frames = list(_split(connection.unseal(body[NAME_LENGTH:])))
        if not frames:
            raise Refused("bad_frame")
        ours = [frame.data for frame in frames if self._is_ours(frame, only=len(frames) == 1)]
        if len(ours) == 1 or (ours and self._host is None):
            return ours[0]
        for data in ours:
            assert self._host is not None
            self._host.receive(incoming, data)
        return None

    @classmethod
    def describe(cls, ip_protocol: int, payload: bytes) -> tuple[int, list[Field]]:
        """UDP and the sender's name: what follows may be encrypted, which the datagram does not say."""
        if len(payload) < udp.UDP_HEADER_LENGTH:
            return -1, []
        source, destination, _, checksum = struct.unpack_from("!HHHH", payload)
        fields = [Field("udp", "sport", source), Field("udp", "dport", destination), Field("udp", "checksum", checksum)]
        size = udp.UDP_HEADER_LENGTH + NAME_LENGTH
        if len(payload) < size:
            return -1, fields
        return size, [*fields, Field("sleeve", "sender", payload[udp.UDP_HEADER_LENGTH : size])]

    def _is_ours(self, frame: Frame, *, only: bool) -> bool:
        """False: a message between routers (SleeveOverlay.handleFrame()). Refused if it is the datagram's only frame and not for us."""
        refusal = ""
        if len(frame.data) < ETHERNET_HEADER:
            refusal = "bad_frame"
        elif not all(name == self._name or name in self._by_name for name in (frame.source, frame.destination)):
            refusal = "unknown_name"
        elif not any(frame.data[:ETHERNET_HEADER]):
            return False
        elif frame.destination != self._name:
            refusal = "not_for_us"
        if refusal and only:
            raise Refused(refusal)
        return not refusal


def _split(body: bytes) -> Iterator[Frame]:
    """The frames up to the first that is broken off (NonDecryptor.IterateFrames())."""
    at = 0
    while len(body) - at >= _FRAME_HEADER.size:
        source, destination, length = _FRAME_HEADER.unpack_from(body, at)
        at += _FRAME_HEADER.size
        if len(body) - at < length:
            return
        yield Frame(source, destination, body[at : at + length])
        at += length


def _read_peers(text: str) -> dict[bytes, Connection]:
    """By address. ValueError, with the line."""
    connections = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            address, connection = _read_peer(words)
        except ValueError as error:
            raise ValueError(f"sleeve: peers line {number}: {error}") from error
        connections[address] = connection
    return connections


def _read_peer(words: list[str]) -> tuple[bytes, Connection]:
    if len(words) not in (2, 4) or (len(words) == 4 and words[2] not in ("outbound", "inbound")):
        raise ValueError("it is not ADDRESS NAME [outbound|inbound KEY]")
    name = bytes.fromhex(words[1].replace(":", ""))
    key = bytes.fromhex(words[3]) if len(words) == 4 else b""
    if len(name) != NAME_LENGTH or len(key) not in (0, KEY_LENGTH):
        raise ValueError(f"a name has {NAME_LENGTH} bytes, a key {KEY_LENGTH}")
    return ip_address(words[0]).packed, Connection(name, key, "outbound" in words[2:])


capsule = python_plugin.capsule(Sleeve)
