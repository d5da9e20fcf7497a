"""Encapsulations written as Python classes: what such a class has to offer, and what the core offers it.

Every packet crosses from the compiled core into Python, which costs some microseconds each: this way is meant for what needs a
library (cryptography) or is tried out. Addresses are 4 or 16 bytes in network byte order, times virtual nanoseconds, and the
bytes of a packet never include the outer IP header. ``ext/encap/encap_abi.h`` is the contract underneath.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

PROTOCOL_UDP = 17
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_TEB = 0x6558  # an Ethernet frame (transparent Ethernet bridging)


class Refused(Exception):
    """Raised by a callback: drop this packet for the reason of this name, which is one of the class's ``reasons``."""


class NotMine(Exception):
    """Raised by ``pop``: another device's identifier or format, let that one try."""


class Reason(NamedTuple):
    """Why a packet is dropped; it is counted as ``KIND/name``."""

    name: str  # lower snake case
    sentence: str  # without a full stop
    linux_name: str = ""  # SKB_DROP_REASON_* without the prefix


class OptionHelp(NamedTuple):
    """One option of a device, for people to read."""

    key: str
    sentence: str  # range and unit included
    default: str = ""  # as a user would write it, empty if it must be given


class Field(NamedTuple):
    """One field of a header."""

    layer: str
    name: str
    value: int | bytes


@dataclass(slots=True)
class Outgoing:
    """A packet on its way out, ``dataplane_encap_push``: the callback fills in the fields from ``ip_protocol`` on."""

    now: int
    local: bytes  # all zero: not known yet
    remote: bytes
    packet: int = 0  # number of the inner packet in traces; of ``Host.send``: of what the payload carries, 0: nothing
    id: int = -1  # asked for by route or policy instead of the device's own; -1: none
    flow_hash: int = 0  # of the inner flow, the same in both directions
    inner_flow_label: int = 0
    inner_protocol: int = 0  # EtherType of what is inside
    inner_tos: int = 0  # TOS or traffic class, 0 if what is inside is no IP
    inner_ttl: int = 0
    inner_dont_fragment: bool = False
    ip_protocol: int = PROTOCOL_UDP
    tos: int = 0
    ttl: int = 0  # 0: the namespace's default
    dont_fragment: bool = False
    flow_label: int = 0


@dataclass(slots=True)
class Incoming:
    """A packet that was received, ``dataplane_encap_pop``: the callback fills in the last two fields."""

    now: int
    local: bytes
    remote: bytes
    outer_tos: int = 0
    outer_ttl: int = 0
    outer_protocol: int = PROTOCOL_UDP
    device_mac: bytes = bytes(6)
    inner_protocol: int = 0  # EtherType of what is inside
    id: int = -1  # found in the header; -1: it has none


class Host(Protocol):
    """What the core does for one device."""

    def send(self, outer: Outgoing, payload: bytes) -> None:
        """Send ``payload`` behind an outer IP header from ``outer.local`` to ``outer.remote``."""

    def receive(self, incoming: Incoming, inner: bytes) -> None:
        """The device has received ``inner``."""

    def wake(self, at: int) -> None:
        """Call ``timer`` once at this time, not earlier than now."""

    def add_secret(self, kind: int, data: bytes) -> None:
        """Hand over what decrypts this device's packets, for captures: a secrets type of pcapng and data in its format."""


class Encapsulation(ABC):
    """Base class of an encapsulation in Python; one object is the state of one device.

    An exception that leaves a callback, other than ``Refused`` and ``NotMine``, drops the packet as ``KIND/plugin_error``
    and stands in ``failure``. A module offers its class as a plug-in by ``capsule = python_plugin.capsule(CLASS)``.
    """

    name: ClassVar[str]  # device kind
    sentence: ClassVar[str]  # what it is, with its standard
    ip_protocols: ClassVar[Sequence[int]] = (PROTOCOL_UDP,)  # by which received packets are recognised, at most three
    ethernet: ClassVar[bool] = False  # inner packets are Ethernet frames
    align: ClassVar[int] = 1  # inner packets are padded to a multiple of this many bytes
    options: ClassVar[Sequence[OptionHelp]] = ()
    reasons: ClassVar[Sequence[Reason]] = ()
    failure: ClassVar[BaseException | None] = None  # the last exception that left a callback

    @abstractmethod
    def __init__(self, options: Mapping[str, int | bytes], host: Host | None) -> None:
        """ValueError: an option is wrong; its message is what the user sees (119 bytes at most).

        ``host`` is None where packets are only encoded and decoded: then there is no timer, and nothing can be sent
        besides the result of ``push``.
        """

    @abstractmethod
    def overhead(self, family: int) -> int:
        """Bytes that ``push`` adds to a packet that needs no padding, the outer IP header (family 4: 20, 6: 40) included."""

    def port(self) -> int:
        """UDP port that the device listens on, 0 if it is not carried in UDP."""
        return 0

    def select(self, outer: Outgoing, packet: bytes) -> bytes:
        """The remote end for an inner packet. Left alone, the core takes the device's FDB, route or fixed remote end."""
        raise NotImplementedError

    @abstractmethod
    def push(self, outer: Outgoing, packet: bytes) -> bytes | None:
        """Everything behind the outer IP header for an inner packet; None: it is kept to be sent later."""

    @abstractmethod
    def pop(self, incoming: Incoming, payload: bytes) -> bytes | None:
        """The inner packet; None: a message of the protocol's own, dealt with."""

    def timer(self, now: int) -> None:  # noqa: B027 - kinds without a timer leave it alone
        """The time that ``host.wake`` asked for has come."""

    @classmethod
    def describe(cls, ip_protocol: int, payload: bytes) -> tuple[int, list[Field]]:
        """How many bytes the headers behind the outer IP header take (-1: they are broken off), and their fields, outermost first."""
        raise NotImplementedError


def capsule(kind: type[Encapsulation]) -> object:
    """What a module that offers ``kind`` as a plug-in binds to the name ``capsule``. ValueError: it cannot be handed to the core."""
    missing = sorted(kind.__abstractmethods__)
    if missing:
        raise ValueError(f"class {kind.__name__} does not define {', '.join(missing)}")
    from dataplane._python_encap import capsule_of

    return capsule_of(kind, sys.modules[__name__])
