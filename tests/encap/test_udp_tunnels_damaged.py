"""Datagrams cut short, with bits flipped, or made of noise: refused by name, or a packet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import _core

from .tunnel_packets import FRAME, IPV4, PACKET4, TEB, codec, is_sound, payload
from .udp_tunnels import Options, datagram, push

DSR = bytes.fromhex("014b81020a60000100500000")
KINDS: dict[str, tuple[Options, bytes, int, int]] = {
    "vxlan": ({"gbp": 1, "gbp_policy": 5}, FRAME, TEB, 8),
    "vxlan_gpe": ({}, PACKET4, IPV4, 8),
    "geneve": ({"options": DSR, "inner_proto_inherit": 1}, FRAME, TEB, 8 + len(DSR)),
    "fou": ({"gre": 1}, PACKET4, IPV4, 4),
    "gue": ({"gre": 1}, PACKET4, IPV4, 8),
}


def body_of(kind: str) -> tuple[_core.Codec, bytes, int]:
    """A device, the bytes behind the UDP header that it writes, and how many of them are headers."""
    options, inner, protocol, hlen = KINDS[kind]
    return codec(kind, **options), payload(push(kind, options, inner, protocol))[8:], hlen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [4, 6])
def test_a_cut_datagram_is_refused_or_ends_earlier(kind: str, family: int) -> None:
    device, body, hlen = body_of(kind)
    for end in range(len(body)):
        popped = device.pop(datagram(family, device.port, body[:end]))
        assert is_sound(popped)
        assert popped.reason is not None if end < hlen else popped.reason or popped.inner == body[hlen:end]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [4, 6])
def test_a_flipped_bit_of_the_header_is_refused_or_has_no_meaning(kind: str, family: int) -> None:
    device, body, hlen = body_of(kind)
    for bit in range(8 * hlen):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        popped = device.pop(datagram(family, device.port, bytes(flipped)))
        assert is_sound(popped)
        assert bytes(flipped).endswith(popped.inner)


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), family=st.sampled_from((4, 6)), noise=st.binary(max_size=80), keep=st.integers(0, 20))
def test_noise_is_never_more_than_a_drop(kind: str, family: int, noise: bytes, keep: int) -> None:
    device, body, _ = body_of(kind)
    datagram_body = body[:keep] + noise
    packet = datagram(family, device.port, datagram_body)
    popped = device.pop(packet)
    assert is_sound(popped)
    assert datagram_body.endswith(popped.inner)
    described = _core.encap_describe(kind, 17, payload(packet))
    assert described is not None
    assert described[1] <= len(payload(packet))
