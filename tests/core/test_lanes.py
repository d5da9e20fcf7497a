"""TCP segments that leave eight at a time: connections and bytes are what they are where each goes alone."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.test_segments import plain, spoilt, tunnelled, whole
from core.worlds import checksum

EIGHT = 8
SPOKEN = 0x06  # seen reply, assured
IN_VXLAN, IN_UDP = 64, 34  # where in frames the inner IP header stands, and the outer UDP header
VXLAN = int.from_bytes((4789).to_bytes(2, "big"), "little")
SECOND = 1_000_000_000
ESTABLISHED, ACK_KIND = 3, 3


@pytest.fixture(scope="module")
def lanes(probe: Callable[[str], ModuleType]) -> ModuleType:
    module = probe("lanes_probe")
    if not module.WIDE:
        pytest.skip("the processor has no AVX2")
    return module


def near(rng: random.Random, number: int) -> int:
    """A number that is not far from another, or the same."""
    away = rng.choice([0, 0, 1, -1, rng.randrange(-3000, 3000), rng.randrange(-80_000, 80_000), rng.randrange(1 << 32)])
    return (number + away) % (1 << 32)


def tcp_state(rng: random.Random, frame: bytes, *, usual: bool) -> tuple[bytes, int]:
    """A connection that a segment of this frame may fit into, and its direction."""
    seq, ack = struct.unpack("!II", frame[38:46])
    window = struct.unpack("!H", frame[48:50])[0]
    data = int.from_bytes(frame[16:18], "big") - 20 - (frame[46] >> 4) * 4
    end, direction = (seq + data) % (1 << 32), rng.randrange(2)

    def of(number: int) -> int:
        return (number + rng.choice([0, 1, rng.randrange(500)])) % (1 << 32) if usual else near(rng, number)

    def side(ends: int, most: int, acked: int) -> bytes:
        win = rng.choice([1, window or 1, 1000, 65535, 1 << 20]) if usual else rng.choice([0, 1, window, rng.randrange(1 << 32)])
        flags = rng.choice([0x20, 0x30, 0x00, 0x10]) | (0 if usual else rng.choice([0, 2, 8, 4]))
        return struct.pack("<IIIIBB", ends, most, win, acked, rng.choice([0, 7, 14]), flags)

    sender = side(end if usual else of(end), of(end), (ack - rng.choice([0, 1, 50])) % (1 << 32) if usual else near(rng, ack))
    receiver = side(of(ack), of((ack + window) % (1 << 32)), near(rng, seq))
    again = rng.random() < 0.4
    last = (seq, ack, end, window) if again else (near(rng, seq), near(rng, ack), near(rng, end), rng.randrange(1 << 16))
    state = ESTABLISHED if usual or rng.random() < 0.8 else rng.randrange(10)
    bits = state | rng.choice([ACK_KIND, rng.randrange(6)]) << 4 | rng.choice([direction, rng.randrange(2)]) << 7
    sides = receiver + sender if direction else sender + receiver
    return sides + struct.pack("<IIIHBBBB", *last, bits, rng.choice([0, 1, 2, 3, 254, 255]), 0, 0), direction


def program(rng: random.Random, frame: bytes, direction: int) -> dict[str, Any]:
    """What a way may do to packets: translations, hops, a tunnel of each kind or none."""
    link = rng.randbytes(12) + b"\x08\x00"
    kind = rng.choice(["none", "ipip", "vxlan", "geneve"])
    inner = rng.randbytes(12) + b"\x08\x00" if kind in ("vxlan", "geneve") else b""
    tunnel = b"" if kind in ("none", "ipip") else rng.randbytes(8 if kind == "vxlan" else 8 + 4 * rng.randrange(1, 8))
    udp = rng.randbytes(4) + bytes(4) + tunnel if tunnel else b""
    header = b"" if kind == "none" else b"\x45\x00" + bytes(4) + b"\x00\x00\x40" + bytes([17 if udp else 4]) + bytes(2) + rng.randbytes(8)
    return {
        "dir": direction, "hops": rng.choice([0, 1, 2]), "manips": rng.choice([[], [0], [1], [0, 1]]), "trims": rng.randrange(2),
        "head": link + header + udp + inner, "outer": 14, "pushes": kind != "none", "link_sum": rng.randrange(1 << 16) if inner else 0,
        "push_sum": 0x45 + rng.randrange(1 << 18), "push_udp": int(bool(udp) and rng.random() < 0.7),
        "push_udp_sum": 1 + rng.randrange(1 << 18), "longest": 200, "widest": 200, "link": frame[:12],
    }  # fmt: skip


def laid(frames: list[bytes]) -> tuple[bytes, array[int], array[int], array[int]]:
    starts = array("Q", [0])
    for frame in frames:
        starts.append(starts[-1] + len(frame))
    return b"".join(frames), starts[:-1], array("I", map(len, frames)), array("i", range(len(frames)))


def eight(rng: random.Random) -> list[bytes]:
    """Of frames with the same Ethernet header; the longest are longer than what is summed up together."""
    link = rng.randbytes(12)
    frames = [link + plain(rng)[12:] for _ in range(EIGHT)]
    frames = [frame[: 14 + int.from_bytes(frame[16:18], "big")] if rng.random() < 0.7 else frame for frame in frames]
    return [whole(frame[:48] + bytes(2) + frame[50:]) if rng.random() < 0.2 else frame for frame in frames]  # no window


def carried(
    lanes: ModuleType, rng: random.Random, *, usual: bool, frames: list[bytes] | None = None, flags: int = 0, **known: Any
) -> tuple[int, Any]:
    """Eight packets go together, by one thread or as two do it, and, each, alone; the lanes that went, which have been compared.
    ``flags``: of both sides of connections, beside others; ``known``: of the program."""
    frames = frames or eight(rng)
    states = [tcp_state(rng, frame, usual=usual) for frame in frames]
    direction = states[0][1]
    sides = [state if each == direction else state[18:36] + state[:18] + state[36:] for state, each in states]
    sides = [side[:17] + bytes([side[17] | flags]) + side[18:35] + bytes([side[35] | flags]) + side[36:] for side in sides]
    connections = [(rng.randbytes(16), tuple(rng.randrange(1 << 16) for _ in range(4)), side, SPOKEN) for side in sides]
    way = program(rng, frames[0], direction) | known
    seed, now = rng.randrange(1 << 64), rng.randrange(1 << 40)
    draws, sports = ([rng.randrange(1 << bits) for _ in range(EIGHT)] for bits in (64, 16))
    together, alone = (lanes.Lanes(way, connections, seed) for _ in range(2))
    seen, _, homes, keys = together.looks(*laid(frames))
    assert seen == 0xFF
    assert homes == [together.home(*key) for key in keys]
    passed, connected, left = together.together(draws, sports, now, rng.random() < 0.5)
    for k, frame in enumerate(frames):
        padded = len(frame) > 14 + int.from_bytes(frame[16:18], "big")
        if passed >> k & 1:
            assert not (padded and way["push_udp"] and not way["trims"])
            assert (connected[k], left[k]) == alone.alone(k, frame, draws[k], sports[k], now)
        elif usual and not known and not flags:
            assert padded and way["push_udp"] and not way["trims"]
    return passed, way


@given(seed=st.integers(0, 1 << 32))
def test_segments_of_open_connections_go_together_as_they_go_alone(lanes: ModuleType, seed: int) -> None:
    """Those that are nothing but usual all go."""
    carried(lanes, random.Random(seed), usual=True)


@given(seed=st.integers(0, 1 << 32))
def test_what_goes_together_of_any_segments_goes_as_it_goes_alone(lanes: ModuleType, seed: int) -> None:
    carried(lanes, random.Random(seed), usual=False)


def test_some_of_any_segments_go_and_some_do_not(lanes: ModuleType) -> None:
    """The test above is no comparison of nothing with nothing."""
    passed = [carried(lanes, random.Random(seed), usual=False)[0] for seed in range(200)]
    assert 100 < sum(each.bit_count() for each in passed) < 200 * EIGHT - 100


@given(seed=st.integers(0, 1 << 32), place=st.integers(0, EIGHT - 1))
def test_a_frame_that_is_no_whole_plain_segment_is_not_seen_as_one(lanes: ModuleType, seed: int, place: int) -> None:
    rng = random.Random(seed)
    frames = eight(rng)
    frames[place] = spoilt(rng, frames[place])
    if len(frames[place]) < 54:
        return
    some = lanes.Lanes(program(rng, frames[0], 0), [(bytes(16), (0, 0, 0, 0), bytes(lanes.TCP_SIZE), SPOKEN)] * EIGHT, seed)
    seen, unsummed, _, _ = some.looks(*laid(frames))
    packet = frames[place][14:]
    total = int.from_bytes(packet[2:4], "big")
    if seen >> place & 1:
        assert frames[place][12:15] == b"\x08\x00\x45"
        assert 40 <= total <= len(packet)
        assert checksum(packet[:20]) == 0
        assert unsummed >> place & 1 == (total > 68)
        assert total > 68 or checksum(packet[12:20] + struct.pack("!HH", 6, total - 20) + packet[20:total]) == 0
        assert packet[33] & 0x37 == 0x10
        assert packet[6] & 0x3F == packet[7] == 0


@pytest.mark.parametrize("place", [*range(12, 20), *range(20, 24), 46, 47])
def test_each_bit_of_what_makes_a_plain_segment(lanes: ModuleType, place: int) -> None:
    """With checksums that are right: none but those of lengths, flags and what says nothing of its kind is taken."""
    for bit in range(8):
        rng = random.Random(place * 8 + bit)
        frames = [whole(frame[:16] + (40).to_bytes(2, "big") + frame[18:46] + b"\x50" + frame[47:54] + bytes(8)) for frame in eight(rng)]
        some = bytearray(frames[3])
        some[place] ^= 1 << bit
        frames[3] = whole(bytes(some)) if 40 <= int.from_bytes(some[16:18], "big") <= len(some) - 14 else bytes(some)
        one = lanes.Lanes(program(rng, frames[0], 0), [(bytes(16), (0, 0, 0, 0), bytes(lanes.TCP_SIZE), SPOKEN)] * EIGHT, place)
        seen, _, _, _ = one.looks(*laid(frames))
        packet = frames[3][14:]
        total, header = int.from_bytes(packet[2:4], "big"), (packet[32] >> 4) * 4
        assert seen >> 3 & 1 == (
            frames[3][12:15] == b"\x08\x00\x45" and 40 <= total <= len(packet) and packet[6] & 0x3F == packet[7] == 0
            and packet[9] == 6 and 20 <= header <= total - 20 and packet[33] & 0x37 == 0x10
        )  # fmt: skip


@pytest.mark.parametrize("permitted", [False, True])
def test_blocks_of_sack_are_left_to_those_who_read_them(lanes: ModuleType, permitted: bool) -> None:
    """They say what is received beyond the acknowledgement, to an end that has permitted them."""
    rng = random.Random("blocks")
    frames = []
    for frame in eight(rng):
        ack = int.from_bytes(frame[42:46], "big")
        block = b"\x01\x01\x05\x0a" + ((ack + 1) % (1 << 32)).to_bytes(4, "big") + ((ack + 2) % (1 << 32)).to_bytes(4, "big")
        frames.append(whole(frame[:16] + (52).to_bytes(2, "big") + frame[18:46] + b"\x80" + frame[47:54] + block))
    passed, _ = carried(lanes, rng, usual=True, frames=frames, flags=2 if permitted else 0)
    assert passed == (0 if permitted else 0xFF)


@pytest.mark.parametrize("place", range(12))
def test_a_frame_with_another_ethernet_header_does_not_go(lanes: ModuleType, place: int) -> None:
    rng = random.Random(place)
    frames = eight(rng)
    link = bytearray(frames[0][:12])
    link[place] ^= 1 << rng.randrange(8)
    passed, _ = carried(lanes, rng, usual=True, frames=[*frames[:5], bytes(link) + frames[5][12:], *frames[6:]], trims=1)
    assert passed == 0xFF & ~(1 << 5)


@given(seed=st.integers(0, 1 << 32), longest=st.integers(54, 130), widest=st.integers(54, 130))
def test_frames_longer_than_any_that_was_seen_to_pass_do_not_go(lanes: ModuleType, seed: int, longest: int, widest: int) -> None:
    rng = random.Random(seed)
    frames = eight(rng)
    passed, _ = carried(lanes, rng, usual=True, frames=frames, trims=1, longest=longest, widest=max(longest, widest))
    for k, frame in enumerate(frames):
        end = 14 + int.from_bytes(frame[16:18], "big")
        assert passed >> k & 1 == (len(frame) <= longest or (len(frame) <= max(longest, widest) and end <= longest))


@given(words=st.lists(st.integers(0, 4), min_size=EIGHT, max_size=EIGHT))
def test_lanes_that_repeat_an_earlier_one_are_found(lanes: ModuleType, words: list[int]) -> None:
    assert lanes.Lanes.repeated(words) == sum(1 << k for k, word in enumerate(words) if word in words[:k])


# ---- tunnels that segments come in


def summed(frame: bytes) -> bytes:
    """With the checksums of the outer headers that it should have; without one of UDP if it has none."""
    some = bytearray(frame)
    some[24:26] = bytes(2)
    some[24:26] = checksum(bytes(some[14:34])).to_bytes(2, "big")
    end = 14 + int.from_bytes(some[16:18], "big")
    if any(some[40:42]):
        some[40:42] = bytes(2)
        right = checksum(bytes(some[26:34]) + struct.pack("!HH", some[23], end - 34) + bytes(some[34:end])) or 0xFFFF
        some[40:42] = right.to_bytes(2, "big")
    return bytes(some)


def with_options(frame: bytes, more: bytes) -> bytes:
    """With so many more bytes behind a tunnel's own header, and lengths that say so."""
    total, length = (int.from_bytes(frame[at : at + 2], "big") + len(more) for at in (16, 38))
    return summed(frame[:16] + total.to_bytes(2, "big") + frame[18:38] + length.to_bytes(2, "big") + frame[40:50] + more + frame[50:])


