"""An encapsulation that breaks its contract in every call, written with ctypes against ``ext/encap/encap_abi.h``."""

from __future__ import annotations

import ctypes

from dataplane import _core

PORT = 7777
NOT_A_RESULT = 99
NAME = b"dataplane.encap.abi1"

_CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_PORT = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p)
_CARRY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class _Encap(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("name", ctypes.c_char_p),
        ("ip_protocol", ctypes.c_uint8),
        ("ethernet", ctypes.c_uint8),
        ("overhead_v4", ctypes.c_uint16),
        ("overhead_v6", ctypes.c_uint16),
        ("drop_reasons", ctypes.c_void_p),
        ("n_drop_reasons", ctypes.c_int),
        ("create", _CREATE),
        ("destroy", _DESTROY),
        ("port", _PORT),
        ("push", _CARRY),
        ("pop", _CARRY),
    )


_STATE = ctypes.create_string_buffer(1)
_ENCAP = _Encap(
    abi=1,
    name=b"misbehaving",
    ip_protocol=17,
    ethernet=1,
    overhead_v4=50,
    overhead_v6=70,
    create=_CREATE(lambda options, count, error: ctypes.addressof(_STATE)),
    destroy=_DESTROY(lambda state: None),
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
