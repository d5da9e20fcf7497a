"""Encapsulations whose push and pop are Python functions compiled by Numba: no Python runs while packets pass.

``push(state, info, packet)`` and ``pop(state, info, packet)`` get records: ``state`` with an int64 per option and per variable of
the device, ``info`` with the members of ``dataplane_encap_push`` or ``dataplane_encap_pop``, and ``packet``, which ``grow``, ``shrink``,
``headroom`` and ``content`` of this module deal with. They return OK, NOT_MINE, CONSUMED or a reason's number, counted from 1. An
index outside of what those return, and any other exception, drops the packet as ``KIND/plugin_error``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dataplane.encap.abi_structs import (
    ABI,
    CONSUMED,
    CREATE,
    DESTROY,
    ERROR_LENGTH,
    NOT_MINE,
    OK,
    PACKET_LAYOUT,
    POP_LAYOUT,
    PUSH_LAYOUT,
    Encap,
    OptionHelp,
    Reason,
    capsule,
)
from dataplane.encap.numba_bytes import compile_callbacks, content, grow, headroom, shrink
from dataplane.errors import InputError

__all__ = ["CONSUMED", "NOT_MINE", "OK", "NumbaEncapsulation", "Number", "content", "grow", "headroom", "shrink"]

Callback = Callable[[Any, Any, Any], int]
_KEPT: list[NumbaEncapsulation] = []  # the core holds on to what it was given for the life of the process


class Number(NamedTuple):
    """An option of a device, which its state holds under the same name."""

    default: int
    lowest: int
    highest: int
    sentence: str


class NumbaEncapsulation:
    """One encapsulation; its ``capsule`` is what the core takes. InputError: a function cannot be compiled.

    ``header``: bytes that push adds behind the outer IP header. ``reasons``: name and sentence of each drop reason. ``options``: by name;
    one called ``port`` is the UDP port that devices listen on. ``variables``: further members of the state, 0 at first.
    """

    def __init__(
        self,
        *,
        name: str,
        sentence: str,
        ip_protocols: Sequence[int],
        header: int,
        push: Callback,
        pop: Callback,
        ethernet: bool = False,
        options: Mapping[str, Number] | None = None,
        variables: Sequence[str] = (),
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.options = name, dict(options or {})
        if len(ip_protocols) > 4 or not 0 <= header < 0xFF00:
            raise InputError(f"encapsulation {name}: more than four IP protocols, or a header that is not 0 to {0xFF00 - 1} bytes long")
        self._members = [*self.options, *variables] or ["unused"]  # a record has at least one
        self._states: dict[int, ctypes.Array[ctypes.c_int64]] = {}
        said = {**(reasons or {}), "plugin_error": f"A function of {name} raised an exception"}
        state = [(member, "i8") for member in self._members]
        layouts = {"state": state, "push": PUSH_LAYOUT, "pop": POP_LAYOUT, "packet": PACKET_LAYOUT}
        self._functions = compile_callbacks(name, {"push": push, "pop": pop}, layouts, header, len(said), "port" in self.options)
        self._callbacks = (CREATE(self._create), DESTROY(self._destroy))
        self._help = (OptionHelp * len(self.options))(*(_help(key, number) for key, number in self.options.items()))
        self._reasons = (Reason * len(said))(*(Reason(key.encode(), words.encode(), b"NOT_SPECIFIED") for key, words in said.items()))
        self._encap = self._struct(sentence, ip_protocols, ethernet)
        self.capsule = capsule(self._encap)
        _KEPT.append(self)

    def _struct(self, sentence: str, ip_protocols: Sequence[int], ethernet: bool) -> Encap:
        create, destroy = (ctypes.cast(callback, ctypes.c_void_p).value for callback in self._callbacks)
        return Encap(
            abi=ABI,
            name=self.name.encode(),
            sentence=sentence.encode(),
            ip_protocols=(ctypes.c_uint8 * 4)(*ip_protocols),
            ethernet=ethernet,
            options=self._help,
            n_options=len(self._help),
            drop_reasons=self._reasons,
            n_drop_reasons=len(self._reasons),
            create=create,
            destroy=destroy,
            **{callback: compiled.address for callback, compiled in self._functions.items()},
        )

    def _create(self, options: Any, count: int, host: int | None, error: int) -> int | None:
        state = (ctypes.c_int64 * len(self._members))(*(number.default for number in self.options.values()))
        for place in range(count):
            key = options[place].key.decode()
            number = self.options.get(key)
            if number is None or options[place].size or not number.lowest <= options[place].number <= number.highest:
                message = f"{self.name}: option '{key}' is unknown or its value is out of range".encode()[: ERROR_LENGTH - 1]
                ctypes.memmove(error, message + b"\0", len(message) + 1)
                return None
            state[list(self.options).index(key)] = options[place].number
        address = ctypes.addressof(state)
        self._states[address] = state
        return address

    def _destroy(self, state: int) -> None:
        del self._states[state]


def _help(key: str, number: Number) -> OptionHelp:
    return OptionHelp(key.encode(), f"{number.sentence}, {number.lowest} to {number.highest}".encode(), str(number.default).encode())