def eight_tunnelled(rng: random.Random, more: int = 0) -> list[bytes]:
    return [with_options(tunnelled(rng, frame), rng.randbytes(more)) for frame in eight(rng)]


def in_tunnels(lanes: ModuleType, frames: list[bytes], *, more: int = 0, spaces: list[int] | None = None) -> tuple[int, int]:
    """Lanes whose tunnels are known to be sound, and those that one by one are; of those that are plain inside."""
    rng = random.Random("tunnels")
    some = lanes.Lanes(program(rng, frames[0], 0), [(bytes(16), (0, 0, 0, 0), bytes(lanes.TCP_SIZE), SPOKEN)] * EIGHT, 1)
    data, starts, lengths, devs = laid(frames)
    devs = array("i", spaces or [3] * EIGHT)
    looked = some.looks(data, starts, lengths, devs, IN_VXLAN + more)
    if looked is None:
        return 0, 0
    together, alone = some.comes_in(VXLAN, IN_VXLAN - 28 + more, list(devs))
    return together & looked[0] & ~looked[1], alone & looked[0] & ~looked[1]


@given(seed=st.integers(0, 1 << 32), more=st.integers(0, 16))
def test_sound_tunnels_are_known_to_be_sound(lanes: ModuleType, seed: int, more: int) -> None:
    """But where the tunnel's headers are no whole number of words: there nothing is said."""
    frames = eight_tunnelled(random.Random(seed), more)
    together, alone = in_tunnels(lanes, frames, more=more)
    assert together == (0 if more % 4 else alone)
    assert alone == 0xFF


