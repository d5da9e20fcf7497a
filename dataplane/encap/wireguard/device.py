"""A WireGuard device as an encapsulation plug-in (drivers/net/wireguard/device.c, send.c, receive.c, socket.c).

Not emulated: queues and load (``under_load`` says whether handshakes need cookies), the mark that Linux sets on what it sends, and
ports drawn at random. Packets that wait for a handshake and give way to newer ones, or to the end of its attempts, are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar

from dataplane._lpm import Lpm
from dataplane.encap import python_plugin, udp
from dataplane.encap.mtu import IP_HEADER
from dataplane.encap.python_plugin import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    Encapsulation,
    Field,
    Host,
    Incoming,
    OptionHelp,
    Outgoing,
    Reason,
    Refused,
)
from dataplane.encap.wireguard import noise
from dataplane.encap.wireguard.config import DEFAULT_PORT, Endpoint, PeerConfig, parse
from dataplane.encap.wireguard.cookie import CookieChecker, PeerCookie
from dataplane.encap.wireguard.describe import describe
from dataplane.encap.wireguard.draws import Draws
from dataplane.encap.wireguard.inner import check_packet, destination, outer_tos, received, source
from dataplane.encap.wireguard.keylog import SECRETS_TYPE, key_log
from dataplane.encap.wireguard.messages import DATA_OVERHEAD, KEY_LENGTH, CookieReply, Data, Initiation, Response
from dataplane.encap.wireguard.messages import parse as parse_message
from dataplane.encap.wireguard.peer import (
    INITIATION_INTERVAL,
    MAX_HANDSHAKE_ATTEMPTS,
    Handshake,
    Peer,
    Staged,
    Timer,
)
from dataplane.encap.wireguard.session import KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, Keypair

DEFAULT_MTU = 1420
PADDING_MULTIPLE = 16
HANDSHAKE_TOS = 0x88  # AF41
_NEVER = 1 << 62  # born so late that it does not age

OPTIONS = (
    OptionHelp("config", "keys, port and peers as text in the format of wg(8), as for wg setconf; endpoints are addresses", "none"),
    OptionHelp("device_mtu", "MTU of the device in bytes, beyond which packets are not padded; 0: always padded", str(DEFAULT_MTU)),
    OptionHelp("under_load", "1: handshakes need a cookie, as on a busy machine", "0"),
    OptionHelp("sending_key", "instead of peers, a session without end: key of what is sent, 32 bytes", "none"),
    OptionHelp("receiving_key", "key of what is received in it, 32 bytes", "none"),
    OptionHelp("sending_index", "receiver index written in it, 32 bits", "0"),
    OptionHelp("receiving_index", "receiver index expected in it, 32 bits", "0"),
)

REASONS = (
    Reason("truncated", "The packet ends inside its UDP header or payload", "PKT_TOO_SMALL"),
    Reason("no_checksum", "Over IPv6 the UDP checksum is zero", "UDP_CSUM"),
    Reason("too_big", "The packet does not fit a UDP datagram"),
    Reason("not_ip", "A WireGuard device carries IPv4 and IPv6 packets only"),
    Reason("no_peer", "No peer's allowed IPs contain the destination address"),
    Reason("no_endpoint", "The peer's endpoint is neither configured nor known from its packets"),
    Reason("no_session", "There is no session, and no handshake can be made here"),
    Reason("bad_message", "No WireGuard message has this type and length"),
    Reason("no_private_key", "The device has no private key to answer handshakes with"),
    Reason("invalid_mac", "The first mac of the handshake message is wrong"),
    Reason("cookie_demanded", "Under load, a handshake message without a cookie is answered with one"),
    Reason("rate_limited", "Under load, too many handshakes came from one address"),
    Reason("bad_cookie", "The cookie reply answers nothing that was sent, or is not authentic"),
    Reason("invalid_handshake", "The handshake message is not authentic"),
    Reason("unknown_peer", "The handshake is from a public key that is no peer's"),
    Reason("replayed_handshake", "The initiation's timestamp is not newer than the last one's"),
    Reason("handshake_flood", "The peer sent more than 50 initiations a second"),
    Reason("unknown_handshake", "The response answers no initiation that is still open"),
    Reason("unknown_session", "No session has this receiver index"),
    Reason("expired_session", "The session is older than 180 seconds"),
    Reason("not_authentic", "The packet does not decrypt with the session's key"),
    Reason("replayed_counter", "The packet's counter was seen before or lies too far back"),
    Reason("inner_not_ip", "What was decrypted is neither IPv4 nor IPv6"),
    Reason("inner_size", "The decrypted packet is shorter than its IP header says"),
    Reason("source_not_allowed", "The inner source address is not among the peer's allowed IPs"),
)


class WireGuard(Encapsulation):
    """One device. Names of steps follow Linux's functions."""

    name: ClassVar[str] = "wireguard"
    sentence: ClassVar[str] = "Encrypted IP packets in UDP: Noise_IKpsk2 handshakes, ChaCha20-Poly1305 (Donenfeld, WireGuard, NDSS 2017)"
    align: ClassVar[int] = PADDING_MULTIPLE
    options = OPTIONS
    reasons = REASONS

    def __init__(self, options: Mapping[str, int | bytes], host: Host | None) -> None:
        if find_spec("cryptography") is None:
            raise ValueError("wireguard needs the package cryptography: pip install 'podplane[wireguard]'")
        _check_options(options)
        config = parse(_bytes(options, "config"))
        private = config.private_key
        self._host = host
        self._mtu = _number(options, "device_mtu", DEFAULT_MTU)
        self._busy = bool(_number(options, "under_load", 0))
        self._listen_port = config.listen_port
        self._identity = noise.Identity.of(private) if private else None
        self._draws = Draws(private or bytes(KEY_LENGTH))
        self._checker = CookieChecker(self._identity.public if self._identity else b"", private or b"")
        self._routes = {4: Lpm(4), 16: Lpm(6)}  # allowed IPs to a peer's number
        self._handshakes: dict[int, Peer] = {}  # by our index
        self._sessions: dict[int, tuple[Peer, Keypair]] = {}
        self._wake_at: int | None = None
        self._peers = [_new_peer(number, peer) for number, peer in enumerate(config.peers)]
        if "sending_key" in options:
            self._add_session(options)
        self._by_key = {peer.config.public_key: peer for peer in self._peers}
        for peer in self._peers:
            for address, length in peer.config.allowed_ips:
                self._routes[len(address)].insert(address, length, peer.number)
            if host is not None and peer.config.persistent_keepalive:
                peer.timers[Timer.PERSISTENT_KEEPALIVE] = 0  # wg_open()
        self._schedule()

    def overhead(self, family: int) -> int:
        return IP_HEADER[family] + udp.UDP_HEADER_LENGTH + DATA_OVERHEAD

    def port(self) -> int:
        return self._listen_port

    def select(self, outer: Outgoing, packet: bytes) -> bytes:
        """The endpoint of the peer whose allowed IPs contain the destination (wg_xmit())."""
        endpoint = self._peer_for(outer, packet).endpoint
        if endpoint is None:
            raise Refused("no_endpoint")
        return endpoint.address

    def push(self, outer: Outgoing, packet: bytes) -> bytes | None:
        peer = self._peer_for(outer, packet)
        peer.local = outer.local
        outer.tos = outer_tos(outer.inner_tos)
        keypair = peer.keypairs.current
        try:
            if keypair is None or not keypair.can_send(outer.now):
                if self._host is None:
                    raise Refused("no_session")
                peer.stage(Staged(packet, outer.tos, outer.packet))
                self._initiate(peer, outer.now)
                return None
            data = self._sealed(keypair, packet)
            self._data_sent(peer, outer.now)
            if keypair.wants_rekey_after_sending(outer.now) and self._host is not None:
                peer.timers[Timer.INITIATE] = outer.now  # after this packet
        finally:
            self._schedule()
        return udp.datagram(self._listen_port, peer.endpoint.port if peer.endpoint else DEFAULT_PORT, data, outer)

    def pop(self, incoming: Incoming, payload: bytes) -> bytes | None:
        port, body = udp.split(payload)
        if len(incoming.remote) == 16 and not any(payload[6:8]):
            raise Refused("no_checksum")
        message = parse_message(body)
        endpoint = Endpoint(incoming.remote, port)
        try:
            if isinstance(message, Data):
                return self._receive_data(message, endpoint, incoming)
            if isinstance(message, CookieReply):
                self._receive_cookie(message, incoming.now)
                return None
            self._check_macs(message, body, endpoint, incoming)
            self._receive_handshake(message, endpoint, incoming)
            return None
        finally:
            self._schedule()

    def timer(self, now: int) -> None:
        if self._wake_at is not None and self._wake_at <= now:
            self._wake_at = None
        while due := min(((at, peer.number, timer) for peer in self._peers for timer, at in peer.timers.items()), default=None):
            at, number, timer = due
            if at > now:
                break
            del self._peers[number].timers[timer]
            self._expired(self._peers[number], timer, now)
        self._schedule()

    @classmethod
    def describe(cls, ip_protocol: int, payload: bytes) -> tuple[int, list[Field]]:
        return describe(payload)

    def _add_session(self, options: Mapping[str, int | bytes]) -> None:
        """A peer for everything, with a session that no handshake made."""
        peer = _new_peer(len(self._peers), PeerConfig(allowed_ips=[(bytes(4), 0), (bytes(16), 0)]))
        sending, receiving = _bytes(options, "sending_key"), _bytes(options, "receiving_key")
        if len(sending) != KEY_LENGTH or len(receiving) != KEY_LENGTH:
            raise ValueError("wireguard: sending_key and receiving_key have 32 bytes each")
        index = _number(options, "receiving_index", 0)
        keypair = Keypair(sending, receiving, index, _number(options, "sending_index", 0), initiator=False, born=_NEVER)
        peer.keypairs.current = keypair
        self._peers.append(peer)
        self._sessions[index] = (peer, keypair)

    def _peer_for(self, outer: Outgoing, packet: bytes) -> Peer:
        check_packet(outer.inner_protocol, packet)
        return self._allowed(destination(packet), "no_peer")

    def _allowed(self, address: bytes, reason: str) -> Peer:
        number = self._routes[len(address)].lookup(address)
        if number is None:
            raise Refused(reason)
        return self._peers[number]

    def _padding(self, size: int) -> int:
        """calculate_skb_padding(): up to a multiple of 16, but not beyond the MTU."""
        if self._mtu == 0:
            return -size % PADDING_MULTIPLE
        last = size % self._mtu if size > self._mtu else size
        return min(self._mtu, last + -last % PADDING_MULTIPLE) - last

    def _sealed(self, keypair: Keypair, packet: bytes) -> bytes:
        counter = keypair.counter
        keypair.counter += 1
        plaintext = packet + bytes(self._padding(len(packet)))
        return Data(keypair.remote_index, counter, noise.seal(keypair.sending_key, counter, plaintext)).packed()

    def _send(self, peer: Peer, message: bytes, tos: int, now: int, packet: int = 0) -> None:
        """Linux too loses what has no endpoint (wg_socket_send_skb_to_peer())."""
        if peer.endpoint is not None:
            self._send_to(peer.endpoint, peer.local, message, tos, now, packet)

    def _send_to(self, endpoint: Endpoint, local: bytes | None, message: bytes, tos: int, now: int, packet: int = 0) -> None:
        if local is None or len(local) != len(endpoint.address):
            local = bytes(len(endpoint.address))
        outer = Outgoing(now, local, endpoint.address, packet, tos=tos)
        if self._host is not None:
            self._host.send(outer, udp.datagram(self._listen_port, endpoint.port, message, outer))

    def _data_sent(self, peer: Peer, now: int) -> None:
        peer.any_sent(now)
        peer.data_sent(now, self._draws.jitter(now))

    def _send_staged(self, peer: Peer, now: int) -> None:
        """wg_packet_send_staged_packets()."""
        keypair = peer.keypairs.current
        if not peer.staged:
            return
        if keypair is None or not keypair.can_send(now):
            self._initiate(peer, now)
            return
        waiting = list(peer.staged)
        peer.staged.clear()
        for staged in waiting:
            if staged.packet:
                self._data_sent(peer, now)
            else:
                peer.any_sent(now)
            self._send(peer, self._sealed(keypair, staged.packet), staged.tos, now, staged.number)
        if keypair.wants_rekey_after_sending(now):
            self._initiate(peer, now)

    def _send_keepalive(self, peer: Peer, now: int) -> None:
        """Where packets wait, they do for it."""
        if not peer.staged:
            peer.stage(Staged(b"", 0, 0))
        self._send_staged(peer, now)

    def _initiate(self, peer: Peer, now: int, *, is_retry: bool = False) -> None:
        """wg_packet_send_handshake_initiation(): at most every five seconds."""
        if not is_retry:
            peer.attempts = 0
        if self._identity is None or not peer.may_initiate(now):
            return
        peer.last_sent_handshake = now
        self._forget_handshake(peer)
        ephemeral = self._new_ephemeral(peer, now)
        index = self._new_index(now)
        try:
            transcript, message = noise.write_initiation(self._identity, peer.config.public_key, ephemeral, noise.timestamp(now), index)
        except noise.Unauthentic:  # nobody has such a public key
            return
        peer.handshake = Handshake(index, transcript, ephemeral.private)
        self._handshakes[index] = peer
        peer.any_sent(now)
        peer.handshake_initiated(now, self._draws.jitter(now))
        self._send(peer, peer.cookie.with_macs(message.without_macs(), now), HANDSHAKE_TOS, now)

    def _send_response(self, peer: Peer, read: noise.ReadInitiation, receiver: int, now: int) -> None:
        """wg_packet_send_handshake_response(); the session begins here, but the initiator is first to use it."""
        peer.last_sent_handshake = now
        ephemeral = self._new_ephemeral(peer, now)
        index = self._new_index(now)
        transcript, message = noise.write_response(read, ephemeral, peer.config.preshared_key, index, receiver)
        signed = peer.cookie.with_macs(message.without_macs(), now)
        from_initiator, to_initiator = transcript.session_keys()
        self._begin_session(peer, Keypair(to_initiator, from_initiator, index, receiver, initiator=False, born=now))
        peer.any_sent(now)
        self._send(peer, signed, HANDSHAKE_TOS, now)

    def _begin_session(self, peer: Peer, keypair: Keypair) -> None:
        """wg_noise_handshake_begin_session()."""
        self._forget_handshake(peer)
        before = peer.keypairs.all()
        peer.keypairs.add(keypair)
        for old in before:
            if old not in peer.keypairs.all():
                self._sessions.pop(old.local_index, None)
        self._sessions[keypair.local_index] = (peer, keypair)
        peer.session_derived(keypair.born)

    def _forget_handshake(self, peer: Peer) -> None:
        if peer.handshake is not None:
            self._handshakes.pop(peer.handshake.local_index, None)
        peer.handshake = None

    def _new_ephemeral(self, peer: Peer, now: int) -> noise.Identity:
        ephemeral = noise.Identity.of(self._draws.draw(b"ephemeral", KEY_LENGTH, now))
        if self._host is not None and self._identity is not None:
            secrets = key_log(self._identity.private, peer.config.public_key, ephemeral.private, peer.config.preshared_key)
            self._host.add_secret(SECRETS_TYPE, secrets)
        return ephemeral

    def _new_index(self, now: int) -> int:
        index = self._draws.index(now)
        while index in self._handshakes or index in self._sessions:
            index = self._draws.index(now)
        return index

    def _check_macs(self, message: Initiation | Response, body: bytes, endpoint: Endpoint, incoming: Incoming) -> None:
        """wg_cookie_validate_packet()."""
        if self._identity is None:
            raise Refused("no_private_key")
        self._checker.check_mac1(body)
        if not self._busy:
            return
        source_bytes = endpoint.address + endpoint.port.to_bytes(2, "big")
        if not self._checker.has_cookie(body, source_bytes, incoming.now):
            nonce = self._draws.draw(b"cookie", 24, incoming.now)
            reply = self._checker.reply(body, message.sender, source_bytes, nonce, incoming.now)
            self._send_to(endpoint, incoming.local, reply.packed(), 0, incoming.now)
            raise Refused("cookie_demanded")
        self._checker.limit(endpoint.address, incoming.now)

    def _receive_cookie(self, reply: CookieReply, now: int) -> None:
        """wg_cookie_message_consume()."""
        session = self._sessions.get(reply.receiver)
        peer = self._handshakes.get(reply.receiver) or (session[0] if session else None)
        if peer is None:
            raise Refused("bad_cookie")
        peer.cookie.receive(reply, now)

    def _receive_handshake(self, message: Initiation | Response, endpoint: Endpoint, incoming: Incoming) -> None:
        """wg_receive_handshake_packet()."""
        try:
            if isinstance(message, Initiation):
                self._receive_initiation(message, endpoint, incoming)
            else:
                self._receive_response(message, endpoint, incoming)
        except noise.Unauthentic as error:
            raise Refused("invalid_handshake") from error

    def _receive_initiation(self, message: Initiation, endpoint: Endpoint, incoming: Incoming) -> None:
        assert self._identity is not None
        read = noise.read_initiation(self._identity, message)
        peer = self._by_key.get(read.static)
        if peer is None:
            raise Refused("unknown_peer")
        if read.timestamp <= peer.latest_timestamp:
            raise Refused("replayed_handshake")
        if peer.last_initiation is not None and peer.last_initiation + INITIATION_INTERVAL > incoming.now:
            raise Refused("handshake_flood")
        peer.latest_timestamp, peer.last_initiation = read.timestamp, incoming.now
        self._heard(peer, endpoint, incoming)
        self._send_response(peer, read, message.sender, incoming.now)

    def _receive_response(self, message: Response, endpoint: Endpoint, incoming: Incoming) -> None:
        peer = self._handshakes.get(message.receiver)
        if peer is None or peer.handshake is None or self._identity is None:
            raise Refused("unknown_handshake")
        handshake, preshared = peer.handshake, peer.config.preshared_key
        finished = noise.read_response(handshake.transcript, self._identity, handshake.ephemeral, preshared, message)
        self._heard(peer, endpoint, incoming)
        sending, receiving = finished.session_keys()
        self._begin_session(peer, Keypair(sending, receiving, message.receiver, message.sender, initiator=True, born=incoming.now))
        peer.handshake_complete()
        self._send_keepalive(peer, incoming.now)

    def _receive_data(self, message: Data, endpoint: Endpoint, incoming: Incoming) -> bytes | None:
        """decrypt_packet() and wg_packet_consume_data_done()."""
        peer, keypair = self._sessions.get(message.receiver, (None, None))
        if peer is None or keypair is None:
            raise Refused("unknown_session")
        if not keypair.can_receive(incoming.now):
            raise Refused("expired_session")
        try:
            packet = noise.unseal(keypair.receiving_key, message.counter, message.ciphertext)
        except noise.Unauthentic as error:
            raise Refused("not_authentic") from error
        if not keypair.window.accept(message.counter):
            raise Refused("replayed_counter")
        self._received_authentic(peer, keypair, endpoint, incoming)
        if not packet:
            return None
        peer.data_received(incoming.now)
        packet = received(packet)
        if self._allowed(source(packet), "source_not_allowed") is not peer:
            raise Refused("source_not_allowed")
        incoming.inner_protocol = ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6
        return packet

    def _heard(self, peer: Peer, endpoint: Endpoint, incoming: Incoming) -> None:
        """Something authentic came. Linux's workers answer a moment later, so this is before timers that the answer starts."""
        peer.endpoint, peer.local = endpoint, incoming.local
        peer.any_received(incoming.now)

    def _received_authentic(self, peer: Peer, keypair: Keypair, endpoint: Endpoint, incoming: Incoming) -> None:
        self._heard(peer, endpoint, incoming)
        if peer.keypairs.confirm(keypair):
            peer.handshake_complete()
            self._send_staged(peer, incoming.now)
        if not peer.sent_lastminute_handshake and keypair.wants_rekey_after_receiving(incoming.now):
            peer.sent_lastminute_handshake = True
            self._initiate(peer, incoming.now)

    def _expired(self, peer: Peer, timer: Timer, now: int) -> None:
        """timers.c."""
        if timer in (Timer.INITIATE, Timer.NEW_HANDSHAKE):
            self._initiate(peer, now)
        elif timer is Timer.RETRANSMIT_HANDSHAKE:
            self._retransmit(peer, now)
        elif timer is Timer.SEND_KEEPALIVE:
            self._send_keepalive(peer, now)
            if peer.need_another_keepalive:
                peer.need_another_keepalive = False
                peer.timers[Timer.SEND_KEEPALIVE] = now + KEEPALIVE_TIMEOUT
        elif timer is Timer.ZERO_KEYS:
            self._forget_handshake(peer)
            for keypair in peer.keypairs.all():
                self._sessions.pop(keypair.local_index, None)
            peer.keypairs.clear()
        else:
            self._send_keepalive(peer, now)

    def _retransmit(self, peer: Peer, now: int) -> None:
        """wg_expired_retransmit_handshake(): after twenty in vain, what waited is given up."""
        if peer.attempts <= MAX_HANDSHAKE_ATTEMPTS:
            peer.attempts += 1
            self._initiate(peer, now, is_retry=True)
            return
        peer.timers.pop(Timer.SEND_KEEPALIVE, None)
        peer.staged.clear()
        peer.timers.setdefault(Timer.ZERO_KEYS, now + REJECT_AFTER_TIME * 3)

    def _schedule(self) -> None:
        """Ask to be woken for the earliest timer."""
        earliest = min((at for peer in self._peers for at in peer.timers.values()), default=None)
        if self._host is not None and earliest is not None and (self._wake_at is None or earliest < self._wake_at):
            self._wake_at = earliest
            self._host.wake(earliest)


def _new_peer(number: int, config: PeerConfig) -> Peer:
    return Peer(number, config, PeerCookie(config.public_key), config.endpoint)


def _check_options(options: Mapping[str, int | bytes]) -> None:
    known = {option.key for option in OPTIONS}
    for key in options:
        if key not in known:
            raise ValueError(f"wireguard: option '{key}' is unknown; its configuration is the text of option 'config'")


def _number(options: Mapping[str, int | bytes], key: str, default: int) -> int:
    value = options.get(key, default)
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError(f"wireguard: option '{key}' is a number of 32 bits")
    return value


def _bytes(options: Mapping[str, int | bytes], key: str) -> bytes:
    value = options.get(key, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"wireguard: option '{key}' is bytes, not a number")
    return value


capsule = python_plugin.capsule(WireGuard)
