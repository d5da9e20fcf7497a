"""IPv6 addresses in the details of events, as people write them (RFC 5952)."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.worlds6 import Router6, udp6_packet

words = st.lists(st.sampled_from((0, 0, 1, 0xABC)) | st.integers(0, 0xFFFF), min_size=8, max_size=8)


def written(address: IPv6Address) -> str:
    """The address that a packet is routed to, in the words of its walk."""
    router = Router6()
    router.engine.trace(True)
    router.take(udp6_packet(dst=str(address)))
    detail = next(event.detail for event in router.engine.events() if event.what == "route")
    return detail.partition(" matches ")[0].removesuffix(": no route")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(words)
@example([0x2001, 0xDB8, 0, 1, 1, 1, 1, 1])  # 4.2.2: one zero is written out
@example([0x2001, 0, 0, 1, 0, 0, 0, 1])  # 4.2.3: the longest run of zeros
@example([0x2001, 0xDB8, 0, 0, 1, 0, 0, 1])  # 4.2.3: the first of equals
@example([1, 2, 3, 4, 5, 6, 7, 0])
def test_addresses_are_written_as_the_rfc_recommends(numbers: list[int]) -> None:
    address = IPv6Address(b"".join(number.to_bytes(2) for number in [numbers[0] & 0x7FFF | 0x2000, *numbers[1:]]))
    assert written(address) == str(address)
