"""An encapsulation that breaks its contract in every call, written with ctypes against ``ext/encap/encap_abi.h``."""

from __future__ import annotations

import ctypes

from dataplane import _core

PORT = 7777
NOT_A_RESULT = 99
NAME = b"dataplane.encap.abi2"

_CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_OVERHEAD = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p, ctypes.c_int)
_PORT = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p)
_CARRY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class _Encap(ctypes.Structure):
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
        ("select", ctypes.c_void_p),
        ("push", _CARRY),
        ("pop", _CARRY),
        ("timer", ctypes.c_void_p),
        ("describe", ctypes.c_void_p),
    )


_STATE = ctypes.create_string_buffer(1)
_ENCAP = _Encap(
    abi=2,
    name=b"misbehaving",
    sentence=b"Breaks its contract",
    ip_protocols=(17, 0, 0, 0),
    ethernet=1,
    create=_CREATE(lambda options, count, host, error: ctypes.addressof(_STATE)),
    destroy=_DESTROY(lambda state: None),
    overhead=_OVERHEAD(lambda state, family: 50),
    port=_PORT(lambda state: PORT),
    push=_CARRY(lambda state, info, data: NOT_A_RESULT),
    pop=_CARRY(lambda state, info, data: NOT_A_RESULT),
)


def register() -> None:
    """Make it known to the core, once for the life of the process."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    _core.register_encap(new(ctypes.addressof(_ENCAP), NAME, None))
