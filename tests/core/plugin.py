"""Encapsulations written with ctypes against ``ext/encap/encap_abi.h``: tests keep its contract in them, and break it in every way."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from dataplane import _core

PORT = 7777
OVERHEAD = 28
NOT_A_RESULT = 99
CAPSULE = b"dataplane.encap.abi2"


class Bytes(ctypes.Structure):
    """``dataplane_encap_bytes``, its pointers as numbers."""

    _fields_ = (("head", ctypes.c_size_t), ("data", ctypes.c_size_t), ("tail", ctypes.c_size_t), ("limit", ctypes.c_size_t))


class Push(ctypes.Structure):
    """``dataplane_encap_push``."""

    _fields_ = (
        ("now", ctypes.c_int64),
        ("id", ctypes.c_int64),
        ("flow_hash", ctypes.c_uint32),
        ("inner_flow_label", ctypes.c_uint32),
        ("inner_protocol", ctypes.c_uint16),
        ("inner_tos", ctypes.c_uint8),
        ("inner_ttl", ctypes.c_uint8),
        ("inner_dont_fragment", ctypes.c_uint8),
        ("family", ctypes.c_uint8),
        ("local", ctypes.c_uint8 * 16),
        ("remote", ctypes.c_uint8 * 16),
        ("ip_protocol", ctypes.c_uint8),
        ("tos", ctypes.c_uint8),
        ("ttl", ctypes.c_uint8),
        ("dont_fragment", ctypes.c_uint8),
        ("flow_label", ctypes.c_uint32),
        ("packet", ctypes.c_int64),
    )


class Pop(ctypes.Structure):
    """``dataplane_encap_pop``."""

    _fields_ = (
        ("now", ctypes.c_int64),
        ("family", ctypes.c_uint8),
        ("outer_tos", ctypes.c_uint8),
        ("outer_ttl", ctypes.c_uint8),
        ("outer_protocol", ctypes.c_uint8),
        ("local", ctypes.c_uint8 * 16),
        ("remote", ctypes.c_uint8 * 16),
        ("device_mac", ctypes.c_uint8 * 6),
        ("inner_protocol", ctypes.c_uint16),
        ("id", ctypes.c_int64),
    )


SEND = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(Push), ctypes.c_char_p, ctypes.c_size_t)
RECEIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(Pop), ctypes.c_char_p, ctypes.c_size_t)
WAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64)


class Host(ctypes.Structure):
    """``dataplane_encap_host``."""

    _fields_ = (("core", ctypes.c_void_p), ("device", ctypes.c_int32), ("send", SEND), ("receive", RECEIVE), ("wake", WAKE))


_CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Host), ctypes.c_void_p)
_DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_OVERHEAD = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p, ctypes.c_int)
_PORT = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p)
_PUSH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Push), ctypes.POINTER(Bytes))
_TIMER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_POP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Pop), ctypes.POINTER(Bytes))


class Encap(ctypes.Structure):
    """``dataplane_encap``."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("name", ctypes.c_char_p),
        ("sentence", ctypes.c_char_p),
        ("ip_protocols", ctypes.c_uint8 * 4),
        ("ethernet", ctypes.c_uint8),
        ("align", ctypes.c_uint16),
        ("options", ctypes.c_void_p),
        ("n_options", ctypes.c_int),
        ("drop_reasons", ctypes.c_void_p),
        ("n_drop_reasons", ctypes.c_int),
        ("create", _CREATE),
        ("destroy", _DESTROY),
        ("overhead", _OVERHEAD),
        ("port", _PORT),
        ("select", _PUSH),
        ("push", _PUSH),
        ("pop", _POP),
        ("timer", _TIMER),
        ("describe", ctypes.c_void_p),
    )


Carry = Callable[[Any, Any], int]
_STATE = ctypes.create_string_buffer(1)
_KEPT: list[Encap] = []  # the core holds on to what it was given for the life of the process


def nonsense(info: Any, data: Any) -> int:
    return NOT_A_RESULT


def carry(function: Carry) -> Any:
    """A Python function as ``push`` or ``select``."""
    return _PUSH(lambda state, info, data: function(info.contents, data.contents))


def no_port() -> Any:
    """``port`` of what is not carried in UDP."""
    return _PORT(lambda state: 0)


def overhead(size: int) -> Any:
    """``overhead`` that is the same over IPv4 and IPv6."""
    return _OVERHEAD(lambda state, family: size)


def timer(function: Callable[[int], None]) -> Any:
    """A Python function of the time (ns) as ``timer``."""
    return _TIMER(lambda state, now: function(now))


def create(function: Callable[[Any], None]) -> Any:
    """``create``, which shows its host to a Python function."""

    def made(options: Any, count: int, host: Any, error: Any) -> int:
        function(host)
        return ctypes.addressof(_STATE)

    return _CREATE(made)


def encap(name: bytes, *, push: Carry = nonsense, pop: Carry = nonsense, **fields: Any) -> Encap:
    """A plug-in of Ethernet frames in UDP port 7777 that promises 28 bytes, all of whose fields can be set otherwise."""
    given: dict[str, Any] = {
        "abi": 2,
        "name": name,
        "sentence": b"Breaks its contract",
        "ip_protocols": (17, 0, 0, 0),
        "ethernet": 1,
        "create": _CREATE(lambda options, count, host, error: ctypes.addressof(_STATE)),
        "destroy": _DESTROY(lambda state: None),
        "overhead": _OVERHEAD(lambda state, family: OVERHEAD),
        "port": _PORT(lambda state: PORT),
        "push": carry(push),
        "pop": _POP(lambda state, info, data: pop(info.contents, data.contents)),
    }
    made = Encap(**(given | fields))
    _KEPT.append(made)
    return made


def offer(made: Encap, capsule: bytes = CAPSULE) -> None:
    """Hand it to the core in a PyCapsule of this name."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    _core.register_encap(new(ctypes.addressof(made), capsule, None))


def register_misbehaving() -> None:
    """Make "misbehaving", which returns nonsense from both calls, known to the core, once for the life of the process."""
    if "misbehaving" not in _core.encapsulations():
        offer(encap(b"misbehaving"))