@given(seed=st.integers(0, 1 << 32), place=st.integers(0, EIGHT - 1), at=st.integers(12, IN_VXLAN + 3), right=st.booleans())
def test_tunnels_with_a_changed_byte_are_taken_as_one_by_one(lanes: ModuleType, seed: int, place: int, at: int, right: bool) -> None:
    """With checksums that are right in spite of it, or not."""
    rng = random.Random(seed)
    frames = eight_tunnelled(rng)
    some = bytearray(frames[place])
    some[at] ^= 1 << rng.randrange(8)
    frames[place] = summed(bytes(some)) if right else bytes(some)
    together, alone = in_tunnels(lanes, frames)
    assert together == alone


@pytest.mark.parametrize("at", range(12, IN_VXLAN))
@pytest.mark.parametrize("right", [False, True])
def test_each_bit_of_a_tunnel(lanes: ModuleType, at: int, right: bool) -> None:
    for bit in range(8):
        rng = random.Random(at * 8 + bit)
        frames = eight_tunnelled(rng)
        some = bytearray(frames[3])
        some[at] ^= 1 << bit
        frames[3] = summed(bytes(some)) if right else bytes(some)
        together, alone = in_tunnels(lanes, frames)
        assert together == alone


def test_tunnels_at_devices_of_other_namespaces(lanes: ModuleType) -> None:
    frames = [with_options(frame, b"") for frame in eight_tunnelled(random.Random("spaces"))]
    together, alone = in_tunnels(lanes, frames, spaces=[3, 3, 4, 3, 3, 5, 3, 3])
    assert together == alone
    assert together & 0b00100100 == 0


