"""The TCP tracker against its slow twin on random segments: plausible ones, bent ones, and nonsense."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.ct_segments import SACK_PERMITTED, SECOND, sack, segment, window_scale
from core.ct_tcp_model import Model, Segment

FLAGS = ("S", "SA", "A", "A", "A", "PA", "FA", "R", "RA", "AU", "SU", "FAU")
SHIFTS = (0, 0, 0, 0, 1, -1, 100, -100, 5000, -5000, 66000, -66001, 1 << 20, -(1 << 20), 1 << 30)
WINDOWS = (0, 1, 240, 5840, 65535)


@dataclass(frozen=True)
class Step:
    """One segment relative to where its sender stands."""

    direction: int
    flags: str
    seq_shift: int
    ack_shift: int
    zero_seq: bool
    zero_ack: bool
    payload: int
    win: int
    options: bool
    scale: int | None
    sack_permitted: bool
    sack_shift: int | None
    wait: int  # seconds


STEP = st.builds(
    Step,
    direction=st.integers(0, 1),
    flags=st.sampled_from(FLAGS),
    seq_shift=st.sampled_from(SHIFTS),
    ack_shift=st.sampled_from(SHIFTS),
    zero_seq=st.sampled_from((False,) * 9 + (True,)),
    zero_ack=st.sampled_from((False,) * 9 + (True,)),
    payload=st.sampled_from((0, 0, 1, 100, 1400)),
    win=st.sampled_from(WINDOWS),
    options=st.booleans(),
    scale=st.none() | st.integers(0, 20),
    sack_permitted=st.booleans(),
    sack_shift=st.none() | st.sampled_from((0, 100, 3000, -100)),
    wait=st.sampled_from((0, 0, 0, 1, 9, 70, 290)),
)
PLAIN: dict[str, Any] = {
    "seq_shift": 0, "ack_shift": 0, "zero_seq": False, "zero_ack": False, "payload": 0, "win": 5840,
    "options": True, "scale": 7, "sack_permitted": True, "sack_shift": None, "wait": 0,
}  # fmt: skip
OPEN = [Step(0, "S", **PLAIN), Step(1, "SA", **PLAIN), Step(0, "A", **PLAIN)]
SIMULTANEOUS = [Step(0, "S", **PLAIN), Step(1, "S", **PLAIN), Step(0, "SA", **PLAIN), Step(1, "A", **PLAIN)]
CLOSE = [Step(0, "FA", **PLAIN), Step(1, "A", **PLAIN), Step(1, "FA", **PLAIN), Step(0, "A", **PLAIN)]
START = st.sampled_from(([], OPEN[:1], OPEN[:2], OPEN, OPEN, SIMULTANEOUS, OPEN + CLOSE, OPEN + CLOSE[:1], OPEN + CLOSE[:3]))
DEFAULTS = {"tcp_be_liberal": 0, "tcp_loose": 1, "tcp_max_retrans": 3, "tcp_ignore_invalid_rst": 0}
KNOBS = st.fixed_dictionaries(
    {
        "tcp_be_liberal": st.sampled_from((0, 0, 0, 1)),
        "tcp_loose": st.sampled_from((1, 1, 1, 0)),
        "tcp_max_retrans": st.sampled_from((3, 3, 0, 1)),
        "tcp_ignore_invalid_rst": st.sampled_from((0, 0, 1)),
    }
)


class Sender:
    """Turns steps into segments: each end continues where it stands unless a step shifts it."""

    def __init__(self, first: tuple[int, int]) -> None:
        self.stands = list(first)

    def segments(self, step: Step) -> tuple[bytes, Segment]:
        seq = 0 if step.zero_seq else (self.stands[step.direction] + step.seq_shift) % 2**32
        ack = 0 if step.zero_ack else (self.stands[1 - step.direction] + step.ack_shift) % 2**32
        payload = step.payload if step.flags in ("A", "PA", "FA") else 0
        edge = None if step.sack_shift is None or "S" in step.flags else (ack + step.sack_shift) % 2**32
        raw = b""
        if step.options and "S" in step.flags:
            raw += SACK_PERMITTED if step.sack_permitted else b""
            raw += window_scale(step.scale) if step.scale is not None else b""
        elif edge is not None:
            raw += sack((ack, edge))
        model = Segment(
            step.flags, seq, ack, step.win, payload,
            has_options=bool(raw),
            scale=step.scale if raw else None,
            sack_permitted=bool(raw) and step.sack_permitted,
            sack_edges=() if edge is None else (ack, edge),
        )  # fmt: skip
        if step.seq_shift == 0 and not step.zero_seq:
            self.stands[step.direction] = model.end
        return segment(step.flags, seq, ack, win=step.win, payload=payload, options=raw), model


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.tuples(*[st.sampled_from((1000, 2**32 - 3, 2**31)) | st.integers(0, 2**32 - 1)] * 2), start=START,
       steps=st.lists(STEP, max_size=25), knobs=KNOBS)  # fmt: skip
@example(first=(2**31, 1000), start=OPEN[:1], steps=[Step(0, "S", **(PLAIN | {"zero_seq": True}))], knobs=DEFAULTS)  # half of all apart
def test_the_tracker_does_what_its_twin_does(
    ct: ModuleType, first: tuple[int, int], start: list[Step], steps: list[Step], knobs: dict[str, int]
) -> None:
    compare(ct, Sender(first), start + steps, knobs)


def compare(ct: ModuleType, sender: Sender, steps: list[Step], knobs: dict[str, int]) -> Counter[str]:
    """Run both over one entry's life; the verdicts that were met."""
    verdicts = {ct.ACCEPT: "accept", ct.IGNORE: "ignore", ct.INVALID: "invalid", ct.REPEAT: "repeat", ct.KILL: "kill"}
    met: Counter[str] = Counter()
    entry: Any = None
    model, remaining, replied = Model(), 0.0, False
    for step in steps:
        raw, seg = sender.segments(step)
        assert ct.Tcp.valid(raw)
        remaining -= step.wait
        if entry is None or remaining <= 0:
            entry, model, replied = ct.Tcp(ct.Settings(**knobs)), model_of(knobs), False
            door = ct.Tcp(ct.Settings(**knobs))
            opened = door.begin(raw, int(max(remaining, 0) * SECOND))
            begun = entry.new(raw)
            assert begun == model.begin(seg)
            if not begun:
                assert opened[0] == ct.INVALID
                entry = None
                continue
        else:
            door = None
        told = entry.standing(step.direction, raw) if set(step.flags) <= set("AP") else None
        if set("A") <= set(step.flags) <= set("AP"):
            unchanged = (None, entry.dump(), entry.status)
            assert entry.passing(step.direction, raw) == (told or unchanged), step
        verdict, timeout = entry.packet(step.direction, raw, int(max(remaining, 0) * SECOND))
        if door is not None and step.direction == 0:
            assert (*opened, door.dump(), door.status) == (verdict, timeout, entry.dump(), entry.status), step
            met["begins"] += 1
        if told is not None:
            assert (verdict, timeout, entry.dump(), entry.status) == (ct.ACCEPT, *told), step
            met["stands"] += 1
        expected, seconds = model.track(step.direction, seg, replied, remaining)
        assert (verdicts[verdict], None if timeout < 0 else timeout / SECOND) == (expected, seconds), step
        assert entry.state == model.state
        assert bool(entry.status & ct.ASSURED) == model.assured
        met[expected] += 1
        remaining = remaining if seconds is None else seconds
        if expected in ("repeat", "kill"):
            entry = None
        elif expected != "invalid" and step.direction == 1:
            replied = True
            entry.status |= ct.SEEN_REPLY
    return met


