"""What an encapsulation leaves of the MTU of the devices below it."""

from __future__ import annotations

from collections.abc import Mapping

ETHERNET_HEADER = 14
IP_HEADER = {4: 20, 6: 40}


def inner_mtu(kind: str, options: Mapping[str, int | bytes], family: int, mtu: int) -> int:
    """Bytes of the longest inner IP packet over an underlay of IP version ``family`` whose devices have this MTU.

    ValueError: the encapsulation does not take the options.
    """
    from dataplane import _core

    codec = _core.Codec(kind, options)
    return mtu - codec.overhead(family) - (ETHERNET_HEADER if codec.ethernet else 0)