def test_tunnels_of_packets_that_end_elsewhere(lanes: ModuleType) -> None:
    """The outer packet is longer or shorter than what is in it, or than the frame."""
    for by in (-2, -1, 1, 2, 8, 200):
        frames = eight_tunnelled(random.Random(by))
        some = bytearray(frames[6] + bytes(16))
        for at in (16, 38):
            some[at : at + 2] = (int.from_bytes(some[at : at + 2], "big") + by).to_bytes(2, "big")
        frames[6] = summed(bytes(some))
        together, alone = in_tunnels(lanes, frames)
        assert together == alone
        assert together >> 6 & 1 == 0


# ---- flows, and connections that stand


def standing(
    lanes: ModuleType,
    frames: list[bytes],
    known: bytes,
    *,
    second: int = 0,
    serials: list[int],
    noted: list[int],
    statuses: list[int],
    expires: list[int],
    sports: list[int],
    now: int,
) -> tuple[int, int]:
    rng = random.Random("standing")
    way = program(rng, frames[0], 0) | {"second": second, "pop": known}
    some = lanes.Lanes(way, [(bytes(16), (0, 0, 0, 0), bytes(lanes.TCP_SIZE), SPOKEN)] * EIGHT, 1)
    some.looks(*laid(frames), IN_VXLAN if known else 14)
    result: tuple[int, int] = some.stand(serials, noted, statuses, expires, sports, now)
    return result