def test_segments_of_a_connection_that_stands_are_told_without_the_state_machine(ct: ModuleType) -> None:
    data = [Step(direction, "A", **(PLAIN | {"payload": 100})) for direction in (0, 1, 0, 0, 1)]
    assert compare(ct, Sender((1000, 5000)), OPEN + data, DEFAULTS)["stands"] == len(data)


def model_of(knobs: dict[str, int]) -> Model:
    return Model(
        liberal=bool(knobs["tcp_be_liberal"]),
        loose=bool(knobs["tcp_loose"]),
        max_retrans=knobs["tcp_max_retrans"],
        ignore_invalid_rst=bool(knobs["tcp_ignore_invalid_rst"]),
    )


def test_the_comparison_meets_every_verdict(ct: ModuleType) -> None:
    """A twin that is only asked easy questions proves nothing."""
    knobs = {"tcp_be_liberal": 0, "tcp_loose": 1, "tcp_max_retrans": 3, "tcp_ignore_invalid_rst": 0}
    reset = Step(0, "R", **PLAIN)
    late_syn = Step(0, "S", **(PLAIN | {"seq_shift": -1}))
    far = Step(1, "PA", **(PLAIN | {"seq_shift": 1 << 30}))
    met = compare(ct, Sender((1000, 5000)), [*OPEN, far, late_syn, *CLOSE, OPEN[0], OPEN[0], reset], knobs)
    assert set(met) == {"accept", "ignore", "invalid", "repeat", "kill", "begins"}
