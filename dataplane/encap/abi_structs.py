"""``ext/encap/encap_abi.h`` for Python programs that make an encapsulation out of function pointers: layouts for ctypes and NumPy.

The numbers and the order of the members are the header's; what they mean stands there.
"""

from __future__ import annotations

import ctypes
from typing import Any

ABI = 2
CAPSULE = b"dataplane.encap.abi2"
ERROR_LENGTH = 120
OK, NOT_MINE, CONSUMED = 0, -1, -2
STEADY_BUT_PORT = 2

PACKET_LAYOUT = [("head", "u8"), ("data", "u8"), ("tail", "u8"), ("limit", "u8")]
"""``dataplane_encap_bytes``, its pointers as numbers."""

PUSH_LAYOUT = [
    ("now", "i8"), ("id", "i8"), ("flow_hash", "u4"), ("inner_flow_label", "u4"), ("inner_protocol", "u2"), ("inner_tos", "u1"),
    ("inner_ttl", "u1"), ("inner_dont_fragment", "u1"), ("family", "u1"), ("local", "u1", 16), ("remote", "u1", 16),
    ("ip_protocol", "u1"), ("tos", "u1"), ("ttl", "u1"), ("dont_fragment", "u1"), ("flow_label", "u4"),
]  # fmt: skip
"""``dataplane_encap_push``."""

POP_LAYOUT = [
    ("now", "i8"), ("family", "u1"), ("outer_tos", "u1"), ("outer_ttl", "u1"), ("outer_protocol", "u1"), ("local", "u1", 16),
    ("remote", "u1", 16), ("device_mac", "u1", 6), ("inner_protocol", "u2"), ("id", "i8"),
]  # fmt: skip
"""``dataplane_encap_pop``."""


class OptionValue(ctypes.Structure):
    """``dataplane_encap_option``."""

    _fields_ = (("key", ctypes.c_char_p), ("number", ctypes.c_int64), ("bytes", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Reason(ctypes.Structure):
    """``dataplane_encap_reason``."""

    _fields_ = (("name", ctypes.c_char_p), ("sentence", ctypes.c_char_p), ("linux_name", ctypes.c_char_p))


class OptionHelp(ctypes.Structure):
    """``dataplane_encap_option_help``."""

    _fields_ = (("key", ctypes.c_char_p), ("sentence", ctypes.c_char_p), ("default_value", ctypes.c_char_p))


CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(OptionValue), ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Encap(ctypes.Structure):
    """``dataplane_encap``; its callbacks are addresses."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("name", ctypes.c_char_p),
        ("sentence", ctypes.c_char_p),
        ("ip_protocols", ctypes.c_uint8 * 4),
        ("ethernet", ctypes.c_uint8),
        ("steady", ctypes.c_uint8),
        ("align", ctypes.c_uint16),
        ("options", ctypes.POINTER(OptionHelp)),
        ("n_options", ctypes.c_int),
        ("drop_reasons", ctypes.POINTER(Reason)),
        ("n_drop_reasons", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in "create destroy overhead port select push pop timer describe".split()),
    )


def capsule(encap: Encap) -> object:
    """The PyCapsule that ``dataplane._core.register_encap`` takes; ``encap`` must live as long as the process."""
    new: Any = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    made: object = new(ctypes.addressof(encap), CAPSULE, None)
    return made