def usual(rng: random.Random, frames: list[bytes], second: int) -> dict[str, Any]:
    serials = [rng.randrange(1 << 32) for _ in frames]
    halves = [(each & 0xFFFF, rng.randrange(1 << 16)) for each in serials]
    now = rng.randrange(1 << 45)
    return {
        "serials": serials, "noted": [one << 16 | two if second else two << 16 | one for one, two in halves], "statuses": [SPOKEN] * EIGHT,
        "expires": [now + 9 * SECOND] * EIGHT, "sports": [int.from_bytes(frame[34:36], "little") for frame in frames], "now": now,
    }  # fmt: skip


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("what", ["nothing", "serials", "noted", "statuses", "expires", "sports"])
def test_connections_stand_as_one_by_one(lanes: ModuleType, second: int, tunnel: bool, what: str) -> None:
    for seed in range(40):
        rng = random.Random(f"{what} {seed}")
        frames = eight_tunnelled(rng) if tunnel else eight(rng)
        frames = [frames[0][:14] + frames[0][14:34] + frame[34:36] + frames[0][36:] for frame in frames] if tunnel else frames
        state = usual(rng, frames, second)
        place, bit = rng.randrange(EIGHT), rng.randrange(16)
        if what == "expires":
            state[what][place] = state["now"] + rng.choice([-SECOND, -1, 0, 1, 9 * SECOND, SECOND << 20])
        elif what != "nothing":
            state[what][place] ^= 1 << bit
        together, alone = standing(lanes, frames, frames[0][14:64] if tunnel else b"", second=second, **state)
        assert together & ~alone == 0
        assert (together if what == "nothing" else together | 1 << place) == 0xFF
        if what in ("serials", "statuses") or (what == "sports" and tunnel):
            assert alone == 0xFF & ~(1 << place)


