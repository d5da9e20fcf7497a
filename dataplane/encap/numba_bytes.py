"""What callbacks compiled by Numba do with packets, and how C functions are made of them. Importing this needs Numba.

The functions without underscore are for use inside of such callbacks; ``packet`` is the record that these are given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from dataplane.encap.mtu import IP_HEADER
from dataplane.errors import InputError

try:
    import numba
    import numpy
    from numba.extending import intrinsic
except ImportError:
    raise InputError("Numba is not installed: pip install podplane[numba]") from None

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _as_pointer(typing_context: Any, address: Any) -> Any:
    """A number as a pointer to bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return numba.types.CPointer(numba.types.uint8)(numba.types.uint64), generate


_pointer: Any = intrinsic(_as_pointer)
_compiled: Callable[[_Function], _Function] = numba.njit


@_compiled
def _between(start: Any, end: Any) -> Any:
    return numba.carray(_pointer(start), (numpy.int64(end) - numpy.int64(start),))


@_compiled
def content(packet: Any) -> Any:
    """The packet's bytes, which can be changed in place."""
    return _between(packet.data, packet.tail)


@_compiled
def headroom(packet: Any) -> Any:
    """How many bytes ``grow`` may add."""
    return numpy.int64(packet.data) - numpy.int64(packet.head)


@_compiled
def grow(packet: Any, size: Any) -> Any:
    """Make the packet begin ``size`` bytes earlier, and return all of it. IndexError: there is no room."""
    if size < 0 or size > headroom(packet):
        raise IndexError("no headroom")
    packet.data -= numpy.uint64(size)
    return content(packet)


@_compiled
def shrink(packet: Any, size: Any) -> Any:
    """Make the packet begin ``size`` bytes later, and return what is left. IndexError: it is shorter than that."""
    if size < 0 or size > numpy.int64(packet.tail) - numpy.int64(packet.data):
        raise IndexError("the packet is shorter")
    packet.data += numpy.uint64(size)
    return content(packet)


def compile_callbacks(
    name: str, functions: Mapping[str, Callable[..., Any]], layouts: Mapping[str, Any], header: int, error: int, has_port: bool
) -> dict[str, Any]:
    """The C functions push, pop, overhead and port of an encapsulation, each with an attribute ``address``.

    ``layouts``: members of the records ``state``, ``push``, ``pop`` and ``packet``; ``header``: bytes that push adds; ``error``:
    what push and pop return where ``functions`` raise; ``has_port``: ``state`` has a member ``port``. InputError: a function cannot
    be compiled.
    """
    types = numba.types
    record = {key: types.CPointer(numba.from_dtype(numpy.dtype(layout, align=True))) for key, layout in layouts.items()}
    compiled = {}
    for key, function in functions.items():
        if not isinstance(function, FunctionType) or function.__code__.co_argcount != 3:
            raise InputError(f"encapsulation {name}: {key} must be a function of state, info and packet")
        signature = types.int32(record["state"], record[key], record["packet"])
        try:
            compiled[key] = numba.cfunc(signature)(_called(numba.njit(boundscheck=True)(function), error))
        except Exception as wrong:  # Numba raises more than its own errors, such as KeyError for a member that a record has not
            raise InputError(f"encapsulation {name}: {key} cannot be compiled: {_one_line(wrong, function)}") from wrong
    port = _configured_port if has_port else _no_port
    compiled["overhead"] = numba.cfunc(types.uint16(types.voidptr, types.int32))(_overhead(header))
    compiled["port"] = numba.cfunc(types.uint16(record["state"]))(port)
    return compiled


def _called(function: Any, error: int) -> Callable[..., Any]:
    def callback(state: Any, info: Any, packet: Any) -> Any:
        try:
            return function(numba.carray(state, 1)[0], numba.carray(info, 1)[0], numba.carray(packet, 1)[0])
        except Exception:
            return error

    return callback


def _overhead(header: int) -> Callable[..., Any]:
    over4, over6 = header + IP_HEADER[4], header + IP_HEADER[6]

    def overhead(state: Any, family: Any) -> Any:
        return over4 if family == 4 else over6

    return overhead


def _configured_port(state: Any) -> Any:
    return numba.carray(state, 1)[0].port


def _no_port(state: Any) -> Any:
    return 0


def _one_line(error: Exception, function: Callable[..., Any]) -> str:
    """Numba's message is a page: the line that says what is wrong, and the last place in the user's file that it names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith(("Failed in", "-", "During:"))), "no reason given")
    file = function.__code__.co_filename
    lines_of_file = re.findall(rf'File "[^"]*{re.escape(Path(file).name)}", line (\d+)', str(error))
    return f"{file}:{lines_of_file[-1] if lines_of_file else function.__code__.co_firstlineno}: {type(error).__name__}: {said}"