@pytest.mark.parametrize("at", range(14, IN_VXLAN))
def test_each_bit_of_tunnels_that_are_known(lanes: ModuleType, at: int) -> None:
    """Those of lengths, identification and checksums may be others."""
    for bit in range(8):
        rng = random.Random(at * 8 + bit)
        frames = [eight_tunnelled(rng)[0]] * EIGHT
        some = bytearray(frames[5])
        some[at] ^= 1 << bit
        frames[5] = bytes(some)
        together, alone = standing(lanes, frames, frames[0][14:64], **usual(rng, frames[:1] * EIGHT, 0))
        assert alone == (0xFF if at in (16, 17, 18, 19, 24, 25, 38, 39, 40, 41) else 0xFF & ~(1 << 5))
        assert together == (0xFF if alone == 0xFF else together & alone)


@given(seed=st.integers(0, 1 << 32))
def test_flows_in_their_first_slots_are_found_as_one_by_one(lanes: ModuleType, seed: int) -> None:
    """Of those farther behind, or of programs that nothing is filled in of, nothing is said."""
    rng = random.Random(seed)
    frames, stamp = eight(rng), rng.randrange(1, 1 << 40)
    some = lanes.Lanes(program(rng, frames[0], 0), [(bytes(16), (0, 0, 0, 0), bytes(lanes.TCP_SIZE), SPOKEN)] * EIGHT, seed)
    _, _, _, keys = some.looks(*laid(frames))
    flows, programs = [], [(place ^ (1 << rng.randrange(64) if rng.random() < 0.1 else 0), stamp) for place, _, _ in keys]
    for k, (_, addresses, ports) in enumerate(keys):

        def other(number: int, bits: int) -> int:
            return number ^ 1 << rng.randrange(bits)

        strange = (rng.choice([other(addresses, 64), addresses]), other(ports, 32))
        mine = rng.choice([(addresses, ports)] * 4 + [(other(addresses, 64), ports), (addresses, other(ports, 32))])
        ends = rng.choice([[mine], [strange, mine], [strange, strange, mine], [mine, mine], []])
        flows.append([(at, *each, k + 1, rng.randbytes(4), rng.randrange(1 << 16)) for at, each in enumerate(ends)])
    together, alone = some.find(flows, programs, stamp)
    for each, one in zip(together, alone, strict=True):
        assert each == (one if one is None or one[0] < 2 else None)


def test_flows_of_programs_that_are_not_filled_in_are_not_found_together(lanes: ModuleType) -> None:
    rng = random.Random("stamps")
    frames = eight(rng)
    for away in (1, 1 << 32, -1):
        some = lanes.Lanes(program(rng, frames[0], 0), [(bytes(16), (0, 0, 0, 0), bytes(lanes.TCP_SIZE), SPOKEN)] * EIGHT, 1)
        _, _, _, keys = some.looks(*laid(frames))
        stamp = 1 << 33 | 77
        flows = [[(0, addresses, ports, k + 1, bytes(4), 0)] for k, (_, addresses, ports) in enumerate(keys)]
        together, _ = some.find(flows, [(place, stamp + away if k == 4 else stamp) for k, (place, _, _) in enumerate(keys)], stamp, False)
        assert [each is None for each in together] == [k == 4 for k in range(EIGHT)]
